"""Checkpoints that need not be read again: those whose files are in the state in which they were read.

Of thousands in a sweep, reading them takes longer than all else that a finished one asks for. That a file is older than
what was made of it does not do: a link may lead to another old file, a folder be another's by its name, and the clocks
of two machines differ.
"""

from __future__ import annotations

import json
from contextlib import suppress

from landscaper_hpc import strict_json
from landscaper_hpc.digests import State, state_of
from landscaper_hpc.errors import InputError
from landscaper_hpc.files import publish
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.work import identity
from landscaper_hpc.work.landscape import Landscape


def state(landscape: Landscape) -> State | None:
    """That of all files of its checkpoint; None where they are not there, or were written a moment ago."""
    try:
        return state_of(landscape.study.files_of(landscape.checkpoint))
    except (InputError, OSError):  # which whoever reads them says
        return None


def note(landscape: Landscape, read: State | None) -> None:
    """That its checkpoint has the hash in the store, where its files are still as they were before they were read."""
    if read is not None and read == state(landscape):
        with suppress(InputError, OSError):  # then it is read again next time
            landscape.checkpoint_note.parent.mkdir(parents=True, exist_ok=True)
            publish(landscape.checkpoint_note, json.dumps(read).encode(), sync="nothing")


def refuse_other(landscape: Landscape, store: LandscapeStore) -> None:
    """As `identity.refuse_other`, which reads the checkpoint only where it may have changed."""
    now = state(landscape)
    if now is not None and now == _noted(landscape):
        identity.refuse_other(landscape, store, store.attributes["science"]["checkpoint_sha256"])
    else:
        identity.refuse_other(landscape, store)
        note(landscape, now)


def _noted(landscape: Landscape) -> State | None:
    with suppress(OSError, ValueError):
        noted: State = strict_json.parsed(landscape.checkpoint_note.read_bytes())
        return noted
    return None
