"""A loss over its directions: value, gradient and Hessian, whatever torch needs for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from problems import transformer_task
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from landscaper_hpc import Task
from landscaper_hpc.confirm import gradients
from landscaper_hpc.confirm.of_objective import ObjectiveSurface
from landscaper_hpc.directions.decompose import Operations
from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.errors import InputError
from landscaper_hpc.losses.evaluate import losses
from landscaper_hpc.objective.objective import Objective
from tests.kinds import thorough


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(8, 24), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.read(x).reshape(*x.shape[:2], 2, 12).transpose(1, 2).chunk(3, dim=-1)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.write(mixed.transpose(1, 2).flatten(2))


def _energy(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    """With a derivative inside: torch has no second one of the fused attention."""
    x = batch[0].detach().requires_grad_()
    y = model(x)
    (force,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return (y.mean((1, 2)) - batch[1]) ** 2 + force.square().mean((1, 2))


def _checkpointed(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    y: Tensor = checkpoint(model, batch[0], use_reentrant=False)
    return (y.mean((1, 2)) - batch[1]) ** 2


LOSSES: dict[str, Callable[[Any, tuple[Tensor, Tensor]], Tensor]] = {
    "a derivative inside, of attention": _energy,
    "checkpointed attention": _checkpointed,
}


@pytest.mark.parametrize("what", [thorough(what) if what == "checkpointed attention" else what for what in LOSSES])
def test_derivatives_are_those_of_the_losses(what: str) -> None:
    torch.manual_seed(0)
    data = torch.randn(6, 5, 8), torch.randn(6)
    objective = Objective(Task(Attention(), LOSSES[what], data))
    directions = random_directions(objective, 2)
    surface = ObjectiveSurface(objective, directions, np.array([0.1, 0.1]))
    at, step = np.array([0.2, -0.1]), 1e-4
    (value,), (slope,) = surface.gradients(at[None])
    (curved,) = surface.hessians(at[None])
    ways = step * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1]])
    f = losses(objective, directions, at + ways)
    assert value == pytest.approx(f[0], rel=1e-12)
    np.testing.assert_allclose(slope, [(f[1] - f[2]) / (2 * step), (f[3] - f[4]) / (2 * step)], rtol=1e-6)
    second = np.array([f[1] - 2 * f[0] + f[2], f[3] - 2 * f[0] + f[4], f[5] - 2 * f[0] + f[6]]) / step**2
    np.testing.assert_allclose(
        [curved[0, 0], curved[1, 1], curved.sum()], second, rtol=1e-4, atol=1e-4 * np.abs(second).max()
    )


# ---- how gradients are found ----------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("batches", [thorough(1), 2])
@pytest.mark.parametrize("small", [True, False])
def test_what_does_not_move_is_computed_once(batches: int, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the numbers are those of the loss as it is written."""
    if not small:
        monkeypatch.setattr(gradients, "_SMALL", {})
    task = transformer_task()
    objective = Objective(replace(task, data=list(task.data.split(2))[:batches]), only=["out.*"])
    directions = random_directions(objective, 2)
    surface = ObjectiveSurface(objective, directions, np.full(2, 0.01))
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (4, 2))
    found = surface.gradients(points)
    assert surface.ways.said.startswith("of 2, 4" if small else "one point at a time, recorded")
    with Operations() as seen:
        again = surface.gradients(points)
    assert seen.names
    assert not {"native_layer_norm", "embedding"} & seen.names
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    written = [surface._gradient(point) for point in points]
    np.testing.assert_allclose(found[0], [value for value, _ in written], rtol=1e-12)
    np.testing.assert_allclose(found[1], [slope for _, slope in written], rtol=1e-9, atol=1e-12)


