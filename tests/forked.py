"""`landscaper-hpc` as a process of its own that starts in a moment, forked from one that has imported what it needs.

Python, torch and numba take two seconds of processor time to start, more than small runs do, and tests start hundreds.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import itertools
import json
import multiprocessing.util
import os
import pkgutil
import platform
import resource
import runpy
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import psutil
from painting import painted_once
from PIL import Image

_IMPORTED = [
    *("commands", "confirm", "directions", "losses", "objective", "report", "sampling", "store", "study", "topology"),
    *("work", "executors.jobs", "executors.local", "executors.mpi", "orchestrate", "status"),
]
"""Of this package, with what is in them; Dask is not there, whose import changes what Ctrl-C does."""
CLI = "landscaper_hpc.cli"
MPIEXEC = str(Path(sys.executable).with_name("mpiexec"))

_exit = os._exit  # before the program puts its own there, for what users' code calls

pages: Path | None = None
"""Where what runs in a forked process finds pages that were painted from the same, and keeps its own."""

_spawn = multiprocessing.util.spawnv_passfds
_NAME = 15
"""`PR_SET_NAME` of prctl(2)."""
_SUBREAPER = 36
"""`PR_SET_CHILD_SUBREAPER` of prctl(2): whose parent has ended becomes a child of the process that asked for it."""


class Forked(subprocess.Popen[str]):
    """`python -m landscaper_hpc.cli` with `words`, as `Popen` would start it, and a child of this process as well; or
    another module, or the script of that path.

    What is read while Python and the packages start is what it was when the first of them was forked: variables such as
    `OMP_NUM_THREADS`, and whether standard output is a terminal.
    """

    def __init__(self, words: Iterable[object], script: object = CLI, **more: Any) -> None:
        self._script = str(script)
        super().__init__(list(map(str, words)), text=True, **more)

    def _execute_child(self, words: Any, *given: Any) -> None:
        cwd, env = given[4:6]
        read, write, error = given[9], given[12], given[14]
        request = {
            "script": self._script,
            "words": words,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "session": bool(given[20]),
        }
        streams = [given if given != -1 else number for number, given in enumerate((read, write, error))]
        self.pid = _forked(request, streams)
        self._child_created = True
        self._close_pipe_fds(*given[9:15])


def _forked(request: dict[str, Any], files: list[int]) -> int:
    """The number of a process, a child of this one, that does what is asked for."""
    with _orphans_are_ours():
        server = _server().channel
        socket.send_fds(server, [json.dumps(request).encode()], files)
        return int(server.recv(64))


def fork_server(path: Any, words: list[str], kept: list[int]) -> int:
    """In place of `multiprocessing.util.spawnv_passfds`, where tests run: its pools' workers, too, are forked from one
    that has loaded all."""
    if "forkserver" not in words[-1]:
        return _spawn(path, words, kept)
    numbers = sorted(map(int, kept))
    request = {"code": words[-1], "numbers": numbers, "cwd": str(Path.cwd()), "env": dict(os.environ)}
    return _forked(request, [0, 1, 2, *numbers])


@contextlib.contextmanager
def _orphans_are_ours() -> Any:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    try:
        yield
    finally:
        prctl(_SUBREAPER, 0, 0, 0, 0)


class _Server(NamedTuple):
    channel: socket.socket
    process: subprocess.Popen[bytes]
    address: str
    """Where others ask: a file, which is there in all network namespaces."""


@cache
def _server() -> _Server:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    address = f"{tempfile.mkdtemp(prefix='landscaper-hpc-')}/forked"
    with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen(64)
        numbers = (theirs.fileno(), listener.fileno())
        words = [sys.executable, __file__, *map(str, numbers), *filter(None, [pages])]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        server = subprocess.Popen(words, pass_fds=numbers, env=environment)  # which finds what is beside it

    def end() -> None:
        ours.close()
        server.wait()
        shutil.rmtree(Path(address).parent)

    atexit.register(end)
    return _Server(ours, server, address)


def ranks(number: int, script: object, *words: object) -> list[str]:
    """A command: this Python script (or `CLI`) on so many ranks, each forked where `mpiexec` would start it."""
    if script is not CLI:
        return [MPIEXEC, "-n", str(number), forked_python(), *map(str, (script, *words))]
    return [MPIEXEC, "-n", str(number), forked_python(), "-m", CLI, *map(str, words)]


@cache
def forked_python() -> str:
    """A program that is taken for Python: `-m MODULE …` and `SCRIPT …` are forked, in the namespaces where it is
    called, as those of a node of the test cluster, and anything else is done by Python itself. Beside it is
    `landscaper-hpc`."""
    folder = Path(_server().address).parent
    stands_for_it = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).with_name("forked_rank.py"))])
    for name, words in (("python", ""), ("landscaper-hpc", f" -m {CLI}")):
        (folder / name).write_text(f'#!/bin/sh\nexec {stands_for_it} {folder}/forked{words} "$@"\n')
        (folder / name).chmod(0o755)
    return str(folder / "python")


def wait_for_ranks() -> None:
    """Until those are gone that were killed: what was started in their place is, and they a moment later."""
    deadline = time.monotonic() + 60
    while any(each.status() != psutil.STATUS_ZOMBIE for each in psutil.Process(_server().process.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _serve(channel: socket.socket, listener: socket.socket) -> dict[str, Any]:
    """Fork whenever asked to; returns in the process that was forked, with what was asked for."""
    keepers: list[int] = []
    pipe: tuple[int, ...] = ()
    while True:
        keepers = [each for each in keepers if os.waitpid(each, os.WNOHANG) == (0, 0)]
        asked = select.select([channel, listener], [], [], None if not keepers else 1)[0]
        if listener in asked:
            with listener.accept()[0] as rank:
                message, streams, _, _ = socket.recv_fds(rank, 1 << 20, 4)
                if not (keeper := os.fork()):
                    _go_where(rank)
                    if not (forked := os.fork()):
                        break
                    for each in (channel.detach(), listener.detach(), *streams):
                        os.close(each)
                    _keep(forked, rank)
                keepers.append(keeper)
        elif channel in asked:
            message, streams, _, _ = socket.recv_fds(channel, 1 << 20, 16)
            if not message:
                os._exit(0)  # the tests have ended
            pipe = read, write = os.pipe()
            if not (between := os.fork()):
                if not (forked := os.fork()):
                    break
                os.write(write, str(forked).encode())
                os._exit(0)
            os.waitpid(between, 0)  # now it is the child of whoever asked
            channel.send(os.read(read, 64))
        else:
            continue
        for each in (*streams, *pipe):
            os.close(each)
        pipe = ()
    request = dict(json.loads(message))
    for number, stream in enumerate(streams[:3]):
        os.dup2(stream, number)
    channel.close()
    listener.close()
    for each in (*streams[:3], *pipe):
        os.close(each)
    if "numbers" in request:
        free = max(*request["numbers"], *streams) + 1
        aside = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, free) for each in streams[3:]]
        for number, each in zip(request["numbers"], aside, strict=True):
            os.dup2(each, number)
    elif len(streams) == 4:
        request["env"]["PMI_FD"] = str(launcher := os.dup(streams[3]))
        os.set_inheritable(launcher, True)
        os.close(streams[3])
    return request


def _go_where(asks: socket.socket) -> None:
    """Into the namespaces of the process at the other end, as those of a node: what is forked next is in them."""
    (number,) = struct.unpack("ixxxxxxxx", asks.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    theirs, ours = (Path(f"/proc/{each}/ns") for each in (number, "self"))
    others = [name for name in _NAMESPACES if (theirs / name).readlink() != (ours / name).readlink()]
    entered = [os.open(theirs / name, os.O_RDONLY) for name in others]
    for each in entered:
        if ctypes.CDLL(None, use_errno=True).setns(each, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(each)


_NAMESPACES = ("ipc", "uts", "net", "pid", "mnt")


def _keep(forked: int, rank: socket.socket) -> NoReturn:
    """See to it that a process gets the signals of the one that stands for it, and that both end alike."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ended = os.pidfd_open(forked)
    while ended not in select.select([rank, ended], [], [])[0]:
        said = b""
        with contextlib.suppress(ConnectionError):
            said = rank.recv(64)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(ended, int(said or signal.SIGKILL))
        if not said:
            break
    code = os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])
    with contextlib.suppress(OSError):
        rank.send(str(code).encode())
    os._exit(0)


