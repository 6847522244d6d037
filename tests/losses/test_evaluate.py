"""Losses at theta(alpha): right, and the same bits wherever and with whatever neighbours a point is evaluated."""

from __future__ import annotations

import copy
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from problems import TASKS, cnn_task, function, mlp_task, quadratic, transformer_task
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from landscaper_hpc.directions.directions import Directions, random_directions
from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Axis, Grid
from landscaper_hpc.losses.displacement import Walk
from landscaper_hpc.losses.evaluate import choose_batch, evaluation_mode, losses, prove_for
from landscaper_hpc.losses.evaluator import Evaluator, evaluator, known_evaluators
from landscaper_hpc.losses.spotcheck import refuse_wrong
from landscaper_hpc.objective.objective import Objective, Task
from tests.kinds import kinds, slow


def grid_points(n: int = 3, k: int = 4) -> np.ndarray:
    grid = Grid(tuple(Axis(-0.3, 0.2 + 0.1 * i, k) for i in range(n)))
    (shard,) = grid.shards(grid.shape)
    return grid.points(shard)


def reference(objective: Objective, directions: Directions, points: np.ndarray) -> np.ndarray:
    values = []
    for alpha in points:
        params = {k: p.clone() for k, p in objective.parameters.items()}
        for i, a in enumerate(alpha):
            for name in params:
                params[name] = params[name] + a * directions.vectors[name][i]
        values.append(float(objective.loss(params).detach()))
    return np.array(values)


def test_closed_form() -> None:
    objective = quadratic([2.0, 4.0, 6.0])
    basis = Directions({"x": torch.eye(3, dtype=torch.float64)}, "file", "unit", np.eye(3))
    points = grid_points()
    expected = ((1 + points) ** 2 * [1, 2, 3]).sum(axis=1)
    for batch in (1, 7):
        np.testing.assert_allclose(losses(objective, basis, points, batch), expected, rtol=1e-14)


@pytest.mark.parametrize("name", kinds(TASKS, *set(TASKS) - {"laplacian", "pinn"}))
def test_every_mode_gives_the_loss_of_the_displaced_model(name: str) -> None:
    objective = Objective(TASKS[name]())
    directions = random_directions(objective, 3)
    points = grid_points()
    expected = reference(objective, directions, points)
    for batch in (1, 5):
        np.testing.assert_allclose(losses(objective, directions, points, batch), expected, rtol=1e-12)
    mode = evaluation_mode(objective, directions, 5)
    assert mode.split(";")[0] == "vmap" if name != "branching" else mode.startswith("unrecorded, one point at a time")
    assert evaluation_mode(objective, directions, 1).removeprefix("unrecorded, ").startswith("one point at a time")


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("batches", [(1, 7), slow((2, 16))])
@pytest.mark.parametrize("name", ["mlp", "pinn", "cnn", "transformer", "autograd inside", "mlp, unequal batches"])
@pytest.mark.thorough
def test_a_value_has_the_same_bits_in_any_company(name: str, batches: tuple[int, int], precision: str) -> None:
    objective = Objective(TASKS[name](), precision=precision)
    directions = random_directions(objective, 3)
    points = grid_points(k=3)
    order = np.random.default_rng(0).permutation(len(points))
    for batch in batches:
        values = losses(objective, directions, points, batch)
        assert losses(objective, directions, points[order], batch).tobytes() == values[order].tobytes()
        for size in (1, 5, 13):
            pieces = [losses(objective, directions, points[i : i + size], batch) for i in range(0, len(points), size)]
            assert np.concatenate(pieces).tobytes() == values.tobytes()


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("activation", [nn.SiLU, nn.Sigmoid, nn.ELU, nn.SELU, nn.Mish, nn.Softplus])
@pytest.mark.thorough
def test_activations_whose_bits_end_with_a_vector_register(activation: type[nn.Module], precision: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), activation(), nn.Linear(5, 3))
    task = Task(model, lambda m, x: m(x).square().sum(dim=1), torch.randn(7, 3))
    objective = Objective(task, precision=precision)
    directions = random_directions(objective, 2)
    points = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    for batch in (4, 5):
        values = losses(objective, directions, points, batch)
        assert evaluation_mode(objective, directions, batch).startswith("vmap")
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(40)
            assert losses(objective, directions, points[order], batch).tobytes() == values[order].tobytes()


