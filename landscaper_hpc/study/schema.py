"""What every YAML file of ours has in common: strict typed keys, overrides, and one sentence for what is wrong."""

from __future__ import annotations

import copy
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from landscaper_hpc.errors import InputError

Loaded = TypeVar("Loaded", bound=BaseModel)


class Strict(BaseModel):
    """No unknown keys, no silent conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


def load_yaml(cls: type[Loaded], file: Path | None, overrides: Sequence[str]) -> Loaded:
    """Read `cls` from a YAML file; `overrides` are `key.path=value` with values in YAML. `InputError` names the key."""
    return validated(cls, {} if file is None else read_yaml(file), str(file or "--set"), overrides)


def read_yaml(file: Path) -> dict[str, Any]:
    """A file's mapping of keys to values."""
    try:
        data = yaml.load(file.read_text(), Loader=_Yaml) or {}
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"{file}: must be a YAML mapping of keys to values, found {type(data).__name__}")
    return data


def yaml_list(text: str) -> list[Any]:
    """The values of `a,b,…`, each in YAML."""
    try:
        values: list[Any] = yaml.load(f"[{text}\n]", Loader=_Yaml)
    except yaml.YAMLError:
        raise InputError(f"{text!r} is not a list of values in YAML, such as 21,41 or [0,1],[2,3]") from None
    return values


def validated(cls: type[Loaded], data: dict[str, Any], where: str, overrides: Sequence[str]) -> Loaded:
    """`data`, as read from `where` and changed by overrides, as a `cls`."""
    data = copy.deepcopy(data)
    for override in overrides:
        _set(data, override)
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {_one_sentence(cls, error)}") from None


class _Yaml(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as a string and 1:30:00 as 5400; people and YAML 1.2 mean a number, and a string."""


_NO_COLON = r"(?!.*:)"
_Yaml.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(_NO_COLON + known.pattern, known.flags) if tag.endswith((":int", ":float")) else known)
        for tag, known in resolvers
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
for _first in "-+0123456789":
    _Yaml.yaml_implicit_resolvers.setdefault(_first, []).insert(0, ("tag:yaml.org,2002:float", _FLOAT))


def _set(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set {override!r}: write it as key.path=value, for example grid.count=11")
    try:
        value = yaml.load(text, Loader=_Yaml)
    except yaml.YAMLError:
        raise InputError(f"--set {override!r}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    node: Any = data
    for part in parents:
        node = node.setdefault(part, {}) if isinstance(node, dict) else _item(node, part, override)
    if isinstance(node, list):
        _item(node, last, override)
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise InputError(f"--set {override!r}: {'.'.join(parents)} is {node!r}, which has no keys")


def _item(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
        return node[int(part)]
    raise InputError(f"--set {override!r}: there is no entry {part!r}")


def _one_sentence(cls: type[BaseModel], error: ValidationError) -> str:
    first, *rest = error.errors()
    keys = [str(k) for k in first["loc"] if not (isinstance(k, str) and _is_union_tag(k))]
    path = ".".join(keys)
    found = first["input"]
    if first["type"] == "extra_forbidden":
        valid = _valid_keys(cls, keys[:-1])
        sentence = f"unknown key {path} (value {found!r}); valid keys there: {', '.join(valid)}"
    elif first["type"] == "missing":
        sentence = f"the key {path} is missing"
    else:
        message = first["msg"].removeprefix("Value error, ")
        sentence = f"{path}: {message}" if path else message
        if keys and not isinstance(found, dict):
            sentence += f"; found {found!r}"
    more = len({e["loc"][:1] for e in rest} - {first["loc"][:1]})
    return sentence + (f" (and {more} more keys are wrong)" if more else "")


def _is_union_tag(part: str) -> bool:
    """pydantic puts the tried member of a union into the path of an error; a reader knows only keys."""
    return part in {"float", "int", "str", "bool", "constrained-int"} or "[" in part


def _valid_keys(cls: Any, keys: Sequence[str]) -> list[str]:
    for key in keys:
        if not key.isdecimal():
            cls = _model_in(cls.model_fields[key].annotation)
    return list(cls.model_fields)


def _model_in(annotation: Any) -> Any:
    if (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, BaseModel)
    ):
        return annotation
    for part in typing.get_args(annotation):
        found = _model_in(part)
        if found is not None:
            return found
    return None
