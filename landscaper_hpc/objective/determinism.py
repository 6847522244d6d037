"""Whether a loss is a function of the parameters alone.

A loss that draws random numbers is refused even where they do not show in its value: at other parameters they would.
Numbers that it seeds itself in every call are as good as constants, so what counts is whether the state that a call
leaves behind depends on the one that it found.
"""

from __future__ import annotations

import math
import pickle
import random
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import numpy as np
import torch

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.listening import Listener, takes_functions
from landscaper_hpc.objective.surroundings import on_gpu, seed_all, state_of, states_kept

_ROUNDS = 3
_PYTHONS = "random"
_CAUSES = (
    "likely causes are dropout or random numbers in the loss, BatchNorm in training mode, data shuffled on every read, "
    "or what the loss keeps from call to call (a counter, a cache, the time)"
)


def prove_repeatable(
    value: Callable[[], float],
    source: str,
    where: str,
    generators: Mapping[str, Any] | None = None,
    by_any: Callable[[list[str]], list[str]] = list,
) -> float:
    """What `value` returns; InputError where a second call returns something else, or it draws random numbers, from
    the global `generators` or from these. Where ranks call it together, `by_any` makes of names that one of them has
    found those that any has: all of them call it as often."""
    with states_kept(generators or {}):
        found, here = _called_twice(value)
        drawn, own = by_any(here), by_any(_drawn_from(generators or {}, value))
        # other threads of the process may draw from the same generators: Dask's from `random` every half second
        if _PYTHONS in drawn and not by_any([_PYTHONS] if _draws(value) else []):
            drawn.remove(_PYTHONS)
        for _ in range(_ROUNDS):
            if drawn:
                again = _called_twice(value)[1]
                drawn = by_any([name for name in drawn if name in again])
        if drawn or own:
            operations = _random_operations(value) if "torch" in drawn or own else []
            drawn += [f"the generator {name}" for name in own]
            raise InputError(
                f"{source}: the loss {where} is not deterministic: it draws random numbers ("
                f"{', '.join([*operations, *(name for name in drawn if name != 'torch' or not operations)])}); leave "
                f"them out, or draw them from a generator that is seeded in every call ({_CAUSES})"
            )
    first, second = found
    if first != second and not (math.isnan(first) and math.isnan(second)):
        raise InputError(f"{source}: the loss {where} is not deterministic ({first!r}, then {second!r}); {_CAUSES}")
    return first


def _called_twice(value: Callable[[], float]) -> tuple[list[float], list[str]]:
    """What it returned under two seeds, and the libraries whose states afterwards depend on the seed."""
    left: list[dict[str, bytes]] = []
    found: list[float] = []
    names: list[str] = []
    for seed in (1, 2):
        seed_all(seed)
        before = _states()
        found.append(value())
        after = _states()
        left.append(after)
        names = [name for name in after if after[name] != before[name]]
    return found, [name for name in names if left[0][name] != left[1][name]]


def _draws(value: Callable[[], float]) -> bool:
    """Whether this thread, or one that it starts meanwhile, draws from Python's `random` before it seeds that."""
    pythons, done = getattr(random.random, "__self__", None), list[str]()

    def look(frame: FrameType, event: str, called: Any) -> None:
        mine = not done and event == "c_call" and getattr(called, "__self__", None) is pythons
        if mine and called.__name__ != "getstate":
            done.append(called.__name__)

    before, of_new = sys.getprofile(), threading.getprofile()
    threading.setprofile(look)
    sys.setprofile(look)
    try:
        value()
    finally:
        sys.setprofile(before)
        threading.setprofile(of_new)
    return bool(done) and done[0] not in ("seed", "setstate")


def _drawn_from(generators: Mapping[str, Any], value: Callable[[], float]) -> list[str]:
    """The generators that `value` draws from and does not seed: each call leaves them in another state."""
    if not generators:
        return []
    states = []
    for _ in range(3):
        value()
        states.append({name: pickle.dumps(state_of(generator)) for name, generator in generators.items()})
    return [name for name in generators if len({state[name] for state in states}) == len(states)]


def _states() -> dict[str, bytes]:
    """The states of the global generators, by the name of the library."""
    torchs = torch.get_rng_state().numpy().tobytes()
    if on_gpu():
        torchs += b"".join(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all())
    _, keys, *place = np.random.get_state()
    numpys = np.asarray(keys).tobytes() + repr(place).encode()
    return {"torch": torchs, "numpy.random": numpys, _PYTHONS: repr(random.getstate()).encode()}


class _RandomOperations(Listener):
    """Notes the operations that may draw random numbers while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if takes_functions(function):
            return function(*self.heard_inside(args), **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded not in function.tags:
            return function(*args, **(kwargs or {}))
        given = (*args, *(kwargs or {}).values())
        generator = next((g for g in given if isinstance(g, torch.Generator)), torch.default_generator)
        before = generator.get_state()
        result = function(*args, **(kwargs or {}))
        drew = not torch.equal(before, generator.get_state())
        if (drew or on_gpu()) and str(function) not in self.names:
            self.names.append(str(function))
        return result


def _random_operations(value: Callable[[], float]) -> list[str]:
    """The names of torch's operations that draw while `value` is computed; none where they cannot be listened to."""
    listener = _RandomOperations()
    try:
        with listener:
            value()
    except Exception:
        return []
    return listener.names
