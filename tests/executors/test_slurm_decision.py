"""What Slurm is asked to do next, as a table: what is seen, and what follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from landscaper_hpc.executors.jobs import Job
from landscaper_hpc.executors.scripts import Room
from landscaper_hpc.executors.slurm_decision import (
    ATTEMPTS,
    Action,
    Attempt,
    Done,
    Refuse,
    RefuseLost,
    Release,
    Seen,
    Submit,
    Wait,
    decide,
    tried,
)
from landscaper_hpc.work.stages import JOBS, missing
from landscaper_hpc.work.survey import Counts

ROOM = Room(nodes=3, tasks=2, max_jobs=None, max_array=2)
NEW = Counts(False, landscapes=2, shards=20)
PREPARED = Counts(False, landscapes=2, prepared=2, shards=20, shards_done=9)
EVALUATED = Counts(False, landscapes=2, prepared=2, shards=20, shards_done=20)
FINISHED = Counts(False, landscapes=2, prepared=2, trees=2, shards=20, shards_done=20)
LOST = Counts(False, landscapes=2, prepared=2, lost=1, shards=20, shards_done=19, quarantined=1)
SWEEP = Counts(True, landscapes=2, prepared=2, trees=1, lost=1, shards=20, shards_done=19, quarantined=1)

AFTER = {
    "evaluate": (("afterok", "prepare"),),
    "topology": (("afterok", "prepare"), ("afterany", "evaluate")),
    "report": (("afterok", "topology"),),
}
EVERYTHING = [
    Submit("prepare"),
    Submit("evaluate", (2, 1), AFTER["evaluate"]),
    Submit("topology", (1,), AFTER["topology"]),
    Submit("report", (1,), AFTER["report"]),
    Wait(),
]


def job(part: str, state: str = "RUNNING", number: str = "17", reason: str = "", exit_code: int = 0) -> Job:
    return Job(number, part, state, reason, exit_code=exit_code)


def all_parts(state: str) -> tuple[Job, ...]:
    return tuple(job(part, state, str(17 + i)) for i, part in enumerate(JOBS))


def see(
    counts: Counts,
    *jobs: Job,
    room: Room = ROOM,
    concluded: bool = False,
    watched: bool = True,
    times: int = 0,
    advance: tuple[int, int, int] | None = None,
) -> Seen:
    """What a client sees; `times`: every part was submitted so often when the campaign was as far as `advance`."""
    attempts = {part: Attempt(advance or counts.advance, times) for part in JOBS} if times else {}
    numbers = frozenset(item.number for item in jobs) if watched else frozenset()
    return Seen(counts, missing(counts, concluded), jobs, room, attempts, numbers, "/run/jobs")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(see(NEW), EVERYTHING, id="everything at once, each after what it needs"),
        pytest.param(see(NEW, *all_parts("PENDING")), [Wait()], id="all parts wait"),
        pytest.param(
            see(PREPARED),
            [Submit("evaluate", (2, 1)), Submit("topology", (1,), AFTER["topology"][1:]), EVERYTHING[3], Wait()],
            id="what is prepared needs no directions",
        ),
        pytest.param(
            see(PREPARED, job("evaluate"), job("topology", "PENDING"), job("report", "PENDING")), [Wait()], id="goes on"
        ),
        pytest.param(
            see(PREPARED, job("evaluate")),
            [Submit("topology", (1,), AFTER["topology"][1:]), EVERYTHING[3], Wait()],
            id="the jobs after it were cancelled",
        ),
        pytest.param(
            see(PREPARED, job("topology", "RUNNING")),
            [Submit("evaluate", (2, 1)), Submit("report", (1,), AFTER["report"]), Wait()],
            id="merge trees at work do not wait for evaluation that comes later",
        ),
        pytest.param(see(EVALUATED), [Submit("topology"), EVERYTHING[3], Wait()], id="merge trees"),
        pytest.param(see(FINISHED), [Submit("report"), Wait()], id="the report"),
        pytest.param(see(FINISHED, job("report", "COMPLETED"), concluded=True), [Done()], id="done"),
        pytest.param(see(FINISHED, job("topology"), concluded=True), [Wait()], id="done when the last job has ended"),
        pytest.param(
            see(PREPARED, *all_parts("PENDING"), job("evaluate", "PENDING", "9", "launch failed requeued held")),
            [Release(job("evaluate", "PENDING", "9", "launch failed requeued held")), Wait()],
            id="held since its start failed: released",
        ),
        pytest.param(
            see(PREPARED, *all_parts("PENDING"), job("evaluate", "PENDING", "9", "JobHeldUser")),
            [Wait()],
            id="held by a person: stays",
        ),
        pytest.param(
            see(LOST, job("evaluate")),
            [Submit("topology", (1,), AFTER["topology"][1:]), EVERYTHING[3], Wait()],
            id="quarantined, and others are still at work",
        ),
        pytest.param(see(LOST), [RefuseLost()], id="quarantined"),
        pytest.param(see(SWEEP), [RefuseLost()], id="of a sweep: the table first, then refused"),
        pytest.param(see(LOST, job("evaluate", "COMPLETED"), times=1), [RefuseLost()], id="quarantined by our jobs"),
        pytest.param(
            see(EVALUATED, job("topology", "CANCELLED", reason="by user 7")),
            [
                Refuse(
                    "job 17 (topology) was cancelled by user 7; everything finished so far is kept, the same command "
                    "goes on from there",
                    bad_input=True,
                )
            ],
            id="cancelled before our eyes",
        ),
        pytest.param(
            see(EVALUATED, job("topology", "CANCELLED", reason="by user 7"), watched=False),
            [Submit("topology"), EVERYTHING[3], Wait()],
            id="cancelled before this client began: again",
        ),
        pytest.param(
            see(EVALUATED, job("topology", "TIMEOUT"), times=1),
            [Submit("topology"), EVERYTHING[3], Wait()],
            id="ended without a word: another attempt",
        ),
        pytest.param(
            see(EVALUATED, job("topology", "OUT_OF_MEMORY", exit_code=9), times=ATTEMPTS),
            [
                Refuse(
                    "job 17 (topology) ended as OUT_OF_MEMORY with exit code 9, as did others",
                    log_of=job("topology", "OUT_OF_MEMORY", exit_code=9),
                )
            ],
            id="not for ever",
        ),
        pytest.param(
            see(EVALUATED, job("topology", "TIMEOUT"), times=ATTEMPTS, advance=(2, 19, 0)),
            [Submit("topology"), EVERYTHING[3], Wait()],
            id="something came of the last attempt: they count anew",
        ),
        pytest.param(
            see(EVALUATED, job("topology", "COMPLETED"), times=ATTEMPTS),
            [Refuse("3 topology jobs ended well and left no result; their logs: /run/jobs")],
            id="ended well and did nothing",
        ),
        pytest.param(
            see(PREPARED, job("evaluate"), times=ATTEMPTS), [Wait()], id="while others work, nothing is tried in vain"
        ),
    ],
)
def test_what_is_seen_and_what_follows(seen: Seen, expected: list[Action]) -> None:
    assert decide(seen) == expected


@pytest.mark.parametrize("times", range(1, ATTEMPTS + 1))
def test_a_job_that_knows_why_it_failed_is_believed(times: int) -> None:
    told: Callable[[Job], str | None] = {"17": "task: has no function task"}.get  # type: ignore[assignment]
    for code in (1, 2):
        failed = job("prepare", "FAILED", exit_code=code)
        seen = see(NEW, failed, *all_parts("PENDING")[1:], times=times)
        found = decide(seen, lambda failed: told(failed.id))
        assert found == [Refuse("job 17 (prepare): task: has no function task", bad_input=code == 2)]


def test_what_refused_its_input_is_not_tried_again_while_others_work() -> None:
    """But what failed otherwise is, and once nobody is at work the refusal is passed on, whatever came of others."""
    words = {"17": "task.py: the loss called sys.exit(0)"}.get
    for advance in (PREPARED.advance, NEW.advance):  # nothing came of it, or something
        for code, begun in ((2, []), (1, [Submit("evaluate", (2, 1))])):
            failed = job("evaluate", "FAILED", exit_code=code)
            seen = see(PREPARED, failed, job("topology", number="18"), times=1, advance=advance)
            assert decide(seen, lambda job: words(job.id)) == [*begun, Submit("report", (1,), AFTER["report"]), Wait()]
        seen = see(PREPARED, job("evaluate", "FAILED", exit_code=2), times=1, advance=advance)
        refusal = Refuse(f"job 17 (evaluate): {words('17')}", bad_input=True)
        assert decide(seen, lambda job: words(job.id)) == [refusal]


@pytest.mark.parametrize(
    ("room", "jobs", "sizes"),
    [
        (Room(3, 2, None, 2), (), (2, 1)),
        (Room(30, 2, None, 10), (), (6,)),  # 11 shards are left, two for each job
        (Room(30, 1, None, 4), (), (4, 4, 3)),
        (Room(30, 1, 8, 100), (), (5,)),  # three are for the other parts
        (Room(30, 1, 10, 100), ("3_[0-2,7%2]", "4"), (2,)),  # five more wait already
        (Room(30, 1, 4, 100), ("3_[0-9]",), (1,)),
    ],
)
def test_arrays_are_as_large_as_work_and_limits_let_them(
    room: Room, jobs: tuple[str, ...], sizes: tuple[int, ...]
) -> None:
    seen = see(PREPARED, *(job("topology", "PENDING", number) for number in jobs), room=room)
    (submitted,) = (a for a in decide(seen) if isinstance(a, Submit) and a.part == "evaluate")
    assert submitted.sizes == sizes


def test_attempts_count_what_brings_nothing() -> None:
    seen = see(EVALUATED, times=2)
    assert tried(seen, "topology") == Attempt(EVALUATED.advance, 3)
    assert tried(see(EVALUATED, times=2, advance=(2, 19, 0)), "topology") == Attempt(EVALUATED.advance, 1)
    assert tried(see(EVALUATED), "topology") == Attempt(EVALUATED.advance, 1)


@pytest.mark.parametrize(
    ("counts", "concluded", "expected"),
    [
        (NEW, False, JOBS),
        (PREPARED, False, JOBS[1:]),
        (EVALUATED, True, JOBS[2:]),  # a report of what is missing again is none
        (FINISHED, False, JOBS[3:]),
        (FINISHED, True, ()),
        (LOST, False, ("topology", "report")),
        (SWEEP, False, ("report",)),
        (SWEEP, True, ()),
    ],
)
def test_what_is_missing(counts: Counts, concluded: bool, expected: tuple[str, ...]) -> None:
    assert missing(counts, concluded) == expected
