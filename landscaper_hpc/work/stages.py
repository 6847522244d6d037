"""The stages of a campaign and their order: what is missing, how each is done, what it needs, and how sweeps differ.

Every stage asks the files what is missing and does only that; so the same command, run again after anything, goes on
from there and ends with the same bytes. Who does it is a `Carrier`'s business: one client with a mapper, or ranks.
(Longer than most modules: the order of the stages is written here and nowhere else, and reads as one list.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from landscaper_hpc.errors import TaskFailed
from landscaper_hpc.progress import Bars, Progress, silent
from landscaper_hpc.store.failures import ATTEMPTS
from landscaper_hpc.store.layout import SCOPE
from landscaper_hpc.store.leases import Leases
from landscaper_hpc.work import confirming, error_bars, projecting, sampled, weighing
from landscaper_hpc.work.answering import Question
from landscaper_hpc.work.campaign import Campaign, Plan
from landscaper_hpc.work.deal import WorkItem
from landscaper_hpc.work.executor import Mapper, until_done
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.points import tidy
from landscaper_hpc.work.preparation import prepare_all, share_directions
from landscaper_hpc.work.scope import is_sound
from landscaper_hpc.work.shared_directions import SharedDirections
from landscaper_hpc.work.tasks import evaluate_shard
from landscaper_hpc.work.watchdog import HUNG

if TYPE_CHECKING:
    from landscaper_hpc.parallel.comm import Comm
    from landscaper_hpc.work.survey import Counts

log = logging.getLogger(__name__)

T = TypeVar("T")

Stage = Literal["prepare", "evaluate", "verify", "topology", "answer", "conclude"]

ORDER: tuple[Stage, ...] = ("prepare", "evaluate", "verify", "topology", "answer", "conclude")


@dataclass(frozen=True)
class Part:
    """The stages from `first` to `last`, for processes that do only them.

    `after`: the parts that must be over before; ok: and have ended well.
    """

    first: Stage
    last: Stage
    after: Mapping[str, Literal["ok", "any"]] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return ORDER[ORDER.index(self.first) : ORDER.index(self.last) + 1]


PARTS: Mapping[str, Part] = {
    "prepare": Part("prepare", "prepare"),
    "evaluate": Part("evaluate", "evaluate", {"prepare": "ok"}),
    # both also evaluate what is left, whatever became of those who were to do it
    "topology": Part("evaluate", "answer", {"prepare": "ok", "evaluate": "any"}),
    "finish": Part("evaluate", "conclude", {"prepare": "ok", "evaluate": "any"}),
    "report": Part("conclude", "conclude", {"topology": "ok"}),
}
BY_HAND = ("prepare", "evaluate", "finish")
"""The parts that a user may start one by one, any number of times and evaluation at once."""
JOBS = ("prepare", "evaluate", "topology", "report")
"""The parts that jobs of a scheduler do, in the order of their beginning."""


class Carrier(Protocol):
    """Who does the work of stages. Where that is several processes, all of them call every method, in one order."""

    bars: Bars

    def each(self, items: Sequence[T], do: Callable[[Mapper, Sequence[T]], None]) -> None:
        """Do something with all items: at once, by a mapper, or every process with its own part of them."""
        ...

    def evaluate(self, shards: Shards) -> None:
        """Evaluate until no shard is pending that can be had; whoever finds that a landscape is whole says so to it."""
        ...

    def seek(self, landscapes: Sequence[Landscape]) -> None:
        """Find the lowest parts of landscapes, into their stores."""
        ...

    def once(self, do: Callable[[], T]) -> T:
        """Do something in one process; all have what it returns."""
        ...

    def release(self) -> None:
        """Give back what only evaluation needs."""
        ...

    def tree(self, item: Landscape) -> None:
        """Build the merge tree of a landscape, into its store."""
        ...

    def answer(self, questions: Sequence[Question], landscapes: Sequence[Landscape]) -> None:
        """Answer what is asked of finished landscapes, into their stores."""
        ...


def perform(campaign: Campaign, carrier: Carrier, part: str | None = None) -> None:
    """Do all stages, or those of a part, in their order."""
    for stage in ORDER if part is None else PARTS[part].stages:
        _DO[stage](campaign, carrier)


def clear_failures(campaign: Campaign) -> None:
    for plan in campaign.plans:
        plan.landscapes[0].failures.clear()


# ---- prepare --------------------------------------------------------------------------------------------------------


def _prepare(campaign: Campaign, carrier: Carrier) -> None:
    def share(mapper: Mapper, mine: Sequence[SharedDirections]) -> None:
        for shared in mine:
            share_directions(shared, mapper, carrier.bars)

    carrier.each(campaign.shared, share)
    carrier.each(
        campaign.landscapes, lambda mapper, mine: prepare_all(mine, mapper, carrier.bars, apart=campaign.apart)
    )


# ---- evaluate -------------------------------------------------------------------------------------------------------


class Shards:
    """What is to be evaluated of a campaign. A study of a sweep is finished as soon as its last shard is there; where
    more than merge trees is asked for, it has these then."""

    def __init__(self, campaign: Campaign) -> None:
        self.plans = [plan for plan in campaign.plans if plan.prepared()]
        self.landscapes = [item for plan in self.plans for item in plan.landscapes]
        self.apart = campaign.apart
        self._leases = campaign.inside.leases
        self._by_folder = {plan.folder: plan for plan in self.plans}

    def over(self, item: Landscape) -> bool:
        """Whether nothing is left to do for a landscape, its shards need not be listed."""
        return self.apart and self._by_folder[item.inside.path].finished()

    def whole(self, item: Landscape, processes: int) -> None:
        """To be told by one of so many processes of a node that a landscape has all its shards, where no other does the
        finishing."""
        if not self.apart:
            return
        plan = self._by_folder[item.inside.path]
        if plan.grown() or not plan.evaluated():
            return
        with Leases(self._leases).hold(f"finish.{plan.study.name}") as mine:
            if mine and not plan.grown():
                finish(plan, processes)


def _evaluate(campaign: Campaign, carrier: Carrier) -> None:
    if campaign.scoped:
        carrier.seek(campaign.landscapes)
    elif not campaign.sampled:  # or else it is asked for, as what stands beside merge trees is
        carrier.evaluate(Shards(campaign))


def do_item(item: WorkItem, progress: Progress) -> None:
    """Evaluate a shard, or finish a study that has all of them."""
    if isinstance(item, Plan):
        finish(item, item.landscapes[0].site.worker_count())
    else:
        evaluate_shard(item, progress)


def finish(plan: Plan, processes: int) -> bool:
    """Verify, merge trees, and where no more is asked for results and report, by one of so many processes of a node.

    False where shards were damaged: they are pending again.
    """
    if not verified(plan.landscapes):
        return False
    for item in plan.landscapes:
        topology(item, None, processes=processes)
    if not plan.study.asked():  # or else that is dealt out, to all that are there
        write_results(plan)
    return True


def write_results(plan: Plan, progress: Progress = silent) -> None:
    """The results and the report of a study of a sweep."""
    plan.write_results()
    log.info("%s: finished", plan)


# ---- verify ---------------------------------------------------------------------------------------------------------


def _verify(campaign: Campaign, carrier: Carrier) -> None:
    while not carrier.once(lambda: _complete(campaign)):
        _evaluate(campaign, carrier)


def _complete(campaign: Campaign) -> bool:
    """Whether every hash is right; of studies that are finished apart, whether all are that can be."""
    if campaign.scoped:
        return sum(map(_lowest_verified, campaign.landscapes)) == len(campaign.landscapes)
    if not campaign.apart:
        return verified(campaign.landscapes)
    # of a process that died while it finished one, or found it damaged
    left = (plan for plan in campaign.plans if plan.prepared() and not plan.finished())
    return all(finish(plan, 1) if plan.evaluated() else not any(plan.pending()) for plan in left)


def _lowest_verified(item: Landscape) -> bool:
    """Whether the lowest part of a landscape is there as it was written; where it is not, it is sought again."""
    store = item.open()
    store.verify()
    if not is_sound(item):
        log.warning("%s: its lowest part was torn or altered and is sought again", item)
        store.drop_answer(SCOPE)
        return False
    store.tidy()
    tidy(item)
    item.leases.remove()
    return True


def verified(landscapes: Sequence[Landscape]) -> bool:
    """Whether every shard's hash is right; those that are not are pending again."""
    refuse_quarantined(landscapes)
    stores = [item.open() for item in landscapes]
    damaged = sum(len(store.verify()) for store in stores)
    if damaged:
        log.warning("%d shards were torn or altered and are evaluated again", damaged)
        return False
    for store in stores:
        store.tidy()
    for item in landscapes:
        item.leases.remove()
    return True


