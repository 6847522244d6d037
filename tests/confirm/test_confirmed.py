"""Minima and saddles of functions whose answers are known, found from grids, in 2 to 5 dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from landscaper_hpc.confirm import descents, newton
from landscaper_hpc.confirm.confirmed import confirm, confirmed_below, confirmed_by
from landscaper_hpc.confirm.descents import Descents, curvatures, neighbours
from landscaper_hpc.confirm.ends import KINDS
from landscaper_hpc.confirm.result import Confirmed
from landscaper_hpc.confirm.rows import What, searching
from landscaper_hpc.confirm.surface import Box, Cost, search
from landscaper_hpc.grid import Axis, Grid
from landscaper_hpc.sampling.lowest import lowest
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.metrics import mean_climb, smad
from landscaper_hpc.topology.readers import ArrayReader
from tests.confirm.functions import (
    MUELLER_BROWN,
    Analytic,
    Waves,
    bends,
    bends_slopes,
    cube,
    mueller_brown,
    rastrigin,
    valley,
    wells,
)
from tests.kinds import thorough


def of(f, grid: Grid, most: int | None = None) -> Confirmed:
    surface = Analytic(f)
    values = surface.on(grid)
    return confirm(surface, grid, values, merge_tree(values), most)


def kinds(found: Confirmed) -> list[str]:
    return [KINDS[kind] for kind in found.kinds]


def roots(f, low: float, high: float) -> list[float]:
    """Where the derivative of a function of one number changes its sign, to rounding."""
    x = torch.linspace(low, high, 4001, dtype=torch.float64)
    slope = torch.func.vmap(torch.func.grad(f))
    signs = slope(x).sign()
    (before,) = torch.where(signs[1:] != signs[:-1])
    a, b = x[before], x[before + 1]
    for _ in range(60):
        middle = (a + b) / 2
        same = slope(middle).sign() == signs[before]
        a, b = torch.where(same, middle, a), torch.where(same, b, middle)
    return ((a + b) / 2).tolist()


# ---- minima, and what they are --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "half", "count", "along_an_axis"), [(2, 2.7, 41, 7), (3, 1.7, 14, 5)])
@pytest.mark.thorough
def test_rastrigins_minima_inside_and_on_the_faces(n: int, half: float, count: int, along_an_axis: int) -> None:
    grid = cube(n, half, count)
    found = of(rastrigin, grid)

    def along(x: torch.Tensor) -> torch.Tensor:
        return 10 + x.square() - 10 * torch.cos(2 * torch.pi * x)

    inside = [x for x in roots(along, -half, half) if math.cos(2 * math.pi * x) > 0]
    expected = np.array(list(product([*inside, -half, half], repeat=n)))
    assert len(expected) == along_an_axis**n == len(found.points)
    classes = np.where((np.abs(expected) == half).any(axis=1), "edge", "interior")
    apart = np.abs(expected[:, None] - found.points).max(axis=2)
    right = (apart.min(axis=1) < 1e-4) & (np.array(kinds(found))[apart.argmin(axis=1)] == classes)
    assert right.mean() >= 0.99
    steepest = (
        2 + 40 * math.pi**2
    )  # the second derivative, times the step that a search may leave, of 1e-5 of the grid's
    assert np.abs(found.gradients[found.kinds == 0]).max() < 1.1 * steepest * 1e-5 * 2 * half / (count - 1)
    assert (found.eigenvalues[found.kinds == 0] > 0).all()
    assert np.isnan(found.eigenvalues[found.kinds == 1]).any(axis=1).all()  # none across a face


@pytest.mark.parametrize(("n", "count"), [(2, 41), thorough(3, 21), thorough(4, 15), thorough(5, 9)])
def test_double_wells_have_their_minima_saddles_and_tree(n: int, count: int) -> None:
    found = of(wells, cube(n, 1.5, count))
    assert kinds(found) == ["interior"] * 2**n
    # of a sum of functions of one number each: minima are combinations of theirs, barriers those of one axis
    axes = []
    for i in range(1, n + 1):

        def one(x: torch.Tensor, i: int = i) -> torch.Tensor:
            return i * (x.square() - 1).square() + 0.1 * math.sqrt(i) * x

        axes.append([(x, float(one(torch.tensor(x, dtype=torch.float64)))) for x in roots(one, -1.5, 1.5)])
    expected = sorted(sum(value for _, value in point) for point in product(*([axis[0], axis[2]] for axis in axes)))
    np.testing.assert_allclose(found.values, expected, atol=1e-9)
    assert (found.saddles >= 0).all()  # every join has a saddle
    assert ((found.saddle_eigenvalues < 0).sum(axis=1) == 1).all()
    # the deepest minimum lies to the left on every axis; each other one is left along its cheapest way down
    heights = [axis[1][1] - axis[2][1] for axis in axes]
    lifetimes = np.sort(found.tree.lifetimes[np.isfinite(found.tree.lifetimes)])
    cheapest = [min(h for h, right in zip(heights, sides, strict=True) if right) for sides in _right(n)]
    np.testing.assert_allclose(lifetimes, np.sort(cheapest), atol=1e-8)
    assert found.tree.basin_size.sum() == count**n


def _right(n: int) -> list[tuple[int, ...]]:
    return [sides for sides in product((0, 1), repeat=n) if any(sides)]


def test_muller_and_browns_minima_and_saddles_are_those_of_the_literature() -> None:
    found = of(mueller_brown, MUELLER_BROWN)
    assert kinds(found) == ["interior"] * 3
    # Müller, Brown, Theor. Chim. Acta 53 (1979)
    np.testing.assert_allclose(found.points, [[-0.558, 1.442], [0.623, 0.028], [-0.050, 0.467]], atol=6e-4)
    np.testing.assert_allclose(found.values, [-146.700, -108.167, -80.768], atol=6e-4)
    np.testing.assert_allclose(found.saddle_points, [[0.212, 0.293], [-0.822, 0.624]], atol=6e-4)
    np.testing.assert_allclose(found.saddle_values, [-72.249, -40.665], atol=6e-4)
    assert found.tree.n_minima == 3


@pytest.mark.thorough
@pytest.mark.parametrize(("n", "count"), [(2, 201), (3, 41), (4, 15), (5, 9)])
def test_a_slanted_valleys_many_minima_of_the_grid_are_one(n: int, count: int) -> None:
    surface, grid = Analytic(valley(n)), cube(n, 1.0, count)
    tree = merge_tree(surface.on(grid))
    assert tree.n_minima >= 5
    found = confirm(surface, grid, surface.on(grid), tree)
    assert kinds(found) == ["interior"]
    np.testing.assert_allclose(found.points, [[0.1] * n], atol=1e-3 * 2 / (count - 1))
    assert (found.ends == 0).all()
    assert len(found.joins) == 0
    assert mean_climb(found.tree) == 0 < mean_climb(tree)
    assert found.sentence() == f"{tree.n_minima} minima of the grid are 1 minimum of the loss"


def test_only_the_most_persistent_are_followed_where_that_is_asked() -> None:
    grid = cube(2, 2.7, 41)
    found = of(rastrigin, grid, most=10)
    assert len(found.grid_minima) <= 10 < found.n_grid_minima
    assert found.tree.basin_size.sum() == grid.size
    assert found.sentence().startswith(f"the {len(found.grid_minima)} most persistent of {found.n_grid_minima} minima")


@pytest.mark.thorough
def test_where_saddles_are_missing_nearest_ends_are_joined_next() -> None:
    """Other ends lie between those that meet on the grid: 4 of 36 passes had no saddle, for 2,826 gradients."""
    field, grid = Waves(3, 0, 0.0), cube(3, 2.0, 13)
    values = field.on(grid)
    found = confirm(field, grid, values, merge_tree(values))
    assert len(found.saddles) >= 36
    assert np.count_nonzero(found.saddles < 0) <= 1
    assert (found.saddle_eigenvalues[:, 0] < 0).all() and not (found.saddle_eigenvalues[:, 1:] < 0).any()
    assert found.gradients_spent < 2826


def test_a_pass_on_a_face_of_the_box_is_a_saddle_of_the_loss_along_it() -> None:
    def across(x: torch.Tensor) -> torch.Tensor:
        return (x.square() - 1).square() + 0.1 * x

    found = of(lambda x: across(x[0]) + x[1] + 0.5 * x[2].square(), cube(3, 1.5, 9))
    assert kinds(found) == ["edge"] * 2
    assert found.passes == ["saddle on a face"]
    top = roots(across, -1.5, 1.5)[1]
    np.testing.assert_allclose(found.saddle_points, [[top, -1.5, 0.0]], atol=1e-4)
    np.testing.assert_allclose(found.saddle_eigenvalues, [[12 * top**2 - 4, 1.0, np.nan]], rtol=1e-4)
    height = float(across(torch.tensor(top, dtype=torch.float64))) - 1.5
    np.testing.assert_allclose(found.heights, [height], atol=1e-8)


def test_a_pass_over_a_kink_has_no_saddle_and_says_so() -> None:
    found = of(lambda x: (x[0].abs() - 1).square() + 0.1 * x[0] + x[1].square(), cube(2, 1.7, 13))
    assert kinds(found) == ["interior"] * 2
    assert found.passes == ["not found"]
    assert 0.95 < found.heights[0] <= 1.0  # the kink is at x = 0, beside the points of the straight way


def test_no_pass_is_lower_than_what_it_joins() -> None:
    """A shallow minimum beside a kink: of the values along the straight way from it to the deep one all are lower."""

    def along(x: torch.Tensor) -> torch.Tensor:
        wall = torch.where(x < 1, 2 * (x - 1), -20 * (x - 1))  # a kink at 1, up to 0
        return torch.where(x < 1.2, wall, 100 * (x - 1.25).square() - 4.25) + 1.5 * (x + 2).square() / 9

    found = of(lambda x: along(x[0]) + x[1].square(), cube(2, 1.5, 31))
    for (a, b), height in zip(found.joins.tolist(), found.heights.tolist(), strict=True):
        assert height >= max(found.values[a], found.values[b])


def test_passes_are_sought_between_what_lies_beside_them_not_between_the_deepest_of_each_side() -> None:
    values = np.array([[3.0, 9, 0, 5, 2, 6, 1, 9]])  # minima at 2 (0), 6 (1), 4 (2), 0 (3)
    tree = merge_tree(values)
    beside = {
        tuple(tree.minima[pair]) for i, pair in enumerate(neighbours(ArrayReader(values), tree)) if tree.parent[i] >= 0
    }
    assert tree.minima[tree.parent[tree.minima == 6]].tolist() == [2]
    assert beside == {(4, 2), (6, 4), (0, 2)}


def test_what_no_descent_tells_of_is_what_dies_and_what_goes_on() -> None:
    values = np.array([[0.0, 2, 1, 1, 2, 0.5]])  # the plateau's minimum is one of its points
    tree = merge_tree(values)
    for i, (own, other) in enumerate(neighbours(ArrayReader(values), tree).tolist()):
        assert tree.parent[i] < 0 or own != other >= 0


@pytest.mark.thorough
def test_an_edge_point_where_the_loss_falls_outwards() -> None:
    found = of(lambda x: x[0] + (x[1] - 0.13).square(), cube(2, 1.0, 11))
    assert kinds(found) == ["edge"]
    np.testing.assert_allclose(found.points, [[-1.0, 0.13]], atol=1e-6)
    np.testing.assert_allclose(found.eigenvalues, [[2.0, np.nan]], rtol=1e-6)


def test_a_corner_is_an_edge_point_without_eigenvalues() -> None:
    found = of(lambda x: x.sum(), cube(3, 1.0, 5))
    assert kinds(found) == ["edge"]
    assert found.points.tolist() == [[-1.0, -1.0, -1.0]]
    assert np.isnan(found.eigenvalues).all()


# ---- which minimum a descent leads to, and what it costs ------------------------------------------------------------


def flowed(slopes: Callable[[np.ndarray], np.ndarray], starts: np.ndarray, half: float) -> np.ndarray:
    """Where the gradient flow within the box leads, by an implicit method in short steps: an independent check."""

    def downhill(t: float, rows: np.ndarray) -> np.ndarray:
        x = rows.reshape(starts.shape)
        slope = slopes(np.clip(x, -half, half))
        held = ((x <= -half) & (slope > 0)) | ((x >= half) & (slope < 0))
        return np.where(held, 0.0, -slope).reshape(-1)

    band = starts.shape[1] - 1  # of the Jacobian of all starts side by side: none sees another
    along = solve_ivp(downhill, (0, 200), starts.reshape(-1), "LSODA", rtol=1e-8, atol=1e-10, lband=band, uband=band)
    return np.clip(along.y[:, -1].reshape(starts.shape), -half, half)


FIELDS = [(2, 1, 31, 3.0), (3, 0, 13, 0.0), (3, 1, 21, 3.0), (4, 1, 9, 2.0), (5, 0, 7, 0.0)]


@pytest.mark.slow
def test_ends_of_many_fields_are_those_of_the_flow_in_minute_steps_whatever_the_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sums of waves in bowls and valleys: trust-region steps led 1 % of all minima of the grid, and one in seven other
    points, elsewhere; a start whose flow ends elsewhere when it is moved by a fiftieth of a step is not counted."""
    rights = dict.fromkeys((0.125, 0.25, 0.5), 0)
    count = 0
    for n, seed, points, stiff in FIELDS:
        field, grid = Waves(n, seed, stiff), cube(n, 2.0 if n < 4 else 1.5, points)
        values, box = field.on(grid), Box.of(grid)
        minima = merge_tree(values).minima[:40]
        vertices = np.concatenate([minima, np.random.default_rng(1).integers(0, grid.size, 10)])
        starts = np.stack(np.unravel_index(vertices, grid.shape), axis=1).astype(np.float64)
        moved = np.clip(starts + 0.02 * np.random.default_rng(0).normal(size=starts.shape), 0, box.far)
        expected, beside = np.split(in_minute_steps(field, box, np.vstack([starts, moved])), 2)
        sure = np.abs(expected - beside).max(axis=1) < 0.1
        count += int(sure.sum())
        for first in rights:
            monkeypatch.setattr(descents, "care", lambda n, first=first: newton.care(n)._replace(first=first))

            def run(what, starts: np.ndarray, field: Waves = field, box: Box = box) -> np.ndarray:
                return np.array(search(field, box, [searching(what, x, box, field.rounding) for x in starts]))

            ways = Descents(run, box, field.rounding)
            of = ways.follow(starts, curvatures(ArrayReader(values), vertices))
            found = np.array([ways.ends[i].point for i in of])
            rights[first] += int((np.abs(found - expected).max(axis=1) < 0.15)[sure].sum())
    assert count > 150
    assert min(rights.values()) >= 0.98 * count, (rights, count)


