"""What a study can choose from: one row for each implementation, which is one file in the room that the row names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from landscaper_hpc.registry import Registry

NORMALIZATIONS = Registry(
    "directions.normalization",
    "landscaper_hpc.normalizations",
    {
        name: f"landscaper_hpc.directions.normalizations.{file}:scaled"
        for name, file in (
            ("model", "whole_model"),
            ("unit", "unit"),
            ("layer", "layer"),
            ("filter", "filters"),
            ("landscaper", "landscaper"),
        )
    },
)

DIRECTION_KINDS = Registry(
    "directions.kind",
    "landscaper_hpc.direction_kinds",
    {
        name: f"landscaper_hpc.directions.kinds.{name}:directions"
        for name in ("hessian", "random", "gradient", "trajectory", "plane", "file")
    },
)

# the first that recognises a path reads it
CHECKPOINT_FORMATS = Registry(
    "checkpoint format",
    "landscaper_hpc.checkpoint_formats",
    {
        name: f"landscaper_hpc.objective.checkpoints.{file}"
        for name, file in (
            ("torch", "torch_file"),
            ("safetensors", "safetensors_file"),
            ("sharded index", "sharded_index"),
            ("torch.distributed", "distributed"),
            ("Hugging Face folder", "hugging_face_folder"),
            ("DeepSpeed", "deepspeed_folder"),
        )
    },
)


class CheckpointFormat(Protocol):
    """A module of `objective/checkpoints`. `READABLE` says what it reads, for sentences."""

    READABLE: str

    def recognises(self, path: Path) -> bool:
        """Whether it is of this format, by its name or by what a folder holds; cheap, and nothing is raised."""

    def files(self, path: Path) -> Sequence[Path]:
        """Every file that decides what is read, in the order of the hash; `InputError` where that cannot be said."""

    def read(self, path: Path) -> Mapping[str, Any]:
        """What it holds on the CPU: tensors by name, maybe inside other mappings; no optimiser's tensors where the
        format tells them apart."""


def checkpoint_format(path: Path) -> CheckpointFormat | None:
    """The first format that recognises a path; None where none does."""
    return _recognising(CHECKPOINT_FORMATS.own, path) or _recognising(CHECKPOINT_FORMATS.names(), path)


def _recognising(names: Iterable[str], path: Path) -> CheckpointFormat | None:
    formats: Iterator[CheckpointFormat] = map(CHECKPOINT_FORMATS.load, names)
    return next((each for each in formats if each.recognises(path)), None)
