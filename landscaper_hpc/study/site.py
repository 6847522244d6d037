"""Where a study runs (`Site`): typed, strict, read from YAML. Nothing here changes a number.

What a profile says ends in sbatch scripts. Every text is refused that is not plainly what its key means, and quoted
where it is used: a profile cannot bring a shell command along. (Longer than most modules: every key is declared once,
with what is refused of it.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr, field_validator, model_validator

from landscaper_hpc.errors import InputError
from landscaper_hpc.grid import Grid
from landscaper_hpc.registry import EXECUTORS
from landscaper_hpc.study.schema import Strict, load_yaml

PROFILES = Path(str(files("landscaper_hpc"))) / "configs"


def _matching(pattern: str, meaning: str) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) > 1000 or not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(f"must be {meaning}")
        return text

    return AfterValidator(check)


# a line break would end a quoted line of a script; letters of any language are fine
_PRINTABLE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]"

Word = Annotated[str, _matching(r"\w[\w.,:+@/=-]*", "a plain name: letters, digits and . , : + @ / = - _")]
Constraint = Annotated[
    str, _matching(r"[\w.&|*,:()\[\]-]+", "features by their names, joined as Slurm has it: a&b, [a|b], a*2")
]
Module = Annotated[str, _matching(r"\w[\w.+/-]*", "the name of a module, such as python/3.11")]
Variable = Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a variable")]
Text = Annotated[str, _matching(f"{_PRINTABLE}+", "text without control characters")]
OptionText = Annotated[
    str, _matching(rf"(?!.*['\"\\`$#]){_PRINTABLE}+", "text without quotes, control characters and \\ ` $ #")
]
_PATH = r"/(?:(?![:,])" + _PRINTABLE + ")*"
Bind = Annotated[str, _matching(f"{_PATH}(:{_PATH})?", "/folder or /folder:/folder inside, without commas")]
SrunOption = Annotated[str, _matching(r"--?[A-Za-z][\w.,:+@/=-]*", "an option as one word, such as --cpu-bind=cores")]
Option = Annotated[
    str, _matching(r"[a-z][a-z-]*[a-z]", "an option of sbatch, long and without dashes, such as mail-type")
]
Memory = Annotated[str, _matching(r"[1-9]\d*[KMGT]", "a number with K, M, G or T, such as 200G")]
Walltime = Annotated[str, _matching(r"(\d+-)?\d{1,3}:[0-5]\d:[0-5]\d", "[days-]hours:minutes:seconds")]

# written by us: their meaning is what a run relies on
_OURS = (
    "array begin chdir clusters dependency error export export-file hold input job-name kill-on-invalid-dep nodes "
    "no-requeue ntasks ntasks-per-node open-mode output parsable quiet requeue signal test-only time wait wrap"
)
_KEYS = {
    "account": "account",
    "partition": "partition",
    "qos": "qos",
    "constraint": "constraint",
    "reservation": "reservation",
    "gpus-per-node": "gpus_per_node",
    "cpus-per-task": "cpus_per_task",
    "mem": "memory",
}


class Launcher(Strict):
    """How MPI ranks are started: `srun --mpi=<mpi> <args>`."""

    mpi: Word = Field("pmi2", description="pmi2 for MPICH, pmix for Open MPI, cray_shasta; see `srun --mpi=list`")
    args: list[SrunOption] = Field([], description="more options of srun, each as one word: --cpu-bind=cores")


class Container(Strict):
    """The image in which every job runs; it holds this package, and `python3` on its PATH."""

    runtime: Literal["apptainer", "podman-hpc", "shifter", "charliecloud"]
    image: Text = Field(description="a file, a folder, or a name, as the runtime takes it")
    binds: list[Bind] = Field(
        [], description="folders: /a, or /a:/b; those of the study, its files and its results are bound by themselves"
    )

    @field_validator("image")
    @classmethod
    def _no_option(cls, image: str) -> str:
        if image.startswith("-"):
            raise ValueError("an image cannot begin with -")
        return image


class Stripe(Strict):
    """Hints for a Lustre file system, applied to a new study's folder with `lfs setstripe` where there is `lfs`."""

    count: int = Field(1, ge=-1, le=2000, description="over how many targets a file is spread; -1: all")
    size: Memory = "1M"


class Limits(Strict):
    """What the site allows; a key that is not given is asked of Slurm, or unlimited."""

    max_jobs: int | None = Field(None, ge=4, description="jobs of a user in the queue; every task of an array counts")
    max_array: int | None = Field(None, ge=1, description="tasks of one array; default: MaxArraySize of scontrol")


