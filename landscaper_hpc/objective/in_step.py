"""What the user's code raises on some of the ranks that hold a model together: all go on alike, or none does.

The others wait for whoever raises, and it cannot be said where. But where it has taken part in as much of what ranks do
together as a call that went well, the model is done, and all of them are about to put their values together: then the
word goes round with these, all raise the same, and whatever tries something and goes on does so on all of them. Else
they are out of step: what is raised then is caught by nothing that tries, ends this rank, and so the others, which lose
it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar

import torch
import torch.distributed as dist

from landscaper_hpc.errors import InputError, OutOfStep, RankRaised, user_traceback
from landscaper_hpc.objective.device import out_of_memory
from landscaper_hpc.objective.usercode import of_users, one_line

T = TypeVar("T")


class Raised(NamedTuple):
    """What was raised on a rank, as it tells the others: whether it is a sentence, in `words`, and the way there."""

    is_input: bool
    words: str
    traceback: str


class InStep:
    """The calls of a loss by all ranks together, of a model on a `device`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._usual: dict[Any, int] = {}
        self._agreed: BaseException | None = None

    def call(self, loss: Callable[[], T], kind: object) -> tuple[T | None, Raised | None]:
        """What a call of this kind returns; or what it has raised, where the others are to be told."""
        before = _collectives(self.device)
        try:
            found = loss()
        except Exception as error:
            if is_broken(error) or self._usual.get(kind) != _collectives(self.device) - before:
                raise
            return None, raised_here(error)
        self._usual[kind] = _collectives(self.device) - before
        return found, None

    def raise_on_all(self, mine: Raised | None) -> NoReturn:
        """Raise what the first rank with something to tell tells; to be called by all."""
        every: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(every, mine)
        first: Raised = next(each for each in every if each is not None)
        self._agreed = (InputError if first.is_input else RankRaised)(first.words, first.traceback)
        raise self._agreed

    def refuse(self, error: Exception) -> None:
        """`OutOfStep` for an error that has not been raised on all."""
        if error is not self._agreed:
            raise OutOfStep(raised_here(error).words) from error


def raised_here(error: BaseException) -> Raised:
    """An error of this rank, as it tells the others, in the user's code if it can be told."""
    rank = dist.get_rank()
    if isinstance(error, InputError):
        return Raised(True, f"{error} (on rank {rank})", error.traceback)
    what = of_users(error) or f"{type(error).__name__}: {one_line(error)}"
    return Raised(out_of_memory(error), f"{what} (on rank {rank})", user_traceback(error))


def is_broken(error: BaseException | None) -> bool:
    """Whether an error comes of it that another rank has ended."""
    kind: Any = getattr(sys.modules.get("torch.distributed"), "DistError", ())
    while error is not None:
        if isinstance(error, kind) or "/gloo/" in str(error):
            return True
        error = error.__cause__
    return False


def _collectives(device: torch.device) -> int:
    """How often this process has begun something that ranks do together."""
    groups = dist.distributed_c10d._world.pg_map
    return sum(group._get_backend(device)._get_sequence_number_for_group() for group in groups)  # type: ignore[attr-defined]
