"""The table of quantities as documents: the JSON schema of `results.json`, and a page of the documentation.

`python -m landscaper_hpc.report.describe` writes both, beside this file and into the folder docs of a checkout.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from landscaper_hpc.report import quantities
from landscaper_hpc.report.quantity import Quantity
from landscaper_hpc.report.results import SCHEMA
from landscaper_hpc.store.layout import IN_PLACE, SCOPE

SCHEMA_FILE = Path(__file__).with_name("results.schema.json")

_TEXT = {"type": "string"}
_COUNT = {"type": "integer"}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_NUMBER = {
    "description": 'a number; "NaN", "Infinity" and "-Infinity" stand for those that are not finite',
    "oneOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}],
}


def schema() -> dict[str, Any]:
    """The JSON schema of `results.json`, strict: every key is there, and no other."""
    landscape = _landscape([row for row in quantities.ROWS if row.origin not in IN_PLACE])
    for name in IN_PLACE:
        more = ["confirmed"] if name == SCOPE else []
        part = _landscape([row for row in quantities.ROWS if row.origin in ("landscape", name, *more)])
        part["required"] = [key for key in part["required"] if key not in more]  # where it is asked for
        landscape = {"if": {"required": [name]}, "then": part, "else": landscape}
    found = _object(
        schema={"const": SCHEMA},
        study=_TEXT,
        study_id=_SHA256,
        landscapes={"type": "array", "minItems": 1, "items": landscape},
        provenance=_object(
            versions={"type": "object", "additionalProperties": _TEXT},
            device=_TEXT,
            seed=_COUNT,
            configuration={"type": "object", "description": "the study as it was read, defaults included"},
        ),
        sha256=_SHA256 | {"description": "of all else that the file holds; checked by whoever reads it here"},
    )
    found["properties"]["provenance"]["additionalProperties"] = True
    matrix = {"type": "array", "items": {"type": "array", "items": {"$ref": "#/$defs/number"}}}
    found["properties"]["distances"] = _object(
        pairs=_COUNT | {"description": "the most persistent pairs of each landscape that distances are of, at most"},
        left_out={"$ref": "#/$defs/number"},
        bottleneck=matrix,
        wasserstein=matrix,
    ) | {"description": "between the persistence diagrams of any two landscapes, in their order; from two of them on"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"results.json of landscaper-hpc, format {SCHEMA}",
        "$defs": {"number": _NUMBER},
        **found,
    }


def _landscape(rows: Sequence[Quantity]) -> dict[str, Any]:
    """An entry of a landscape that these quantities are told of."""
    landscape = _object(
        name=_TEXT,
        options={"type": "object", "description": "keyword arguments of the task's function"},
        checkpoint_sha256=_SHA256,
        task_sha256=_SHA256,
        data_sha256={"oneOf": [_SHA256, {"type": "null"}]},
        not_covered={
            "description": "what of the data and the task's imports no hash covers",
            "oneOf": [{"type": "array", "items": _TEXT}, {"type": "null"}],
        },
        evaluation=_object(precision=_TEXT, batch=_COUNT, mode=_TEXT),
        connectivity=_TEXT,
        directions=_object(
            kind=_TEXT,
            which={"oneOf": [_TEXT, _object(largest=_COUNT, negative=_COUNT)]},
            solver=_TEXT,
            n=_COUNT,
            normalization=_TEXT,
            iterations={"oneOf": [_COUNT, {"type": "null"}]},
        ),
        grid=_object(
            ranges={"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        ),
    )
    for row in rows:
        *folders, name = row.key.split(".")
        at = landscape
        for folder in folders:
            at = _add(at, folder, _object())
        unit = f", in units of {row.unit}" if row.unit else ""
        said = ": ".join(filter(None, [row.label, row.meaning])) + unit
        _add(at, name, {"description": said, "oneOf": [row.kind.schema, {"type": "null"}]})
    return landscape


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _add(parent: dict[str, Any], name: str, child: dict[str, Any]) -> dict[str, Any]:
    """The child of that name, which is added where it is not there."""
    if name not in parent["properties"]:
        parent["properties"][name] = child
        parent["required"].append(name)
    return parent["properties"][name]  # type: ignore[no-any-return]


_HEAD = """\
# Quantities

Every number that is told of a landscape: made by `python -m landscaper_hpc.report.describe` from the table in
`landscaper_hpc/report/quantities.py`, over which `results.json`, the commands, the pages and the figures iterate as
well. *f* is the loss, *v* a grid point, *m* a minimum, *N* the number of grid points, (birth, death) a pair of the
elder rule. Numbers that are not finite are written `"NaN"`, `"Infinity"` and `"-Infinity"`; null means that there is
no value. A study with `scope` or `sampling` has the rows of the checkpoint, the directions and the Hessian, and those
of `scope` or of `sampling`, and no others; with `scope` and `confirm` those of `confirmed`, too, of what lies below L.
The JSON schema of `results.json` is
`landscaper_hpc/report/results.schema.json`.

| in `results.json` | called | unit | meaning | definition | source |
|---|---|---|---|---|---|
"""


def markdown() -> str:
    """The table as a page of the documentation."""
    lines = []
    for row in quantities.ROWS:
        cells = [f"`{row.key}`", row.label, row.unit, row.meaning, row.formula, row.source]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lists = [row for row in quantities.ROWS if row.kind.fields]
    return "\n".join([_HEAD + "\n".join(lines), *map(_fields, lists)]) + "\n"


def _fields(row: Quantity) -> str:
    """What the entries of a list tell."""
    cells = [[f"`{one.name}`", one.label, one.unit, one.meaning] for one in row.kind.fields]
    lines = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in cells]
    head = f"\n## Each entry of `{row.key}`\n\n{row.label.capitalize()}, {row.meaning}."
    return "\n".join([head, "", "| key | called | unit | meaning |", "|---|---|---|---|", *(f"| {x} |" for x in lines)])


def schema_text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text())
    (Path(__file__).parents[2] / "docs" / "quantities.md").write_text(markdown())
