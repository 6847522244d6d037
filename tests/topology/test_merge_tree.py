from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology import MergeTree, merge_tree
from tests.kinds import kinds
from tests.oracles import OracleTree, grid_neighbours, oracle_tree
from tests.topology.fields import connectivities, directions, fields


def assert_is_oracle(tree: MergeTree, oracle: OracleTree, values: NDArray[Any]) -> None:
    flat = values.reshape(-1).astype(np.float64) + 0.0
    assert tree.minima.tolist() == oracle.minima
    assert tree.basin_size.tolist() == oracle.basin_size
    assert tree.first_saddle.tolist() == oracle.first_saddle
    assert tree.parent.tolist() == oracle.parent
    assert tree.death.tolist() == oracle.death
    assert tree.n_saddles == len(oracle.saddles)
    np.testing.assert_array_equal(tree.values, flat[oracle.minima])
    for ids, found in [(tree.death, tree.death_value), (tree.first_saddle, tree.first_saddle_value)]:
        np.testing.assert_array_equal(found, np.where(ids >= 0, flat[ids], np.nan))
    if tree.labels is not None:
        assert tree.labels.shape == values.shape
        assert tree.labels.reshape(-1).tolist() == oracle.labels


def assert_same_tree(one: MergeTree, other: MergeTree) -> None:
    a, b = one.to_arrays(), other.to_arrays()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].tobytes() == b[name].tobytes(), name


