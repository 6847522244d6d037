"""What is saved while a model is trained, and that a sweep takes it up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from landscaper_hpc import InputError
from landscaper_hpc.exchange import log_results
from landscaper_hpc.store.folder import SweepFolder
from landscaper_hpc.training.weights import Schedule, save_weights
from tests.studies import command, wells


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)
        self.last.weight = self.first.weight
        self.last.weight.data = self.last.weight.data.t()  # neither contiguous nor alone

    def get_extra_state(self) -> dict[str, int]:
        return {"seen": 1}

    def set_extra_state(self, state: object) -> None:
        pass


def test_weights_are_all_there_and_nothing_else(tmp_path: Path) -> None:
    model = Tied()
    file = save_weights(model, tmp_path / "weights", 42)
    assert file == tmp_path / "weights" / "step_00000042.safetensors"
    assert list(file.parent.iterdir()) == [file]
    held = load_file(file)
    expected = {k: v for k, v in model.state_dict().items() if k != "_extra_state"}
    assert held.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(held[name], tensor, rtol=0, atol=0)
    assert model.last.weight is model.first.weight


def test_steps_are_saved_once_each(tmp_path: Path) -> None:
    schedule, model = Schedule(tmp_path, every=3), nn.Linear(1, 1)
    schedule.save(model, 0, due=True)
    for step in (0, 1, 2, 3, 3, 4, 5, 6, 7):
        schedule.save(model, step)
    schedule.save(model, 7, due=True)
    schedule.save(model, 7, due=True)
    assert [int(file.stem[-8:]) for file in sorted(tmp_path.iterdir())] == [0, 3, 6, 7]
    with pytest.raises(InputError, match="every is 0"):
        Schedule(tmp_path, every=0)


def test_a_model_in_parts_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.weight.ds_shape = torch.Size((4, 2))  # type: ignore[assignment]  # as DeepSpeed's stage 3 marks them
    with pytest.raises(InputError, match="sharded over processes"):
        save_weights(model, tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_a_sweep_takes_them_up_and_their_numbers_have_steps(tmp_path: Path) -> None:
    file = wells(tmp_path / "study", count=5)

    class Wells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    model, schedule = Wells(), Schedule(tmp_path / "weights", every=2)
    for step in range(5):
        schedule.save(model, step)
        with torch.no_grad():
            model.x += 0.25
    pattern = tmp_path / "weights" / "step_*.safetensors"
    done = command("sweep", file, "--checkpoint", pattern, "--out", tmp_path / "sweep", "--executor", "serial", "-q")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in SweepFolder(tmp_path / "sweep").studies.iterdir())
    assert names == ["step_00000000", "step_00000002", "step_00000004"]
    for to, said in (("comet", "choose one of wandb, mlflow, tensorboard"), ("tensorboard", "pip install")):
        if to == "tensorboard" and _installed("tensorboard"):
            continue
        with pytest.raises(InputError, match=said):
            log_results(tmp_path / "sweep", to)


def _installed(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None
