"""The objective is the mean loss over all data, deterministic, of the parameters that move and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from problems import TASKS, cnn_task, mlp_task, transformer_task
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.loading import load_objective
from landscaper_hpc.objective.objective import Objective, Task


def shifted(objective: Objective, by: float = 0.01) -> dict[str, torch.Tensor]:
    return {name: p + by for name, p in objective.parameters.items()}


@pytest.mark.parametrize("name", TASKS)
def test_the_loss_is_that_of_the_displaced_model(name: str) -> None:
    objective = Objective(TASKS[name]())
    params = shifted(objective)
    value = objective.loss(params)
    assert value.dtype == torch.float64
    assert value.ndim == 0
    reference = TASKS[name]()
    reference.model.double().eval()
    state = dict(reference.model.named_parameters())
    with torch.no_grad():
        for key, p in params.items():
            state[key].copy_(p)
    batches = objective.batches
    parts = [reference.loss(reference.model, batch) for batch in batches]
    expected = torch.cat([part.reshape(-1) for part in parts]).mean()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-13, atol=0)


def test_batches_and_one_batch_agree_for_losses_and_for_means() -> None:
    values = [
        float(Objective(mlp_task(per_example=p, batches=b)).prove_deterministic())
        for p in (True, False)
        for b in (True, False)
    ]
    assert values == pytest.approx([values[0]] * 4, rel=1e-14)


def test_a_data_loader_is_read_once() -> None:
    base = mlp_task()
    data = DataLoader(TensorDataset(*base.data), batch_size=4)
    loaded = Objective(Task(base.model, base.loss, data))
    assert loaded.examples == [4, 4, 3]
    assert loaded.prove_deterministic() == pytest.approx(Objective(mlp_task()).prove_deterministic(), rel=1e-14)


def test_the_mean_over_the_data_is_taken_in_float64() -> None:
    # in float32, 1e8 + 1 is 1e8
    values = torch.tensor([1e8] + [1.0] * 4095)

    class Values(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.scale * x

    objective = Objective(Task(Values(), lambda m, b: m(b), values), precision="float32")
    assert float(objective.loss(objective.parameters)) == (1e8 + 4095) / 4096


def test_tied_weights_move_once_and_buffers_never() -> None:
    tied = Objective(transformer_task())
    assert "embed.weight" in tied.parameters
    assert "head.weight" not in tied.parameters
    cnn = Objective(cnn_task())
    assert not any("running" in name for name in cnn.parameters)
    before = {k: v.clone() for k, v in cnn.model.named_buffers()}
    cnn.loss(shifted(cnn))
    assert all(torch.equal(v, before[k]) for k, v in cnn.model.named_buffers())


def test_frozen_parameters_stay_unless_asked_for() -> None:
    def task() -> Task:
        result = mlp_task()
        result.model[0].requires_grad_(False)
        return result

    assert list(Objective(task()).parameters) == ["2.weight", "2.bias", "4.weight", "4.bias"]
    assert "0.weight" in Objective(task(), frozen=True).parameters
    everything = mlp_task()
    everything.model.requires_grad_(False)
    with pytest.raises(InputError, match="no parameters that move"):
        Objective(everything)


def test_complex_parameters() -> None:
    class Phase(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.z = nn.Parameter(torch.tensor([1 + 2j, 3 - 1j], dtype=torch.complex64))

        def forward(self) -> torch.Tensor:
            return self.z

    objective = Objective(Task(Phase(), lambda m, b: m().abs().square(), torch.zeros(2)))
    assert objective.parameters["z"].dtype == torch.complex128
    assert float(objective.loss(objective.parameters)) == pytest.approx(7.5)


def test_precision_decides_dtypes_and_integers_stay() -> None:
    for precision, dtype in (("float64", torch.float64), ("float32", torch.float32), ("bf16", torch.float32)):
        objective = Objective(cnn_task(), precision=precision)
        images, labels = objective.batches[0]
        assert (images.dtype, labels.dtype) == (dtype, torch.int64)
        assert {p.dtype for p in objective.parameters.values()} == {dtype}
        assert objective.model.norm.running_mean.dtype == dtype
        assert float(objective.loss(objective.parameters)) == pytest.approx(2.0, abs=0.7)
    with pytest.raises(InputError, match="precision is 'half'; choose one of float64"):
        Objective(cnn_task(), precision="half")


class _Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(3))

    def forward(self) -> torch.Tensor:
        return self.x + torch.randn(3)


def test_random_losses_and_shuffled_data_are_refused() -> None:
    noisy = Objective(Task(_Noisy(), lambda m, b: m().square(), torch.zeros(1)))
    with pytest.raises(InputError, match=r"not deterministic.*dropout.*BatchNorm.*shuffled"):
        noisy.prove_deterministic()
    base = mlp_task(per_example=False)
    ordered = TensorDataset(*base.data)

    def weighted(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        weights = torch.arange(len(batch[0]), dtype=batch[0].dtype)  # a loss that sees the order
        return ((model(batch[0]) - batch[1]).square().sum(dim=1) * weights).mean()

    torch.manual_seed(3)
    shuffled = Objective(Task(base.model, weighted, DataLoader(ordered, batch_size=11, shuffle=True)))
    with pytest.raises(InputError, match=r"reading the data twice.*shuffle=False"):
        shuffled.prove_deterministic()


# ---- task files -----------------------------------------------------------------------------------------------------

GOOD = """
import torch
from landscaper_hpc import Task

