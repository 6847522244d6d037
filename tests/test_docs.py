"""The pages of the API say of every public name what goes in, what comes out, and what is refused."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import landscaper_hpc

PAGES = sorted((Path(__file__).parent.parent / "docs/api").glob("*.md"))
SHOWN = {
    name: [member.strip() for member in (members or "").split(",") if member]
    for page in PAGES
    for name, members in re.findall(
        r"^::: (\S+)(?:\n {4}options: \{members: \[(.*)\]\})?", page.read_text(), re.MULTILINE
    )
}


def found(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def sections(documented: Any) -> dict[str, str]:
    """The numpydoc sections of a docstring, by title."""
    _, *parts = re.split(r"^(\w[\w ]*)\n-{3,}$", inspect.getdoc(documented) or "", flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def entries(section: str) -> set[str]:
    """The names that a section describes: `a, b` on one line are two."""
    lines = re.findall(r"^\*{0,2}\w+(?:, \w+)*(?= :|$)", section, re.MULTILINE)
    return {name.lstrip("*") for line in lines for name in line.split(", ")}


def test_every_public_name_is_on_a_page() -> None:
    shown = [found(name) for name in SHOWN]
    assert [name for name in landscaper_hpc.__all__ if getattr(landscaper_hpc, name) not in shown] == []


@pytest.mark.parametrize("dotted", sorted(SHOWN))
def test_what_goes_in_comes_out_and_is_refused_is_said(dotted: str) -> None:
    documented = found(dotted)
    if isinstance(documented, FunctionType):
        assert missing(documented) == []
        return
    assert documented.__doc__
    if dataclasses.is_dataclass(documented):
        public = {field.name for field in dataclasses.fields(documented) if not field.name.startswith("_")}
        assert public - entries(sections(documented)["Attributes"]) == set()
    members = SHOWN[dotted] or [name for name in vars(documented) if not name.startswith("_")]
    for name in members:
        member = inspect.getattr_static(documented, name)
        member = getattr(member, "__func__", member)  # of a class
        if isinstance(member, FunctionType):
            assert missing(member) == [], name
        elif isinstance(member, property):
            assert member.__doc__, name


def missing(function: FunctionType) -> list[str]:
    """What the docstring of a function does not say."""
    said, signature = sections(function), inspect.signature(function)
    taken = {name for name in signature.parameters if name not in ("self", "cls")}
    left = sorted(taken - entries(said.get("Parameters", "")))
    if signature.return_annotation != "None" and "Returns" not in said:
        left.append("Returns")
    if "raise InputError" in inspect.getsource(function) and "Raises" not in said:
        left.append("Raises")
    return left
