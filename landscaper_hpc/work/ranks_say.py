"""What the processes of a group say of what they were told to do, and which of it is the reason why all of them end."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import NamedTuple

from landscaper_hpc.errors import InputError, OutOfStep, RankRaised, user_traceback
from landscaper_hpc.work.watch import Hung


class RankFailed(InputError):
    """What the user's code raised in one process of a group, and has ended it."""


class FollowerFailed(Exception):
    """What else a follower raised, with its traceback."""


class Said(NamedTuple):
    """What a process says of what it was told to do. `kind`: "here" as it begins; "done", or of what was raised "alike"
    in all of them, an "input" that is refused, "raised" by the user's code, "hung", another "error", "left" where its
    work was ended from outside, "broken" by another's end; "lost" where it has ended without a word."""

    kind: str
    words: str = ""
    traceback: str = ""


REASONS = ("input", "raised", "hung", "error", "left", "lost", "broken", "alike", "done")
"""The reason why others have ended is the first of these that a rank says."""


def said_of(error: BaseException) -> Said:
    from landscaper_hpc.objective.in_step import is_broken, raised_here
    from landscaper_hpc.objective.usercode import of_users

    reason = error.__cause__ if isinstance(error, OutOfStep) else error
    if isinstance(error, RankRaised):
        return Said("alike")
    if isinstance(error, Hung):
        return Said("hung", str(error))
    if not isinstance(reason, Exception):
        return Said("left", traceback=user_traceback(error))
    if is_broken(reason):
        return Said("broken", traceback=user_traceback(error))
    if isinstance(reason, InputError) or isinstance(error, OutOfStep) or of_users(reason):
        said = raised_here(reason)
        return Said("input" if said.is_input else "raised", said.words, said.traceback)
    return Said("error", traceback=user_traceback(error))


def heard_of(channel: Connection) -> Said:
    """What a follower says of what it was told to do."""
    try:
        said: Said = channel.recv()
        return said
    except (EOFError, OSError):
        return Said("lost")
