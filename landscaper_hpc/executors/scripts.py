"""What a job asks of Slurm: a site's profile as submitit's parameters, and as the script that sbatch gets."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError
from landscaper_hpc.executors.jobs import name
from landscaper_hpc.store.folder import JobsFolder
from landscaper_hpc.study.site import Container, Site
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.stages import JOBS

_DEFAULT_MAX_ARRAY = 1001  # Slurm's own
_REPORT_MINUTES = 30

# after srun: a task that stopped before the work was done wants a new run of the job, whatever became of the others;
# not so where somebody cancels the job
_AGAIN = """\
code=$?
again={again}"$SLURM_JOB_ID"
if [ -e "$again" ]; then
    rm -f "$again"
    if [ "$(squeue --noheader --job="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
        echo "time is up: requeueing job $SLURM_JOB_ID"
        scontrol requeue "$SLURM_JOB_ID" && sleep 60 # ended by the requeue
    fi
fi
exit "$code\""""


def parameters(campaign: Campaign, site: Site, stage: str, dependency: str | None = None) -> dict[str, Any]:
    """What `submitit.SlurmExecutor.update_parameters` takes, for a job of this stage."""
    slurm = site.slurm.of(stage)
    _refuse_without_gpus(campaign, site, stage)
    minutes = -(-slurm.seconds // 60)
    tasks = slurm.tasks
    if stage == "prepare":
        tasks = min(tasks, max(1, len(campaign.landscapes)))
    elif stage == "report":
        tasks, minutes = 1, min(minutes, max(_REPORT_MINUTES, slurm.warning_s // 60 + 2))
    nodes = slurm.topology_nodes if stage == "topology" else 1
    ranks = stage in ("prepare", "topology") and nodes * tasks > 1
    given = {
        "account": slurm.account,
        "partition": slurm.partition,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "mem": slurm.memory,
        "cpus_per_task": slurm.cpus_per_task,
        "gpus_per_node": slurm.gpus_per_node or None if stage != "report" else None,
        "dependency": dependency,
    }
    more = {"reservation": slurm.reservation} if slurm.reservation else {}
    return {key: value for key, value in given.items() if value is not None} | {
        "job_name": name(campaign.folder, stage),
        "time": minutes,
        "nodes": nodes,
        "ntasks_per_node": tasks,
        "signal_delay_s": slurm.warning_s,
        "stderr_to_stdout": True,
        "wckey": None,
        "setup": list(setup(site)),
        "teardown": _AGAIN.format(again=shlex.quote(str(JobsFolder(jobs_folder(campaign)).again("")))).splitlines(),
        "srun_args": [
            f"--mpi={slurm.launcher.mpi if ranks else 'none'}",
            # what one worker does not do, others will; ranks that talk to each other need each other
            f"--kill-on-bad-exit={int(ranks)}",
            "--wait=0",
            # srun no longer takes it over from sbatch
            *([f"--cpus-per-task={slurm.cpus_per_task}"] if slurm.cpus_per_task else []),
            *slurm.launcher.args,
        ],
        "additional_parameters": more | {"requeue": True, "kill-on-invalid-dep": "yes"} | slurm.options,
    }


def _refuse_without_gpus(campaign: Campaign, site: Site, stage: str) -> None:
    """`InputError` where gradients are to be taken on nodes that have no GPU, of a study that runs on GPUs."""
    without = site.slurm.gpus_per_node and not site.slurm.of(stage).gpus_per_node
    if not (without and site.device.startswith("cuda")):
        return
    answers = stage == "topology" and any(plan.study.asked() for plan in campaign.plans)
    if answers or stage == "prepare":
        what = (
            "directions are" if stage == "prepare" else "what is asked for beside merge trees (confirm, error_bars) is"
        )
        raise InputError(f"slurm.stages.{stage}: {what} computed there, on {site.device}; give it gpus_per_node")


def setup(site: Site) -> Iterator[str]:
    """Lines before srun. Every word of a profile is quoted here, beside what its type refused."""
    if site.slurm.modules:
        yield "command -v module > /dev/null || . /etc/profile"
    for module in site.slurm.modules:
        yield f"module load {shlex.quote(module)} || exit 1"
    for variable, text in site.slurm.environment.items():
        yield f"export {variable}={shlex.quote(text)}"


def seconds(site: Site, stage: str) -> float:
    """How long the work of a stage's job may take before it has to stop."""
    return float(site.slurm.of(stage).seconds - site.slurm.warning_s)


def python(campaign: Campaign, site: Site) -> str:
    """The shell command that is Python in a job, in the site's container where it has one. Like the commands themselves
    it looks for no module in the current folder, where a `random.py` may lie beside the task."""
    if site.container is None:
        return shlex.join([site.slurm.python or sys.executable, "-P"])
    folders = {campaign.folder, *(plan.folder for plan in campaign.plans)}
    for plan in campaign.plans:
        folders |= {plan.study.path(".")} | {file.parent for file in plan.study.files()}
    for shared in campaign.shared:
        folders |= {file.parent for file in shared.landscape.study.files()}
    command = contained(site.container, map(str, folders), site.device.startswith("cuda"))
    return shlex.join([*command, site.slurm.python or "python3", "-P"])


def contained(container: Container, folders: Iterable[str], gpu: bool) -> list[str]:
    """The words that come before a command to run it inside a container, with these folders at their own places."""
    binds: list[str] = list(container.binds)
    for folder in sorted(folders):  # a folder comes before those in it
        if not _within(folder, binds):
            binds.append(folder)
    if container.runtime == "apptainer":
        flags = [*(["--nv"] if gpu else []), *(f"--bind={bind}" for bind in binds)]
        return ["apptainer", "exec", *flags, container.image]
    pairs = [bind if ":" in bind else f"{bind}:{bind}" for bind in binds]
    if container.runtime == "podman-hpc":
        flags = [*(["--gpu"] if gpu else []), *(f"--volume={pair}" for pair in pairs)]
        # ranks find each other and Slurm by the host's network, shared memory and variables
        host = ["--env-host", "--network=host", "--ipc=host", "--pid=host"]
        return ["podman-hpc", "run", "--rm", *host, *flags, container.image]
    if container.runtime == "shifter":
        return ["shifter", f"--image={container.image}", *(f"--volume={pair}" for pair in pairs)]
    return ["ch-run", "--write-fake", *(f"--bind={pair}" for pair in pairs), container.image, "--"]


def _within(folder: str, binds: Iterable[str]) -> bool:
    return any(Path(folder).is_relative_to(bind) for bind in binds if ":" not in bind)


def script(campaign: Campaign, site: Site, stage: str, size: int = 1) -> str:
    """The sbatch script of a stage as it is submitted, without the numbers of the jobs it waits for."""
    from submitit.slurm.slurm import _make_sbatch_string

    folder = jobs_folder(campaign)
    array = {"map_count": size, "array_parallelism": size} if size > 1 else {}
    command = f"{python(campaign, site)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    given: dict[str, Any] = parameters(campaign, site, stage) | array
    return _make_sbatch_string(command=command, folder=folder, **given) + "\n"


def scripts(campaign: Campaign, site: Site, sizes: Iterable[int]) -> dict[str, str]:
    """The scripts of all stages by name; `sizes`: of the arrays that evaluate."""
    found: dict[str, str] = {}
    for stage in JOBS:
        if stage == "evaluate":
            found |= {f"{stage}.{i}": script(campaign, site, stage, size) for i, size in enumerate(sizes)}
        else:
            found[stage] = script(campaign, site, stage)
    return found


def jobs_folder(campaign: Campaign) -> Path:
    """Where scripts and logs of jobs are, and what they work on. `InputError` for a path that cannot stand in
    a script's options."""
    folder = campaign.inside.jobs.path
    if not re.fullmatch(r"[^%'\"\\`$\x00-\x1f]+", str(folder)):
        raise InputError(f"{campaign.folder}: Slurm takes no quotes, % $ ` \\ in it; choose another folder with --out")
    return folder


@dataclass(frozen=True)
class Room:
    """How many jobs may evaluate at once: `nodes` to use, each with so many `tasks`; the most jobs of ours in the queue
    (None: any number), and the largest array."""

    nodes: int
    tasks: int
    max_jobs: int | None
    max_array: int

    def arrays(self, shards: int, others: int = 0) -> list[int]:
        """The sizes of the arrays that evaluate this many shards, beside `others` jobs of ours.

        As many tasks as there are nodes to use, no more than have work, and as many as the limits let in.
        """
        tasks = min(self.nodes, max(1, -(-shards // self.tasks)))
        if self.max_jobs is not None:
            tasks = max(1, min(tasks, self.max_jobs - others))
        return [min(self.max_array, tasks - begin) for begin in range(0, tasks, self.max_array)]


def room(site: Site) -> Room:
    """What a site allows; what it does not say is asked of Slurm."""
    slurm, limits = site.slurm, site.slurm.limits
    return Room(slurm.nodes, slurm.tasks, limits.max_jobs, limits.max_array or max_array_size())


@functools.cache
def max_array_size() -> int:
    """The most tasks that an array can have here."""
    try:
        done = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        done = ""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", done, re.MULTILINE)
    return max(1, int(found[1]) if found else _DEFAULT_MAX_ARRAY)
