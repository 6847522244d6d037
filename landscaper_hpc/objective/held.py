"""What a loss holds beside its model, in another type of numbers than the study's: the weights of a criterion, a
teacher.

The model and the data are cast to the study's precision. Modules that the loss holds are so too where it fails without;
where it does not, they are what somebody wants them to be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from landscaper_hpc.objective.checkpoints.fit import cast_model
from landscaper_hpc.objective.precision import dtype_in
from landscaper_hpc.objective.surroundings import closed_over

T = TypeVar("T")
Function = Callable[[Any, Any], Any]
_OF_TYPES = re.compile(r"\b(dtypes?|scalar type|Double|Float|Half|BFloat16)\b")


def is_of_types(error: BaseException | None) -> bool:
    """Whether torch says that two types of numbers do not go together."""
    return isinstance(error, RuntimeError | TypeError | ValueError) and bool(_OF_TYPES.search(str(error)))


def cast_held(functions: Iterable[Function], model: nn.Module, dtype: torch.dtype, device: torch.device) -> bool:
    """Cast the modules that functions hold beside the model, in place; whether that has changed any."""
    found = False
    for _, module in _held(functions, nn.Module):
        if module is not model and any(dtype_in(t, dtype) != t.dtype for t in _tensors(module)):
            cast_model(module, dtype, device)
            found = True
    return found


def of_other_type(functions: Iterable[Function], dtype: torch.dtype) -> tuple[str, torch.dtype] | None:
    """The name and the type of a tensor that functions hold, where that is not one of a study in `dtype`."""
    return next(((n, t.dtype) for n, t in _held(functions, Tensor) if dtype_in(t, dtype) != t.dtype), None)


@contextmanager
def as_they_were(functions: Iterable[Function]) -> Iterator[None]:
    """The modules that functions hold are afterwards what they were."""
    modules = [m for _, held in _held(functions, nn.Module) for m in held.modules()]
    parameters = [(p, p.data) for module in modules for p in module.parameters(recurse=False)]
    buffers = [(module, dict(module._buffers)) for module in modules]
    try:
        yield
    finally:
        for parameter, data in parameters:
            parameter.data = data
        for module, before in buffers:
            module._buffers.update(before)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _held(functions: Iterable[Function], kind: type[T]) -> Iterator[tuple[str, T]]:
    for function in functions:
        for name, value in (type(function).__name__, function), *closed_over(function):
            for key, part in _parts(name, value, []):
                if isinstance(part, kind):
                    yield key, part


def _parts(name: str, value: Any, around: list[Any]) -> Iterator[tuple[str, Any]]:
    """A value, or what is in a container of values; `around`: those that it is in, which it may hold."""
    if any(value is other for other in around):
        return
    if isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from _parts(f"{name}[{i}]", part, [*around, value])
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _parts(f"{name}[{key!r}]", part, [*around, value])
    else:
        yield name, value