def in_minute_steps(field: Waves, box: Box, x: np.ndarray) -> np.ndarray:
    """Where the gradient flow from points (k, n) leads, by Euler's method: an independent check."""
    somewhere = box.alpha(np.random.default_rng(0).uniform(0, 1, (300, len(box.far))) * box.far)
    steepest = np.abs(np.linalg.eigvalsh(field.hessians(somewhere) * np.outer(box.step, box.step))).max()
    for _ in range(20000):
        slope = field.gradients(box.alpha(x))[1] * box.step
        length = np.minimum(0.3 / steepest, 0.02 / np.maximum(np.linalg.norm(slope, axis=1), 1e-300))
        there = np.clip(x - length[:, None] * slope, 0, box.far)
        if np.abs(there - x).max() < 1e-7:
            break
        x = there
    return x


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.thorough
def test_ends_are_those_of_the_gradient_flow_whatever_the_first_step(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trust-region steps of half a grid step stepped over shallow minima along a valley."""
    surface, grid = Analytic(bends(seed)), cube(2, 2.0, 21)
    values = surface.on(grid)
    tree = merge_tree(values)
    starts = np.stack(np.unravel_index(tree.minima, grid.shape), axis=1) * 0.2 - 2.0
    np.testing.assert_allclose(surface.gradients(starts)[1], bends_slopes(seed)(starts), atol=1e-12)
    expected = flowed(bends_slopes(seed), starts, 2.0)
    for first in (0.125, 0.25, 0.5):
        monkeypatch.setattr(descents, "care", lambda n, first=first: newton.care(n)._replace(first=first))
        found = confirm(surface, grid, values, tree)
        assert set(kinds(found)) <= {"interior", "edge"}
        np.testing.assert_allclose(found.points[found.ends], expected, atol=0.05 * 0.2)


@pytest.mark.thorough
def test_a_valley_is_walked_once_however_many_minima_a_grid_shows_in_it() -> None:
    found = of(valley(2), cube(2, 1.0, 201))
    assert len(found.grid_minima) == 143
    assert found.gradients_spent + found.products_spent < 8 * 143  # one by one: 15 for each


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.thorough
def test_searches_in_batches_of_any_size_find_the_same_bytes(batch: int) -> None:
    surface, grid = Analytic(rastrigin), cube(2, 1.7, 27)
    values = surface.on(grid)
    box = Box.of(grid)

    def run(what, starts: np.ndarray) -> tuple[np.ndarray, Cost]:
        cost, rows = Cost(), []
        for i in range(0, len(starts), batch):
            rows += search(surface, box, [searching(what, x, box, 2.2e-16) for x in starts[i : i + batch]], cost)
        return np.array(rows), cost

    tree = merge_tree(values)
    found = confirmed_by(run, 2.2e-16, grid, ArrayReader(values), tree, None).to_arrays()
    for name, array in confirm(surface, grid, values, tree).to_arrays().items():
        assert array.tobytes() == found[name].tobytes(), name


# ---- said, not guessed ----------------------------------------------------------------------------------------------


def test_a_flat_loss_is_flat() -> None:
    found = of(lambda x: 0 * x.sum() + 3.0, cube(2, 1.0, 5))
    assert kinds(found) == ["flat"]
    assert found.sentence() == "1 minimum of the grid is 0 minima of the loss and 1 flat to rounding"
    assert mean_climb(found.tree) == smad(found.tree) == 0


@pytest.mark.thorough
def test_a_minimum_on_a_kink_is_said_to_be_one() -> None:
    found = of(lambda x: (x[0] - 0.13).abs() + 2 * (x[1] + 0.27 + 0.5 * x[0]).abs(), cube(2, 1.0, 11))
    assert kinds(found) == ["kink"]
    np.testing.assert_allclose(found.points, [[0.13, -0.335]], atol=1e-5)
    assert found.sentence().endswith("0 minima of the loss and 1 on kinks")


def test_a_kink_is_found_with_few_gradients() -> None:
    """On a kink the exact Hessian of one side leads a search across and back: once tells as much as 200 times."""
    relu = torch.relu
    loss = lambda x: (x - 0.13).square().sum() + relu(x[0] - 0.21) / 2 + relu(0.3 - x[0] - 0.2 * x[1])  # noqa: E731
    found = of(loss, cube(2, 1.0, 11))
    assert kinds(found) == ["kink"]
    y = (0.2 * (2 * 0.17 + 0.5) + 2 * 0.13) / (2 + 2 * 0.2**2)  # on x = 0.3 − 0.2 y, where the slope along it vanishes
    np.testing.assert_allclose(found.points, [[0.3 - 0.2 * y, y]], atol=1e-5)
    assert found.gradients_spent + found.products_spent < 200


@pytest.mark.thorough
def test_a_kink_across_a_face_is_found() -> None:
    found = of(lambda x: x[0] + (x[1] - 0.13).abs(), cube(2, 1.0, 11))
    assert kinds(found) == ["kink"]
    np.testing.assert_allclose(found.points, [[-1.0, 0.13]], atol=1e-5)


def test_a_start_exactly_on_a_saddle_is_left() -> None:
    # the grid sees the saddle in the middle only
    grid = Grid((Axis(-1.0, 1.0, 3), Axis(-1.0, 1.0, 3)))
    surface = Analytic(lambda x: (x[0].square() - 0.25).square() - 0.3 * x[0].square() + x[1].square())
    values = surface.on(grid)
    values[1, 1] -= 10
    found = confirm(surface, grid, values, merge_tree(values))
    assert "saddle" not in kinds(found)
    assert kinds(found)[0] in ("interior", "edge")


@pytest.mark.thorough
def test_losses_that_are_not_finite_stop_a_search_and_nothing_else() -> None:
    surface = Analytic(lambda x: torch.where(x[0] > 0.5, torch.nan, (x.square() - 0.04).square().sum()))
    grid = cube(2, 1.0, 21)
    values = surface.on(grid)
    found = confirm(surface, grid, values, merge_tree(values))
    assert kinds(found) == ["interior"] * 4


def test_a_start_without_a_gradient_is_looked_around() -> None:
    """torch gives NaN for the slope of a root at zero."""
    found = of(lambda x: x.square().sum().sqrt(), cube(2, 1.0, 11))
    assert kinds(found) == ["kink"]
    assert np.abs(found.points).max() < 1e-6


# ---- what is kept ---------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize(("n", "level"), [(2, 22.0), (2, 6.0), (3, 22.0)])
def test_below_a_level_minima_and_saddles_are_those_of_the_whole_grid_there(n: int, level: float) -> None:
    """Rastrigin's: at the higher level some of its minima have met, but not all that have on the grid."""
    surface, grid = Analytic(rastrigin), cube(n, 2.2, 23)
    values = surface.on(grid)
    whole = confirm(surface, grid, values, merge_tree(values))
    part = lowest(lambda ids: values.reshape(-1)[ids], grid.shape, below=level, descents=1000)
    box = Box.of(grid)

    def run(what: What, starts: np.ndarray) -> tuple[np.ndarray, Cost]:
        searches = [searching(what, start, box, surface.rounding) for start in starts]
        return np.array(search(surface, box, searches, cost := Cost())), cost

    found = confirmed_below(run, surface.rounding, grid, part.tree, level, None)
    there = whole.values < level
    assert (there.sum(), kinds(found)) == (len(found.values), np.array(kinds(whole))[there].tolist())
    np.testing.assert_allclose(found.values, whole.values[there], atol=1e-9)
    apart = np.abs(found.points[:, None] - whole.points[there]).max(axis=2)
    assert apart.min(axis=1).max() < 1e-5
    saddles, known = (np.sort(one.saddle_values[one.saddle_values < level]) for one in (found, whole))
    np.testing.assert_allclose(saddles, known)
    tree = found.tree
    assert np.count_nonzero(tree.parent >= 0) == np.count_nonzero(whole.tree.death_value < level)
    assert (tree.first_saddle_value <= level).all()
    again = Confirmed.from_arrays(found.to_arrays())
    assert (again.level, again.sentence()) == (level, found.sentence())
    assert found.sentence().startswith(f"in the scope, below {level:.6g}, {part.tree.n_minima} minima of the grid are")
    assert whole.sentence() == Confirmed.from_arrays(whole.to_arrays()).sentence()


def test_arrays_hold_everything() -> None:
    found = of(mueller_brown, MUELLER_BROWN)
    again = Confirmed.from_arrays(found.to_arrays())
    assert again.to_arrays().keys() == found.to_arrays().keys()
    for name, values in found.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], values)


@pytest.mark.thorough
def test_a_search_does_not_depend_on_those_beside_it() -> None:
    surface, grid = Analytic(rastrigin), cube(2, 2.7, 41)
    tree = merge_tree(surface.on(grid))
    values = surface.on(grid)
    few, all_of = confirm(surface, grid, values, tree, most=10), confirm(surface, grid, values, tree)
    place = dict(zip(all_of.grid_minima.tolist(), all_of.ends.tolist(), strict=True))
    for minimum, end in zip(few.grid_minima.tolist(), few.ends.tolist(), strict=True):
        assert few.points[end].tolist() == all_of.points[place[minimum]].tolist()
