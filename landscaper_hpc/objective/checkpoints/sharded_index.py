"""An index of shards as Hugging Face writes it: `weight_map` says in which file of its folder each tensor is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError
from landscaper_hpc.strict_json import once, parsed

_END = ".index.json"
READABLE = f"an {_END} of shards"


def recognises(path: Path) -> bool:
    return path.name.endswith(_END) and not path.is_dir()


def files(path: Path) -> list[Path]:
    """The index and its shards: they are what is loaded."""
    return [path, *(path.parent / name for name in _shards(path))]


def read(path: Path) -> Mapping[str, Any]:
    from landscaper_hpc.objective.checkpoints import contents

    tensors: dict[str, Any] = {}
    places = _places(path)
    for shard in _shards(path):
        content = contents(path.parent / shard)
        for name, place in places.items():
            if place == shard and name not in content:
                raise InputError(
                    f"checkpoint index {path} says that {name} is in {shard}, and there it is not; index and shards do "
                    "not belong together: bring those that were saved with it"
                )
        # another shard may hold an older tensor of the same name
        tensors |= {name: value for name, value in content.items() if places.get(name, shard) == shard}
    return tensors


def _shards(index: Path) -> list[str]:
    names = sorted(set(_places(index).values()))
    for name in names:
        if name in ("", "..") or "\0" in name:
            raise InputError(f"checkpoint index {index} names a shard that no file can be called: {name!r}")
        if Path(name).name != name:
            raise InputError(f"checkpoint index {index} points outside its own folder: {name}")
        if name.endswith(_END):
            raise InputError(f"checkpoint index {index} names an index as a shard: {name}")
    return names


def _places(index: Path) -> dict[str, str]:
    try:
        content = parsed(index.read_text(encoding="utf-8"), object_pairs_hook=once)
        return {name: str(file) for name, file in content["weight_map"].items()}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"checkpoint index {index} has no valid weight_map") from error
