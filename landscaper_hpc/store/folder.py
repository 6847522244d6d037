"""What lies where in the folder of a study or of a sweep: only this module knows the names.

    <study>/study.zarr                    the losses and what follows from them; names in it: `store.layout`
            results.json, report.html     written in this order, last of all
            sensitivity.<landscape>.csv, .png     where they were asked for
            figures/  exports/            figures, and files of other programs, where they were asked for
            points/<landscape>/           points that were evaluated, while a `scope` is worked on; of few data, those
                  <landscape>@all/        that were on all of them
            failed/  leases/  resume/     while it is worked on: failed attempts, who holds what, how far directions and
                                          what else is asked for are
            logs/  jobs/  dask/  .lock    of the run
    <sweep>/sweep.json                    the definition, and every study that was ever part of it
            studies/<name>/…              an ordinary study's folder each
            directions/<hash>.safetensors where studies share directions
            sweep.parquet, sweep.csv, sweep.html; distances.csv
            leases/                       who finishes which study
            logs/  jobs/  dask/  .lock    of the run

Nothing here reads or writes: properties return paths, whether there is something or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """What a run has in the folder that it works in, be that of a study or of a sweep."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def leases(self) -> Path:
        return self.path / "leases"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def log(self) -> Path:
        """Times and events."""
        return self.logs / "run.log"

    @property
    def command(self) -> Path:
        """The command that works in it, or did last, and where it was given."""
        return self.logs / "command.json"

    @property
    def workers(self) -> Path:
        """What working processes tell of themselves."""
        return self.logs / "workers"

    @property
    def dask(self) -> Path:
        """Certificates of Dask's processes."""
        return self.path / "dask"

    def dask_log(self, job: str) -> Path:
        """What a job of Dask's workers prints."""
        return self.logs / f"dask-{job}.out"

    @property
    def jobs(self) -> JobsFolder:
        return JobsFolder(self.path / "jobs")


@dataclass(frozen=True)
class JobsFolder:
    """The jobs of Slurm: what they are given, and what they print. Names of scripts and logs are submitit's."""

    path: Path

    @property
    def record(self) -> Path:
        """What was submitted, and what Slurm last said of it."""
        return self.path / "jobs.json"

    @property
    def attempts(self) -> Path:
        """What clients that do not stay leave for the next."""
        return self.path / "attempts.json"

    def campaign(self, sha256: str) -> Path:
        """What jobs work on, by the hash of its bytes."""
        return self.path / f"campaign.{sha256[:16]}.json"

    def again(self, job: str) -> Path:
        """Left by a job that stopped before its work was done."""
        return self.path / f"again.{job}"

    def logs_of(self, job: str) -> list[Path]:
        """What the tasks of a job printed, as far as there is something."""
        return sorted(self.path.glob(f"{job}_*_log.out"))


@dataclass(frozen=True)
class StudyFolder(RunFolder):
    """The folder of a study."""

    @property
    def store(self) -> Path:
        """The Zarr store of its landscapes."""
        return self.path / "study.zarr"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def sensitivity(self, landscape: str) -> Path:
        """How a landscape depends on region and grid, as a table."""
        return self.path / f"sensitivity.{landscape}.csv"

    def sensitivity_figure(self, landscape: str) -> Path:
        return self.path / f"sensitivity.{landscape}.png"

    @property
    def figures(self) -> Path:
        """Figures as files."""
        return self.path / "figures"

    @property
    def exports(self) -> Path:
        """What was written for other programs."""
        return self.path / "exports"

    def points(self, landscape: str, all_data: bool = False) -> Path:
        """The points that were evaluated of its lowest part, as far as the store does not have them; of a landscape of
        few data, those on all of them."""
        return self.path / "points" / (f"{landscape}@all" if all_data else landscape)

    def points_bytes(self, landscape: str) -> int:
        """How large those files are; 0 where there are none."""
        return sum(file.stat().st_size for file in self.points(landscape).glob("[!.]*.losses"))

    def points_known(self, landscape: str, outputs: int) -> int:
        """About how many points those files hold, of so many values each."""
        return self.points_bytes(landscape) // (8 * (1 + outputs))

    def so_far(self, landscape: str) -> Path:
        """How far that is."""
        return self.points(landscape) / "so_far.json"

    @property
    def failed(self) -> Path:
        """Failed attempts, with their errors."""
        return self.path / "failed"

    @property
    def resume(self) -> Path:
        """How far directions are that take long to find, and batches of what is asked for beside merge trees."""
        return self.path / "resume"

    def batches(self, landscape: str) -> int:
        """How many such batches of a landscape are done."""
        return sum(file.name.rsplit(".", 3)[0] == landscape for file in self.resume.glob("*.npz"))

    def sampled(self, landscape: str) -> Path:
        """What is asked of its scattered points, while that is worked on."""
        return self.resume / f"{landscape}.sampling.json"

    def finished(self) -> bool:
        """Whether there are results and their report, which is written last."""
        return self.results.exists() and self.report.exists()


def checkpoint_note(workers: Path, inside: StudyFolder, landscape: str) -> Path:
    """In which state the files of a landscape's checkpoint were when they were read: beside what `workers` tell, in the
    study's logs or in those of its sweep."""
    return workers.with_name("checkpoints") / f"{inside.path.name}.{landscape}.json"


@dataclass(frozen=True)
class SweepFolder(RunFolder):
    """The folder of a sweep."""

    @property
    def record(self) -> Path:
        """The definition, and every study that was ever part of it."""
        return self.path / "sweep.json"

    @property
    def page(self) -> Path:
        return self.path / "sweep.html"

    @property
    def csv(self) -> Path:
        return self.path / "sweep.csv"

    @property
    def parquet(self) -> Path:
        return self.path / "sweep.parquet"

    @property
    def distances(self) -> Path:
        """How far its landscapes are from each other."""
        return self.path / "distances.csv"

    @property
    def outcomes(self) -> Path:
        """How numbers of its landscapes go with outcomes of the same runs."""
        return self.path / "outcomes.json"

    @property
    def studies(self) -> Path:
        return self.path / "studies"

    def results(self) -> list[Path]:
        """The definition and the results of all studies that have some."""
        return [self.record, *sorted(self.studies.glob(f"*/{StudyFolder(self.path).results.name}"))]

    def study(self, name: str) -> StudyFolder:
        return StudyFolder(self.studies / name)

    def directions(self, sha256: str) -> Path:
        """Directions that studies share, by the hash of what decides them."""
        return self.path / "directions" / f"{sha256[:16]}.safetensors"