def _network(examples: int, width: int, precision: str = "float64", above: float = 0.0) -> Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))
    data = [(torch.randn(n, 3), torch.randn(n, 1)) for n in (examples, examples // 2)]
    return Objective(Task(model, lambda m, b: (m(b[0]) - b[1]).square().mean() + above, data), precision=precision)


def _surface(objective: Objective) -> ObjectiveSurface:
    return ObjectiveSurface(objective, random_directions(objective, 3), np.full(3, 0.02))


POINTS = np.random.default_rng(0).uniform(-0.2, 0.2, (11, 3))


@pytest.mark.thorough
@pytest.mark.parametrize("precision", ["float64", thorough("float32")])
def test_small_networks_take_several_points_in_one_call_and_none_depends_on_another(precision: str) -> None:
    surface = _surface(_network(40, 8, precision))
    assert surface.ways.said == "of 2, 4, 8 points in one call"
    values, slopes = surface.gradients(POINTS)
    for some in ([3], [0, 10], [7, 2, 9], list(range(10, -1, -1)), [5] * 5):
        again = surface.gradients(POINTS[some])
        assert again[0].tobytes() == values[some].tobytes()
        assert again[1].tobytes() == slopes[some].tobytes()
    plain = [surface._gradient(point) for point in POINTS]
    tolerance = 1e-12 if precision == "float64" else 1e-5
    np.testing.assert_allclose(values, [value for value, _ in plain], rtol=tolerance)
    np.testing.assert_allclose(slopes, [slope for _, slope in plain], rtol=tolerance, atol=tolerance)


@pytest.mark.thorough
def test_larger_ones_are_recorded_and_keep_the_bits_of_the_loss_as_it_is_written() -> None:
    surface = _surface(_network(2000, 100))
    assert surface.ways.said == "one point at a time, recorded"
    values, slopes = surface.gradients(POINTS)
    for point, value, slope in zip(POINTS, values, slopes, strict=True):
        expected = surface._gradient(point)
        assert (value, slope.tobytes()) == (expected[0], expected[1].tobytes())


def test_what_cannot_be_recorded_is_evaluated_as_it_is_written() -> None:
    torch.manual_seed(0)

    def loss(model: Any, batch: Tensor) -> Tensor:
        found = model(batch).square().mean()
        return found if float(found.detach()) < 1e3 else found * 2

    objective = Objective(Task(nn.Linear(3, 1), loss, torch.randn(5, 3)))
    surface = _surface(objective)
    assert surface.ways.said == "one point at a time, as it is written"
    np.testing.assert_array_equal(surface.gradients(POINTS)[0], [surface._gradient(point)[0] for point in POINTS])


def _refuses_far_points(model: Any, batch: Tensor) -> Tensor:
    """An index beyond the table is an error of the recorded list of operations, too, and of another kind."""
    table = torch.zeros(2, dtype=batch.dtype)
    far = ((model.weight.detach() - 1).abs().max() / 0.13).long().reshape(1)
    return model(batch).square().mean() + table[far].sum()


def test_where_the_loss_refuses_a_point_further_out_it_is_evaluated_as_it_is_written() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1, bias=False)
    nn.init.ones_(model.weight)
    surface = _surface(Objective(Task(model, _refuses_far_points, torch.randn(5, 3)), precision="float64"))
    far = np.random.default_rng(0).uniform(-10, 10, (3, 3)) * 0.02  # where it is proved
    with pytest.raises(IndexError):
        [surface._gradient(point) for point in far]
    assert surface.ways.said == "one point at a time, as it is written"
    near = POINTS / 20
    np.testing.assert_array_equal(surface.gradients(near)[0], [surface._gradient(point)[0] for point in near])


def test_what_lacks_memory_to_be_recorded_is_evaluated_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    record, lacking = gradients.record, [True]

    def lacks_memory(*given: Any) -> Any:
        if lacking:
            raise torch.OutOfMemoryError("out of memory")
        return record(*given)

    monkeypatch.setattr(gradients, "record", lacks_memory)
    assert _surface(_network(2000, 100)).ways.said == "one point at a time, as it is written"
    monkeypatch.setattr(gradients, "align", lacks_memory)  # of several points, whose values differ in their last bits
    monkeypatch.setattr(gradients, "record", record)
    with pytest.raises(torch.OutOfMemoryError):
        _surface(_network(40, 8)).ways  # noqa: B018


@pytest.mark.thorough
def test_a_size_with_other_bits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight points the last bit of one place differs."""
    call = gradients.Recorded.__call__

    def uneven(self: gradients.Recorded, params: Any, i: int) -> tuple[Tensor, int]:
        rows, weight = call(self, params, i)
        if self._size == 8:
            rows = rows.clone()
            rows[5, 0] = torch.nextafter(rows[5, 0], torch.tensor(torch.inf, dtype=torch.float64))
        return rows, weight

    monkeypatch.setattr(gradients.Recorded, "__call__", uneven)
    assert _surface(_network(40, 8)).ways.said == "one point at a time, recorded"


@pytest.mark.thorough
def test_a_replay_with_another_loss_is_refused_where_a_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    surface = _surface(_network(2000, 100))
    surface.hessians(POINTS[:2])
    call = gradients.Recorded.__call__

    def elsewhere(self: gradients.Recorded, params: Any, i: int) -> tuple[Tensor, int]:
        row, weight = call(self, params, i)
        return row * 1.01, weight

    monkeypatch.setattr(gradients.Recorded, "__call__", elsewhere)
    with pytest.raises(InputError, match="as a recorded list of operations"):
        surface.hessians(POINTS[:2])


@pytest.mark.thorough
def test_slopes_that_are_wrong_in_calls_of_several_points_are_seen_below_a_large_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundredth of the slopes is nothing beside the loss."""
    call = gradients.Recorded.__call__

    def askew(self: gradients.Recorded, params: Any, i: int) -> tuple[Tensor, int]:
        rows, weight = call(self, params, i)
        slopes = rows.abs() < 1e6
        return (rows if self._size is None else torch.where(slopes, 1.01 * rows, rows)), weight

    assert _surface(_network(40, 8, above=1e8)).ways.said == "of 2, 4, 8 points in one call"
    monkeypatch.setattr(gradients.Recorded, "__call__", askew)
    assert _surface(_network(40, 8, above=1e8)).ways.said == "one point at a time, recorded"


def test_where_the_loss_is_zero_rounding_is_no_other_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """(w − 1)² at w = 1, in a study whose checkpoint w = 2 has a loss of 1."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 2.0)
    objective = Objective(Task(model, lambda m, b: (m(b) - 1).square().mean(), torch.ones(1, 1)), precision="float64")
    directions = random_directions(objective, 1)
    surface = ObjectiveSurface(objective, directions, np.full(1, 0.02))
    at = np.array([[-1 / float(directions.vectors["weight"])]])
    surface.gradients(at)
    call = gradients.Recorded.__call__

    def rounded(self: gradients.Recorded, params: Any, i: int) -> tuple[Tensor, int]:
        row, weight = call(self, params, i)
        return row + 1e-13, weight

    monkeypatch.setattr(gradients.Recorded, "__call__", rounded)
    assert surface.hessians(at) == pytest.approx(2 * float(directions.vectors["weight"]) ** 2)
