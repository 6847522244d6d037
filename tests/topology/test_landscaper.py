"""Landscaper 1.3.1's own SMAD: against what it said of 178 fields (`make_landscaper_fields.py`), and by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from landscaper_hpc import contour_tree, merge_tree, smad, smad_landscaper
from landscaper_hpc.topology import topopy
from landscaper_hpc.topology.metrics import persistence_statistics
from tests.topology.fields import fields

DATA = Path(__file__).parents[1] / "data"
THEIRS = {
    name: (file, found)
    for file in ("landscaper_smooth", "landscaper_fields")
    for name, found in json.loads((DATA / f"{file}.json").read_text()).items()
}


def field_of(name: str) -> NDArray[np.float64]:
    with np.load(DATA / f"{THEIRS[name][0]}.npz") as all_:
        return all_[name]


@pytest.mark.parametrize("name", THEIRS)
def test_equals_landscaper(name: str) -> None:
    tree, theirs = contour_tree(field_of(name)), THEIRS[name][1]
    for key, options in (("smad", (True, True)), ("norm", (True, False)), ("plain", (False, False))):
        found = smad_landscaper(tree, *options)
        assert found == (None if theirs[key] is None else pytest.approx(theirs[key], rel=1e-6, abs=1e-15))
    assert Counter(map(frozenset, tree.pairs().tolist())) == Counter(map(frozenset, theirs["pairs"]))
    edges = [] if tree.as_landscaper is None else tree.as_landscaper.edges.tolist()
    assert Counter(map(frozenset, edges)) == Counter(map(frozenset, theirs["ct_edges"]))


def test_the_oracles_hold_what_they_are_for() -> None:
    numbers = [found["smad"] for _, found in THEIRS.values()]
    assert len(numbers) == 178 and 10 < numbers.count(None) < 40


@pytest.mark.parametrize("name", json.loads((DATA / "landscaper_smooth.json").read_text()))
def test_persistence_range(name: str) -> None:
    field, theirs = field_of(name), THEIRS[name][1]
    trees = [merge_tree(field, direction=direction) for direction in ("sublevel", "superlevel")]
    # theirs is of numbers written with six digits
    assert max(persistence_statistics(tree).persistence_range for tree in trees) == pytest.approx(
        theirs["prange"], rel=2e-5
    )


@pytest.mark.thorough
@settings(max_examples=100, deadline=None)
@given(fields(max_ndim=4, max_size=100))
def test_where_values_are_distinct_the_exact_trees_serve(f: NDArray[np.float64]) -> None:
    f = np.random.default_rng(f.size).permutation(f.size).reshape(f.shape).astype(float)
    tree = contour_tree(f)
    trees = topopy.ExactTrees(tree.nodes, tree.join, tree.down, tree.split, tree.up)
    quick = topopy.landscaper_pairs(f, "axis", trees)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topopy, "all_distinct", lambda *_: False)
        swept = topopy.landscaper_pairs(f, "axis", trees)
    assert (quick is None) == (swept is None)
    if quick is not None:
        for name in ("edges", "pairs"):
            assert Counter(map(tuple, getattr(quick, name).tolist())) == Counter(
                map(tuple, getattr(swept, name).tolist())
            )
        assert set(map(tuple, quick.edges.tolist())) <= set(map(tuple, tree.edges.tolist()))
        assert sorted(quick.sizes) == sorted(swept.sizes) and quick.branches == swept.branches


def test_white_noise() -> None:
    """What the oracles have is equation 1; of two of them Landscaper 1.3.1 says something else."""
    others = {}
    for path in sorted(DATA.glob("oracle_*.npz")):
        with np.load(path) as oracle:
            found = smad_landscaper(contour_tree(oracle["f"]))
            if found != pytest.approx(float(oracle["smad"]), rel=1e-6):
                others[path.stem] = found
    # run by Landscaper
    assert others == pytest.approx({"oracle_2_11": 0.07582420385829128, "oracle_2_21": 0.07703074184983441}, rel=1e-12)


def test_a_bowl_by_hand() -> None:
    # the corners are maxima; the only minimum's arc ends at the lowest vertex at which their descents part
    x = np.linspace(-1, 1, 9)
    bowl = (x[:, None] - 0.1) ** 2 + 1.3 * (x - 0.2) ** 2
    tree = contour_tree(bowl)
    assert len(tree.minima) == 1 and len(tree.maxima) == 4
    ((minimum, saddle),) = tree.pairs().tolist()
    assert minimum == tree.minima[0] and saddle == tree.split_saddles[0]
    height = bowl.flat[saddle] - bowl.flat[minimum]
    assert smad_landscaper(tree, normalize=False) == pytest.approx(height)
    assert smad_landscaper(tree) == pytest.approx(height / np.ptp(bowl))
    assert smad(merge_tree(bowl)) == 0.0


def test_not_defined_by_landscaper() -> None:
    assert smad_landscaper(contour_tree(np.zeros((4, 4)))) is None
    assert smad_landscaper(contour_tree(np.zeros(1))) is None
    assert smad_landscaper(contour_tree([[1.0, np.nan], [0.0, 2.0]])) is None
    assert smad_landscaper(contour_tree([[1.0, 1e39], [0.0, 2.0]])) is None  # beyond single precision
    assert smad_landscaper(contour_tree([0.0, 2.0, 1.0])) is None  # the highest vertex is a saddle
    assert smad_landscaper(contour_tree(np.arange(16.0).reshape(4, 4))) == 0.0  # no branch at all