def test_the_number_of_threads_does_not_matter() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3000, 3)
    task = Task(model, lambda m, x: m(x).square().sum(dim=1), torch.randn(50, 3000))
    objective = Objective(task, precision="float32")
    directions = random_directions(objective, 2)
    points = grid_points(2)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append([losses(objective, directions, points, batch).tobytes() for batch in (1, 4)])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1]


# ---- slabs of data --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscaper_hpc.recording.slabs.CACHE", 16 * 6 * 6 * 4 * 8)  # 16 images of the small CNN


@pytest.mark.thorough
def test_a_large_data_batch_is_taken_in_slabs(small_cache: None) -> None:
    objective = Objective(cnn_task(70))
    directions = random_directions(objective, 2)
    points = grid_points(2)
    for batch in (1, 5):
        assert "data in slabs of 16" in evaluation_mode(objective, directions, batch)
        values = losses(objective, directions, points, batch)
        np.testing.assert_allclose(values, reference(objective, directions, points), rtol=1e-12)
        pieces = [losses(objective, directions, points[i : i + 3], batch) for i in range(0, len(points), 3)]
        assert np.concatenate(pieces).tobytes() == values.tobytes()


@pytest.mark.thorough
def test_a_loss_that_is_no_mean_over_examples_is_not_divided(small_cache: None) -> None:
    base = cnn_task(70)
    task = Task(base.model, lambda model, batch: base.loss(model, batch).mean().sqrt(), base.data)
    objective = Objective(task)
    directions = random_directions(objective, 2)
    assert "slabs" not in evaluation_mode(objective, directions, 1)
    points = grid_points(2)
    np.testing.assert_allclose(losses(objective, directions, points), reference(objective, directions, points))


# ---- losses whose course depends on values -------------------------------------------------------------------------


def masked_task() -> Task:
    base = mlp_task()

    def loss(model, batch):
        errors = (model(batch[0]) - batch[1]).square().sum(dim=1)
        large = errors[errors > 0.5]
        return large.sum() / max(1, len(large))

    return Task(base.model, loss, base.data)


def test_a_shape_that_depends_on_parameters_is_evaluated_as_it_is_written() -> None:
    objective = Objective(masked_task())
    directions = random_directions(objective, 2)
    points = 4 * grid_points(2)
    expected = reference(objective, directions, points)
    for batch in (1, 4):
        np.testing.assert_allclose(losses(objective, directions, points, batch), expected, rtol=1e-12)
    assert "a shape depends on values" in evaluation_mode(objective, directions, 1)


