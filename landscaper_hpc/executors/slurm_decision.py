"""What Slurm is asked to do next: a pure function of what is missing, the jobs, and what was tried. No clock, no files.

Jobs depend on each other and on the folder, never on the client: a job whose time is up requeues itself, what others
leave behind the next one takes up. So all parts that are missing are submitted at once, each after those it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from landscaper_hpc.executors.jobs import Job
from landscaper_hpc.executors.scripts import Room
from landscaper_hpc.work.stages import PARTS
from landscaper_hpc.work.survey import Counts

ATTEMPTS = 3
"""How often in a row a part is submitted while nothing comes of it."""


@dataclass(frozen=True)
class Attempt:
    """How often a part was submitted when the campaign was as far as this."""

    advance: tuple[int, int, int]
    times: int


@dataclass(frozen=True)
class Seen:
    """All that decides. `missing`: parts that are not done (`stages.missing`); `jobs`: all of the folder's, oldest
    first; `watched`: the numbers of those that this client submitted or saw at work."""

    counts: Counts
    missing: tuple[str, ...]
    jobs: tuple[Job, ...]
    room: Room
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    watched: frozenset[str] = frozenset()
    logs: str = "jobs"
    """The folder of the jobs' logs."""

    @property
    def at_work(self) -> set[str]:
        return {job.stage for job in self.jobs if job.active}


@dataclass(frozen=True)
class Submit:
    """A job array of each of these sizes for a part; `after`: how jobs of which parts must have ended before."""

    part: str
    sizes: tuple[int, ...] = (1,)
    after: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Release:
    """Let a job go that Slurm holds."""

    job: Job


@dataclass(frozen=True)
class Wait:
    """Look again later."""


@dataclass(frozen=True)
class Refuse:
    """Give up, in these words; `log_of`: and with the end of that job's log."""

    words: str
    bad_input: bool = False
    log_of: Job | None = None


@dataclass(frozen=True)
class RefuseLost:
    """Give up, in the words of what is quarantined."""


@dataclass(frozen=True)
class Done:
    """Everything is there, and no job is at work."""


Action = Submit | Release | Wait | Refuse | RefuseLost | Done


def decide(seen: Seen, told: Callable[[Job], str | None] = lambda job: None) -> list[Action]:
    """What to do now, in this order. `told(job)`: what our program said in a job about how it ended, where it did."""
    if not seen.missing and not seen.at_work:
        return [Done()]
    # Slurm holds a job whose start failed; one that a person holds stays
    actions: list[Action] = [
        Release(job) for job in seen.jobs if job.active and job.held and "launch" in job.reason.lower()
    ]
    to_do = [part for part in seen.missing if part not in seen.at_work]
    if to_do:
        # jobs that wait for directions bring nothing, and Slurm takes a while to see it
        if to_do[0] == "prepare" or not seen.at_work:
            refusal = _in_vain(seen, to_do[0], told)
            if refusal is not None:
                return [*actions, refusal]
        refused = {part for part in to_do if any(job.exit_code == 2 for job, _ in _told(seen, part, told))}
        actions += _submissions(seen, [part for part in to_do if _worth(seen, part) and part not in refused])
    return [*actions, Wait()]


def tried(seen: Seen, part: str) -> Attempt:
    """The attempt that submitting a part now makes."""
    before = seen.attempts.get(part)
    again = before is not None and before.advance == seen.counts.advance
    return Attempt(seen.counts.advance, before.times + 1 if before is not None and again else 1)


def _submissions(seen: Seen, parts: list[str]) -> list[Action]:
    at_work = set(seen.at_work)
    found: list[Action] = []
    for part in parts:
        # directions must be there; evaluation must be over, however it went; a report needs all merge trees
        after = tuple((f"after{how}", other) for other, how in PARTS[part].after.items() if other in at_work)
        sizes: tuple[int, ...] = (1,)
        if part == "evaluate":
            others = sum(_tasks(job) for job in seen.jobs if job.active) + 3
            sizes = tuple(seen.room.arrays(seen.counts.shards_left, others))
        found.append(Submit(part, sizes, after))
        at_work.add(part)
    return found


def _worth(seen: Seen, part: str) -> bool:
    """Not for ever what brings nothing."""
    return tried(seen, part).times <= ATTEMPTS


def _in_vain(seen: Seen, part: str, told: Callable[[Job], str | None]) -> Refuse | RefuseLost | None:
    """Nothing is at work, and this part is to be done: why, where another attempt would end as the last."""
    if seen.counts.lost and part in ("topology", "report"):
        return RefuseLost()
    cancelled = [job for job in _watched(seen, part) if job.state == "CANCELLED" and job.reason]
    if cancelled:
        job = cancelled[-1]
        return Refuse(
            f"job {job.id} ({job.stage}) was cancelled {job.reason}; everything finished so far is kept, the same "
            "command goes on from there",
            bad_input=True,
        )
    again = tried(seen, part).times > 1
    for job, words in _told(seen, part, told):
        bad_input = job.exit_code == 2
        if bad_input or again:  # it knows why, and would end so again; or else something came of it
            return Refuse(f"job {job.id} ({job.stage}): {words}", bad_input=bad_input)
    if _worth(seen, part):
        return None
    failed = _failed(seen, part)
    if not failed:
        return Refuse(f"{ATTEMPTS} {part} jobs ended well and left no result; their logs: {seen.logs}")
    job = failed[-1]
    return Refuse(
        f"job {job.id} ({job.stage}) ended as {job.state} with exit code {job.exit_code}, as did others", log_of=job
    )


def _watched(seen: Seen, part: str) -> list[Job]:
    return [job for job in seen.jobs if job.stage == part and job.number in seen.watched]


def _failed(seen: Seen, part: str) -> list[Job]:
    """Of a part of which no job is at work."""
    over = ("COMPLETED", "CANCELLED")
    return [job for job in _watched(seen, part) if job.state not in over]


def _told(seen: Seen, part: str, told: Callable[[Job], str | None]) -> Iterator[tuple[Job, str]]:
    """Those of its jobs that failed and know why, with what they say."""
    return ((job, words) for job in _failed(seen, part) if (words := told(job)) is not None)


def _tasks(job: Job) -> int:
    """How many jobs a line of the queue stands for: `17_[0-3,7%2]` is five."""
    _, bracket, ranges = job.id.partition("[")
    if not bracket:
        return 1
    bounds = [part.split("-") for part in ranges.rstrip("]").split("%")[0].split(",")]
    return sum(int(b[-1]) - int(b[0]) + 1 for b in bounds)
