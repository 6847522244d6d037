"""The kernel of the branch decomposition, against one that looks for the shortest leaf anew each time."""

from __future__ import annotations

import numpy as np
import pytest

from landscaper_hpc.topology import contour_tree
from landscaper_hpc.topology.kernels.branches import branch_decomposition

Arcs = dict[tuple[int, int], list[int]]
"""What has vanished in each, the lower end first."""


def vanish(arcs: Arcs, s: int) -> None:
    (below,), (above,) = ([a for a in arcs if a[1] == s], [a for a in arcs if a[0] == s])
    arcs[below[0], above[1]] = [*arcs.pop(below), s, *arcs.pop(above)]


def twin(edges: list[tuple[int, int]], n: int, values: list[float]) -> set[tuple[int, int, tuple[int, int] | None]]:
    """(leaf, end, leaf and end of the branch that it ends on) of each branch."""
    arcs: Arcs = {edge: [] for edge in edges}
    lower, upper = [lambda v: [a for a in arcs if a[1] == v], lambda v: [a for a in arcs if a[0] == v]]
    for v in range(n):
        if len(lower(v)) == len(upper(v)) == 1:
            vanish(arcs, v)
    taken: list[tuple[tuple[int, int], list[int]]] = []
    while len(arcs) > 1:
        fit = [(b - a, a, b) for a, b in arcs if not lower(a) and len(upper(a)) == 1 and len(lower(b)) > 1]
        fit += [(b - a, b, a) for a, b in arcs if not upper(b) and len(lower(b)) == 1 and len(upper(a)) > 1]
        _, v, s = min((abs(values[v] - values[s]), v, s) for _, v, s in fit)
        taken.append(((v, s), [v, *arcs.pop((min(v, s), max(v, s)))]))
        if len(lower(s)) == len(upper(s)) == 1:
            vanish(arcs, s)
    ((ends, inside),) = arcs.items()
    taken.append((ends, [*ends, *inside]))
    return {(*b, next((c for c, held in taken if b[1] in held and c != b), None)) for b, _ in taken}


@pytest.mark.parametrize("shape", [(13,), (6, 7), (4, 3, 5)])
@pytest.mark.parametrize("ties", [False, True])
def test_branches(shape: tuple[int, ...], ties: bool) -> None:
    rng = np.random.default_rng(sum(shape))
    field = rng.integers(0, 4, shape).astype(float) if ties else rng.random(shape)
    tree = contour_tree(field, "freudenthal")
    number = {int(v): i for i, v in enumerate(tree.nodes)}
    edges = [(number[int(a)], number[int(b)]) for a, b in tree.edges]
    leaf, end, parent = branch_decomposition(np.array(edges), len(number), tree.values)
    pairs = list(zip(leaf.tolist(), end.tolist(), strict=True))
    expected = twin(edges, len(number), tree.values.tolist())
    assert {(*b, pairs[p] if p >= 0 else None) for b, p in zip(pairs, parent, strict=True)} == expected
    assert len(pairs) == len(expected)
