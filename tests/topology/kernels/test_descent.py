from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from landscaper_hpc.topology.kernels.descent import descend, descend_axes
from tests.topology.kernels.cases import Case, cases, connectivities


@pytest.mark.thorough
@cases
@connectivities
@pytest.mark.parametrize("kernel", ["descend", "descend_axes"])
def test_every_vertex_points_at_the_lowest_around_it(block: Case, connectivity: Any, kernel: str) -> None:
    if kernel == "descend_axes" and connectivity != "axis":
        return  # that kernel knows no other
    around = block.around(connectivity)
    expected = {v: min([v, *around[v]], key=block.order) for v in block.core()}
    minima = [v for v in block.core() if expected[v] == v]

    def run(begin: int, end: int, most: int) -> Any:
        if kernel == "descend_axes":
            return descend_axes(block.f, root, block.box, block.axes, begin, end, most)
        stencil = block.stencil(connectivity)
        return descend(block.f, root, block.box, stencil, begin, end, most)

    for parts in (1, 3):
        root = np.full(block.f.size, -9, np.int32)
        edges = [block.rows * i // parts for i in range(parts + 1)]
        found = [run(a, b, 2**31 - 1) for a, b in itertools.pairwise(edges)]
        assert {v: int(r) for v, r in enumerate(root) if r != -9} == expected
        assert np.concatenate([positions for positions, _ in found]).tolist() == minima
        assert sum(count for _, count in found) == len(minima)
    none, count = run(0, block.rows, len(minima) - 1)
    assert (len(none), count) == (0, len(minima))