def refuse_quarantined(landscapes: Sequence[Landscape]) -> None:
    """`TaskFailed` where shards were quarantined: without them there is no landscape."""
    quarantined = {key: error for item in landscapes for key, error in item.failures.quarantined().items()}
    if quarantined:
        key, error = next(iter(quarantined.items()))
        hung = sum(HUNG in error for error in quarantined.values())
        kinds = {f"failed {ATTEMPTS} times": len(quarantined) - hung, "hung": hung}
        said = [f"{count} shard{'' if count == 1 else 's'} {what}" for what, count in kinds.items() if count]
        raise TaskFailed(
            f"{' and '.join(said)} and {'is' if len(quarantined) == 1 else 'are'} quarantined "
            f"({', '.join(list(quarantined)[:5])}); `landscaper-hpc run --retry-failed` gives them new "
            f"attempts. The last error of {key}:\n{error}"
        )


# ---- topology, answer, conclude -------------------------------------------------------------------------------------


def _topology(campaign: Campaign, carrier: Carrier) -> None:
    carrier.release()
    # or else a study has it with its last shard, its lowest part, or its scattered points
    if not campaign.apart and not campaign.scoped and not campaign.sampled:
        for item in campaign.landscapes:
            carrier.tree(item)


def topology(item: Landscape, bars: Bars | None, comm: Comm | None = None, processes: int = 1) -> None:
    """The merge tree of a finished landscape, into its store.

    All ranks of `comm` call this; without one, it is called by one of so many processes that share a node.
    """
    from landscaper_hpc.work.measure import Labels, is_measured, measured

    store = item.open()
    if is_measured(store, comm):
        return
    import psutil

    from landscaper_hpc.topology.blocks.distributed import merge_tree_blocks
    from landscaper_hpc.topology.readers import ZarrReader

    sharing = processes if comm is None else comm.ranks_on_node()
    if comm is not None and comm.rank > 0:
        bars = None
    own, phase = item.heartbeat, f"merge tree of {item.name}"
    own.begin_phase(phase)

    def report(done: int, total: int) -> None:
        own.begin_phase(phase)
        if bars is not None:
            bars.update(f"topology {item.name}", done, total)

    with Labels(store, comm) as labels:
        found = merge_tree_blocks(
            ZarrReader(store.losses),
            item.study.connectivity,
            labels=labels.writer,
            max_memory=psutil.virtual_memory().available // (2 * sharing),
            comm=comm,
            progress=report,
        )
        if found.tree is not None:
            log.info("topology %s: %d minima", item, found.tree.n_minima)
            store.write_tree(found.tree, *measured(store, found.tree, labels.read()))


