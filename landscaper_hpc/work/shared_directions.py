"""Directions that are found at one checkpoint and used by several studies: a file, with what it was made from in it.

A study that uses them is an ordinary one with `directions: {kind: file}`; the file's SHA-256 is part of its science.
What the file holds is proved by a hash in it before a study begins with it.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from landscaper_hpc.digests import canonical_sha256
from landscaper_hpc.directions.from_study import make_directions
from landscaper_hpc.errors import InputError
from landscaper_hpc.files import publish
from landscaper_hpc.progress import Progress
from landscaper_hpc.store.folder import StudyFolder
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Study
from landscaper_hpc.work.hangs import getting_on, refused_if_it_hangs
from landscaper_hpc.work.identity import prove_objective
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.loaded import load, prove_nothing_kept

_SCIENCE = "science"


@dataclass(frozen=True, eq=False)
class SharedDirections:
    """The directions of `landscape`'s study at its checkpoint, as the file `file` (.safetensors)."""

    landscape: Landscape
    file: Path

    @classmethod
    def of(cls, study: Study, file: Path, site: Site, workers: Path | None) -> SharedDirections:
        """Those of the study's first checkpoint."""
        place = StudyFolder(file.parent)  # no study: its failures and leases would lie there
        return cls(Landscape(study, study.checkpoints[0], place, site, f"directions.{file.stem}", workers), file)

    def make(self, landscape: Landscape, progress: Progress) -> None:
        """The task that finds them and writes the file, whole."""
        from safetensors.torch import save

        objective = load(landscape)
        hung = self.file.with_name(f".{self.file.stem}")
        with refused_if_it_hangs(landscape, objective, hung=hung):
            prove_objective(landscape, objective)
        prove_nothing_kept(landscape, objective)
        resume = self.file.with_name(f".{self.file.stem}.{self.science()[:16]}.resume")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with refused_if_it_hangs(landscape, objective, "the search for directions", hung) as gets_on:
            found = make_directions(landscape.study, objective, getting_on(gets_on, progress), resume)
        tensors = {name: vector.cpu().contiguous() for name, vector in found.vectors.items()}
        digest = _tensors_sha256(io.BytesIO(save(tensors)))
        # one text: several would come in any order, and the file have other bytes
        publish(self.file, save(tensors, {_SCIENCE: f"{self.science()} {digest}"}))
        resume.unlink(missing_ok=True)

    def refuse_other(self) -> None:
        """`InputError` where the file was made from something else, or is not as it was written."""
        from safetensors import SafetensorError, safe_open

        if not self.file.exists():
            return
        try:
            with safe_open(self.file, "pt") as content:
                made_from, _, digest = (content.metadata() or {}).get(_SCIENCE, "").partition(" ")
        except SafetensorError as error:
            raise InputError(f"{self.file}: cannot be read ({error}); remove it, it is made again") from None
        if made_from != self.science():
            raise InputError(
                f"{self.file}: holds directions of another task, checkpoint or configuration; "
                "choose another folder with --out"
            )
        with self.file.open("rb") as stream:
            # an earlier version wrote none: what was begun with such a file has its hash
            if digest and digest != _tensors_sha256(stream):
                raise InputError(f"{self.file}: was altered after it was written; remove it, it is made again")

    def science(self) -> str:
        """SHA-256 of everything that decides the directions."""
        science = self.landscape.study.science(self.landscape.checkpoint)
        return canonical_sha256(
            {key: science[key] for key in science if key not in ("grid", "scale", "hessian", "batch")}
        )


def _tensors_sha256(stream: BinaryIO) -> str:
    """SHA-256 of names, shapes, types and bytes of all tensors: of everything in the file but what is told of it."""
    header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    header.pop("__metadata__", None)
    digest = hashlib.sha256()
    while part := stream.read(1 << 20):
        digest.update(part)
    return canonical_sha256([header, digest.hexdigest()])
