"""What is logged to where experiments are tracked, read by their own readers. `make test-peers` installs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from landscaper_hpc import InputError
from landscaper_hpc.exchange import log_results
from landscaper_hpc.report.results import read_results
from landscaper_hpc.store.folder import SweepFolder
from tests.studies import command, wells

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "weights").mkdir()
    for step in (0, 20, 100):
        x = torch.full((2,), step / 100, dtype=torch.float64)
        save_file({"x": x}, folder / "weights" / f"step_{step:08d}.safetensors")
    pattern, out = folder / "weights" / "step_*.safetensors", folder / "out"
    done = command("sweep", wells(folder, count=5), "--checkpoint", pattern, "--out", out, "--executor", "serial", "-q")
    assert done.returncode == 0, done.stderr
    return out


def expected(sweep: Path, key: str) -> dict[int, float]:
    found = {}
    for step in (0, 20, 100):
        results = read_results(SweepFolder(sweep).study(f"step_{step:08d}").results)
        value: Any = results["landscapes"][0]
        for name in key.split("."):
            value = value[name]
        found[step] = float(value)
    return found


def test_tensorboard_reads_a_curve_over_training(sweep: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    count = log_results(sweep, "tensorboard", tmp_path)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    tags = read.Tags()["scalars"]
    assert sum(len(read.Scalars(tag)) for tag in tags) == count
    for key in ("loss", "topology.smad", "topology.n_minima"):
        found = {event.step: event.value for event in read.Scalars(key)}
        assert found == pytest.approx(expected(sweep, key), rel=1e-6)  # it keeps float32
    one = SweepFolder(sweep).study("step_00000020").path
    log_results(one, "tensorboard")
    assert list((one / "exports" / "tensorboard").iterdir())


@pytest.mark.processes  # its own, which writes the files
def test_weights_and_biases_gets_them_offline(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true"), ("WANDB_DIR", str(tmp_path))):
        monkeypatch.setenv(variable, value)
    import wandb

    with pytest.raises(InputError, match=r"call wandb\.init"):
        log_results(sweep, "wandb")
    with wandb.init(project="landscapes", dir=str(tmp_path)) as run:
        log_results(sweep, "wandb")
        summary = dict(run.summary)
    for key in ("loss", "topology.smad"):
        assert summary[f"landscape/{key}"] == pytest.approx(expected(sweep, key)[100])
    assert summary["landscape/step"] == 100
    assert "landscape/report" in summary
