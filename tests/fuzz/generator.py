"""Random small models, losses and data, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fuzz import functions
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from landscaper_hpc.objective.objective import Task

functional = nn.functional

MORE = 10_000
"""Seeds from here on draw from `functions` too."""

SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "softplus": functional.softplus,
    "mish": functional.mish,
    "sin": torch.sin,
    "log-sigmoid": functional.logsigmoid,
    "power": lambda x: (x.square() + 1) ** 0.7,
    "softmax": lambda x: torch.softmax(x, dim=-1),
    "log1p": lambda x: torch.log1p(x.square()),
    "multiply and add": lambda x: torch.addcmul(x, x, x.sin(), value=0.3),
    "glu": lambda x: functional.glu(torch.cat([x, x.cos()], dim=-1), dim=-1),
}
KINKED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "leaky relu": functional.leaky_relu,
    "elu": functional.elu,
    "abs": torch.abs,
    "hardswish": functional.hardswish,
    "sorted": lambda x: x.sort(dim=-1).values,
    "largest": lambda x: x * x.amax(dim=-1, keepdim=True),
}


@dataclass(frozen=True)
class Case:
    """A task, what it is made of in words, and what it is: whether its second derivatives jump."""

    task: Task
    words: str
    kinked: bool


class _Layer(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class _Checkpointed(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = checkpoint(self.inner, x, use_reentrant=False)
        return result


def case(seed: int) -> Case:
    """The case of a seed."""
    choose = np.random.default_rng(seed)
    smooth, jumping = (SMOOTH, KINKED) if seed < MORE else (SMOOTH | functions.SMOOTH, KINKED | functions.KINKED)
    torch.manual_seed(seed)
    width, examples = int(choose.integers(2, 7)), int(choose.integers(2, 24))
    words, kinked = [f"{examples} examples"], False
    model, features = nn.Sequential(), int(choose.integers(1, 5))
    x = torch.randn(examples, features)
    for _ in range(int(choose.integers(1, 4))):
        linear: nn.Module = nn.Linear(features, width)
        if choose.random() < 0.15:
            linear = nn.utils.parametrizations.weight_norm(linear)
            words.append("weight norm")
        elif choose.random() < 0.1:
            linear = _Checkpointed(linear)
            words.append("checkpointed")
        model.append(linear)
        features = width
        norm = _norm(choose, width)
        if norm is not None:
            model.append(norm)
            words.append(type(norm).__name__)
        name = str(choose.choice([*smooth, *jumping]))
        kinked |= name in jumping
        model.append(_Layer((smooth | jumping)[name]))
        words.append(name)
    loss, data, said = _loss(choose, features, x)
    if "loss" in said and any(isinstance(m, nn.Linear) for m in model):
        words.append(said)
    return Case(Task(model, loss, data), ", ".join(words), kinked)


def _norm(choose: np.random.Generator, width: int) -> nn.Module | None:
    kind = int(choose.integers(0, 8))
    if kind == 0:
        return nn.LayerNorm(width)
    if kind == 1:
        return nn.BatchNorm1d(width, track_running_stats=False)
    if kind == 2:
        return nn.RMSNorm(width)
    if kind == 3:
        return nn.GroupNorm(1, width)
    return None


def _loss(choose: np.random.Generator, out: int, x: Tensor) -> tuple[Callable[[Any, Any], Tensor], Any, str]:
    kind = int(choose.integers(0, 6))
    y = torch.randn(len(x), out)
    if kind == 0:
        return lambda m, b: (m(b[0]) - b[1]).square().sum(dim=1), (x, y), "loss of each example"
    if kind == 1:
        return lambda m, b: (m(b[0]) - b[1]).square().mean().add(0.1).sqrt(), (x, y), "loss that is no mean"
    if kind == 2:
        labels = torch.randint(out, (len(x),))
        return lambda m, b: functional.cross_entropy(m(b[0]), b[1], reduction="none"), (x, labels), "cross-entropy loss"
    if kind == 3:
        return _contrast, x, "contrastive loss"
    if kind == 4:
        return _with_slope, x, "loss with a derivative inside"
    half = max(2, len(x) // 2)  # of one example there are no statistics
    halves = [(x[:half], y[:half]), (x[(rest := min(half, len(x) - 2)) :], y[rest:])]
    return lambda m, b: (m(b[0]) - b[1]).cosh().log().sum(dim=1), halves, "loss over two batches"


def _contrast(model: Any, x: Tensor) -> Tensor:
    z = model(x)
    return functional.cross_entropy(z @ z.T / (1 + z.square().mean()), torch.arange(len(x)))


def _with_slope(model: Any, x: Tensor) -> Tensor:
    z = x.clone().requires_grad_()
    u = model(z)
    (slope,) = torch.autograd.grad(u.sum(), z, create_graph=True)
    return slope.square().sum(dim=1) + u.square().sum(dim=1)
