"""Checkpoints: parameters by name, without executing anything that is in a file. One module a format, found through
`study.choices.CHECKPOINT_FORMATS`; `fit` brings what was read into a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscaper_hpc.errors import InputError, list_some, refuse_lacking
from landscaper_hpc.study.choices import CHECKPOINT_FORMATS, checkpoint_format

if TYPE_CHECKING:
    from torch import Tensor

_GIT_LFS = b"version https://git-lfs.github.com/"


def read_checkpoint(path: Path, containers: Sequence[str] = ()) -> dict[str, Tensor]:
    """All tensors of the checkpoint by name, on the CPU. Raises InputError for anything that cannot be used.

    `containers` are the names of mappings inside the checkpoint to be read instead of the usual ones; their names
    are then a part of the tensors'. Under names that end in `_extra_state` (what a module's `get_extra_state` made)
    the values may be anything.
    """
    return read_with_notice(path, containers)[0]


def read_with_notice(path: Path, containers: Sequence[str] = ()) -> tuple[dict[str, Tensor], str]:
    """The same, and in words which weights were taken, where the checkpoint holds others that might have been meant."""
    from landscaper_hpc.objective.checkpoints.containers import state_dict_and_notice  # imports torch
    from landscaper_hpc.objective.checkpoints.several import said_of_several

    path = Path(path)
    content = contents(path)
    try:
        tensors, notice = state_dict_and_notice(content, path, containers)
    except RecursionError:
        raise InputError(f"checkpoint {path} is nested deeper than weights are; save its state dict alone") from None
    return tensors, "; ".join(said for said in (said_of_several(path), notice) if said)


def contents(path: Path) -> Mapping[str, Any]:
    """What the format of a checkpoint reads."""
    if not path.exists():
        raise InputError(f"checkpoint {path} does not exist")
    found = checkpoint_format(path)
    if found is None:
        raise InputError(unreadable(path))
    if path.is_file():
        with path.open("rb") as stream:
            start = stream.read(len(_GIT_LFS))
        if not start:
            raise InputError(f"checkpoint {path} is empty")
        if start == _GIT_LFS:
            raise InputError(f"checkpoint {path} is a pointer of git-lfs; fetch the file itself with `git lfs pull`")
    try:
        return found.read(path)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file can raise anything
        refuse_lacking(error)
        # what an unpickler stumbles over says nothing to a reader
        reason = "" if isinstance(error, LookupError | TypeError | AttributeError) else f" ({first_line(error)})"
        raise InputError(
            f"checkpoint {path} cannot be read: it is damaged, or not what its name says{reason}"
        ) from error


def unreadable(path: Path) -> str:
    """The sentence for what no format recognises."""
    formats = ", ".join(CHECKPOINT_FORMATS.load(name).READABLE for name in CHECKPOINT_FORMATS.names())
    if not path.is_dir():
        return f"checkpoint {path} ends in {path.suffix!r}; readable are {formats}"
    inside = sorted(p.name for p in path.iterdir() if p.is_dir() and checkpoint_format(p) is not None)
    if inside:
        return f"checkpoint folder {path} holds several checkpoints; name one of them: {list_some(inside)}"
    return f"checkpoint folder {path} has none of the files of a checkpoint; readable are {formats}"


def everything_in(folder: Path) -> list[Path]:
    """All files of a folder, in the order of the hash."""
    return sorted(p for p in folder.rglob("*") if p.is_file())


def first_line(error: BaseException) -> str:
    """What an error says, in a part of a sentence."""
    kind = type(error).__name__
    lines = str(error).strip().splitlines()
    return f"{kind}: {lines[0].rstrip('.')[:300]}" if lines else kind
