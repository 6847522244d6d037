"""Numbers beside the loss at each point, such as an accuracy: evaluated with it, from the same forward pass where the
loss is recorded, since what is computed twice in a recording is computed once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.data import examples_of
from landscaper_hpc.objective.objective import Bound, Objective
from landscaper_hpc.objective.precision import arithmetic

Weights = tuple[int, ...]


def with_metrics(objective: Objective) -> Objective:
    """The same loss with the task's metrics behind it: values have an axis more, of `outputs`. The loss itself, where
    the task has none."""
    return Several(objective) if len(objective.outputs) > 1 else objective


def values_shape(objective: Objective) -> tuple[int, ...]:
    """The shape of what is evaluated at one point: of a loss alone (), with metrics (outputs,)."""
    return (len(objective.outputs),) if isinstance(objective, Several) else ()


class Several(Objective):
    """The loss and the metrics of an objective, whose model and data it shares."""

    def __init__(self, of: Objective) -> None:
        self.__dict__.update(of.__dict__)
        functions = self._functions
        self._bound = Bound(of.model, lambda model, batch: tuple(f(model, batch) for f in functions))
        if not self.sharded:
            self._listen()

    def part(self, params: Mapping[str, Tensor], batch: Any, examples: int) -> tuple[Tensor, Any]:
        """The means of one batch, (outputs,), float64, and of how many numbers each is the mean."""
        with arithmetic(self.precision, self.device):
            if self._shards is not None:
                counted = examples or examples_of(batch, self.source)
                return self._shards.value(
                    params,
                    lambda: self._means(self._run(self._bound, batch), counted),
                    examples > 0,
                    len(self.outputs),
                )
            values = self._lost(params, batch)
        return self._means(values, examples)

    def _means(self, values: Sequence[Any], examples: int) -> tuple[Tensor, Weights]:
        loss = self._mean(values[0], examples)
        others = [self._metric(name, v, examples) for name, v in zip(self.metrics, values[1:], strict=True)]
        means, weights = zip(loss, *others, strict=True)
        return torch.stack(means), weights

    def _metric(self, name: str, value: Any, examples: int) -> tuple[Tensor, int]:
        if not isinstance(value, Tensor) or value.is_complex():
            found = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise InputError(
                f"{self.source}: the metric {name} returned {found}; expected a tensor of real numbers: one for each "
                "example, or their mean"
            )
        if value.ndim == 0:
            return value.double(), examples
        if not value.numel() or value.shape[0] % examples:
            raise InputError(
                f"{self.source}: the metric {name} returned a tensor of shape {tuple(value.shape)} for a batch of "
                f"{examples} examples; expected one number for each example, or their mean"
            )
        return value.double().mean(), math.prod(value.shape)

    @staticmethod
    def combine(values: Sequence[Tensor], weights: Sequence[Any]) -> Tensor:
        if len(values) == 1:
            return values[0]
        each = [torch.tensor(weight, dtype=torch.float64, device=values[0].device) for weight in weights]
        total = values[0] * each[0]
        for value, weight in zip(values[1:], each[1:], strict=True):
            total = total + value * weight
        return total / sum(each)


def refuse_unusable(objective: Objective) -> None:
    """`InputError` for metrics that are no numbers, or not finite at the checkpoint."""
    if len(objective.outputs) == 1:
        return
    several = with_metrics(objective)
    try:
        found = several.loss(objective.parameters).detach().tolist()
    except InputError:
        raise
    except Exception as error:  # of a metric: the loss has been there
        raise several.failed(error, "a metric") from error
    for name, value in zip(objective.outputs, found, strict=True):
        if not math.isfinite(value):
            raise InputError(
                f"{objective.source}: the metric {name} is {value} at the checkpoint; return finite numbers, one for "
                "each example, or their mean"
            )
