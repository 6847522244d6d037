"""What a sweep is made of, as its user says it: a study file, keys with values, and a pattern of checkpoints.

study: study.yaml                     everything that is the same
checkpoints: runs/*/step_*.pt         one study for each file, instead of the study's own checkpoints
product: {grid.count: [21, 41]}       every combination
zip: {precision: [float64, float32], batch: [16, 64]}    the first of each, the second of each, …
directions_from: step_00001000        one checkpoint's directions for all; without it each study has its own
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from landscaper_hpc.errors import InputError
from landscaper_hpc.study.schema import FileName, Strict, read_yaml, validated, yaml_list
from landscaper_hpc.study.study import Name

_MOST = 100  # of a name's characters
_STEP_DIGITS = 8
_NUMBER = re.compile(r"(?<![\d.])\d+(?!\d|\.\d)")
_STEP = re.compile(r"(step|epoch|iter|iteration|checkpoint|ckpt)s?[_=-]?$", re.IGNORECASE)


class SweepFile(Strict):
    """A sweep's YAML file."""

    study: FileName
    name: Name | None = None
    checkpoints: str | None = Field(None, description="a pattern of files, relative to this file")
    product: dict[str, list[Any]] = Field(default_factory=dict)
    zip: dict[str, list[Any]] = Field(default_factory=dict)
    directions_from: str | None = Field(None, description="a checkpoint by name, or a file")

    @model_validator(mode="after")
    def _consistent(self) -> SweepFile:
        for key, values in (*self.product.items(), *self.zip.items()):
            if not values:
                raise ValueError(f"{key} has no values; give a list of them")
        if both := sorted(self.product.keys() & self.zip.keys()):
            raise ValueError(f"{both[0]} is in both product and zip; keep one of them")
        if len(lengths := {len(values) for values in self.zip.values()}) > 1:
            raise ValueError(f"zip: the keys have {', '.join(map(str, sorted(lengths)))} values; give as many to each")
        if self.checkpoints is not None:
            for key in (*self.product, *self.zip):
                if key.startswith("checkpoints") and not re.match(r"checkpoints\.\d+\.options\.", key):
                    raise ValueError(f"{key} and a pattern of checkpoints exclude each other; keep one of them")
        return self


@dataclass(frozen=True)
class SweepConfig:
    """A sweep as it was asked for: `data` is the content of the study `file`, `checkpoints` an absolute pattern."""

    name: str
    file: Path
    data: dict[str, Any]
    checkpoints: str | None
    product: dict[str, list[Any]]
    zip: dict[str, list[Any]]
    directions_from: str | None

    @property
    def base(self) -> Path:
        """The folder that names in the study start at."""
        return self.file.resolve().parent

    @classmethod
    def load(
        cls,
        file: Path,
        overrides: Sequence[str] = (),
        checkpoints: str | None = None,
        directions_from: str | None = None,
    ) -> SweepConfig:
        """Read a sweep's YAML file, or make one of a study's. `overrides` are `key.path=value,value,…`; a pattern given
        here is relative to the working directory, one in the file to the file."""
        data = read_yaml(file)
        own = validated(SweepFile, data if "study" in data else {"study": file.name}, str(file), ())
        product = dict(own.product)
        for override in overrides:
            key, separator, text = override.partition("=")
            if not separator or not key:
                raise InputError(f"--set {override!r}: write it as key.path=value,value, for example grid.count=21,41")
            product[key] = yaml_list(text)
        pattern = None if own.checkpoints is None else _below(file.resolve().parent, own.checkpoints)
        if checkpoints is not None:
            pattern = _below(Path.cwd(), checkpoints)
        shared = own.directions_from if directions_from is None else directions_from
        together = {"checkpoints": pattern, "product": product, "directions_from": shared, "study": own.study}
        asked = validated(SweepFile, own.model_dump() | together, str(file), ())
        study_file = file.resolve().parent / asked.study
        study = read_yaml(study_file)
        name = own.name or f"{study.get('name', 'study')}_sweep"
        return cls(name, study_file, study, pattern, asked.product, asked.zip, asked.directions_from)


def _below(folder: Path, pattern: str) -> str:
    """A pattern in a folder, whose own name is taken as it is: `[x]` in it is no pattern."""
    return str(Path(glob.escape(str(folder))) / pattern)


