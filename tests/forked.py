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
import runpy
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

_IMPORTED = [
    "landscaper_hpc.commands.run",
    "landscaper_hpc.directions.hessian",
    "landscaper_hpc.losses.evaluate",
    "landscaper_hpc.report.page",
    "landscaper_hpc.topology.blocks.distributed",
]
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
        server = subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()])

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
    for name in _IMPORTED:
        importlib.import_module(name)
    sys.modules.pop("landscaper_hpc.cli", None)  # it is run as `__main__`
    from numba.core.registry import cpu_target

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    gc.freeze()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    gc.unfreeze()
    if asked["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path[0] = asked["cwd"]
    sys.argv[1:] = asked["words"]
    runpy.run_module("landscaper_hpc.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
