"""Folders with more than one set of weights: which of them is read is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from landscaper_hpc.errors import InputError, list_some
from landscaper_hpc.objective.checkpoints import (
    deepspeed_folder,
    distributed,
    hugging_face_folder,
    safetensors_file,
    sharded_index,
    torch_file,
)

# what trainers save beside weights
_OTHERS = ("optimizer*", "*scheduler*", "training_args*", "rng_state*", "*scaler*", "random_states*", "*_states.pt")


def said_of_several(folder: Path) -> str:
    """In words which weights of a folder are read; empty where it holds no others that might have been meant."""
    if not folder.is_dir():
        return ""
    names = list(_weights(folder))
    if len(names) < 2:
        return ""
    return (
        f"the weights are those in {names[0]} of {folder.name}; it also holds {list_some(names[1:])}, which "
        f"file: {folder.name}/{names[1]} in the study would take"
    )


def _weights(folder: Path) -> Iterator[str]:
    """What might be meant, the first as it is read."""
    if distributed.recognises(folder):
        yield "the distributed checkpoint (.metadata)"
    named = hugging_face_folder.inside(folder)
    yield from named
    if deepspeed_folder.recognises(folder):
        latest = folder / "latest"
        yield latest.read_text(errors="replace").strip() if latest.is_file() else "DeepSpeed's files"
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name not in named]
    shards: set[str] = set()
    for index in filter(sharded_index.recognises, sorted(folder.iterdir())):
        with suppress(InputError):  # of an index that is not read
            shards |= {shard.name for shard in sharded_index.files(index)}
    for file in files:
        loadable = any(form.recognises(file) for form in (torch_file, safetensors_file, sharded_index))
        if loadable and file.name not in shards and not any(fnmatchcase(file.name, other) for other in _OTHERS):
            yield file.name
