"""A loss that rounds to fewer digits than the study asks for is found out, wherever in it that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from landscaper_hpc.objective.narrowing import narrowing
from landscaper_hpc.objective.objective import Objective, Task


def rounded_in_the_middle(model: Any, batch: Tensor) -> Tensor:
    return model(batch).softmax(-1, dtype=torch.float32).to(batch.dtype).square().sum(dim=1)


def into_a_buffer(model: Any, batch: Tensor) -> Tensor:
    kept = torch.zeros(4, 3)  # float32
    kept.copy_(model(batch))
    return kept.sum(dim=1)


def told_and_left(model: Any, batch: Tensor) -> Tensor:
    found = model(batch)
    found.float().mean()  # told to nobody
    return found.square().sum(dim=1) * (found > 0).float().mean() + batch.float().sum()


LOSSES: dict[str, tuple[Callable[[Any, Any], Tensor], str, str | None]] = {
    "logits to float32": (lambda m, x: nn.functional.cross_entropy(m(x).float(), x[:, 0].long()), "float64", "float32"),
    "in the middle": (rounded_in_the_middle, "float64", "float32"),
    "into a buffer": (into_a_buffer, "float64", "float32"),
    "the coarsest counts": (lambda m, x: m(x).float().bfloat16().sum(), "float64", "bf16"),
    "what does not reach the loss": (told_and_left, "float64", None),
    "as the study says": (lambda m, x: m(x).float().sum(), "float32", None),
    "half": (lambda m, x: m(x).half().sum(), "float32", "float16"),
    "autocast": (lambda m, x: m(x).bfloat16().sum(), "bf16", None),
    "jvp": (lambda m, x: torch.func.jvp(m, (x,), (x,))[1].float().sum(), "float64", "float32"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_what_depends_on_the_parameters_is_followed(name: str) -> None:
    loss, precision, expected = LOSSES[name]
    torch.manual_seed(0)
    found = narrowing(Objective(Task(nn.Linear(5, 3), loss, torch.rand(4, 5)), precision=precision))
    assert (None if found is None else found.precision) == expected
    if found is not None:
        assert f"({__file__.rpartition('/')[2]}, line " in found.notice
