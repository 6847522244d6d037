"""What torch's interpreter replays has the bits of what Python does, and its errors."""

from __future__ import annotations

import pytest
import torch
from problems import TASKS
from torch import Tensor
from torch.func import vmap

from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.recording import scripted as module
from landscaper_hpc.recording.padding import pad
from landscaper_hpc.recording.record import record
from landscaper_hpc.recording.rewrite import rewrite
from landscaper_hpc.recording.scripted import scripted


@pytest.fixture(autouse=True)
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the first call takes on a busy machine."""
    monkeypatch.setattr(module, "WAY_TO_AN_OPERATION", 1.0)


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"branching"}))
def test_replays_have_the_bits_of_the_recording(name: str) -> None:
    objective = Objective(TASKS[name]())
    recorded = record(objective.loss, objective.parameters)
    rewrite(recorded, batched=False)
    replayed = scripted(recorded, objective.parameters)
    # (writes into views of constants are beyond the interpreter's tracer)
    assert isinstance(replayed, module.Scripted) == (name != "laplacian")
    for scale in (1.0, 1.3, -0.2):
        params = {k: scale * v for k, v in objective.parameters.items()}
        assert torch.equal(replayed(params), recorded(params))


def test_many_points_and_data_as_an_argument() -> None:
    def value(params: dict[str, Tensor], given: list[Tensor]) -> Tensor:
        return torch.tanh(given[0] @ params["weight"]).exp().sum()

    params, data = {"weight": torch.randn(3, 5, 7, dtype=torch.float64)}, [torch.randn(11, 5, dtype=torch.float64)]
    function = vmap(value, in_dims=({"weight": 0}, None))
    recorded = record(lambda argument: function(*argument), (params, data))
    rewrite(recorded, batched=True)
    assert not pad(recorded)
    replayed = scripted(recorded, (params, data))
    assert replayed != recorded.forward
    other = {"weight": params["weight"].neg()}, [data[0] + 1]
    assert torch.equal(replayed(other), recorded(other))


def test_names_and_not_places_say_which_tensor_is_which() -> None:
    recorded = record(lambda p: (p["a"] - 2 * p["b"]).sum(), {"a": torch.ones(3).double(), "b": torch.ones(3).double()})
    replayed = scripted(recorded, {"a": torch.ones(3).double(), "b": torch.ones(3).double()})
    assert replayed({"b": torch.ones(3).double(), "a": torch.zeros(3).double()}) == -6


def test_an_error_is_the_one_that_torch_raises() -> None:
    start, other = torch.eye(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    replayed = scripted(record(lambda p: (p["a"] @ other).sum(), {"a": start}), {"a": start})
    assert isinstance(replayed, module.Scripted)
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2 shapes cannot be multiplied"):
        replayed({"a": torch.zeros(2, 2, dtype=torch.float64)})


def test_large_operations_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAY_TO_AN_OPERATION", 0.0)
    recorded = record(lambda p: p["a"].sum(), {"a": torch.ones(3).double()})
    assert scripted(recorded, {"a": torch.ones(3).double()}) == recorded.forward
