"""`landscaper-hpc` as a process of its own that starts in a moment, forked from one that has imported what it needs.

Python, torch and numba take two seconds of processor time to start, more than small runs do, and tests start hundreds.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from painting import painted_once
from PIL import Image

_IMPORTED = [
    *("commands", "confirm", "directions", "losses", "objective", "report", "sampling", "store", "study", "topology"),
    *("work", "executors.jobs", "executors.local", "executors.mpi", "orchestrate", "status"),
]
"""Of this package, with what is in them; Dask is not there, whose import changes what Ctrl-C does."""
pages: Path | None = None
"""Where what runs in a forked process finds pages that were painted from the same, and keeps its own."""

_SUBREAPER = 36
"""`PR_SET_CHILD_SUBREAPER` of prctl(2): whose parent has ended becomes a child of the process that asked for it."""


class Forked(subprocess.Popen[str]):
    """`python -m landscaper_hpc.cli` with `words`, as `Popen` would start it, and a child of this process as well.

    What is read while Python and the packages start is what it was when the first of them was forked: variables such as
    `OMP_NUM_THREADS`, and whether standard output is a terminal.
    """

    def __init__(self, words: list[Any], **more: Any) -> None:
        super().__init__(words, text=True, **more)

    def _execute_child(self, words: Any, *given: Any) -> None:
        cwd, env = given[4:6]
        read, write, error = given[9], given[12], given[14]
        request = {
            "words": list(map(str, words)),
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "session": bool(given[20]),
        }
        with _orphans_are_ours():
            server = _server()
            streams = [given if given != -1 else number for number, given in enumerate((read, write, error))]
            socket.send_fds(server, [json.dumps(request).encode()], streams)
            self.pid = int(server.recv(64))
        self._child_created = True
        self._close_pipe_fds(*given[9:15])


@contextlib.contextmanager
def _orphans_are_ours() -> Any:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    try:
        yield
    finally:
        prctl(_SUBREAPER, 0, 0, 0, 0)


@cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        words = [sys.executable, __file__, str(theirs.fileno()), *filter(None, [pages])]
        server = subprocess.Popen(words, pass_fds=[theirs.fileno()])

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def _serve(channel: socket.socket) -> dict[str, Any]:
    """Fork whenever asked to; returns in the process that was forked, with what was asked for."""
    while True:
        message, streams, _, _ = socket.recv_fds(channel, 1 << 20, 3)
        if not message:
            os._exit(0)  # the tests have ended
        read, write = os.pipe()
        if not (between := os.fork()):
            if not (forked := os.fork()):
                break
            os.write(write, str(forked).encode())
            os._exit(0)
        os.waitpid(between, 0)  # now it is the child of whoever asked
        channel.send(os.read(read, 64))
        for each in (read, write, *streams):
            os.close(each)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for each in (read, write, *streams):
        os.close(each)
    channel.close()
    return dict(json.loads(message))


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the tests
    _import_and_load()
    gc.collect()
    gc.freeze()  # what is never looked at stays shared
    channel, *folder = sys.argv[1:]
    asked = _serve(socket.socket(fileno=int(channel)))
    if asked["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path[0] = asked["cwd"]
    sys.argv[1:] = asked["words"]
    with painted_once(lambda: False, Path(*folder)) if folder else contextlib.nullcontext():
        _end(_code())


def _import_and_load() -> None:
    """What a run needs, as far as no thread starts."""
    for name in _IMPORTED:
        module = importlib.import_module(f"landscaper_hpc.{name}")
        for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
            importlib.import_module(found.name)
    sys.modules.pop("landscaper_hpc.cli", None)  # it is run as `__main__`
    importlib.import_module("zarr")
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


def _code() -> int:
    """What the program ends with, and as it says so itself."""
    try:
        runpy.run_module("landscaper_hpc.cli", run_name="__main__", alter_sys=True)
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
    """As Python ends, but for what it does to leave nothing in memory: that takes a second where this much was imported."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except OSError:
        code = 120
    os._exit(code)


if __name__ == "__main__":
    _main()
