"""An index of shards as Hugging Face writes it: `weight_map` says in which file of its folder each tensor is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError

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
    for shard in _shards(path):
        tensors |= contents(path.parent / shard)
    return tensors


def _shards(index: Path) -> list[str]:
    try:
        names = sorted({str(file) for file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"checkpoint index {index} has no valid weight_map") from error
    for name in names:
        if Path(name).name != name:
            raise InputError(f"checkpoint index {index} points outside its own folder: {name}")
        if name.endswith(_END):
            raise InputError(f"checkpoint index {index} names an index as a shard: {name}")
    return names
