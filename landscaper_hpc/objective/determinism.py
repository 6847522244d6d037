"""Whether a loss is a function of the parameters alone.

A loss that draws random numbers is refused even where they do not show in its value: at other parameters they would.
Numbers that it seeds itself in every call are as good as constants, so what counts is whether the state that a call
leaves behind depends on the one that it found.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from landscaper_hpc.errors import InputError

_ROUNDS = 3
_CAUSES = (
    "likely causes are dropout or random numbers in the loss, BatchNorm in training mode, "
    "or data shuffled on every read"
)


def prove_repeatable(value: Callable[[], float], source: str, where: str) -> float:
    """What `value` returns; InputError where a second call returns something else, or it draws random numbers."""
    with _states_kept():
        found, drawn = _called_twice(value)
        for _ in range(_ROUNDS):
            # other threads of the process (Dask's, a progress bar's) may draw from the same generators at times
            if drawn:
                drawn = [name for name in drawn if name in _called_twice(value)[1]]
        if drawn:
            operations = _random_operations(value) if "torch" in drawn else []
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
        _seed(seed)
        before = _states()
        found.append(value())
        after = _states()
        left.append(after)
        names = [name for name in after if after[name] != before[name]]
    return found, [name for name in names if left[0][name] != left[1][name]]


@contextmanager
def _states_kept() -> Iterator[None]:
    """The states of all global generators are afterwards as they were."""
    cpu, own, numpys = torch.get_rng_state(), random.getstate(), np.random.get_state()
    gpus = torch.cuda.get_rng_state_all() if _on_gpu() else []
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        random.setstate(own)
        np.random.set_state(numpys)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def _states() -> dict[str, bytes]:
    """The states of the global generators, by the name of the library."""
    torchs = torch.get_rng_state().numpy().tobytes()
    if _on_gpu():
        torchs += b"".join(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all())
    _, keys, *place = np.random.get_state()
    numpys = np.asarray(keys).tobytes() + repr(place).encode()
    return {"torch": torchs, "numpy.random": numpys, "random": repr(random.getstate()).encode()}


def _on_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


class _RandomOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations that may draw random numbers while it is active."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports the compiler to switch it off

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = torch.get_rng_state() if torch.Tag.nondeterministic_seeded in function.tags else None
        result = function(*args, **(kwargs or {}))
        on_cpu = before is not None and not torch.equal(before, torch.get_rng_state())
        if before is not None and (on_cpu or _on_gpu()) and str(function) not in self.names:
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
