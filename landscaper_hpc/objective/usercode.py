"""Loading the user's own Python files (task, train) by path, and what they read meanwhile."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from landscaper_hpc import variables
from landscaper_hpc.errors import InputError, RankRaised, is_users, user_frames, user_traceback
from landscaper_hpc.study.sources import is_local


@contextmanager
def user_module(file: Path) -> Iterator[ModuleType]:
    """Execute a Python file as a module of its own; inside, its neighbours can be imported by name.

    Afterwards they are forgotten, so that the file of the same name beside another study is not taken for them.
    """
    global _process
    os._exit, _process = _leave, os.getpid()
    spec = importlib.util.spec_from_file_location(f"landscaper_hpc_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    known = set(sys.modules)
    # dataclasses and pickle look a class's module up by name
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(file.parent))
    importlib.invalidate_caches()  # else what Python remembers of the folder may be out of date
    # a file changed within the second keeps its size often enough, and what was compiled before would be taken for it
    compiles, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.dont_write_bytecode = compiles
        if str(file.parent) in sys.path:  # unless the file itself took it away
            sys.path.remove(str(file.parent))
        for name in set(sys.modules) - known - {module.__name__}:
            own = getattr(sys.modules[name], "__dict__", {})  # some of torch's modules make up any attribute
            places = [own.get("__file__"), *own.get("__path__", ())]
            if any(place is not None and is_local(Path(place), [file.parent]) for place in places):
                del sys.modules[name]


def mistake(message: str, error: BaseException) -> InputError:
    """The one sentence about an error in the user's code, which keeps the way through that code."""
    return InputError(message, user_traceback(error))


def in_a_sentence(error: RankRaised, source: str = "") -> InputError:
    """What one of several ranks has raised, as the one sentence about an error in the user's code."""
    return InputError(f"{source}{error}", error.traceback)


@contextmanager
def in_words() -> Iterator[None]:
    """What fails inside in the user's own code, or for its environment, is `InputError`: the same mistake is the same
    sentence and exit code wherever it is met."""
    try:
        yield
    except InputError:
        raise
    except RankRaised as error:
        raise in_a_sentence(error) from error
    except Exception as error:
        if why := variables.refused(error):
            raise InputError(why) from error
        if said := of_users(error):
            raise mistake(said, error) from error
        raise


def ended(leaving: BaseException) -> str:
    """What the user's code did to end its process."""
    return (
        f"called sys.exit({leaving.code!r})" if isinstance(leaving, SystemExit) else f"raised {type(leaving).__name__}"
    )


_really_exit = os._exit
_process = 0  # that has loaded the user's code, and has not been forked by it


def _leave(status: int) -> NoReturn:
    """`os._exit`, which the user's code may call in processes that it forked, and in ours can only raise: else a run
    would end in its midst, as if it were done."""
    if os.getpid() == _process and is_users(sys._getframe(1).f_code.co_filename):
        raise SystemExit(f"os._exit({status})")
    _really_exit(status)


# ---- what is read ---------------------------------------------------------------------------------------------------


class _Watch:
    def __init__(self) -> None:
        self.read: set[str] = set()
        self.written: set[str] = set()


@dataclass
class Files:
    """What was read: local files, and files elsewhere that are no part of what is installed, both sorted."""

    local: list[Path] = field(default_factory=list)
    elsewhere: list[Path] = field(default_factory=list)


_watches: list[_Watch] = []
_SYSTEM = tuple(map(Path, ("/bin", "/dev", "/etc", "/lib", "/lib64", "/opt", "/proc", "/run", "/sys", "/usr", "/var")))
_hooked = False


@contextmanager
def watched(folders: Sequence[Path]) -> Iterator[Files]:
    """The files that this process executes as Python or opens to read inside, however it finds them: local are those in
    `folders`. They are told at the end. Files that are written inside as well are not among them."""
    global _hooked
    if not _hooked:  # such hooks stay for the life of the process
        sys.addaudithook(_heard)
        _hooked = True
    watch, found = _Watch(), Files()
    _watches.append(watch)
    try:
        yield found
    finally:
        _watches.remove(watch)
    roots = list(dict.fromkeys(folder.resolve() for folder in folders))
    for name in watch.read - watch.written:
        places = [Path(os.path.abspath(name)), Path(os.path.realpath(name))]  # noqa: PTH100
        place = next((p for p in places if is_local(p, roots)), None)
        if "__pycache__" in places[0].parts or not places[0].is_file():
            continue
        if place is not None:
            found.local.append(place)
        elif places[0].suffix != ".pyc" and is_local(places[1], [Path("/")]) and not _installed(places[1]):
            found.elsewhere.append(places[0])
    found.local, found.elsewhere = sorted(set(found.local)), sorted(set(found.elsewhere))


def _installed(place: Path) -> bool:
    """Whether a file belongs to the system or to Python."""
    return any(place.is_relative_to(folder) for folder in (*_SYSTEM, Path(sys.prefix), Path(sys.base_prefix)))


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if not _watches:
        return
    if event == "open":
        name, _, flags = args
        writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    elif event == "exec":
        name, writes = getattr(args[0], "co_filename", None), False
    elif event in ("import", "sqlite3.connect"):
        name, writes = args[event == "import"], False
    else:
        return
    if isinstance(name, str | bytes | os.PathLike):
        for watch in _watches:
            (watch.written if writes else watch.read).add(os.fsdecode(name))


def of_users(error: BaseException) -> str:
    """An error that passed through the user's own code in a sentence with the last place there; nothing for others."""
    frames = user_frames(error)
    if not frames:
        return ""
    return f"{frames[-1].filename}, line {frames[-1].lineno}: {type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def line_in(error: BaseException, source: str) -> str:
    """' at line N' of the task file, where the traceback passes through it."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename in source and trace.tb_frame.f_code.co_filename.endswith(".py"):
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f" at line {line}"