def no_fsync(file: int) -> None:
    """In place of `os.fsync`: what a process has written is there for all others, whatever becomes of it; only a power
    cut takes more to outlast."""
    os.fstat(file)  # which fails, too, where the file is not open


def _fork_server(path: Any, words: list[str], kept: list[int]) -> int:
    """In place of `multiprocessing.util.spawnv_passfds`: the process that a pool's workers are forked from is forked
    itself, since it has already imported what that one would for two seconds. Its name is `forkserver`."""
    if "forkserver" not in words[-1] or psutil.Process().num_threads() > 1:  # a fork knows of no threads
        return _spawn(path, words, kept)
    if not (forked := os.fork()):
        _be_fork_server(words[-1], kept)
    return forked


def _be_fork_server(code: str, kept: list[int]) -> NoReturn:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in (signal.SIG_IGN, signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    atexit._clear()
    free = [2, *sorted(kept), resource.getrlimit(resource.RLIMIT_NOFILE)[0]]
    for below, above in itertools.pairwise(free):
        os.closerange(below + 1, above)
    ctypes.CDLL(None).prctl(_NAME, b"forkserver")
    try:
        exec(code, {})
    finally:
        _exit(0)


def _main() -> None:
    os.fsync = no_fsync
    multiprocessing.util.spawnv_passfds = _fork_server
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the tests
    _import_and_load()
    gc.collect()
    gc.freeze()  # what is never looked at stays shared
    channel, listener, *folder = sys.argv[1:]
    asked = _serve(*(socket.socket(fileno=int(number)) for number in (channel, listener)))
    if asked.get("session"):
        os.setsid()
    platform._uname_cache = None  # it may be on another node
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    if "code" in asked:
        _be_fork_server(asked["code"], asked["numbers"])
    sys.path[:1] = [asked["cwd"], *asked["env"].get("PYTHONPATH", "").split(":")]
    sys.argv[1:] = asked["words"]
    with painted_once(lambda: False, Path(*folder)) if folder else contextlib.nullcontext():
        _end(_code(asked["script"]))


def _import_and_load() -> None:
    """What a run needs, as far as no thread starts."""
    for name in _IMPORTED:
        module = importlib.import_module(f"landscaper_hpc.{name}")
        for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
            importlib.import_module(found.name)
    sys.modules.pop(CLI, None)  # it is run as `__main__`
    importlib.import_module("zarr")
    importlib.import_module("scipy.stats")
    importlib.import_module("torch._dynamo")  # with sympy and FSDP: what optimizers and Hessian products import
    from landscaper_hpc.report.page import environment
    from landscaper_hpc.topology import contour_tree, merge_tree
    from landscaper_hpc.topology.blocks.warm_up import prepare
    from landscaper_hpc.topology.drawing import Drawing
    from landscaper_hpc.topology.landscaper import smad_landscaper

    Image.init()
    for name in ("report", "scope", "sweep"):
        environment().get_template(f"{name}.html.j2")
    prepare("axis", np.dtype(np.float64))
    field = np.arange(9.0).reshape(3, 3) % 5
    Drawing.of(merge_tree(field, "axis", labels=True, threads=1), field)
    smad_landscaper(contour_tree(field, "axis", threads=1))
    if threading.active_count() > 1:
        raise RuntimeError(f"threads are not forked: {threading.enumerate()}")


def _code(script: str) -> int:
    """What the program ends with, and as it says so itself."""
    try:
        if script.endswith(".py"):
            sys.path[0], sys.argv[0] = str(Path(script).parent), script
            runpy.run_path(script, run_name="__main__")
        else:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> None:
    """As Python ends, but nothing is taken out of memory, which takes a second where this much was imported."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except OSError:
        code = 120
    if (mpi := sys.modules.get("mpi4py.MPI")) and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()
        # MPICH takes its leave of mpiexec last of all; what torch.distributed holds of Python goes before that
        ctypes.PyDLL(None).exit(code)
    _exit(code)


if __name__ == "__main__":
    _main()
