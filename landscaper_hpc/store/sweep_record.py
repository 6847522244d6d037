"""`sweep.json`: the definition of a sweep, and every study that was ever part of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from landscaper_hpc import strict_json
from landscaper_hpc.digests import is_sealed, with_seal
from landscaper_hpc.errors import InputError
from landscaper_hpc.files import publish
from landscaper_hpc.store.folder import SweepFolder

SCHEMA = 2
_WITHOUT_SEAL = 1
"""What was written before, with the same keys."""


@dataclass(frozen=True)
class Entry:
    """One study of a sweep: its name, the overrides that make it from the sweep's study file, what a table says of it.

    `values` are those of the varied keys; `checkpoint` (relative to the study file), its `run` (the name without the
    step) and `step` are None where no checkpoints are swept over.
    """

    name: str
    overrides: list[str]
    values: dict[str, Any]
    landscapes: list[str]
    points: int
    checkpoint: str | None = None
    run: str | None = None
    step: int | None = None


@dataclass(frozen=True)
class Recorded:
    """What `sweep.json` holds: `study_file` is relative to the sweep's folder, `definition` what must not change."""

    name: str
    study_file: str
    definition: dict[str, Any]
    entries: list[Entry]


def read_sweep(folder: Path) -> Recorded:
    """What a sweep's folder records. `InputError` where it is none."""
    file = SweepFolder(folder).record
    try:
        found = strict_json.loads(file.read_bytes())
        if found["schema"] not in (SCHEMA, _WITHOUT_SEAL):
            raise InputError(f"{file}: has format {found['schema']!r}, this version reads {SCHEMA}; run the sweep anew")
        if (found["schema"] == SCHEMA or "sha256" in found) and not is_sealed(found):
            raise InputError(
                f"{file}: was altered after it was written; restore it, or remove it and run the sweep again"
            )
        entries = [Entry(**entry) for entry in found["studies"]]
        return Recorded(found["name"], found["study_file"], found["definition"], entries)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); `landscaper-hpc sweep` makes it") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file}: is not the record of a sweep; restore it, or choose another folder") from None


def is_sweep(folder: Path) -> bool:
    return SweepFolder(folder).record.exists()


def write_record(folder: Path, recorded: Recorded) -> None:
    content = {
        "schema": SCHEMA,
        "name": recorded.name,
        "study_file": recorded.study_file,
        "definition": recorded.definition,
        "studies": list(map(asdict, recorded.entries)),
    }
    text = strict_json.dumps(with_seal(content), indent=1) + "\n"
    file = SweepFolder(folder).record
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        publish(file, text.encode())