@pytest.fixture(params=[1, 3])
def many_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Split even tiny fields between threads."""
    monkeypatch.setattr("landscaper_hpc.topology.blocks.block.SMALL", 2)
    return int(request.param)


@settings(deadline=None, max_examples=300)
@given(fields(max_size=150), connectivities, directions, st.sampled_from([1, 3]))
def test_equals_brute_force(values: NDArray[Any], connectivity: Any, direction: Any, threads: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("landscaper_hpc.topology.blocks.block.SMALL", 2)
        tree = merge_tree(values, connectivity, direction, labels=True, threads=threads)
    oracle = oracle_tree(values, grid_neighbours(values.shape, connectivity), direction)
    assert_is_oracle(tree, oracle, values)


@pytest.mark.thorough
@settings(deadline=None, max_examples=100)
@given(fields(max_ndim=4), connectivities)
def test_monotone_transforms_change_values_only(values: NDArray[Any], connectivity: Any) -> None:
    one = merge_tree(values, connectivity, labels=True)
    other = merge_tree(3.0 * values.astype(np.float64) - 7.0, connectivity, labels=True)
    for name in ("minima", "basin_size", "first_saddle", "parent", "death", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.thorough
@settings(deadline=None, max_examples=100)
@given(st.data())
def test_axis_order_and_reflection_change_nothing_without_ties(data: st.DataObject) -> None:
    values = data.draw(fields(max_ndim=4).filter(lambda v: len(np.unique(v)) == v.size))
    connectivity = data.draw(st.sampled_from(["axis", "full"]))
    axes = data.draw(st.permutations(range(values.ndim)))
    flips = data.draw(st.lists(st.integers(0, values.ndim - 1), unique=True))
    ids = np.arange(values.size).reshape(values.shape)
    moved = np.flip(ids.transpose(axes), flips)
    one = merge_tree(values, connectivity)
    other = merge_tree(values.reshape(-1)[moved], connectivity)
    back = moved.reshape(-1)
    np.testing.assert_array_equal(one.minima, back[other.minima])
    np.testing.assert_array_equal(one.parent, other.parent)
    np.testing.assert_array_equal(one.basin_size, other.basin_size)
    for name in ("death", "first_saddle"):
        ids_there = getattr(other, name)
        np.testing.assert_array_equal(getattr(one, name), np.where(ids_there >= 0, back[ids_there], -1))


@settings(deadline=None, max_examples=100)
@given(fields(max_ndim=4), st.sampled_from(["axis", "full"]))
def test_pairs_equal_gudhi(values: NDArray[Any], connectivity: str) -> None:
    gudhi = pytest.importorskip("gudhi")
    values = np.where(np.isnan(values), 2.5, values).astype(np.float64)
    values = np.clip(values, -10.0, 10.0)
    key = "vertices" if connectivity == "axis" else "top_dimensional_cells"
    complex_ = gudhi.CubicalComplex(**{key: values})
    complex_.compute_persistence(homology_coeff_field=2, min_persistence=-1.0)
    theirs = np.asarray(complex_.persistence_intervals_in_dimension(0)).reshape(-1, 2)
    pairs = merge_tree(values, connectivity).persistence()  # type: ignore[arg-type]
    ours = np.stack([pairs.births, pairs.deaths], axis=1)
    ours = ours[ours[:, 0] < ours[:, 1]]
    essential = theirs[np.isinf(theirs[:, 1])]
    theirs = theirs[np.isfinite(theirs[:, 1]) & (theirs[:, 0] < theirs[:, 1])]
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))
    assert essential[:, 0].tolist() == pairs.essential.tolist()


def spiral(k: int) -> NDArray[np.float64]:
    """A corridor that winds inwards, descending all the way, between walls."""
    field = np.full((k, k), 10.0**6)
    x, y, dx, dy, height = 0, 0, 0, 1, float(k * k)
    free = np.ones((k, k), bool)
    while True:
        field[x, y] = height
        free[x, y] = False
        height -= 1.0
        for _ in range(2):
            tx, ty = x + dx, y + dy
            ux, uy = tx + dx, ty + dy
            ok = 0 <= tx < k and 0 <= ty < k and free[tx, ty]
            if ok and not (0 <= ux < k and 0 <= uy < k and not free[ux, uy]):
                break
            dx, dy = dy, -dx
        else:
            return field
        x, y = tx, ty


def adversaries() -> dict[str, NDArray[np.float64]]:
    ridge = np.fromfunction(lambda i, j: np.where(i % 2 == 0, i * 40.0 + np.where(i % 4, 39 - j, j), 1e4), (21, 40))
    checker = np.indices((12, 12, 12)).sum(axis=0) % 2
    return {
        "spiral": spiral(31),
        "ridge": ridge + 0.0 * ridge,
        "checkerboard": checker.astype(float),
        "one basin": -np.arange(5000.0).reshape(10, 500),
        "constant": np.zeros((7, 8, 9)),
        "all NaN": np.full((4, 5), np.nan),
        "all -inf": np.full((4, 5), -np.inf),
    }


@pytest.mark.parametrize("name", adversaries())
@pytest.mark.parametrize("connectivity", kinds(["axis", "freudenthal", "full"], "freudenthal"))
def test_adversaries(name: str, connectivity: Any, many_parts: int) -> None:
    values = adversaries()[name]
    tree = merge_tree(values, connectivity, labels=True, threads=many_parts)
    if values.size <= 1728:
        assert_is_oracle(tree, oracle_tree(values, grid_neighbours(values.shape, connectivity)), values)
    else:
        assert tree.basin_size.tolist() == [values.size]


def test_larger_noise_is_the_same_for_any_number_of_threads() -> None:
    values = np.random.default_rng(1).random((13, 14, 15, 16)).astype(np.float32)
    trees = [merge_tree(values, labels=True, threads=t) for t in (1, 2, 5)]
    for other in trees[1:]:
        assert_same_tree(trees[0], other)
    assert trees[0].basin_size.sum() == values.size


def test_product_of_double_wells() -> None:
    x = np.linspace(-1.5, 1.5, 13)
    well = (x**2 - 1) ** 2
    values = sum(np.meshgrid(well, well, well, indexing="ij"))
    tree = merge_tree(values)
    assert tree.n_minima == 8
    at = np.stack(np.unravel_index(tree.minima, values.shape), axis=1)
    assert set(map(tuple, x[at].tolist())) == {(a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)}
    np.testing.assert_allclose(tree.first_saddle_value, 1.0)
    np.testing.assert_allclose(tree.persistence().deaths, 1.0)


@settings(deadline=None, max_examples=60)
@given(fields(max_ndim=3), directions)
def test_arrays_round_trip(values: NDArray[Any], direction: Any) -> None:
    tree = merge_tree(values, direction=direction, labels=True)
    assert_same_tree(MergeTree.from_arrays(tree.to_arrays()), tree)


@pytest.mark.thorough
@settings(deadline=None, max_examples=100)
@given(fields(max_ndim=3), connectivities, directions, st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.5, 2.0, np.inf]))
def test_simplify(values: NDArray[Any], connectivity: Any, direction: Any, threshold: float) -> None:
    tree = merge_tree(values, connectivity, direction, labels=True)
    simple = tree.simplify(threshold)
    stays = ~(tree.lifetimes < threshold)
    np.testing.assert_array_equal(simple.minima, tree.minima[stays])
    np.testing.assert_array_equal(simple.death, tree.death[stays])
    assert simple.basin_size.sum() == tree.basin_size.sum()
    assert simple.labels is not None and tree.labels is not None
    counts = np.bincount(simple.labels.reshape(-1) + 1, minlength=simple.n_minima + 1)[1:]
    np.testing.assert_array_equal(counts, simple.basin_size)
    # heights of first saddles, from scratch: sweep the survivors' deaths
    rank = np.lexsort((simple.death, np.where(simple.direction == "superlevel", -1, 1) * simple.death_value))
    met = np.full(simple.n_minima, -1)
    for i in rank:
        if simple.parent[i] >= 0:
            for m in (i, simple.parent[i]):
                met[m] = simple.death[i] if met[m] < 0 else met[m]
    np.testing.assert_array_equal(simple.first_saddle, met)
    # in one pass or in two
    if np.isfinite(threshold):
        assert_same_tree(tree.simplify(threshold / 2).simplify(threshold), simple)


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        (np.zeros(3, complex), {}, "complex128"),
        (np.array(["a"]), {}, "no real number"),
        (np.zeros((3, 0)), {}, "no vertex"),
        (np.zeros(3), {"connectivity": "diagonal"}, "choose one of axis, freudenthal, full"),
        (np.zeros(3), {"direction": "up"}, "choose one of sublevel, superlevel"),
    ],
)
def test_bad_input_is_one_sentence(values: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        merge_tree(values, **options)
    assert "\n" not in str(caught.value)


def test_other_types_and_layouts() -> None:
    values = np.random.default_rng(0).integers(0, 9, (6, 7))
    expected = merge_tree(values.astype(float))
    for other in (values, values.astype(np.uint8), np.asfortranarray(values), values.astype(">f8")):
        assert_same_tree(merge_tree(other), expected)
    assert merge_tree(3.0).n_minima == 1
