from __future__ import annotations

import numpy as np

from landscaper_hpc.topology.kernels.pairs import groups, lowest_saddles
from tests.topology.kernels.cases import Case, cases


@cases
def test_the_lowest_saddle_of_each_pair_of_basins(block: Case) -> None:
    label, core = block.labels("axis"), set(block.core())
    lowest: dict[tuple[int, int], tuple[object, int]] = {}
    between: dict[tuple[int, int], tuple[object, int]] = {}  # with edges among ghosts, which may be left out
    for u in range(block.f.size):
        for v in block.around("axis")[u]:
            pair = min(label[u], label[v]), max(label[u], label[v])
            height = max(block.order(u), block.order(v))
            if pair[0] != pair[1]:
                between[pair] = min(between.get(pair, height), height)
                if u in core or v in core:
                    lowest[pair] = min(lowest.get(pair, height), height)
    axes, size = groups(block.sizes)
    n, groups_ = int(label.max()) + 1, block.f.size // size
    vertices, labels = lowest_saddles(block.f, ~label, block.box, axes, 0, groups_, n, block.band[1])
    found = {(int(p), int(q)): block.order(int(v)) for v, (p, q) in zip(vertices, labels, strict=True)}
    assert lowest.keys() <= found.keys() <= between.keys()
    assert all(between[pair] <= found[pair] <= lowest.get(pair, found[pair]) for pair in found)
    if len(core) == block.f.size:
        assert found == lowest


def test_groups_are_trailing_axes_that_stay_in_the_cache() -> None:
    assert groups((7,)) == (1, 7)
    assert groups((41,) * 4) == (2, 1681)
    assert groups((3, 5000)) == (1, 5000)
    assert groups((2,) * 14) == (12, 4096)
    assert np.prod((2,) * 12) == 4096
