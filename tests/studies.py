"""Small studies written to a folder, for tests that run the whole of it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked
from typer.testing import CliRunner

from landscaper_hpc.cli import app

WELLS = """
import torch
from torch import nn
from landscaper_hpc import Task

class Wells(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.x = nn.Parameter(torch.zeros(n, dtype=torch.float64))

def task(n=2, tilt=0.1):
    weights = torch.arange(1, n + 1, dtype=torch.float64)
    def loss(model, data):
        x = model.x
        return (weights * (x.square() - 1).square()).sum() + tilt * x.sum() + 0 * data.sum()
    Wells.forward = lambda self: self.x
    return Task(model=Wells(n), loss=loss, data=torch.zeros(1, dtype=torch.float64))
"""

NETWORK = """
import time
from pathlib import Path
import torch
from torch import nn
from landscaper_hpc import Task

def wait_at_the_gate():
    gate = Path(__file__).with_name("gate")
    while gate.exists():
        try:
            return next(gate.iterdir()).unlink()
        except (StopIteration, FileNotFoundError):
            time.sleep(0.02)

def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double()

def task(slow=0.0):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(50, 2, dtype=torch.float64, generator=generator)
    y = torch.sin(6 * x[:, :1]) * x[:, 1:]
    def loss(u, batch):
        errors = (u(batch[0]) - batch[1]).square().mean(dim=1)
        # a branch on the value can be neither batched nor recorded, so it sleeps at every point
        if slow and float(errors.detach().sum()) >= 0:
            wait_at_the_gate()
            time.sleep(slow)
        return errors
    return Task(model=model(), loss=loss, data=(x, y))
"""

TRAIN = """
import runpy
from pathlib import Path
import torch

def train(path, progress, **options):
    task = runpy.run_path(str(Path(__file__).with_name("task.py")))["task"]()
    optimizer = torch.optim.Adam(task.model.parameters(), lr=0.02)
    for step in range(100):
        optimizer.zero_grad()
        task.loss(task.model, task.data).mean().backward()
        optimizer.step()
        progress(step + 1, 100)
    torch.save(task.model.state_dict(), path)
"""


def wells(folder: Path, n: int = 2, tilt: float = 0.1, count: int = 21) -> Path:
    """f(alpha) = sum_i i (alpha_i² - 1)² + tilt alpha_i exactly: the directions are the coordinate axes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.py").write_text(WELLS)
    torch.save({"x": torch.zeros(n, dtype=torch.float64)}, folder / "origin.pt")
    torch.save({"x": torch.eye(n, dtype=torch.float64)}, folder / "axes.pt")
    (folder / "study.yaml").write_text(f"""
name: wells
task: task.py
checkpoints: [{{name: origin, file: origin.pt, options: {{n: {n}, tilt: {tilt}}}}}]
directions: {{kind: file, file: axes.pt, n: {n}, normalization: unit}}
grid: {{range: 1.5, count: {count}}}
batch: 4
""")
    return folder / "study.yaml"


def wells_with(folder: Path, task: str, more: str, options: str, precision: str) -> Path:
    """The study of `wells` with another task file, its options, and more keys."""
    study = wells(folder)
    (folder / "task.py").write_text(task)
    text = study.read_text().replace("options: {n: 2, tilt: 0.1}", f"options: {options}")
    study.write_text(f"{text}precision: {precision}\n{more}")
    return study


def network(folder: Path, slow: float = 0.0) -> Path:
    """A tiny network with two checkpoints, one of them still to be trained; 2 Hessian eigenvectors, 7 × 7 points."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.py").write_text(NETWORK)
    (folder / "train.py").write_text(TRAIN)
    exec(NETWORK, space := {})
    torch.save(space["model"]().state_dict(), folder / "untrained.pt")
    (folder / "study.yaml").write_text(f"""
name: network
task: task.py
train: train.py
checkpoints:
  - {{name: untrained, file: untrained.pt, options: {{slow: {slow}}}}}
  - {{name: trained, file: made/trained.pt, options: {{slow: {slow}}}}}
directions: {{n: 2, tolerance: 1e-4}}
grid: {{range: 0.5, count: 7}}
batch: 4
""")
    (folder / "site.yaml").write_text("{executor: local, workers: 2, shard_points: 5}")
    return folder / "study.yaml"


def only_trained(study: Path) -> None:
    """Leave the untrained checkpoint out of the study of `network`: half the work."""
    lines = study.read_text().splitlines(keepends=True)
    study.write_text("".join(line for line in lines if "name: untrained" not in line))


DIVIDED_TASK = """
import os, signal
from pathlib import Path

import torch
from torch import nn

from landscaper_hpc import Task


def task(shard="0.*", skew=False):
    torch.manual_seed(3)
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6)) for _ in range(2)))
    model = nn.Sequential(blocks, nn.LayerNorm(6), nn.Linear(6, 2))
    generator = torch.Generator().manual_seed(rank() if skew else 1)
    data = [(torch.randn(k, 6, generator=generator), torch.randn(k, 2, generator=generator)) for k in (5, 4, 3, 5)]
    return Task(model, loss, data, shard={"tensor": tensor_parallel, "whole": whole, "none": None}.get(shard, shard))


