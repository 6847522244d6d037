"""Recorded functions give the bits of the function itself, with less to do."""

from __future__ import annotations

import pytest
import torch
from problems import TASKS
from torch import Tensor
from torch.func import jvp, vmap

from landscaper_hpc.graph import NotRecordable, record
from landscaper_hpc.objective import Objective


def operations(recorded: torch.fx.GraphModule) -> list[str]:
    return [str(node.target) for node in recorded.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"branching"}))
def test_a_recorded_loss_has_the_bits_of_the_loss(name: str) -> None:
    objective = Objective(TASKS[name]())
    recorded = record(objective.loss, objective.parameters)
    for scale in (1.0, 1.3, -0.2):
        params = {k: scale * v for k, v in objective.parameters.items()}
        assert torch.equal(recorded(params), objective.loss(params).detach())


def test_what_does_not_depend_on_the_argument_is_computed_once() -> None:
    data = torch.linspace(0, 1, 100)
    recorded = record(lambda x: (x * data.sin().exp()).sum(), torch.ones(100))
    assert operations(recorded) == ["aten.mul.Tensor", "aten.sum.default"]
    assert torch.equal(recorded(2 * torch.ones(100)), (2 * data.sin().exp()).sum())


def test_zero_tangents_cost_nothing() -> None:
    x, v = torch.randn(20, 3), torch.randn(20, 3)

    def derivative(weight: Tensor) -> Tensor:
        return jvp(lambda x: torch.tanh(x @ weight.T), (x,), (v,))[1].sum()

    weight = torch.randn(4, 3)
    recorded = record(derivative, weight)
    assert operations(recorded).count("aten.mm.default") == 2  # the value and its tangent, not x times zero
    assert torch.equal(recorded(weight + 1), derivative(weight + 1))


def test_vmap_leaves_no_trace() -> None:
    f = vmap(lambda w: torch.tanh(torch.ones(5, 3) @ w).sum())
    w = torch.randn(7, 3, 2)
    recorded = record(f, w)
    assert torch.equal(recorded(w + 1), f(w + 1))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x if x.sum() > 0 else -x, "."),
        (lambda x: x * x.sum().item(), "."),
        (lambda x: x + torch.randn(3), "random"),
        (lambda x: torch.nn.functional.dropout(x), "random"),
    ],
)
def test_what_a_list_of_operations_cannot_say_is_refused(function, message: str) -> None:
    with pytest.raises(NotRecordable, match=message):
        record(function, torch.ones(3))


@pytest.mark.parametrize("closed_over", [False, True])
def test_writes_into_tensors_are_recorded_without_side_effects(closed_over: bool) -> None:
    constant = torch.zeros(3)

    def writes(x: Tensor) -> Tensor:
        buffer = constant.clone() if closed_over else torch.zeros(3)
        buffer[1] = x[0]
        buffer += x
        return buffer.square().sum()

    recorded = record(writes, torch.ones(3))
    for scale in (1.0, 2.0, 3.0):
        x = scale * torch.arange(1.0, 4.0)
        assert torch.equal(recorded(x), writes(x))
    assert not constant.any()
