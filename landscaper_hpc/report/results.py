"""`results.json`: every number of a study, and nothing that changes from one run to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from landscaper_hpc import strict_json
from landscaper_hpc.digests import is_sealed, with_seal
from landscaper_hpc.errors import InputError
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import ANSWERS, IN_PLACE
from landscaper_hpc.study.study import Study

SCHEMA = 4
"""The number of the format, which `results.schema.json` beside this file describes."""


def results(
    study: Study, study_id: str, stores: Sequence[LandscapeStore], distances: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `results.json` holds of finished stores; nothing is computed here. `distances`: between them."""
    return {
        "schema": SCHEMA,
        "study": study.name,
        "study_id": study_id,
        "landscapes": [_landscape(study, store) for store in stores],
        **({} if distances is None else {"distances": distances}),
        "provenance": {
            **stores[0].attributes["provenance"],
            **_accepted(stores),
            **_notices(stores),
            "seed": study.directions.seed,
            "configuration": study.model_dump(mode="json"),
        },
    }


def write_results(file: Path, found: dict[str, Any]) -> None:
    from landscaper_hpc.files import publish

    publish(file, (strict_json.dumps(with_seal(found), indent=2) + "\n").encode())


def _accepted(stores: Sequence[LandscapeStore]) -> dict[str, Any]:
    """By landscape, the versions and devices that were accepted beside the one it was begun with; nothing for none."""
    found = {store.name: accepted for store in stores if (accepted := store.accepted())}
    return {"accepted": found} if found else {}


def _notices(stores: Sequence[LandscapeStore]) -> dict[str, Any]:
    """By landscape, what a user should know of how it was begun; nothing for nothing."""
    found = {store.name: notices for store in stores if (notices := store.attributes.get("notices"))}
    return {"notices": found} if found else {}


def is_older(file: Path) -> bool:
    """Whether a `results.json` is of an earlier version's format: it is written again from its store."""
    try:
        schema = strict_json.loads(file.read_bytes())["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(schema, int) and schema < SCHEMA


def read_results(file: Path) -> dict[str, Any]:
    """What a `results.json` holds. `InputError` where there is none, one of another format, or one that was altered."""
    try:
        found = strict_json.loads(file.read_bytes())
        schema = found["schema"]
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); `landscaper-hpc run` makes it") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file}: is not a study's results; remove it and run the study again") from None
    if schema != SCHEMA:
        raise InputError(
            f"{file}: has format {schema!r}, this version reads {SCHEMA}; remove it and run the study again"
        )
    if not is_sealed(found):
        raise InputError(f"{file}: was altered after it was written; restore it, or remove it and run the study again")
    return found  # type: ignore[no-any-return]


def _landscape(study: Study, store: LandscapeStore) -> dict[str, Any]:
    from landscaper_hpc.report.quantities import ROWS, nested

    answers = _answers(study, store)
    if study.whole:
        beside = ANSWERS.keys() - IN_PLACE
        told = store.numbers() | {row.key: answers.get(row.key) for row in ROWS if row.origin in beside}
    else:  # of the whole grid nothing is known
        told = {row.key: answers.get(row.key) for row in ROWS if row.origin in ("landscape", *study.asked())}
    science, numbers = store.attributes["science"], nested(told)
    said = {
        "directions": {
            "kind": study.directions.kind,
            "which": study.directions.model_dump(mode="json")["which"],
            "solver": study.directions.solver,
            "n": study.directions.n,
            "normalization": study.directions.normalization,
            "iterations": store.attributes["iterations"],
        },
        "grid": {"ranges": [[axis.lower, axis.upper] for axis in store.grid.axes]},
    }
    return {
        "name": store.name,
        "options": science["options"],
        "checkpoint_sha256": science["checkpoint_sha256"],
        "task_sha256": science["task_sha256"],
        **{key: store.attributes.get("identity", {}).get(key) for key in ("data_sha256", "not_covered")},
        "evaluation": {
            "precision": study.precision,
            "batch": store.attributes["batch"],
            "mode": store.attributes["mode"],
        },
        "connectivity": study.connectivity if study.sampling is None else "knn",
        **numbers,
        **{group: said[group] | numbers.get(group, {}) for group in said},
    }


def _answers(study: Study, store: LandscapeStore) -> dict[str, Any]:
    """The numbers of what the study asks for beside the tree, by key."""
    numbers: dict[str, Any] = {}
    for name, asked in study.asked().items():
        numbers |= store.whole_answer(name, asked).numbers
    return numbers