def loss(model, batch):
    marked = Path(__file__).with_name(f"kill.{rank()}")
    if marked.exists():
        marked.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return (model(batch[0]) - batch[1]).square().sum(1)


def rank():
    from torch.distributed import get_rank, is_initialized

    return get_rank() if is_initialized() else None


def tensor_parallel(model, mesh):
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    for block in model[0]:
        parallelize_module(block, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def whole(model, mesh):
    from torch.distributed.fsdp import fully_shard

    fully_shard(model[2], mesh=mesh)
"""
DIVIDED = """\
name: s
task: task.py
checkpoints: [{name: a, file: a.pt, options: {shard: SHARD}}]
directions: {kind: random, n: 2, normalization: layer}
grid: {count: 3, range: 0.5}
"""


def divided(folder: Path) -> Path:
    """A study of a model that several processes may hold together; whose rank finds a file `kill.RANK` is killed."""
    (folder / "task.py").write_text(DIVIDED_TASK)
    exec(DIVIDED_TASK, space := {"__file__": str(folder / "task.py"), "__name__": "task"})
    torch.save(space["task"]().model.state_dict(), folder / "a.pt")
    (folder / "study.yaml").write_text(DIVIDED.replace("SHARD", "'0.*'"))
    return folder / "study.yaml"


class Gate:
    """Until it is closed for good, a slow `network`'s points are evaluated only as a test asks: no run outruns it."""

    def __init__(self, study: Path) -> None:
        self._folder = study.parent / "gate"
        self._folder.mkdir()

    def until(self, what: str, look: Callable[[], object], seconds: float = 400, pause: float = 0.02) -> None:
        """Let points be evaluated, four after each look at most, until what `look` returns is true."""
        deadline = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
            if not any(self._folder.iterdir()):
                for number in range(4):
                    (self._folder / str(number)).touch()
            time.sleep(pause)

    def close(self) -> None:
        """Take the gate away: everything goes."""
        if self._folder.exists():
            self._folder.rename(self._folder.with_name(f"gate{uuid.uuid4().hex}"))


def command(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `landscaper-hpc` with these arguments, in this process: starting another takes longer than most commands."""
    words = list(map(str, arguments))
    with contextlib.chdir(cwd or Path.cwd()):
        done = CliRunner().invoke(app, words, prog_name="landscaper-hpc")
    stderr = done.stderr
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        stderr += "".join(traceback.format_exception(done.exception))
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, stderr)


def refusal(study: Path, folder: Path, options: Sequence[str]) -> str:
    """The one line by which a run with other keys is refused, before there is a folder."""
    words = [word for option in options for word in ("--set", option)]
    done = command("run", study, "--executor", "serial", "--out", folder, *words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not folder.exists()
    return done.stderr


def process(
    *arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `landscaper-hpc` with these arguments as its own process; with an `env` it starts as a user's does."""
    words = list(map(str, arguments))
    more: dict[str, Any] = {"cwd": cwd, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if env is None:
        program: subprocess.Popen[str] = Forked(words, **more)
    else:
        program = subprocess.Popen([sys.executable, "-m", "landscaper_hpc.cli", *words], env=env, text=True, **more)
    with program:
        try:
            out, said = program.communicate(timeout=240)
        except BaseException:
            program.kill()
            raise
    return subprocess.CompletedProcess(words, program.returncode, out, said)


def need_jobqueue() -> None:
    """Skip what needs dask-jobqueue where it is not installed, without its import, which changes what Ctrl-C does."""
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("the extra `dask` is not installed")


def need_mounts() -> None:
    """Skip the test where nothing can be mounted."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("mounting needs root and mount namespaces")


def on_a_small_disk(folder: Path, kilobytes: int, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command with a file system of its own, of that size, on `folder`, in a mount namespace of its own."""
    need_mounts()
    folder.mkdir(exist_ok=True)
    script = f'mount -t tmpfs -o size={kilobytes}k none "$0" && "$@"; status=$?; ls -A "$0"/*; exit $status'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, folder, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def contents(folder: Path) -> dict[str, str]:
    """What a study leaves, by file with the SHA-256 of its bytes: everything but logs, jobs, failures and the lock."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in ("logs", "jobs", "failed", ".lock")
    }
