"""What every YAML file of ours has in common: strict typed keys, overrides, and one sentence for what is wrong."""

from __future__ import annotations

import itertools
import os
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from landscaper_hpc.errors import InputError
from landscaper_hpc.files import name_on_disk

Loaded = TypeVar("Loaded", bound=BaseModel)

_MOST_BYTES = 3 * 10**6  # ten seconds of reading, whatever is in them
_MOST_VALUES = 100_000
_MOST_LEVELS = 100


class Strict(BaseModel):
    """No unknown keys, no silent conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _of_python(cls, data: Any) -> Any:
        return _plain(data)


def _plain(value: Any) -> Any:
    """A copy in which NumPy's numbers and arrays are the Python numbers and lists that they hold, and tuples are lists:
    Python callers have them."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, dict) else value


def _of_a_file(name: str) -> str:
    try:
        written = os.fsencode(name_on_disk(name))
    except UnicodeError:
        written = b""
    if not written or b"\0" in written:
        raise ValueError("must be the name of a file")
    return name


FileName = Annotated[str, AfterValidator(_of_a_file)]
"""What a file can be called."""


def load_yaml(cls: type[Loaded], file: Path | None, overrides: Sequence[str]) -> Loaded:
    """Read `cls` from a YAML file; `overrides` are `key.path=value` with values in YAML. `InputError` names the key."""
    return validated(cls, {} if file is None else read_yaml(file), str(file or "--set"), overrides)


def read_yaml(file: Path) -> dict[str, Any]:
    """A file's mapping of keys to values."""
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise InputError(f"{file}: is not a file; give a YAML file")
        if file.stat().st_size > _MOST_BYTES:
            raise InputError(f"{file}: has {file.stat().st_size:,} bytes, which no file of ours has; give a YAML file")
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not valid YAML: {error}") from None
    data = _parsed(text, f"{file}: is not valid YAML") or {}
    if not isinstance(data, dict):
        raise InputError(f"{file}: must be a YAML mapping of keys to values, found {type(data).__name__}")
    return data


def yaml_list(text: str) -> list[Any]:
    """The values of `a,b,…`, each in YAML."""
    values: list[Any] = _parsed(
        f"[{text}\n]", f"{text!r} is not a list of values in YAML, such as 21,41 or [0,1],[2,3]"
    )
    return values


def validated(cls: type[Loaded], data: dict[str, Any], where: str, overrides: Sequence[str]) -> Loaded:
    """`data`, as read from `where` and changed by overrides, as a `cls`."""
    data = _plain(data)
    for override in overrides:
        _set(data, override)
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {_one_sentence(cls, error)}") from None


def _parsed(text: str, wrong: str) -> Any:
    """What a text says in YAML; `InputError` begins with `wrong`."""
    try:
        return yaml.load(text, Loader=_Yaml)
    except (yaml.YAMLError, ValueError) as error:  # the latter for 2026-13-45, or a number of 5,000 digits
        raise InputError(f"{wrong}: {' '.join(str(error).split())}") from None


class _Yaml(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as a string and 1:30:00 as 5400; people and YAML 1.2 mean a number, and a string.

    A key that is given twice is refused, and so are more values and levels than a file of ours can hold, as they come,
    and aliases that stand for more.
    """

    _levels = _values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._levels += 1
        self._values += 1
        if self._levels > _MOST_LEVELS:
            raise yaml.YAMLError(f"it is nested too deeply, in more than {_MOST_LEVELS} levels")
        if self._values > _MOST_VALUES:
            raise yaml.YAMLError(f"it holds more than {_MOST_VALUES:,} values, which no file of ours does")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._levels -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, Any], int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if (key.tag, str(key.value)) in lines:
                where = lines[key.tag, str(key.value)]
                raise yaml.YAMLError(f"the key {key.value} is given twice, in lines {where} and {line}; keep one")
            lines[key.tag, str(key.value)] = line
        return node

    def construct_document(self, node: yaml.Node) -> Any:
        self._count(node, {})
        return super().construct_document(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        digits = str(self.construct_scalar(node)).lstrip("+-")
        if re.fullmatch("0[0-9_]+", digits):
            raise yaml.YAMLError(f"{digits} may be meant to any base; write the number without zeros before it")
        return int(super().construct_yaml_int(node))

    def _count(self, node: yaml.Node, known: dict[int, int]) -> int:
        """How many values a node stands for, aliases written out; refused above what a file of ours can hold."""
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) not in known:
            known[id(node)] = _MOST_VALUES  # of one that holds itself
            parts = itertools.chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
            known[id(node)] = 1 + sum(self._count(part, known) for part in parts)
        if known[id(node)] >= _MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES:,} values; write out what is meant")
        return known[id(node)]


_Yaml.add_constructor("tag:yaml.org,2002:int", _Yaml.construct_yaml_int)
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
    value = _parsed(text, f"--set {override!r}: the value is not valid YAML")
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
        if first["loc"][-1:] == ("bool",):  # the first kind of value that was tried
            message = "must be a finite number, a text, true or false"
        elif first["type"] == "model_type" and keys:
            message = f"must hold keys, each with a value; valid keys there: {', '.join(_valid_keys(cls, keys))}"
        sentence = f"{path}: {message}" if path else message
        if keys and not isinstance(found, dict):
            sentence += f"; found {found!r}"
    more = len({e["loc"][:1] for e in rest} - {first["loc"][:1]})
    return sentence + (f" (and {more} more keys are wrong)" if more else "")


def _is_union_tag(part: str) -> bool:
    """pydantic puts the tried member of a union into the path of an error; a reader knows only keys."""
    return part in {"float", "int", "str", "bool", "constrained-int", "Rise", "Quantile"} or "[" in part


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