def task(width: int = 4) -> Task:
    model = torch.nn.Linear(3, width)
    return Task(model=model, loss=lambda model, x: model(x).square().sum(dim=1), data=torch.ones(5, 3))
"""


def _files(folder: Path, source: str, width: int = 4) -> tuple[Path, Path]:
    task_file, checkpoint = folder / "task.py", folder / "x.pt"
    task_file.write_text(source)
    torch.save(nn.Linear(3, width).state_dict(), checkpoint)
    return task_file, checkpoint


def test_a_task_file_with_options_and_a_neighbour(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_the_task.py").write_text("WIDTH = 6")
    source = "from neighbour_of_the_task import WIDTH\n" + GOOD.replace("width: int = 4", "width: int = WIDTH")
    task_file, checkpoint = _files(tmp_path, source, width=7)
    objective = load_objective(task_file, checkpoint, options={"width": 7})
    weight = torch.load(checkpoint, weights_only=True)["weight"]
    torch.testing.assert_close(objective.parameters["weight"], weight.double(), rtol=0, atol=0)
    assert objective.prove_deterministic() > 0


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("x = 1", {}, r"task\.py has no function task\(\)"),
        ("import nothing_like_this", {}, r"task\.py failed at line 1 with ModuleNotFoundError"),
        ("def task(:", {}, r"task\.py failed with SyntaxError"),
        (GOOD, {"depth": 3}, r"task\.py: task\(\) does not take these options .*it takes: width"),
        ("def task():\n    return 1/0", {}, r"task\.py failed at line 2 with ZeroDivisionError"),
        ("def task():\n    return 3", {}, r"task\.py: task\(\) returned a int; expected landscaper_hpc\.Task"),
        (GOOD.replace("model=model", "model=3"), {}, r"Task\.model is a int"),
        (GOOD.replace("torch.ones(5, 3)", "[]"), {}, "Task.data has no batches"),
        (GOOD.replace("torch.ones(5, 3)", "3"), {}, "Task.data is a int"),
        (GOOD.replace("torch.ones(5, 3)", "[[1.0]]"), {}, "holds no tensor"),
        (GOOD.replace("model(x).square().sum(dim=1)", "3.0"), {}, r"task\.py: loss returned a float"),
        (GOOD.replace("model(x).square().sum(dim=1)", "model(x) > 0"), {}, "torch.bool"),
        (GOOD.replace("model(x)", "model(x[:, :2])"), {}, r"task\.py: loss failed at line 7 with RuntimeError"),
    ],
)
def test_a_wrong_task_file_is_named(tmp_path: Path, source: str, options: dict[str, int], message: str) -> None:
    task_file, checkpoint = _files(tmp_path, source)
    with pytest.raises(InputError, match=message) as caught:
        load_objective(task_file, checkpoint, options=options).prove_deterministic()
    assert "\n" not in str(caught.value)


def test_missing_files_and_devices(tmp_path: Path) -> None:
    task_file, checkpoint = _files(tmp_path, GOOD)
    with pytest.raises(InputError, match=r"task file .*gone\.py does not exist"):
        load_objective(tmp_path / "gone.py", checkpoint)
    with pytest.raises(InputError, match=r"checkpoint .*gone\.pt does not exist"):
        load_objective(task_file, tmp_path / "gone.pt")
    with pytest.raises(InputError, match="device is 'gpu'; choose cpu"):
        load_objective(task_file, checkpoint, device="gpu")
    with pytest.raises(InputError, match=r"torch sees \d+ CUDA devices"):
        load_objective(task_file, checkpoint, device="cuda:99")


# ---- losses that write into the model ------------------------------------------------------------------------------


def test_an_embedding_that_rescales_its_weight_leaves_theta_alone() -> None:
    torch.manual_seed(0)
    embedding = nn.Embedding(7, 4, max_norm=1.0)
    data = torch.arange(7).repeat(3)
    objective = Objective(Task(embedding, lambda m, b: m(b).square().sum(dim=1) + m(b).sum(dim=1), data))
    before = objective.parameters["weight"].clone()
    first = float(objective.loss(objective.parameters))
    norms = before.norm(dim=1, keepdim=True)
    assert norms.max() > 1
    rescaled = torch.where(norms > 1, before / norms, before)
    assert first == pytest.approx(float((rescaled.square().sum(dim=1) + rescaled.sum(dim=1)).mean()), rel=1e-6)
    assert torch.equal(objective.parameters["weight"], before)
    far = {"weight": 0.01 * before}
    objective.loss(far)
    assert torch.equal(far["weight"], 0.01 * before)
    assert float(objective.loss(objective.parameters)) == first


def test_statistics_that_move_in_training_mode_stay_put() -> None:
    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        model.train()
        return model(batch).square().sum(dim=1)

    objective = Objective(Task(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), loss, torch.randn(9, 3)))
    before = {k: v.clone() for k, v in objective.model.state_dict().items()}
    objective.loss(objective.parameters)
    assert all(torch.equal(v, before[k]) for k, v in objective.model.state_dict().items())
