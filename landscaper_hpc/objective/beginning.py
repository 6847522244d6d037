"""What a user's file finds when it is executed: the same in every process, whatever was executed there before.

A task that draws its data without a seed draws them from the generators' states: two landscapes of one study would be
of different data, and nobody could go on with either. What `train.py` draws is its own affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from landscaper_hpc.objective.surroundings import seed_all, states_kept


@contextmanager
def from_the_beginning() -> Iterator[None]:
    """Random numbers are the same ones every time; afterwards they go on as before."""
    with states_kept({}):
        seed_all(0)
        yield


class Settings(NamedTuple):
    """Of torch, for the whole process, as far as they decide numbers."""

    dtype: torch.dtype
    gradients: bool

    @classmethod
    def now(cls) -> Settings:
        return cls(torch.get_default_dtype(), torch.is_grad_enabled())

    def restore(self) -> None:
        torch.set_default_dtype(self.dtype)
        torch.set_grad_enabled(self.gradients)


_begun: Settings | None = None


def settings_of_the_beginning() -> None:
    """The settings are those that this run began with: `torch.set_default_dtype(torch.float64)` in the file of one
    checkpoint, or in `train.py`, does not hold for the next."""
    global _begun
    if _begun is None:
        _begun = Settings.now()
    _begun.restore()


def end() -> None:
    """The run is over: the settings are those before it."""
    global _begun
    if _begun is not None:
        _begun.restore()
    _begun = None