class Stage(Strict):
    """What the jobs of one stage ask for instead of what all do."""

    account: Word | None = None
    partition: Word | None = None
    qos: Word | None = None
    constraint: Constraint | None = None
    gpus_per_node: int | None = Field(None, ge=0)
    tasks_per_node: int | None = Field(None, ge=1)
    cpus_per_task: int | None = Field(None, ge=1)
    memory: Memory | None = None
    walltime: Walltime | None = None


class Stages(Strict):
    """Stages that need no GPU need no node that has one. `topology` needs one only to confirm, or for error bars."""

    prepare: Stage = Stage()
    topology: Stage = Stage()
    report: Stage = Stage()


class Slurm(Strict):
    """What every job asks of Slurm."""

    account: Word | None = None
    partition: Word | None = None
    qos: Word | None = None
    constraint: Constraint | None = None
    reservation: Word | None = None
    nodes: int = Field(1, ge=1, description="nodes that evaluate at the same time, each as a job of its own")
    topology_nodes: int = Field(1, ge=1, description="nodes of the job that builds merge trees")
    gpus_per_node: int = Field(0, ge=0)
    tasks_per_node: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="auto: one for each GPU, or each gpus_per_model"
    )
    cpus_per_task: int | None = Field(None, ge=1)
    memory: Memory | None = Field(None, description="of a node")
    walltime: Walltime = "1:00:00"
    warning_s: int = Field(
        120,
        ge=10,
        description="how long before its end a job finishes or drops its shards and requeues itself",
    )
    modules: list[Module] = Field([])
    environment: dict[Variable, Text] = Field({}, description="variables, word by word: nothing in them is expanded")
    python: Text | None = Field(
        None, description="the Python of jobs; default: the one that submits, or of the container"
    )
    launcher: Launcher = Launcher()
    stages: Stages = Stages()
    limits: Limits = Limits()
    options: dict[Option, bool | int | OptionText] = Field(
        {}, description="further options of sbatch, by long name; true for one without a value"
    )

    _per_model: int = PrivateAttr(1)
    """Of GPUs that each task leads: the site's `gpus_per_model`."""

    @field_validator("options")
    @classmethod
    def _not_ours(cls, options: dict[str, bool | int | str]) -> dict[str, bool | int | str]:
        for name, value in options.items():
            if value is False:
                raise ValueError(f"{name}: false is no value of an option; leave the key out")
            if name in _OURS.split():
                raise ValueError(f"--{name} is set by the program and cannot be changed")
            if name in _KEYS:
                raise ValueError(f"--{name} has a key of its own, slurm.{_KEYS[name]}")
        return options

    @model_validator(mode="after")
    def _time_to_work(self) -> Slurm:
        for slurm in (self, *map(self.of, Stages.model_fields)):
            slurm._leaves_time()
        return self

    def _leaves_time(self) -> None:
        if self.seconds < self.warning_s + 120:
            raise ValueError(
                f"walltime {self.walltime} leaves less than two minutes before the warning, {self.warning_s} s before "
                "its end; give more walltime or less warning_s"
            )

    def of(self, stage: str) -> Slurm:
        """What the jobs of a stage ask."""
        own = getattr(self.stages, stage, None)
        given = {} if own is None else {key: value for key, value in own if value is not None}
        return self.model_copy(update=given)

    @property
    def seconds(self) -> int:
        """The walltime."""
        days, _, clock = self.walltime.rpartition("-")
        hours, minutes, seconds = map(int, clock.split(":"))
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds

    @property
    def tasks(self) -> int:
        """Processes on a node."""
        if self.tasks_per_node != "auto":
            return self.tasks_per_node
        return max(1, self.gpus_per_node // self._per_model)


class Dask(Strict):
    """Where `executor: dask` finds its workers.

    Without `scheduler` they are the tasks of the srun that started this program, or else jobs: `slurm.nodes` of them,
    each one node with a process for each of its tasks.
    """

    scheduler: Text | None = Field(
        None, description="a scheduler that runs already: tls://host:port, or its file (.json); tcp:// is not encrypted"
    )
    adaptive: bool = Field(True, description="no more jobs than there are tasks for; false: all, to the end")
    interface: Word | None = Field(
        None, description="the network interface between scheduler and workers, such as hsn0; default: Dask's guess"
    )


class Site(Strict):
    """Where a study runs. Changes no number."""

    executor: Annotated[str, AfterValidator(EXECUTORS.valid)] = Field(
        "local", description="who does the work: serial, local, mpi, slurm, dask, or what another package registers"
    )
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="processes of `local`; auto: one per core, or per GPU; with gpus_per_model one per so many"
    )
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    gpus_per_model: int = Field(
        1,
        ge=1,
        le=1024,
        description="processes of a node that hold one model together, each a part of it, on a GPU of its own (or all "
        "on the CPU): for a model that is too large for one; the task says how it is divided (Task.shard)",
    )
    shard_points: int | None = Field(
        None, ge=1, description="points per shard; None: about 64 shards, of 64 to 4096 points"
    )
    shard_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["auto"] = Field(
        "auto",
        description="seconds after which a shard hangs: it is quarantined with where it was, and the others go on; "
        "auto: 20 times what a worker's shards take (the median), 10 minutes at least. Loading a task, or some "
        "losses before there are shards, may take 20 times as long; auto: an hour",
    )
    slurm: Slurm = Slurm()
    dask: Dask = Dask()
    container: Container | None = None
    scratch: Text | None = Field(
        None, description="where the folders of studies and sweeps go, instead of ./runs; $VARIABLES are expanded"
    )
    stripe: Stripe | None = None
    accept_versions: bool = Field(
        False, description="go on with landscapes that other versions or another device began; the store records it"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Site:
        per = self.gpus_per_model
        if per > 1 and ":" in self.device:
            raise ValueError(f"gpus_per_model is {per} and device {self.device}, which is one GPU; say device: cuda")
        if per > 1 and self.slurm.gpus_per_node % per:
            raise ValueError(
                f"gpus_per_model is {per} and slurm.gpus_per_node {self.slurm.gpus_per_node}; make it a multiple: a "
                "model's GPUs are on one node"
            )
        self.slurm._per_model = per
        if self.executor == "dask" and self.dask.scheduler is not None and self.container is not None:
            raise ValueError("container: the workers of dask.scheduler are started by others; leave one of the two out")
        return self

    def left_aside(self) -> list[str]:
        """What is said here and means nothing to the executor, in sentences."""
        said = []
        if self.workers != "auto" and self.executor in ("serial", "mpi", "slurm"):
            said.append(f"workers: {self.workers} is for executor: local, and left aside with {self.executor}")
        if self.container is not None and self.executor in ("serial", "local", "mpi"):
            said.append(
                f"container: {self.container.image} is for jobs that are submitted, and with executor: {self.executor} "
                "this runs outside of it"
            )
        return said

    def worker_count(self) -> int:
        if self.executor == "serial":
            return 1
        per = self.gpus_per_model
        if self.workers != "auto":
            return self.workers
        if self.device.startswith("cuda"):
            import torch

            return max(1, torch.cuda.device_count() // per) if self.device == "cuda" else 1
        return max(1, len(os.sched_getaffinity(0)) // per)

    def planned_workers(self) -> int:
        """As many as evaluate at the same time, on this machine or on the nodes that are asked for."""
        by_jobs = self.executor == "slurm" or (self.executor == "dask" and self.dask.scheduler is None)
        return self.slurm.nodes * self.slurm.tasks if by_jobs else self.worker_count()

    def points_per_shard(self, grid: Grid) -> int:
        """Small enough that a kill costs little and workers end together; fixed by the grid alone."""
        return self.shard_points or max(64, min(4096, -(-grid.size // 64)))

    def folder(self, name: str, given: Path | None = None) -> Path:
        """Where a study or sweep of this name goes: where it is `given`, or else into the site's folder for them."""
        return given or self.runs() / name

    def runs(self) -> Path:
        """The folder for the folders of studies and sweeps."""
        if self.scratch is None:
            return Path("runs")
        path = os.path.expandvars(self.scratch)
        if "$" in path:
            raise InputError(f"scratch: {self.scratch} names a variable that is not set; set it, or write the path out")
        try:
            return Path(path).expanduser()
        except RuntimeError:
            raise InputError(
                f"scratch: nobody knows the home folder of {self.scratch} here; write the path out"
            ) from None

    @classmethod
    def load(cls, file: Path | str | None, overrides: Sequence[str] = ()) -> Site:
        """Read a profile.

        Parameters
        ----------
        file
            A file, or the name of a shipped one such as `perlmutter`; None: what holds where nothing is said.
        overrides
            `key.path=value`, with values in YAML, such as `slurm.nodes=4`.

        Returns
        -------
        Site

        Raises
        ------
        InputError
            Names the key, what was found and what is valid.
        """
        return load_yaml(cls, None if file is None else profile(file), overrides)


def profile(name: Path | str) -> Path:
    """The file of a profile that is given as a file or by the name of a shipped one."""
    file = Path(name)
    if file.suffix or len(file.parts) != 1:
        return file
    shipped = {path.stem: path for path in sorted(PROFILES.glob("*.yaml"))}
    if file.name not in shipped:
        raise InputError(f"--site {name}: is no file (.yaml) and no shipped profile; those are {', '.join(shipped)}")
    return shipped[file.name]
