"""Paths between checkpoints and CKA, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import TASKS, cnn_task, function, mlp_task
from torch import Tensor, nn

from landscaper_hpc.comparison.representations import layer_grams
from landscaper_hpc.comparison.similarity import (
    GROUPS,
    Curve,
    bezier,
    cka_errors,
    cka_matrices,
    line,
    linear_cka,
)
from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.objective import Objective, Task
from tests.kinds import kinds


def ring() -> Objective:
    """(|x|² − 1)²: minima on the unit circle, a hill of height 1 in the middle."""
    return function(lambda x: (x.square().sum() - 1).square(), torch.tensor([1.0, 0.0], dtype=torch.float64))


@pytest.mark.thorough
def test_the_line_crosses_the_hill_and_the_curve_goes_round() -> None:
    other = {"x": torch.tensor([-1.0, 1e-3], dtype=torch.float64)}
    straight = line(ring(), other, points=21)
    np.testing.assert_allclose(straight.losses, ((1 - 2 * straight.t) ** 2 - 1) ** 2, atol=1e-2)
    assert straight.barrier == pytest.approx(1, abs=1e-2)
    seen: list[int] = []
    curved = bezier(ring(), other, steps=400, rate=0.05, points=21, progress=lambda done, total: seen.append(done))
    assert curved.barrier < 0.3
    assert abs(float(curved.middle["x"][1])) > 1
    assert seen == list(range(1, 422))
    np.testing.assert_allclose(curved.losses[[0, -1]], straight.losses[[0, -1]], atol=1e-12)


def test_of_a_network_with_itself_there_is_no_path_and_others_are_reproducible() -> None:
    objective = Objective(mlp_task())
    for path in (line, bezier):
        with pytest.raises(InputError, match="both checkpoints have the same weights"):
            path(objective, objective.parameters, points=5)
    other = Objective(mlp_task(seed=1)).parameters
    first, second = (bezier(objective, other, steps=5, points=3) for _ in range(2))
    assert first.losses.tobytes() == second.losses.tobytes()


def test_the_ends_are_the_two_checkpoints_with_their_batch_norm() -> None:
    objective, task = Objective(cnn_task()), cnn_task()
    with torch.no_grad():
        for tensor in (*task.model.parameters(), task.model.norm.running_mean, task.model.norm.running_var):
            tensor.mul_(1.3)
    other = Objective(task)
    state = {k: v.clone() for k, v in other.model.state_dict().items()}
    for curve in (line(objective, state, 3), bezier(objective, state, points=3, steps=2)):
        ends = [float(o.loss(o.parameters)) for o in (objective, other)]
        np.testing.assert_allclose(curve.losses[[0, -1]], ends, rtol=1e-12)


def test_another_model_is_refused() -> None:
    objective = Objective(mlp_task())
    with pytest.raises(InputError, match=r"lacks 0\.weight, 0\.bias"):
        line(objective, {})


def test_cka() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 8)
    q, _ = torch.linalg.qr(torch.randn(8, 8))
    assert linear_cka(x, 3 * x @ q + 1) == pytest.approx(1, abs=1e-6)
    assert linear_cka(torch.randn(2000, 3), torch.randn(2000, 3)) < 0.01
    a, b = torch.randn(6, 4, 5), torch.randn(6, 30)
    wide = linear_cka(a, b)  # more features than examples
    gram = [(m.flatten(1) - m.flatten(1).mean(0)).double() for m in (a, b)]
    k, m = (g @ g.T for g in gram)
    assert wide == pytest.approx(float((k * m).sum() / (k.norm() * m.norm())))
    with pytest.raises(InputError, match="same examples"):
        linear_cka(x, x[:-1])
    with pytest.raises(InputError, match="undefined"):
        linear_cka(x, torch.ones(50, 2))


def test_cka_of_layers() -> None:
    first, second = (Objective(mlp_task(seed=seed)) for seed in (0, 1))
    grams = [layer_grams(objective, first) for objective in (first, second)]
    matrices = cka_matrices(grams)
    assert list(matrices) == ["0", "2", "4"]
    x = first.batches[0][0]
    for depth, name in ((1, "0"), (3, "2"), (5, "4")):
        a, b = (objective.model[:depth](x) for objective in (first, second))
        expected = linear_cka(a, b)
        np.testing.assert_allclose(matrices[name], [[1, expected], [expected, 1]], rtol=1e-10)
    few = layer_grams(first, layers=["?"], examples=4)
    assert {gram.shape for gram in few.values()} == {(4, 4)}
    assert set(few) == {"0", "1", "2", "3", "4"}
    assert not any(module._forward_hooks for module in first.model.modules())


@pytest.mark.parametrize("name", kinds(sorted(set(TASKS) - {"branching"}), "mlp", "cnn", "transformer"))
def test_layers_of_every_kind_of_loss(name: str) -> None:
    objective = Objective(TASKS[name]())
    (matrix, *_) = cka_matrices([layer_grams(objective), layer_grams(objective)]).values()
    np.testing.assert_allclose(matrix, 1, rtol=1e-10)


def test_a_constant_representation_has_no_cka() -> None:
    objective = Objective(mlp_task())
    other = Objective(mlp_task())
    other.model[0].weight.data.zero_()
    matrix = cka_matrices([layer_grams(o, objective) for o in (objective, other)])["0"]
    assert np.isnan(matrix[0, 1]) or matrix[0, 1] < 1e-6
    assert matrix[0, 0] == pytest.approx(1)


def test_errors_of_cka_are_the_jackknife_over_groups_of_examples() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(40, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    b = a[:, [0, 1, 2, 3, 4]] + 0.5 * b
    grams = [{"layer": (x - x.mean(0)) @ (x - x.mean(0)).T} for x in (a, b)]
    found = cka_errors(grams)["layer"]
    kept = [torch.arange(40) % GROUPS != g for g in range(GROUPS)]
    values = np.array([linear_cka(a[k], b[k]) for k in kept])
    expected = np.sqrt((GROUPS - 1) / GROUPS * ((values - values.mean()) ** 2).sum())
    np.testing.assert_allclose(found, [[0, expected], [expected, 0]], rtol=1e-9, atol=1e-12)
    assert expected > 1e-4
    few = [{"layer": gram["layer"][:9, :9]} for gram in grams]
    assert np.isnan(cka_errors(few)["layer"]).all()


def test_a_barrier_may_be_off_by_what_every_second_point_does_not_show() -> None:
    t = np.linspace(0, 1, 7)
    path = Curve(t, np.array([0.0, 1.0, 0.5, 3.0, 0.2, 0.1, 0.0]), np.empty((0, 0)))
    assert path.barrier == 3
    assert path.barrier_error == pytest.approx(2.5)


@pytest.mark.thorough
@pytest.mark.parametrize("batches", [False, True])
def test_how_far_other_data_would_move_a_barrier_is_told_by_leaving_out_one_part_after_the_other(batches: bool) -> None:
    other = Objective(mlp_task(seed=9)).parameters
    path = line(Objective(mlp_task(batches=batches)), other, points=9)
    x, y = mlp_task().data
    barriers = []
    for i in range(len(x)):
        rest = torch.arange(len(x)) != i
        task = mlp_task()
        one = Objective(Task(task.model, task.loss, (x[rest], y[rest])))
        barriers.append(line(one, other, points=9).barrier)
    expected = np.sqrt((len(x) - 1) * np.var(barriers))
    assert expected > 0
    assert path.barrier_data_error == pytest.approx(expected, rel=1e-9)


def test_of_the_mean_of_one_batch_nothing_tells_what_other_data_would_give() -> None:
    assert np.isnan(line(ring(), {"x": torch.tensor([-1.0, 0.0], dtype=torch.float64)}, points=5).barrier_data_error)


def test_of_tokens_each_is_an_example_and_what_cannot_be_compared_says_why() -> None:
    torch.manual_seed(0)

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.place = nn.Embedding(11, 4), nn.Embedding(6, 4)
            self.out, self.unused = nn.Linear(4, 11), nn.Linear(2, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.out(self.embed(tokens) + self.place(torch.arange(6))[None])

    def guessed(model: nn.Module, batch: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(batch).flatten(0, 1), batch.flatten())

    tokens = torch.randint(11, (5, 6))
    objective, why = Objective(Task(Reader(), guessed, [tokens[:2], tokens[2:]])), dict[str, str]()
    grams = layer_grams(objective, layers=["embed", "out", "place", "unused"], examples=17, left_out=why)
    x = objective.model.embed(tokens).flatten(0, 1)[:17].detach()
    centred = x - x.mean(dim=0)
    torch.testing.assert_close(grams["embed"], centred @ centred.T)
    assert grams["out"].shape == (17, 17)
    assert why == {
        "place": "it puts out 6 rows for 3 sequences of 6 tokens",
        "unused": "the loss does not call it",
    }
    with pytest.raises(InputError, match="unused: the loss does not call it"):
        layer_grams(objective, layers=["unused"])