_QUESTIONS = tuple(stage.QUESTION for stage in (confirming, error_bars, projecting, weighing, sampled))


def _answer(campaign: Campaign, carrier: Carrier) -> None:
    if campaign.scoped and not any(plan.study.confirm for plan in campaign.plans):
        return
    # of a sweep: those that miss a shard stay as they are
    plans = [plan for plan in campaign.plans if plan.study.asked() and not (campaign.apart and not _waits(plan))]
    if not plans:
        return
    carrier.answer(_QUESTIONS, [item for plan in plans for item in plan.landscapes])
    if campaign.apart:
        carrier.each(plans, _write_all)
    carrier.release()


def _waits(plan: Plan) -> bool:
    """Whether a study has its merge trees, and not yet what else it asks for."""
    return plan.grown() and not plan.finished()


def _write_all(mapper: Mapper, plans: Sequence[Plan]) -> None:
    def missing() -> list[Plan] | None:
        return [plan for plan in plans if not plan.finished()] or None

    until_done(mapper, write_results, missing, on_progress=None, on_done=lambda plan: None)


def _conclude(campaign: Campaign, carrier: Carrier) -> None:
    carrier.once(campaign.conclude)


_DO: Mapping[Stage, Callable[[Campaign, Carrier], None]] = {
    "prepare": _prepare,
    "evaluate": _evaluate,
    "verify": _verify,
    "topology": _topology,
    "answer": _answer,
    "conclude": _conclude,
}


# ---- what is missing ------------------------------------------------------------------------------------------------


def missing(counts: Counts, concluded: bool) -> tuple[str, ...]:
    """The parts that jobs have still to do, whether those wait, run, or have to be submitted."""
    found = []
    given_up = counts.lost if counts.apart else 0
    if counts.prepared + given_up < counts.landscapes:
        found.append("prepare")
    if counts.shards_left:
        found.append("evaluate")
    if counts.trees + given_up < counts.landscapes:
        found.append("topology")
    if found or not concluded:
        found.append("report")
    return tuple(found)


def refuse_lost(campaign: Campaign) -> None:
    """`TaskFailed` where something is quarantined; of a sweep, when all else is in its table."""
    if campaign.apart:
        campaign.conclude()
    refuse_quarantined(campaign.landscapes)
