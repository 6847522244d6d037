"""A file of safetensors: https://github.com/huggingface/safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

READABLE = ".safetensors"


def recognises(path: Path) -> bool:
    return path.suffix == READABLE and not path.is_dir()


def files(path: Path) -> list[Path]:
    return [path]


def read(path: Path) -> Mapping[str, Any]:
    from safetensors import safe_open

    with safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
