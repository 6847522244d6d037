"""What a loss finds around itself: the values that its functions close over, and the random generators among them."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def closed_over(function: Any) -> Iterator[tuple[str, Any]]:
    """What a function, and those of its file that it calls, find in their surroundings, by name."""
    waiting, seen = [("", function)], list[Any]()
    while waiting:
        prefix, function = waiting.pop(0)
        if any(function is other for other in seen):
            continue
        seen.append(function)
        found: dict[str, Any] = {}
        if isinstance(function, partial):
            found = {**{str(i): value for i, value in enumerate(function.args)}, **function.keywords}
            waiting.append((prefix, function.func))
        elif inspect.ismethod(function):
            found = dict(vars(function.__self__)) if hasattr(function.__self__, "__dict__") else {}
            waiting.append((prefix, function.__func__))
        elif inspect.isfunction(function):
            around = inspect.getclosurevars(function)
            found = {**around.globals, **around.nonlocals}
            found |= {f"default {i}": value for i, value in enumerate(function.__defaults__ or ())}
        elif inspect.ismethod(call := getattr(function, "__call__", None)) and not isinstance(function, nn.Module):  # noqa: B004
            waiting.append((prefix, call))
        for name, value in sorted(found.items()):
            yield prefix + name, value
            if isinstance(value, partial) or (
                inspect.isfunction(value) and value.__module__ == getattr(function, "__module__", None)
            ):
                waiting.append((f"{prefix}{name}.", value))


def generators_of(function: Any, model: nn.Module) -> dict[str, Any]:
    """Random generators that a loss may draw from besides the global ones, by name: those that it closes over, and
    those that the model or another object which it closes over holds."""
    found: dict[str, Any] = {}
    around = list(closed_over(function))
    holders = [(f"{name}.", value) for name, value in around if not isinstance(value, type)]
    holders += [(f"model.{name}.".replace("..", "."), module) for name, module in model.named_modules()]
    for prefix, holder in [("", dict(around)), *((p, h.__dict__) for p, h in holders if hasattr(h, "__dict__"))]:
        found |= {prefix + str(name): value for name, value in holder.items() if _how(value) is not None}
    return {name: g for name, g in found.items() if not any(g is other for other in _GLOBAL)}


def state_of(generator: Any) -> Any:
    """The state of a generator, for `set_state`."""
    get = _how(generator)
    assert get is not None
    return get[0](generator)


def set_state(generator: Any, state: Any) -> None:
    get = _how(generator)
    assert get is not None
    get[1](generator, state)


_GLOBAL = (torch.default_generator, np.random.mtrand._rand, getattr(random, "_inst", None))
_GENERATORS: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    torch.Generator: (lambda g: g.get_state(), lambda g, state: g.set_state(state)),
    np.random.Generator: (lambda g: g.bit_generator.state, lambda g, state: setattr(g.bit_generator, "state", state)),
    np.random.RandomState: (lambda g: g.get_state(), lambda g, state: g.set_state(state)),
    random.Random: (lambda g: g.getstate(), lambda g, state: g.setstate(state)),
}


def _how(value: Any) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]] | None:
    return next((ways for kind, ways in _GENERATORS.items() if isinstance(value, kind)), None)


@contextmanager
def states_kept(generators: Mapping[str, Any]) -> Iterator[None]:
    """The states of all global generators, and of these, are afterwards as they were."""
    others = [(generator, state_of(generator)) for generator in generators.values()]
    cpu, own, numpys = torch.get_rng_state(), random.getstate(), np.random.get_state()
    gpus = torch.cuda.get_rng_state_all() if on_gpu() else []
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        random.setstate(own)
        for generator, state in others:
            set_state(generator, state)
        np.random.set_state(numpys)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)


def seed_all(seed: int) -> None:
    """Of the global generators."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def on_gpu() -> bool:
    """Whether there are generators of GPUs, which exist once one is used."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def gaussian(like: Tensor, seed: int) -> Tensor:
    """Normal numbers in the shape, type and place of a tensor, the same for every type and place but for rounding."""
    wide = torch.complex128 if like.is_complex() else torch.float64
    return torch.randn(like.shape, dtype=wide, generator=torch.Generator().manual_seed(seed)).to(like)