def _unescaped(pattern: str) -> str:
    return re.sub(r"\[([*?[])\]", r"\1", pattern)


def _is_pattern(part: str) -> bool:
    return glob.has_magic(part) and glob.escape(_unescaped(part)) != part


Varied = list[tuple[str, Any, str]]
"""Key, value, and the value as a name has it, for each key that has several values."""


def combinations(config: SweepConfig) -> list[tuple[Varied, list[str]]]:
    """Every combination: what is varied in it, and all of its overrides."""
    axes: list[list[list[tuple[str, int]]]] = [[[(key, i)] for i in range(len(v))] for key, v in config.product.items()]
    if config.zip:
        axes.append([[(key, i) for key in config.zip] for i in range(len(next(iter(config.zip.values()))))])
    values = config.product | config.zip
    found = []
    for chosen in itertools.product(*axes):
        parts = [part for group in chosen for part in group]
        varied = [(k, values[k][i], _texts(values[k])[i]) for k, i in parts if len(values[k]) > 1]
        found.append((varied, [f"{k}={json.dumps(values[k][i])}" for k, i in parts]))
    return found


def study_name(checkpoint: str | None, varied: Varied) -> str:
    """The name of a study, from nothing but its own values."""
    parts = [] if checkpoint is None else [checkpoint]
    name = "+".join([*parts, *(f"{key}={text}" for key, _, text in varied)]) or "study"
    if len(name) <= _MOST:
        return name
    return f"{name[: _MOST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _texts(values: list[Any]) -> list[str]:
    """Values as names have them; whole numbers are as long as the longest, so that names sort as they do."""
    width = max((len(str(v)) for v in values if type(v) is int), default=0)
    texts = [str(v).zfill(width) if type(v) is int and v >= 0 else _plain(_short(v)) for v in values]
    # what is left of long values may be the same
    return [t if texts.count(t) == 1 else f"{t}-{i}" for i, t in enumerate(texts)]


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=("_", "="))


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.=+-]+", "-", text).strip("-") or "value"


@dataclass(frozen=True)
class Found:
    """A file that matches the pattern: `file` relative to the study file, `run` its name without the step."""

    name: str
    file: str
    run: str
    step: int | None


def found_checkpoints(config: SweepConfig) -> list[Found] | None:
    """The checkpoints that are there now, sorted by name; None where the sweep has no pattern."""
    if config.checkpoints is None:
        return None
    paths = sorted(glob.glob(config.checkpoints, recursive=True))  # noqa: PTH207  absolute patterns
    if not paths:
        raise InputError(
            f"checkpoints: no file matches {_unescaped(config.checkpoints)}; correct the pattern (quoted for the shell)"
        )
    pattern = Path(config.checkpoints).parts
    wild = next((i for i, part in enumerate(pattern) if _is_pattern(part)), len(pattern) - 1)
    found: dict[str, Found] = {}
    for path in map(Path, paths):
        name, run, step = _named("/".join(path.parts[wild:]).removesuffix(path.suffix if path.is_file() else ""))
        if name in found:
            raise InputError(
                f"checkpoints: {path} and {found[name].file} would both be called {name}; give one another name"
            )
        found[name] = Found(name, os.path.relpath(path, config.base), run, step)
    return [found[name] for name in sorted(found)]


def _named(path: str) -> tuple[str, str, int | None]:
    """The name of a checkpoint, its run's, and its step.

    The step is the last whole number of the file's name, or one that a folder's name calls a step. In names it has
    eight digits, so that they sort as steps do, whatever is added.
    """
    start = path.rfind("/") + 1
    numbers = [m for m in _NUMBER.finditer(path) if m.start() >= start or _STEP.search(path[: m.start()])]
    run, step = path, None
    if numbers:
        at = numbers[-1]
        step = int(at.group())
        run = path[: at.start()].rstrip("_-=. ") + path[at.end() :]
        path = path[: at.start()] + str(step).zfill(_STEP_DIGITS) + path[at.end() :]
    return _dotted(path) or "checkpoint", _dotted(run), step


def _dotted(path: str) -> str:
    """A path as a name: with '.' between folders, as modules have it."""
    return _plain(re.sub("/+", ".", path.strip("/"))).lstrip("_.=+-")
