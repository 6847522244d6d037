"""A warning where SMAD says something of the grid and not of the landscape."""

from __future__ import annotations

import numpy as np
import pytest

from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.decided import decided, warning
from landscaper_hpc.topology.metrics import heights, smad


def wells(*depths: float) -> np.ndarray:
    """A row of wells in the middle of a tall box, a barrier of height 10 between any two; none on its edge."""
    row = np.array([x for depth in depths for x in (10.0, depth)] + [10.0])
    return np.pad(row, 1, constant_values=20.0)


def test_equal_wells_need_no_warning() -> None:
    tree = merge_tree(wells(0, 0.5, 1, 0.2, 0.4))
    assert warning(tree) is None
    found = decided(tree)
    assert found is not None
    assert found.one < 0.5
    assert found.edge == 0.0


def test_one_pair() -> None:
    tree = merge_tree(wells(0, 9.5, 9.6))
    found = decided(tree)
    assert found is not None
    climbs = [10.0, 0.5, 0.4]
    terms = [climb * size for climb, size in zip(climbs, tree.basin_size, strict=True)]
    assert found.one == pytest.approx(terms[0] / sum(terms))
    assert found.minimum == 0
    assert "one pair, that of the minimum at index (2), carries" in str(warning(tree))


def test_minima_on_the_edge() -> None:
    values = wells(0, 0.2, 0.1, 0.3)[2:-2]  # the first and the last well are the ends
    tree = merge_tree(np.append(values[:1] - 50, values[1:]))
    assert "minima on the edge of the grid carry" in str(warning(tree))
    inside = merge_tree(np.pad(wells(0, 0.2, 0.1), 1, constant_values=30.0))
    assert warning(inside) is None


def test_one_over_m() -> None:
    """A thousand ripples of nothing beside three wells divide SMAD by 300 and add nothing to it."""
    three = wells(0, 1, 0.5)
    tree = merge_tree(np.concatenate([three, 15 + 1e-9 * (np.arange(2000) % 2)]))
    assert tree.n_minima == 1003
    without = smad(tree.simplify(0.2))
    assert without > 100 * smad(tree)
    said = "999 of the 1,003 minima are shallower than 1 % of the range and count in its 1/m: without them it is"
    assert f"{said} {without:.3g}" in str(warning(tree))
    assert warning(merge_tree(three)) is None


def test_nothing_to_decide() -> None:
    for values in (np.arange(5.0), np.zeros((3, 3)), np.full(4, np.nan)):
        assert decided(merge_tree(values)) is None
        assert warning(merge_tree(values)) is None


@pytest.mark.parametrize("seed", range(3))
def test_shares_add_up(seed: int) -> None:
    tree = merge_tree(np.random.default_rng(seed).random((9, 8)))
    found = decided(tree)
    assert found is not None
    height, meets = heights(tree, normalize=True)
    terms = height * tree.basin_size[meets] / tree.n_vertices / tree.n_minima
    assert terms.sum() == pytest.approx(smad(tree))
    assert found.one == pytest.approx(terms.max() / smad(tree))
    assert found.minimum == int(np.flatnonzero(meets)[terms.argmax()])
