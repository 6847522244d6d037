"""Folders with one of the files that Hugging Face's libraries write: `save_pretrained`, Trainer (`checkpoint-500`),
Accelerate (also of a model under FSDP), PEFT and diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscaper_hpc.objective.checkpoints import contents, everything_in

_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model_fsdp.bin",
    "pytorch_model_fsdp_0",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.bin",
)
READABLE = f"folders with {', '.join(_NAMES[:5])} or another of Hugging Face's"


def recognises(path: Path) -> bool:
    return bool(inside(path))


def files(path: Path) -> list[Path]:
    """All: the ids of studies have been made so."""
    return everything_in(path)


def read(path: Path) -> Mapping[str, Any]:
    return contents(path / inside(path)[0])


def inside(folder: Path) -> list[str]:
    """The names of what it holds; the first is read."""
    return [name for name in _NAMES if (folder / name).exists()] if folder.is_dir() else []
