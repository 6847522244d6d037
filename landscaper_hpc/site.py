"""Where a study runs (`Site`): typed, strict, read from YAML. Nothing here changes a number."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from landscaper_hpc.grid import Grid
from landscaper_hpc.schema import Strict, load_yaml


class Site(Strict):
    """Where a study runs. Changes no number."""

    executor: Literal["serial", "local", "mpi"] = "local"
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="processes of `local`; auto: one per core, or per GPU"
    )
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    shard_points: int | None = Field(
        None, ge=1, description="points per shard; None: about 64 shards, of 64 to 4096 points"
    )

    def worker_count(self) -> int:
        if self.executor == "serial":
            return 1
        if self.workers != "auto":
            return self.workers
        if self.device.startswith("cuda"):
            import torch

            return max(1, torch.cuda.device_count()) if self.device == "cuda" else 1
        return len(os.sched_getaffinity(0))

    def points_per_shard(self, grid: Grid) -> int:
        """Small enough that a kill costs little and workers end together; fixed by the grid alone."""
        return self.shard_points or max(64, min(4096, -(-grid.size // 64)))

    @classmethod
    def load(cls, file: Path | None, overrides: Sequence[str] = ()) -> Site:
        return load_yaml(cls, file, overrides)
