"""Functions with a state of their own: what they keep from call to call is copied, and they find the copies.

A task file is loaded once more to be called elsewhere first; a loss that was given in memory is copied for that, before
it is called. What is kept in closures, defaults, attributes, containers, arrays, callable objects, caches and the
globals of the user's own files is copied; tensors, classes and what libraries keep are shared.
"""

from __future__ import annotations

import copy
import functools
import logging
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import CellType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import nn

from landscaper_hpc.objective.copied import copied

if TYPE_CHECKING:
    from landscaper_hpc.objective.objective import Task

T = TypeVar("T")

log = logging.getLogger(__name__)

_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_INSTALLED = {"site-packages", "dist-packages"}
_LARGE = 2**28  # bytes of an array that will be data
_NOTHING_IN_IT = {type(None), bool, int, float, complex, str, bytes, range, slice}


def again_and_again(task: Task) -> Callable[[], Task]:
    """Gives a task that is in memory as a task file would that is loaded once more: the first time as it is, on a copy
    of the model, and then with a loss and metrics that are as they were before that."""
    functions: tuple[Any, Any] = task.loss, dict(task.metrics)
    untouched, first = with_own_state(functions), True

    def give() -> Task:
        nonlocal first
        loss, metrics = functions if first else with_own_state(untouched)
        first = False
        return replace(task, model=copied(task.model), loss=loss, metrics=metrics)

    return give


def with_own_state(given: T) -> T:
    """The same functions, in whatever container, with copies of all that they keep; themselves where that fails."""
    try:
        found: T = _Copies().of(given)
    except Exception as error:  # whatever classes of the user do
        log.info("what the loss keeps cannot be copied: %s: %s", type(error).__name__, error)
        return given
    return found


class _Copies:
    """Each thing is copied once, so that functions which share a state share its copy."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._held: list[Any] = []  # so that no number of an object is used again
        self._around: dict[int, dict[str, Any]] = {}

    def of(self, value: Any) -> Any:
        if type(value) in _NOTHING_IN_IT:
            return value
        if id(value) not in self._made:
            self._held.append(value)
            self._made[id(value)] = value
            self._copy(value)
        return self._made[id(value)]

    def _copy(self, value: Any) -> None:
        """Enter what stands for a value before what is in it is copied, which may lead back to it."""
        made: Any
        if isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, MethodType):
            self._made[id(value)] = MethodType(value.__func__, self.of(value.__self__))
        elif isinstance(value, functools.partial):
            keywords = {name: self.of(kept) for name, kept in value.keywords.items()}
            self._made[id(value)] = functools.partial(self.of(value.func), *map(self.of, value.args), **keywords)
        elif isinstance(value, functools._lru_cache_wrapper):
            again = functools.lru_cache(**value.cache_parameters())
            self._made[id(value)] = again(self.of(value.__wrapped__))
        elif isinstance(value, np.ndarray):
            self._made[id(value)] = value.copy() if value.nbytes < _LARGE else value
        elif type(value) is tuple:
            self._made[id(value)] = tuple(map(self.of, value))
        elif isinstance(value, dict):
            self._made[id(value)] = made = _emptied(value)
            for key, kept in value.items():
                made[key] = self.of(kept)
            self._attributes(value, made)
        elif isinstance(value, list | deque):
            self._made[id(value)] = made = _emptied(value)
            made.extend(map(self.of, value))
            self._attributes(value, made)
        elif isinstance(value, set | bytearray):
            self._made[id(value)] = copy.copy(value)
        elif isinstance(value, ModuleType):
            if _is_users(vars(value)):
                self._made[id(value)] = made = ModuleType(value.__name__)
                vars(made).update(vars(value))
        elif isinstance(value, SimpleNamespace) or _is_plain(value):
            kind: Any = type(value)
            with suppress(TypeError):  # it is made otherwise
                self._made[id(value)] = made = kind.__new__(kind)
                self._attributes(value, made)

    def _function(self, function: FunctionType) -> None:
        around = self._globals_for(function)
        closure = function.__closure__ or ()
        if around is function.__globals__ and not (
            closure or function.__defaults__ or function.__kwdefaults__ or vars(function)
        ):
            return
        cells = tuple(CellType() for _ in closure)
        made = FunctionType(function.__code__, around, function.__name__, None, cells or None)
        self._made[id(function)] = made
        made.__qualname__, made.__module__ = function.__qualname__, function.__module__
        made.__defaults__, made.__kwdefaults__ = self.of(function.__defaults__), self.of(function.__kwdefaults__)
        self._attributes(function, made)
        for cell, own in zip(closure, cells, strict=True):
            with suppress(ValueError):  # it is empty
                own.cell_contents = self.of(cell.cell_contents)
        if around is function.__globals__:
            return
        names = set(_names(function.__code__))
        for name in names & function.__globals__.keys():
            found = function.__globals__[name]
            around[name] = self.of(found)
            if isinstance(found, ModuleType) and around[name] is not found:
                vars(around[name]).update({name: self.of(vars(found)[name]) for name in names & vars(found).keys()})

    def _globals_for(self, function: FunctionType) -> dict[str, Any]:
        """What its copy finds around it: of its module's copy, where it is of a module of the user's."""
        own = function.__globals__
        if not _is_users(own):
            return own
        module = sys.modules.get(str(own.get("__name__")))
        if module is not None and vars(module) is own:
            of_copy: dict[str, Any] = vars(self.of(module))
            return of_copy
        return self._around.setdefault(id(own), dict(own))

    def _attributes(self, value: Any, made: Any) -> None:
        if own := getattr(value, "__dict__", None):
            vars(made).update({name: self.of(kept) for name, kept in own.items()})


def _names(code: CodeType) -> Iterator[str]:
    """The globals and attributes that a function, and those inside it, may ask for."""
    yield from code.co_names
    for inside in code.co_consts:
        if isinstance(inside, CodeType):
            yield from _names(inside)


def _is_users(around: dict[str, Any]) -> bool:
    """Whether these are the globals of the user's own code: of a file elsewhere than libraries, or of no file."""
    name, file = str(around.get("__name__")).partition(".")[0], around.get("__file__")
    if name in ("landscaper_hpc", *sys.builtin_module_names):
        return False
    if not isinstance(file, str):
        return True
    return not _INSTALLED & {*Path(file).parts} and not any(map(Path(file).is_relative_to, _STANDARD))


def _is_plain(value: Any) -> bool:
    """Whether it is a module of torch's, or an object of a class of the user's, that is its attributes alone."""
    kind: Any = type(value)
    own = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
    return (
        (isinstance(value, nn.Module) or _is_users(own))
        and isinstance(getattr(value, "__dict__", None), dict)
        and not hasattr(kind, "__del__")
        and kind.__new__ is object.__new__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
    )


def _emptied(value: Any) -> Any:
    made = copy.copy(value)
    made.clear()
    return made
