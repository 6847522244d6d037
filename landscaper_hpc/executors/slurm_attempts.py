"""What clients that do not stay (`--detach`, from cron) leave for the next: how often a part was submitted in vain.

Without it each of them would submit again for ever what fails for ever. A client that stays, and has a person before
it, begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from landscaper_hpc import strict_json
from landscaper_hpc.executors.jobs import Job
from landscaper_hpc.executors.slurm_decision import Attempt
from landscaper_hpc.files import publish


@dataclass(frozen=True)
class Left:
    """The attempts by part, and the numbers of the jobs that were submitted."""

    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    numbers: frozenset[str] = frozenset()

    def watched(self, jobs: Iterable[Job]) -> frozenset[str]:
        """Those that a client is to know as its own; not what somebody cancelled, who may have called again since."""
        cancelled = {job.number for job in jobs if job.state == "CANCELLED"}
        return self.numbers - cancelled


def left(file: Path) -> Left:
    """What was left; nothing where there is no such file, or one that is torn."""
    try:
        found = strict_json.loads(file.read_bytes())
        attempts = {
            part: Attempt((int(a), int(b), int(c)), int(times))
            for part, ((a, b, c), times) in found["attempts"].items()
        }
        return Left(attempts, frozenset(map(str, found["jobs"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Left()


def leave(file: Path, attempts: Mapping[str, Attempt], numbers: Iterable[str]) -> None:
    """Leave it for the next."""
    held = {"attempts": {part: [one.advance, one.times] for part, one in attempts.items()}, "jobs": sorted(numbers)}
    file.parent.mkdir(parents=True, exist_ok=True)
    publish(file, strict_json.dumps(held).encode())