class _Frozen:
    """A loss that takes another course than the recording where x is far from 1, unnoticed: it keeps what it saw."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x.square().sum() * (2.0 if in_another_thread(x) > self.limit else 1.0)


def in_another_thread(x: torch.Tensor) -> float:
    """The first number, read where nobody looks."""
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        raise RuntimeError("not here")
    found: list[float] = []
    reader = threading.Thread(target=lambda: found.append(float(x.detach()[0])))
    reader.start()
    reader.join()
    return found[0]


def test_a_way_is_compared_with_the_loss_at_the_size_of_the_grid() -> None:
    objective = function(_Frozen(1.2), torch.ones(3, dtype=torch.float64))
    along = Directions({"x": torch.ones(1, 3, dtype=torch.float64)}, "file", "unit", np.eye(1))
    points = np.linspace(-0.3, 0.3, 5)[:, None]
    np.testing.assert_allclose(losses(objective, along, points), reference(objective, along, points), rtol=1e-14)
    assert "the loss would be" in evaluation_mode(objective, along, 1)


def test_a_wrong_value_between_the_probes_is_refused() -> None:
    objective = function(_Frozen(1.2), torch.ones(3, dtype=torch.float64))
    along = Directions({"x": torch.ones(1, 3, dtype=torch.float64)}, "file", "unit", np.eye(1))
    losses(objective, along, np.array([[0.0], [0.1]]))  # right so far
    known = evaluator(objective, 1)
    prove_for(objective, along, np.array([[-0.3], [0.3]]))
    known_evaluators[objective] = {1: known}  # as if no probe had met the other course
    with pytest.raises(InputError, match=r"at alpha = \[0\..* but .* as it is written.*float\(\)"):
        losses(objective, along, np.full((1024, 1), 0.25) + np.linspace(0, 0.01, 1024)[:, None])


def test_a_discontinuous_loss_is_no_wrong_one() -> None:
    """Where rounding decides, as it does for an accuracy, ways to compute may differ."""
    objective = function(lambda x: (x.exp().log() > x).double().mean() + 1, torch.linspace(1, 2, 50).double())
    directions = random_directions(objective, 1)
    points = np.linspace(-1, 1, 600)[:, None]
    values = losses(objective, directions, points)
    refuse_wrong(objective, directions, points, values + 0.02)
    smooth = quadratic([1.0, 2.0])
    with pytest.raises(InputError, match="as it is written"):
        refuse_wrong(smooth, random_directions(smooth, 1), points, values)


def test_nan_and_infinity_come_as_they_are() -> None:
    objective = function(lambda x: (1 / x).log().sum(), torch.ones(1, dtype=torch.float64))
    along = Directions({"x": torch.ones(1, 1, dtype=torch.float64)}, "file", "unit", np.eye(1))
    for batch in (1, 2):
        found = losses(objective, along, np.array([[0.0], [-1.0], [-2.0]]), batch)
        assert found[0] == 0
        assert found[1] == np.inf
        assert np.isnan(found[2])


def test_values_that_depend_on_their_place_are_not_batched() -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        return x.square().sum() + torch.randn(())

    objective = function(loss, torch.ones(3, dtype=torch.float64))
    directions = random_directions(objective, 1)
    assert "not in batches" in evaluation_mode(objective, directions, 4)


def test_tied_weights_move_together() -> None:
    objective = Objective(transformer_task())
    directions = random_directions(objective, 1)
    (value,) = losses(objective, directions, np.array([[0.5]]))
    task = transformer_task()
    task.model.double()
    with torch.no_grad():
        for name, p in task.model.named_parameters():
            p.add_(0.5 * directions.vectors[name][0])
    tokens = objective.batches[0]
    assert value == pytest.approx(float(task.loss(task.model, tokens).mean().detach()), rel=1e-12)


def test_nothing_is_moved_for_good() -> None:
    objective = Objective(mlp_task())
    before = {k: v.clone() for k, v in objective.model.state_dict().items()}
    directions = random_directions(objective, 2)
    losses(objective, directions, grid_points(2), 4)
    losses(objective, directions, grid_points(2), 1)
    assert all(torch.equal(v, before[k]) for k, v in objective.model.state_dict().items())


def test_progress_and_empty_input() -> None:
    objective = quadratic([1.0, 2.0])
    directions = random_directions(objective, 2)
    for batch in (1, 5):
        seen: list[tuple[int, int]] = []
        losses(objective, directions, grid_points(2), batch, lambda done, total, seen=seen: seen.append((done, total)))
        assert seen[-1] == (16, 16)
        assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert losses(objective, directions, np.empty((0, 2))).shape == (0,)
    with pytest.raises(ValueError, match="expected"):
        losses(objective, directions, np.zeros((4, 3)))


@pytest.mark.thorough
def test_choose_batch_finds_a_shape_and_respects_what_cannot_be_batched() -> None:
    objective = Objective(mlp_task())
    directions = random_directions(objective, 2)
    assert choose_batch(objective, directions, seconds=0.2) > 1  # for a tiny network, vmap always pays
    other = Objective(TASKS["branching"]())
    assert choose_batch(other, random_directions(other, 2), seconds=0.01) == 1


def test_trials_of_shapes_take_little_of_what_the_points_cost() -> None:
    """No shape is even tried for a few points; the more there are, the more are."""
    tried: list[int] = []

    def rate(objective: Objective, directions: Directions, batch: int, *_: float) -> float:
        tried.append(batch)
        return 1000.0

    found = {}
    for points in (100, 10_000, 10_000_000):
        objective = Objective(mlp_task())
        tried.clear()
        choose_batch(objective, random_directions(objective, 2), points=points, rate_of=rate)
        found[points] = tuple(tried)
    assert found == {100: (1,), 10_000: (1, 4), 10_000_000: (1, 4, 16)}


def test_no_way_is_slower_than_the_loss_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(mlp_task())
    directions, points = random_directions(objective, 2), grid_points(2)
    call = Evaluator.__call__

    def slow(self: Evaluator, params: Any) -> torch.Tensor:
        until = time.process_time() + 0.02  # a plain call takes a hundredth of that
        while self.recorded and time.process_time() < until:
            pass
        return call(self, params)

    monkeypatch.setattr("landscaper_hpc.losses.evaluator.Evaluator.__call__", slow)
    assert choose_batch(objective, directions, points=100, seconds=0.01) == 1
    assert "as the loss is written" in evaluation_mode(objective, directions, 1)
    found = losses(objective, directions, points, 1)
    np.testing.assert_allclose(found, reference(objective, directions, points), rtol=1e-12)
    prove_for(objective, directions, 2 * points)
    assert "as the loss is written" in evaluation_mode(objective, directions, 1)  # also over a wider range


@pytest.mark.thorough
def test_memory_is_measured_and_limits_the_batch() -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(3, 4000), nn.Tanh(), nn.Linear(4000, 1))  # 32 MB of results for each point
    objective = Objective(Task(wide, lambda model, x: model(x).square(), torch.randn(1000, 3)))
    directions = random_directions(objective, 2)
    assert choose_batch(objective, directions, memory=200 * 2**20, seconds=0.01) <= 4


def test_a_shape_that_runs_out_of_memory_leaves_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(mlp_task())
    directions = random_directions(objective, 2)
    call = Evaluator.__call__

    def limited(self: Evaluator, params: dict[str, torch.Tensor]) -> torch.Tensor:
        if self.batch > 4:
            raise torch.OutOfMemoryError("no")
        return call(self, params)

    monkeypatch.setattr("landscaper_hpc.losses.evaluator.Evaluator.__call__", limited)
    assert choose_batch(objective, directions, rate_of=lambda _o, _d, batch, *_: float(batch)) == 4


@pytest.mark.thorough
def test_only_the_chosen_shape_is_kept() -> None:
    objective = Objective(mlp_task())
    chosen = choose_batch(objective, random_directions(objective, 2), seconds=0.01)
    assert set(known_evaluators[objective]) == {1, chosen}


def test_a_step_along_the_last_axis_costs_one_addition() -> None:
    """θ + Σ α_i u_i is added up along the grid's odometer, in the order of the definition."""
    objective = Objective(mlp_task())
    directions = random_directions(objective, 3)
    walk, points, added = Walk(objective, directions), grid_points(3, 4), []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            added.append(function.overloadpacket.__name__)
            return function(*args, **(kwargs or {}))

    for alpha in points:
        with Count():
            params = walk.one(alpha)
        expected = dict(objective.parameters)
        for i, a in enumerate(alpha):
            expected = {k: torch.add(p, directions.vectors[k][i], alpha=float(a)) for k, p in expected.items()}
        for name, p in expected.items():
            torch.testing.assert_close(params[name], p, rtol=1e-14, atol=1e-15)
    assert [name for name in added if name != "select"] == ["add"] * (4 + 16 + 64)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("no"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_running_out_of_memory_says_what_to_do(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(mlp_task())
    directions = random_directions(objective, 2)
    losses(objective, directions, grid_points(2), 4)

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("landscaper_hpc.losses.evaluator.Evaluator.replay", full)
    with pytest.raises(InputError, match=r"ran out of memory with batches of 4 points .*a new study with a smaller"):
        losses(objective, directions, grid_points(2), 4)
    assert choose_batch(objective, directions, seconds=0.01) == 1


def test_images_of_one_channel_take_the_way_of_several() -> None:
    """Their strides are ambiguous; the values are the plain loss's, and whatever lies differently is the same."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 3))
    images, labels = torch.randn(16, 1, 8, 8), torch.randint(3, (16,))
    found = {}
    for last in (False, True):
        lies = []

        def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], lies: list[bool] = lies) -> torch.Tensor:
            inside = model[0](batch[0])
            lies.append(inside.is_contiguous(memory_format=torch.channels_last))
            assert batch[0].view(16, -1).shape == (16, 64)
            return nn.functional.cross_entropy(model[1:](inside), batch[1])

        task = Task(copy.deepcopy(model), loss, (images, labels))
        objective = Objective(task, precision="float32", one_channel_last=last)
        assert torch.equal(objective.batches[0][0], images)
        directions = random_directions(objective, 2)
        found[last] = losses(objective, directions, grid_points(2), 1)
        assert lies[-1] == last
        np.testing.assert_allclose(found[last], reference(objective, directions, grid_points(2)), rtol=1e-5)
