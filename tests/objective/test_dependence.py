"""Parameters that take part and move nothing are refused by name; what mathematics makes idle gets a notice."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from problems import TASKS
from torch import Tensor, nn

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.dependence import prove_dependence
from landscaper_hpc.objective.objective import Objective, Task


class Lora(nn.Module):
    """x (W + B A)'; `eval` merges B A into W where `merging`."""

    def __init__(self, merging: bool = True, zero: bool = False) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 5), requires_grad=False)
        self.A, self.B = nn.Parameter(torch.randn(2, 5)), nn.Parameter(torch.randn(3, 2))
        if zero:
            nn.init.zeros_(self.B)
        self.merging, self.merged = merging, False

    def train(self, mode: bool = True) -> Lora:
        super().train(mode)
        if not mode and self.merging and not self.merged:
            self.w.data += (self.B @ self.A).detach()
            self.merged = True
        return self

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.w if self.merged else self.w + self.B @ self.A).T


class Wrapped(nn.Module):
    """A LoRA around a layer: only the layer's weight, a level below, and the output tell that it takes part."""

    def __init__(self, idle: str = "not called") -> None:
        super().__init__()
        self.base = nn.Linear(5, 3).requires_grad_(False)
        self.A, self.B = nn.Parameter(torch.randn(2, 5)), nn.Parameter(torch.randn(3, 2))
        self.idle = idle

    def forward(self, x: Tensor) -> Tensor:
        delta = x @ self.A.T @ self.B.T if self.idle != "not called" else 0.0
        return self.base(x) + (delta if self.idle == "moves" else 0.0)


def objective(model: nn.Module, loss: Callable[[Any, Any], Tensor] | None = None, **more: Any) -> Objective:
    torch.manual_seed(0)
    data = (torch.randn(12, 5), torch.randint(0, 3, (12,)))
    plain = lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none")  # noqa: E731
    return Objective(Task(model, loss or plain, data), **more)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Lora(), "A, B"),
        (nn.Sequential(Lora(), nn.Linear(3, 3)), r"0\.A, 0\.B"),
        (nn.Sequential(Wrapped(), nn.Linear(3, 3)), r"0\.A, 0\.B"),
        (nn.Sequential(Wrapped("made and dropped"), nn.Linear(3, 3)), r"0\.A, 0\.B"),
    ],
)
def test_merged_layers_are_refused_by_name(model: nn.Module, names: str) -> None:
    with pytest.raises(InputError, match=rf"move nothing, though their layers take part in the loss: {names};"):
        prove_dependence(objective(model))


def test_a_method_that_is_not_forward_counts_too() -> None:
    def loss(model: Any, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(Lora.forward(model, batch[0]), batch[1], reduction="none")

    with pytest.raises(InputError, match="A, B"):
        prove_dependence(objective(Lora(), loss))


def test_a_frozen_model_without_anything_that_moves_the_loss_is_refused() -> None:
    model = nn.ModuleDict({"used": nn.Linear(5, 3).requires_grad_(False), "adapter": nn.Linear(5, 3)})
    with pytest.raises(InputError, match=r"adapter\.weight, adapter\.bias"):
        prove_dependence(objective(model, lambda m, b: m["used"](b[0]).square()))


class Attention(nn.Module):
    """The keys' bias moves nothing: softmax does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.q(x) @ self.k(x).T).softmax(dim=-1) @ self.v(x)


class Cell(nn.Module):
    """State that is written in place, through views, and by way of `.data` and NumPy."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.data_, self.outside = (nn.Parameter(torch.randn(3)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(len(x), 3, dtype=x.dtype)
        out[:, :2] = self.inside[:2]
        out[:, 2:].copy_(self.inside[2:])
        return out + self.data_.data + torch.from_numpy(2 * self.outside.detach().numpy())


def _dead() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    nn.init.constant_(model[0].bias, -100.0)
    return model


def plain_or_first(model: Any, batch: Any) -> Tensor:
    out = model(batch[0])
    return nn.functional.cross_entropy(out[0] if isinstance(out, tuple) else out, batch[1], reduction="none")


@pytest.mark.parametrize(
    "model",
    [
        Lora(merging=False),
        Lora(merging=False, zero=True),
        Wrapped("moves"),
        nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)),
        Cell(),
        nn.LSTM(5, 3),
        nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_takes_part_is_accepted_without_a_word(model: nn.Module) -> None:
    assert prove_dependence(objective(model, plain_or_first)) == []


class Shifted(nn.Module):
    """A number added to all logits, which softmax does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.shift = nn.Linear(5, 3), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.shift


IDLE: dict[str, tuple[nn.Module, str]] = {
    "before statistics of the batch": (
        nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)),
        r"1 tensors .*: 0\.bias",
    ),
    "before statistics of channels": (
        nn.Sequential(nn.Conv1d(1, 2, 2), nn.InstanceNorm1d(2), nn.Flatten(), nn.Linear(8, 3)),
        r"1 tensors .*: 0\.bias",
    ),
    "the keys' bias": (Attention(), r"1 tensors .*: k\.bias"),
    "a shift of logits": (Shifted(), "1 tensors .*: shift"),
    "a unit that is off": (_dead(), r"3 tensors .*: 0\.weight, 0\.bias, 2\.weight"),
}


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("what", IDLE)
def test_what_mathematics_makes_idle_gets_a_notice(what: str, precision: str) -> None:
    model, words = IDLE[what]
    torch.manual_seed(0)

    def loss(model: Any, batch: Any) -> Tensor:
        x = batch[0][:, None] if what == "before statistics of channels" else batch[0]
        return nn.functional.cross_entropy(model(x), batch[1], reduction="none")

    (notice,) = prove_dependence(objective(copy.deepcopy(model), loss, precision=precision))
    assert "take part, but displacing them changes the loss by rounding alone" in notice
    assert re.match(words + "$", notice)


@pytest.mark.parametrize("name", list(TASKS))
def test_ordinary_models_are_accepted(name: str) -> None:
    notices = prove_dependence(Objective(TASKS[name]()))
    # second derivatives do not see what is added
    assert [notice.rsplit(": ", 1)[1] for notice in notices] == (["4.bias"] if name == "laplacian" else [])


def test_unused_layers_get_a_notice() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.never, self.ignored = nn.Linear(5, 3), nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.ignored(x)
            return self.used(x)

    (notice,) = prove_dependence(objective(Two()))
    assert notice.startswith("4 tensors are not used by the loss")
    assert all(f"{name}.{part}" in notice for name in ("never", "ignored") for part in ("weight", "bias"))


@pytest.mark.thorough
def test_thousands_of_tensors_cost_few_evaluations() -> None:
    calls = []

    def loss(model: Any, batch: Any) -> Tensor:
        calls.append(1)
        return model(batch[0]).square()

    model = nn.Sequential(*(nn.Linear(5, 5) for _ in range(500)))
    for layer in model:
        nn.init.orthogonal_(layer.weight)
    made = objective(model, loss)
    calls.clear()
    assert prove_dependence(made) == []
    assert len(calls) == 3  # followed, differentiated, and the size of the loss there
