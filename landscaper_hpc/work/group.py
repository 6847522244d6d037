"""A model that several processes of one node hold together (`site.gpus_per_model`): one leads, the others follow it.

The leader is a worker like any other, and it alone touches leases, store and heartbeat. It starts its followers itself;
what is computed, all compute together: `together` calls the same function in each of them. What they raise alike
(`RankRaised`) leaves them in step. All else ends the group, whose processes may wait for each other then; the next call
begins a new one. A follower ends with its leader.

(Longer than most modules: how a group begins, works, and ends is one account.)
"""

from __future__ import annotations

import multiprocessing as mp
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from landscaper_hpc.errors import InputError, OutOfStep, RankLost, RankRaised
from landscaper_hpc.study.site import Site
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.preloaded import start_loading
from landscaper_hpc.work.ranks_say import REASONS, FollowerFailed, RankFailed, Said, heard_of, said_of
from landscaper_hpc.work.watch import Hung, Limit, watched
from landscaper_hpc.work.watchdog import Place

T = TypeVar("T")

_PATIENCE = timedelta(hours=1)
"""For which ranks wait for each other where none has ended: what hangs is for `watch`."""

_GOODBYE = 30.0
"""Seconds for which those who have lost one of them are asked why; they find it where they next wait for it."""

rank: int | None = None
"""Of this process in its group; None where it is in none."""

ended = 0
"""How many groups this process has led to their end: what was loaded in them is gone."""

_group: _Group | None = None


def together(function: Callable[..., T], landscape: Landscape, *given: Any, **own: Any) -> T:
    """`function(landscape, *given, **own)` in this process, and without what is its `own` in all of its group."""
    global _group
    if rank is not None and (_group is None or _group.calling):
        return function(landscape, *given, **own)
    if _group is not None and _group.of != _of(landscape.site):  # an earlier run's in this process
        end()
    if landscape.site.gpus_per_model == 1:
        return function(landscape, *given, **own)
    if _group is None:
        _group = _Group(landscape.site)
    return _group.call(function, landscape, given, own)


def in_time(function: Callable[..., T], landscape: Landscape, limit: Limit, place: Place, *given: Any, **own: Any) -> T:
    """`together`, in no longer than `limit`: raise `Hung`, or leave at a `place` why, whichever process it is in."""
    with watched(limit, place):
        found: T = together(_watched, landscape, function, limit.usual, limit.times, place, *given, **own)
        return found


def _watched(
    landscape: Landscape, function: Callable[..., T], usual: float, times: int, place: Place, *given: Any, **own: Any
) -> T:
    """Those who follow watch themselves: `usual` and `times` are of the leader's limit."""
    with watched(Limit(landscape.site, usual, times), place) if rank else nullcontext():
        return function(landscape, *given, **own)


def end() -> None:
    """End the group that this process leads."""
    if _group is not None:
        _group.close()


def _of(site: Site) -> tuple[int, str]:
    """What a group is of."""
    return site.gpus_per_model, site.device


class _Group:
    def __init__(self, site: Site) -> None:
        import torch.distributed as dist

        if dist.is_initialized():
            raise InputError("gpus_per_model: torch.distributed is in use in this process; leave the key out here")
        self.calling, self.of = False, _of(site)
        self._folder = Path(tempfile.mkdtemp(prefix="landscaper-hpc-group-"))
        self._members: list[tuple[Any, Connection]] = []
        context = mp.get_context("forkserver")
        start_loading(together=True)
        # before processes that multiprocessing would ask to end, and wait for
        Finalize(None, end, exitpriority=10)
        for number in range(1, site.gpus_per_model):
            ours, theirs = context.Pipe()
            words = (theirs, number, site, self._folder, dict(os.environ))
            process = context.Process(target=_follow, args=words, daemon=True)
            with _no_daemon():
                process.start()
            theirs.close()
            self._members.append((process, ours))
        try:
            # who waits for one that has ended as it started waits for ever
            self._refuse({number: heard_of(channel) for number, (_, channel) in enumerate(self._members, 1)}, "lost")
            _join(0, site, self._folder)
        except BaseException:
            self.close()
            raise

    def call(self, function: Callable[..., T], landscape: Landscape, given: Any, own: Any) -> T:
        self.calling = True
        try:
            with suppress(OSError):  # one has ended: that is found where it is waited for
                for _, channel in self._members:
                    channel.send((function, landscape, given))
            raised = None
            try:
                found = function(landscape, *given, **own)
            except RankRaised as error:
                raised = error
            heard = {number: heard_of(channel) for number, (_, channel) in enumerate(self._members, 1)}
            self._refuse(heard, *(kind for kind in REASONS if kind != ("done" if raised is None else "alike")))
            if raised is not None:
                raise raised
            return found
        except RankRaised:
            raise
        except BaseException as error:
            try:
                self._instead(error)
            finally:
                self.close()
            raise
        finally:
            self.calling = False

    def _instead(self, error: BaseException) -> None:
        """Raise what is the reason for an error here: what a rank has raised, or that one has ended."""
        own = said_of(error)
        if own.kind == "left" or isinstance(error, RankLost | RankFailed | FollowerFailed):
            return
        until = time.monotonic() + (_GOODBYE if own.kind == "broken" else 0)
        heard = {}
        for number, (process, channel) in enumerate(self._members, 1):
            if channel.poll(max(0.0, until - time.monotonic())) or wait_for([process.sentinel], 0):
                heard[number] = heard_of(channel)
        if own.kind == "broken":
            self._refuse(heard, *REASONS)
        elif own.kind == "hung":
            self._refuse(heard, "hung")
        else:
            self._refuse(heard, "lost")
            if own.words and (own.traceback or isinstance(error, OutOfStep)):
                self._refuse({0: own}, own.kind)

    def _refuse(self, heard: Mapping[int, Said], *kinds: str) -> None:
        """Raise what a rank has said of the first of these kinds that one has."""
        for kind in kinds:
            for number, said in heard.items():
                if said.kind == kind:
                    self._tell(number, said)

    def _tell(self, number: int, said: Said) -> NoReturn:
        """Raise what a rank has said."""
        if said.kind == "hung":
            raise Hung.elsewhere(said.words)
        if said.kind in ("input", "raised"):
            raise (RankFailed if said.kind == "raised" else InputError)(said.words, said.traceback)
        if said.kind != "lost":
            raise FollowerFailed(said.traceback)
        process = self._members[number - 1][0]
        process.join(5)
        code = process.exitcode
        how = f" by signal {-code}" if code is not None and code < 0 else f" with exit code {code}"
        raise RankLost(
            f"the {len(self._members) + 1} processes that hold the model together have lost rank {number}, which was "
            f"ended{how} (out of memory?)"
        )

    def close(self) -> None:
        global _group, rank, ended
        import torch.distributed as dist

        for process, channel in self._members:
            process.kill()
            channel.close()
        for process, _ in self._members:
            process.join()
        with suppress(Exception):
            dist.destroy_process_group()
        # agreed upon where it is first needed, which the ranks of the next group have before them
        if (generators := sys.modules.get("torch.distributed.tensor._random")) is not None:
            generators._rng_tracker = None  # type: ignore[attr-defined]
        shutil.rmtree(self._folder, ignore_errors=True)
        _group, rank, ended = None, None, ended + 1


