"""A study on MPI ranks: mpiexec or srun starts them, each takes shards from the store, all build the merge tree."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from landscaper_hpc.errors import InputError, Stopped
from landscaper_hpc.executors.local import SerialMapper
from landscaper_hpc.files import stamps
from landscaper_hpc.parallel.comm import Comm, agree, world
from landscaper_hpc.progress import Bars
from landscaper_hpc.store.heartbeat import end_heartbeats
from landscaper_hpc.store.lock import log_to, only_one, restarts
from landscaper_hpc.study.site import Site
from landscaper_hpc.variables import number
from landscaper_hpc.work import stages
from landscaper_hpc.work.answering import Arrays, Batch, Question, answer_all, answer_by, done_here, label_of
from landscaper_hpc.work.campaign import Campaign, Plan
from landscaper_hpc.work.executor import Asked, Mapper
from landscaper_hpc.work.landscape import Landscape, ShardItem
from landscaper_hpc.work.seeking import seek_together
from landscaper_hpc.work.shared_directions import SharedDirections
from landscaper_hpc.work.worker import Stop, work

log = logging.getLogger(__name__)

T = TypeVar("T")

_RESTARTS_IN_VAIN = 3


class MpiLauncher:
    """The ranks are there already: mpiexec or srun started this program in each of them."""

    def launch(self, campaign: Campaign, site: Site, asked: Asked) -> bool:
        if asked.detach:
            raise InputError("--detach needs a site with executor: slurm; other runs end with their command")
        if asked.part not in (None, *stages.BY_HAND):
            *others, last = stages.BY_HAND
            raise InputError(f"--stage is {asked.part!r}; choose {', '.join(others)} or {last}")
        return run_on_ranks(campaign, asked.retry_failed, asked.part)

    def broadcast(self, make: Callable[[Callable[[], bool] | None], T]) -> T:
        stop = Stop()
        stop.install()
        waiting = (lambda: stop.requested) if restarts() else None
        return _once(world(), lambda: make(waiting))


launcher = MpiLauncher()


def run_on_ranks(
    campaign: Campaign,
    retry_failed: bool = False,
    part: str | None = None,
    *,
    comm: Comm | None = None,
    stop: Stop | None = None,
    locked: bool = False,
) -> bool:
    """Run a campaign on all ranks of the launcher; called by every rank, True on rank 0 where it came to its end.

    What goes wrong on one rank ends all of them, with that rank's error. With a `part` only that is done, and any
    number of evaluating runs may work in the folder at once. Jobs say who they are (`comm`), when their time is up
    (`stop`), and that the run they belong to has the folder's lock already (`locked`).
    """
    comm = comm or world()
    stop = stop or Stop()
    stop.install()
    with ExitStack() as stack:
        bars = stack.enter_context(Bars())
        _once(comm, lambda: _enter(stack, campaign, retry_failed, stop, locked or part == "evaluate", comm.size))
        if comm.rank > 0:
            stack.enter_context(log_to(campaign.inside, first=False))
        stages.perform(campaign, Ranks(comm, stop, bars), part)
    return comm.rank == 0 and (part is None or "conclude" in stages.PARTS[part].stages)


def _enter(stack: ExitStack, campaign: Campaign, retry_failed: bool, stop: Stop, locked: bool, ranks: int) -> None:
    if not locked:
        stack.enter_context(only_one(campaign.folder, (lambda: stop.requested) if restarts() else None))
    # srun is given more, by a script
    launcher = ["mpiexec", "-n", str(ranks)] if ranks > 1 and "SLURM_JOB_ID" not in os.environ else []
    stack.enter_context(log_to(campaign.inside, launcher=launcher))
    if retry_failed:
        stages.clear_failures(campaign)


class Ranks:
    """`stages.Carrier` by ranks that share the work; `Stopped`, on all of them, where time was up for one."""

    def __init__(self, comm: Comm, stop: Stop, bars: Bars) -> None:
        self._comm = comm
        self._stop = stop
        self._advanced = False
        self.bars = bars

    def each(self, items: Sequence[T], do: Callable[[Mapper, Sequence[T]], None]) -> None:
        def mine() -> None:
            with self._stop.soon():
                do(SerialMapper(), items[self._comm.rank :: self._comm.size])

        with self._gets_on(items):
            _together(self._comm, mine)

    @contextmanager
    def _gets_on(self, items: Sequence[object]) -> Iterator[None]:
        """Inside, work that keeps what it has done ends with `Stopped` where time is up; in the last of many restarts
        with `InputError`, unless there is something new that the next can go on from."""
        before = _kept(items) if restarts() >= _RESTARTS_IN_VAIN else None
        try:
            yield
        except Stopped:
            # every rank by itself: others may have ended by something else, and wait for nobody
            if before is not None and self._stop.requested and not self._stop.taken_away and _kept(items) == before:
                raise InputError(
                    f"{restarts()} restarts of this job, and in the last time was up before anything was found that "
                    "the next could go on from; give it more walltime"
                ) from None
            raise
        self._advanced |= before is None or _kept(items) != before

    def evaluate(self, shards: stages.Shards) -> None:
        comm, stop = self._comm, self._stop
        place, places = _place(comm)
        total = sum(item.open().grid.size for item in shards.landscapes) if comm.rank == 0 else 0
        points = 0

        def on_done(item: ShardItem) -> None:
            nonlocal points
            log.info("%s: done", item)
            if comm.rank:
                return
            points += item.shard.size
            # every rank counts its own; an even share is what rank 0 can tell of the others
            self.bars.update(f"points (1 of {places} ranks)", min(points, total // places), total // places)

        self._to_the_end(
            shards.landscapes,
            lambda: work(
                shards.landscapes,
                place=place,
                places=places,
                stop=stop,
                on_done=on_done,
                on_evaluated=lambda item: shards.whole(item, comm.ranks_on_node()),
                finished_already=shards.over,
            ),
        )

    def _to_the_end(self, landscapes: Sequence[Landscape], do: Callable[[], bool]) -> None:
        """Have every rank do what says whether it came to its end; `Stopped` on all where one had to stop."""
        comm, stop = self._comm, self._stop
        last_chance = restarts() >= _RESTARTS_IN_VAIN
        before = _advance(landscapes) if last_chance else 0
        finished = _together(comm, do)
        advanced = self._advanced or not last_chance or _advance(landscapes) != before
        self._advanced = any(comm.gather(advanced))
        if not all(comm.gather(finished)):
            taken_away = any(comm.gather(stop.taken_away))  # preempted, which is nobody's fault
            if not self._advanced and not taken_away:
                raise InputError(
                    f"{restarts()} restarts of this job, and in the last no shard was finished before its time was up; "
                    "give it more walltime, or the study smaller shards (shard_points) in a new folder"
                )
            raise Stopped

    def seek(self, landscapes: Sequence[Landscape]) -> None:
        place, places = _place(self._comm)
        bars = None if self._comm.rank else self.bars
        self._to_the_end(landscapes, lambda: seek_together(landscapes, place, places, self._stop, bars))

    def once(self, do: Callable[[], T]) -> T:
        return _once(self._comm, do)

    def release(self) -> None:
        """Ranks stay for the merge trees, of which nothing can be kept where time is up."""
        in_vain = InputError(
            f"{restarts()} restarts of this job, and in the last time was up before merge trees and report were there; "
            "give it more walltime, or more ranks"
        )
        self._stop.at_once(None if self._advanced else in_vain)

    def tree(self, item: Landscape) -> None:
        if any(self._comm.gather(self._stop.requested)):
            raise Stopped
        try:
            stages.topology(item, self.bars, self._comm)
        except Stopped as stopped:
            self._end_all(stopped)
        except InputError as in_vain:
            if self._stop.requested:
                self._end_all(in_vain)
            raise

    def _end_all(self, why: BaseException) -> None:
        """A signal has ended the work of this rank in its midst, where others wait for it and hear no signal."""
        end_heartbeats()
        self._comm.abort(why)

    def answer(self, questions: Sequence[Question], landscapes: Sequence[Landscape]) -> None:
        """Every rank its own landscapes, where there are enough; or else rank 0 asks, and all do what it asks for."""
        comm = self._comm
        self._stop.at_once()  # the batches that are done are kept
        if len(landscapes) >= comm.size:
            self.each(landscapes, lambda mapper, mine: answer_all(questions, mine, mapper, self.bars))
            return
        with self._gets_on(landscapes):
            _together(comm, lambda: self._ask(questions, landscapes) if comm.rank == 0 else self._help())

    def _ask(self, questions: Sequence[Question], landscapes: Sequence[Landscape]) -> None:
        failed = False

        def deal(batches: Sequence[Batch]) -> list[Arrays]:
            nonlocal failed
            if not batches:
                return []
            self.bars.update(label_of(batches), 0, len(batches))
            failed = True
            self._tell(batches)
            found = self._share(batches)
            failed = False
            self.bars.update(label_of(batches), len(batches), len(batches))
            return found

        try:
            answer_by(questions, landscapes, deal)
        finally:
            if not failed:  # or else all know of it
                self._tell(None)

    def _help(self) -> None:
        while (batches := self._tell(None)) is not None:
            self._share(batches)

    def _tell(self, batches: Sequence[Batch] | None) -> Sequence[Batch] | None:
        """What rank 0 asks for; None where it has ended. Where one is interrupted, all are."""
        agree(self._comm, None)
        asked: Sequence[Batch] | None = self._comm.gather(batches)[0]
        return asked

    def _share(self, batches: Sequence[Batch]) -> list[Arrays]:
        """Each rank does its share; what was found, in order, on all of them. Where one fails, all do."""
        comm = self._comm
        mine = _together(comm, lambda: done_here(batches[comm.rank :: comm.size]))
        shares = [iter(share) for share in comm.gather(mine)]
        return [next(shares[i % comm.size]) for i in range(len(batches))]


def _advance(landscapes: Sequence[Landscape]) -> int:
    """How many shards, and bytes of points, there are."""
    return sum(item.open().n_done() + item.inside.points_bytes(item.name) for item in landscapes)


def _kept(items: Sequence[object]) -> object:
    """What preparing landscapes, answering what is asked of them, or writing results leaves behind and goes on from, as
    it is now."""
    files: list[bool] = []
    folders = set()
    for item in items:
        if isinstance(item, Landscape):
            files += [item.prepared(), item.file.exists()]
            folders.add(item.inside.resume)
        elif isinstance(item, Plan):
            files.append(item.finished())
        elif isinstance(item, SharedDirections):
            files.append(item.landscape.file.exists())
            folders.add(item.file.parent)
    return files, {folder: stamps(folder) for folder in folders}


def _place(comm: Comm) -> tuple[int, int]:
    """Which of how many this rank is, among the ranks of all tasks of a job array."""
    task, first = (number(f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "MIN"))
    step, tasks = (max(1, number(f"SLURM_ARRAY_TASK_{name}", 1)) for name in ("STEP", "COUNT"))
    places = tasks * comm.size
    return ((task - first) // step * comm.size + comm.rank) % places, places  # --array=3,9: beyond their count


def _once(comm: Comm, do: Callable[[], T]) -> T:
    """What rank 0 makes of it, broadcast to every rank."""
    made: T = comm.gather(_together(comm, lambda: do() if comm.rank == 0 else None))[0]
    return made


def _together(comm: Comm, do: Callable[[], Any]) -> Any:
    """Do something on every rank and let all fail where one does."""
    error: BaseException | None = None
    result = None
    try:
        result = do()
    except BaseException as caught:
        error = caught
    agree(comm, error)
    return result
