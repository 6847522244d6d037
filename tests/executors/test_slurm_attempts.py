"""Clients that do not stay, as cron starts them, give up together what one that stays would give up."""

from __future__ import annotations

from pathlib import Path

import pytest

from landscaper_hpc.executors.jobs import Job
from landscaper_hpc.executors.scripts import Room
from landscaper_hpc.executors.slurm_attempts import Left, leave, left
from landscaper_hpc.executors.slurm_decision import ATTEMPTS, Action, Attempt, Refuse, Seen, Submit, decide, tried
from landscaper_hpc.work.survey import Counts

COUNTS = Counts(False, landscapes=1, prepared=1, shards=8, shards_done=3)


def calls(file: Path, count: int, state: str, counts: Counts = COUNTS) -> list[Action]:
    """What the first action of each of so many calls is, each with its own client, where every job ends so."""
    jobs: list[Job] = [Job(str(n), "evaluate", state, "by 0", exit_code=1) for n in sorted(left(file).numbers)]
    found = []
    for _ in range(count):
        before = left(file)
        seen = Seen(
            counts, ("evaluate",), tuple(jobs), Room(1, 1, None, 10), dict(before.attempts), before.watched(jobs)
        )
        action = decide(seen)[0]
        found.append(action)
        if isinstance(action, Submit):
            jobs.append(Job(str(100 + len(jobs)), "evaluate", state, "by 0", exit_code=1))
            attempts = {**before.attempts, "evaluate": tried(seen, "evaluate")}
            leave(file, attempts, {*before.numbers, jobs[-1].number})
    return found


def test_what_fails_for_ever_is_not_submitted_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "attempts.json"
    found = calls(file, ATTEMPTS + 3, "FAILED")
    assert [type(action) for action in found] == [Submit] * ATTEMPTS + [Refuse] * 3
    assert "ended as FAILED with exit code 1" in found[-1].words  # type: ignore[union-attr]
    further = Counts(False, landscapes=1, prepared=1, shards=8, shards_done=4)
    assert isinstance(calls(file, 1, "FAILED", further)[0], Submit)  # something came of it
    file.unlink()  # as a call without --detach, or with --retry-failed, does
    assert isinstance(calls(file, 1, "FAILED")[0], Submit)


def test_what_somebody_cancelled_may_be_submitted_again(tmp_path: Path) -> None:
    found = calls(tmp_path / "attempts.json", ATTEMPTS + 1, "CANCELLED")
    assert [type(action) for action in found] == [Submit] * ATTEMPTS + [Refuse]


@pytest.mark.parametrize("content", [None, "", "[1]", '{"attempts": {"evaluate": [[1], 2]}, "jobs": []}', "{}"])
def test_where_nothing_whole_was_left_there_is_nothing(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "attempts.json"
    if content is not None:
        file.write_text(content)
    assert left(file) == Left()
    leave(file, {"prepare": Attempt((1, 2, 3), 2)}, {"17"})
    assert left(file) == Left({"prepare": Attempt((1, 2, 3), 2)}, frozenset({"17"}))