def _join(number: int, site: Site, folder: Path) -> None:
    global rank
    import torch.distributed as dist
    from torch._C._distributed_c10d import FileStore

    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this node
    dist.init_process_group(
        "gloo" if site.device == "cpu" else "cpu:gloo,cuda:nccl",
        store=FileStore(str(folder / "meeting"), site.gpus_per_model),
        rank=number,
        world_size=site.gpus_per_model,
        timeout=_PATIENCE,
    )
    rank = number


def _follow(channel: Connection, number: int, site: Site, folder: Path, environment: dict[str, str]) -> None:
    """Do what the leader says, until it is gone or something is raised."""
    os.environ.clear()
    os.environ.update(environment)
    # the leader decides; a scheduler tells every process that time is up
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    threading.Thread(target=_end_with_leader, daemon=True).start()
    channel.send(Said("here"))
    _join(number, site, folder)
    while True:
        try:
            function, landscape, given = channel.recv()
        except EOFError:
            os._exit(0)
        try:
            # what a follower tells of itself is nobody's business
            function(replace(landscape, workers=folder), *given)
            said = Said("done")
        except BaseException as error:
            said = said_of(error)
        channel.send(said)
        if said.kind not in ("done", "alike"):
            os._exit(1)


@contextmanager
def _no_daemon() -> Iterator[None]:
    """Inside, this process may start others also where it is multiprocessing's daemon, as Dask's nannies start workers:
    what it starts here ends with it by itself."""
    own: dict[str, Any] = getattr(mp.current_process(), "_config", {})
    before = own.pop("daemon", None)
    try:
        yield
    finally:
        if before is not None:
            own["daemon"] = before


def _end_with_leader() -> None:
    leader = mp.parent_process()
    if leader is not None:
        wait_for([leader.sentinel])
        os._exit(1)


def refuse_unsupported(landscape: Landscape) -> None:
    """`InputError` for what a study asks for and several processes cannot compute together."""
    study = landscape.study
    if landscape.site.gpus_per_model == 1:
        return
    asked = {
        "power_law": bool(study.power_law),
        "hessian.trace_products": bool(study.hessian.trace_products),
        "hessian.density_probes": bool(study.hessian.density_probes),
        "directions.solver: pyhessian": study.directions.kind == "hessian" and study.directions.solver != "lanczos",
    }
    if keys := [key for key, is_asked in asked.items() if is_asked]:
        raise InputError(
            f"{landscape}: {' and '.join(keys)} cannot be had of a model that several processes hold (gpus_per_model: "
            f"{landscape.site.gpus_per_model}); leave it out, or run without gpus_per_model"
        )


def refuse_differing(landscape: Landscape, digest: str) -> None:
    """`InputError` where ranks of a group have been given other data, by the SHA-256 that each has found."""
    if rank is None or landscape.site.gpus_per_model == 1:
        return
    import torch.distributed as dist

    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, digest)
    if others := [number for number, other in enumerate(found) if other != found[0]]:
        raise InputError(
            f"{landscape}: the ranks of a group differ in data: rank {others[0]} has data_sha256 "
            f"{found[others[0]][:12]}…, rank 0 {found[0][:12]}…; let task() give every process the same, which "
            "are dealt out by themselves"
        )
