"""A study at work on the test cluster, for one fault to happen to it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from landscaper_hpc import Site, Study, run
from tests.slurm.cluster import ROOT, SlurmCluster, wait_until
from tests.studies import contents

SLOW = "LANDSCAPER_TEST_SLOW"

# The branch on a value keeps the evaluation unbatched, fast or slow: how long a point takes is no part of the study.
_TASK = f"""
import os
import time
import torch
from torch import nn
from landscaper_hpc import Task

class Wells(nn.Module):
    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self):
        return self.x

def task(tilt=0.1):
    def loss(model, data):
        x = model.x
        if float(x.detach().sum()) > -1e9:
            time.sleep(float(os.environ.get("{SLOW}", 0)))
        return ((x.square() - 1).square()).sum() + tilt * x.sum() + 0 * data.sum()
    return Task(model=Wells(), loss=loss, data=torch.zeros(1, dtype=torch.float64))
"""

_STUDY = """
name: wells
task: task.py
checkpoints:
  - {name: one, file: origin.pt, options: {tilt: 0.1}}
  - {name: two, file: origin.pt, options: {tilt: 0.3}}
directions: {kind: file, file: axes.pt, n: 2, normalization: unit}
grid: {range: 1.5, count: 9}
batch: 1
"""
_SITES = {
    "local": "{executor: local, workers: 2, shard_points: 3}",
    **{
        executor: f"""
executor: {executor}
shard_points: 3
slurm: {{partition: main, nodes: 2, tasks_per_node: 1, memory: 1500M, walltime: 0:10:00, warning_s: 60}}
"""
        for executor in ("dask", "slurm")
    },
}
SHARDS = 2 * 9 * 3


@dataclass
class Undisturbed:
    """The study, and what a serial run without any fault leaves of it, in the folder `run`."""

    file: Path
    run: Path
    contents: dict[str, str]

    @classmethod
    def make(cls, folder: Path) -> Undisturbed:
        study = folder / "study"
        study.mkdir(parents=True)
        (study / "task.py").write_text(_TASK)
        torch.save({"x": torch.zeros(2, dtype=torch.float64)}, study / "origin.pt")
        torch.save({"x": torch.eye(2, dtype=torch.float64)}, study / "axes.pt")
        (study / "study.yaml").write_text(_STUDY)
        for name, text in _SITES.items():
            (study / f"{name}.yaml").write_text(text)
        run(Study.load(study / "study.yaml"), Site(executor="serial", shard_points=3), folder / "run")
        return cls(study / "study.yaml", folder / "run", contents(folder / "run"))


class Missed(Exception):
    """The study had finished before the fault happened: it shows nothing."""


@dataclass
class Scene:
    cluster: SlurmCluster
    undisturbed: Undisturbed
    folder: Path
    random: random.Random
    slow: float = 0.2
    """Seconds a point takes: 162 points, so a minute's half for one process and a quarter for two."""
    _clients: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "run"

    # ---- ways in -----------------------------------------------------------------------------------------------------

    def command(self, *more: str, site: str = "local") -> list[str]:
        file = self.undisturbed.file
        profile = file.with_name(f"{site}.yaml")
        return ["landscaper-hpc", "run", str(file), "--out", str(self.out), "--site", str(profile), *more]

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        # the nodes of the test cluster share a kernel: left to itself, MPI may take two of them for one machine
        return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "UCX_TLS": "tcp", SLOW: str(self.slow)}

    def allocation(self, *options: str) -> int:
        """`sbatch slurm/landscape.sbatch`; the job."""
        return self._submit(*options, str(ROOT / "slurm/landscape.sbatch"), *self.command()[2:])

    def evaluating_job(self, *options: str) -> int:
        """A job that evaluates, beside any others; the job."""
        step = ["srun", "--mpi=pmi2", *self.command("--executor", "mpi", "--stage", "evaluate")]
        return self._submit("--nodes=1", "--ntasks=1", "--requeue", *options, f"--wrap={' '.join(step)}")

    def _submit(self, *words: str) -> int:
        output = (f"--output={self.folder}/job.%j.out", "--open-mode=append", "--mem-per-cpu=900")
        done = self.cluster.run("sbatch", "--parsable", *output, *words, env=self.environment, cwd=self.folder)
        return int(done.stdout)

    def start(self, *more: str, site: str = "local", launcher: Sequence[str] = ()) -> subprocess.Popen[str]:
        """`landscaper-hpc run` as a client of the cluster, in a process group of its own."""
        stream = (self.folder / f"client.{len(self._clients)}.err").open("w")
        client = self.cluster.start_client(
            *launcher,
            *self.command(*more, site=site),
            stdout=subprocess.DEVNULL,
            stderr=stream,
            env=self.environment,
            start_new_session=True,
        )
        self._clients.append(client)
        return client

    def go(self, *more: str, seconds: float = 300) -> None:
        """The same command again, to its end."""
        assert self.start(*more).wait(seconds) == 0, self.words()

    def stage(self, name: str) -> None:
        self.go("--executor", "mpi", "--stage", name)

    # ---- moments -----------------------------------------------------------------------------------------------------

    def done(self) -> int:
        return len(list(self.out.glob("study.zarr/[!.]*/done/*/c.*")))

    def finished(self) -> bool:
        return (self.out / "results.json").exists()

    def wait_for(self, shards: int) -> None:
        wait_until(f"{shards} shards", lambda: self.done() >= shards or self.finished(), 300, 0.05)

    def moment(self, before: float = 0.6) -> None:
        """Until a random number of shards is done: the moment of the fault."""
        self.wait_for(self.random.randrange(int(before * SHARDS)))

    def strike(self, fault: Callable[[], Any]) -> None:
        """At a random moment the fault happens; `Missed` where nothing was left to happen to."""
        self.moment()
        fault()
        if self.finished():
            raise Missed

    def processes(self, *words: str) -> list[psutil.Process]:
        """The Python processes of this scene's cluster, on any node, whose command has all these words."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if command and "python" in command[0] and set(words) <= set(command):
                with suppress(psutil.NoSuchProcess):
                    if process.environ().get("SLURM_CONF", "").startswith(f"{self.cluster.state}/"):
                        found.append(process)
        return found

    # ---- ends --------------------------------------------------------------------------------------------------------

    def completed(self, job: int, seconds: float = 400) -> None:
        ends = ("COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "CANCELLED", "PREEMPTED")
        state = self.cluster.wait_for_state(job, *ends, seconds=seconds)
        # a job that is about to be requeued has failed for a moment
        if state != "COMPLETED":
            self.cluster.wait_for_state(job, "PENDING", "RUNNING", "COMPLETED", seconds=60)
            self.completed(job, seconds)

    def restarts(self, job: int) -> int:
        return int(self.cluster.job(job).get("Restarts", 0))

    def nodes(self, job: int) -> list[str]:
        named = self.cluster.wait_for_node(job)
        return self.cluster.run("scontrol", "show", "hostnames", named).stdout.split()

    def words(self) -> str:
        """What jobs and clients have said."""
        files = sorted([*self.folder.glob("job.*.out"), *self.folder.glob("client.*.err")])
        return "\n".join(f"--- {file.name}\n{file.read_text()[-3000:]}" for file in files)

    def close(self) -> None:
        for client in self._clients:
            if client.poll() is None:
                client.kill()
                client.wait()

    def bytes_equal(self) -> bool:
        return contents(self.out) == self.undisturbed.contents
