from __future__ import annotations

import numpy as np

from landscaper_hpc.topology.kernels import basins
from landscaper_hpc.topology.kernels.rows import joined, row_count
from tests.topology.kernels.cases import Case, cases


@cases
def test_pointers_become_labels_and_sizes(block: Case) -> None:
    core, around = block.core(), block.around("axis")
    down = {v: min([v, *around[v]], key=block.order) for v in core}
    ghosts = sorted({v for v in down.values() if v not in down})
    minima = [v for v in core if down[v] == v]
    name = {v: i for i, v in enumerate(minima + ghosts)}

    def end(v: int) -> int:
        return name[v] if v in name else end(down[v])

    expected = {v: end(v) for v in core} | {v: name[v] for v in ghosts}
    root = np.full(block.f.size, basins.UNSEEN, np.int32)
    for v in core:
        root[v] = ~name[v] if v in name else down[v]
    # marked from the whole core as one face, collected from the whole block
    whole = joined(block.sizes, (0,) * len(block.sizes), block.sizes)
    basins.mark_exits(root, joined(*block.box))
    assert np.flatnonzero(root == basins.WANTED).tolist() == ghosts
    assert basins.collect_exits(root, whole, len(minima)).tolist() == ghosts
    box = joined(*block.box, 3)
    rows, touched = row_count(box), np.zeros((root.size >> basins.PIECE) + 1, np.uint8)
    sizes = sum(
        basins.compress(root, box, a, b, len(minima), len(name), touched)
        for a, b in ((0, rows // 2), (rows // 2, rows))
    )
    assert {v: int(~root[v]) for v in expected} == expected
    assert sizes.tolist() == [sum(expected[v] == i for v in core) for i in range(len(name))]  # type: ignore[union-attr]
    assert bool(touched.any()) == any(expected[v] >= len(minima) for v in core)


def test_exits_lead_on_to_minima_or_to_the_lowest_ghosts() -> None:
    # labels 0, 1: minima; 2, 3, 4: exits at positions 10, 11, 12; 5, 6: lowest ghosts. 10 -> 11 -> minimum 1; 12 -> 6
    root = np.full(13, basins.UNSEEN, np.int32)
    root[[10, 11, 12]] = ~np.array([3, 1, 6], np.int32)
    table = basins.exit_labels(root, np.array([10, 11, 12], np.int32), 2, 2)
    assert table.tolist() == [0, 1, 1, 1, 3, 2, 3]


def test_labels_are_replaced_in_touched_pieces_only() -> None:
    n, piece = 5000, 1 << basins.PIECE
    labels = np.random.default_rng(0).integers(0, 7, n).astype(np.int32)
    table = np.array([3, 3, 2, 0, 1, 1, 6], np.int32)
    touched = np.array([1, 0, 1, 0, 1], np.uint8)
    root = ~labels
    basins.relabel(root, table, touched, 0, 3)
    basins.relabel(root, table, touched, 3, 5)
    change = np.repeat(touched, piece)[:n].astype(bool)
    np.testing.assert_array_equal(~root, np.where(change, table[labels], labels))
