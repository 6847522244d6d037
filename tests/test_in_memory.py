"""landscape(model, loss, data) against the same study from files, and what it leaves of what it was given."""

from __future__ import annotations

import copy
import gc
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from landscaper_hpc import InputError, Site, Study, landscape, open_landscape, run
from landscaper_hpc.topology import merge_tree
from tests.kinds import thorough
from tests.studies import command

TASK = """
import torch
from torch import nn
from landscaper_hpc import Task

def task():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, generator=generator), torch.randint(0, 2, (20,), generator=generator)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2))
    return Task(model, lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]), (x, y))
"""
KEYS: dict[str, Any] = {"directions": {"n": 3}, "grid": {"count": 5, "range": 0.5}}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2))


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(20, 3, generator=generator), torch.randint(0, 2, (20,), generator=generator)


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_it_is_the_landscape_of_the_same_study_from_files(
    model: nn.Module, data: tuple[Tensor, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = landscape(model, nn.CrossEntropyLoss(), data, progress=False, **KEYS)
    assert capsys.readouterr() == ("", "")
    (tmp_path / "task.py").write_text(TASK)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    science = {"name": "s", "task": "task.py", "checkpoints": [{"name": "model", "file": "model.pt"}], **KEYS}
    results = run(Study.of(science, tmp_path / "study.yaml"), Site(executor="serial"), tmp_path / "run")
    assert results is not None
    np.testing.assert_array_equal(made.loss.values, open_landscape(tmp_path / "run").loss())
    assert made.results["topology"] == results["landscapes"][0]["topology"]
    assert made.loss.dims == ("alpha_0", "alpha_1", "alpha_2")
    np.testing.assert_allclose(made.loss["alpha_1"], np.linspace(-0.5, 0.5, 5))
    np.testing.assert_array_equal(made.tree.minima, merge_tree(made.loss.values).minima)
    assert made.eigenvalues is not None
    assert made.eigenvalues.shape == (3,)


@pytest.mark.usefixtures("words_only")
def test_the_model_stays_as_it_is(model: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    model.half().train()
    model[3].requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made = landscape(
        model,
        lambda model, batch: (model(batch[0]) ** 2).sum(dim=1),
        iter(DataLoader(TensorDataset(*data), batch_size=8)),  # exhausted once it was read
        directions={"kind": "random", "n": 1},
        grid={"count": 3},
        progress=False,
    )
    assert made.eigenvalues is None
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, False]
    torch.testing.assert_close(model[0].weight.grad, torch.ones_like(model[0].weight))
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float16
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_what_is_saved_is_an_ordinary_folder_that_goes_no_further(
    model: nn.Module, data: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    made = landscape(model, nn.CrossEntropyLoss(), data, progress=False, **KEYS)
    made.save(tmp_path / "kept")
    made.report(tmp_path / "page.html")
    own = made.inside.path
    assert (tmp_path / "page.html").read_bytes() == (own / "report.html").read_bytes()
    with pytest.raises(InputError, match="there is something already"):
        made.save(tmp_path / "kept")
    shutil.copy(own.parent / "task.py", tmp_path)
    del made
    gc.collect()
    assert not own.exists()
    done = command("topology", tmp_path / "kept", "--connectivity", "full")
    assert done.returncode == 0, done.stderr
    (tmp_path / "task.py").write_text(
        "from landscaper_hpc.in_memory import given\ndef task():\n    return given('x')\n"
    )
    torch.save(model.state_dict(), tmp_path / "model.pt")
    (tmp_path / "study.yaml").write_text("{name: s, task: task.py, checkpoints: [{name: m, file: model.pt}]}")
    done = command("check", tmp_path / "study.yaml")
    assert done.returncode == 2
    assert "were in memory, and can be evaluated no further" in done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("n", [1, thorough(3)])
@pytest.mark.usefixtures("words_only")
def test_it_is_drawn_on_axes_that_are_given(n: int, model: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    keys = {"directions": {"kind": "random", "n": n}, "grid": {"count": 3}}
    made = landscape(model, nn.CrossEntropyLoss(), data, progress=False, **keys)
    ax = Figure().subplots()
    assert made.plot(ax) is ax
    assert ax.get_xlabel().startswith("α₁ (‖Δθ‖")
    shown = made._repr_html_()
    assert "<svg" in shown
    assert "mean climb" in shown


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"grid": 41}, "landscape(): grid: must hold keys, each with a value; valid keys there: range, count"),
    ({"grid": (5, 7)}, "landscape(): grid: must hold keys, each with a value"),
    ({"directions": "random"}, "landscape(): directions: must hold keys, each with a value; valid keys there: kind, n"),
    ({"metrics": len}, "Task.metrics is a builtin_function_or_method; expected functions by their names"),
    ({"device": None}, "landscape(): device: "),
    ({"checkpoints": []}, "landscape() says checkpoints itself"),
]


def test_mistakes_are_one_sentence_and_leave_nothing(
    model: nn.Module, data: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InputError, match=r"^landscape\(\): grid.count"):
        landscape(model, nn.CrossEntropyLoss(), data, grid={"count": 4})
    for wrong, said in WRONG:
        with pytest.raises(InputError, match=f"^{re.escape(said)}"):
            landscape(model, nn.CrossEntropyLoss(), data, **wrong)
    with pytest.raises(InputError, match=r"^landscape\(\): the loss at the checkpoint is .*draws random numbers"):
        landscape(model, lambda model, batch: model(batch[0]).sum() + torch.rand(()), data, progress=False)
    with pytest.raises(InputError, match=r"Task.model is a str"):
        landscape("model", nn.CrossEntropyLoss(), data)  # type: ignore[arg-type]
    gc.collect()
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_names_of_files_start_at_the_current_folder(
    model: nn.Module, data: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({name: torch.ones(1, *p.shape) for name, p in model.named_parameters()}, "made.safetensors")
    torch.save({name: 2 * tensor for name, tensor in model.state_dict().items()}, "other.pt")
    keys: dict[str, Any] = {"grid": {"count": 3}, "progress": False}
    along = {"kind": "file", "file": Path("made.safetensors"), "n": 1}
    made = landscape(model, nn.CrossEntropyLoss(), data, directions=along, trajectory=["other.pt"], **keys)
    direction = made.store.directions().vectors["0.bias"][0]
    assert (direction == direction[0]).all()
    assert len(made.results["trajectory"]["checkpoints"]) == 1
    with pytest.raises(InputError, match=f"directions.file: cannot read {tmp_path}/none.safetensors"):
        landscape(model, nn.CrossEntropyLoss(), data, directions=along | {"file": "none.safetensors"}, **keys)


@pytest.mark.thorough
def test_metrics_are_there_like_the_loss(model: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    def accuracy(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        return model(batch[0]).argmax(-1) == batch[1]

    keys = {"directions": {"n": 2, "kind": "random"}, "grid": {"count": 5, "range": 0.5}, "progress": False}
    made = landscape(model, nn.CrossEntropyLoss(), data, metrics={"accuracy": accuracy}, **keys)
    assert list(made.metrics) == ["accuracy"]
    assert made.metrics["accuracy"].dims == made.loss.dims
    share = (model.eval()(data[0]).argmax(-1) == data[1]).double().mean()
    assert float(made.metrics["accuracy"].sel(alpha_0=0, alpha_1=0)) == pytest.approx(float(share))
    ax = made.plot(Figure().add_subplot(), "accuracy")
    assert ax.child_axes[0].get_ylabel() == "accuracy"
    with pytest.raises(InputError, match="there is no metric 'recall'; there are accuracy"):
        made.plot(quantity="recall")
    plain = landscape(model, nn.CrossEntropyLoss(), data, **keys)
    np.testing.assert_array_equal(plain.loss.values, made.loss.values)
    assert plain.metrics == {}


class Aliased(nn.Module):
    """One layer under two names, as in T5, whose encoder and decoder share their embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.second(torch.tanh(self.first(x))))
        return out


@pytest.mark.usefixtures("words_only")
def test_a_layer_that_has_two_names_moves_once_and_back(data: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    aliased = Aliased()
    keys: dict[str, Any] = {"grid": {"count": 3, "range": 0.5}, "precision": "float64", "progress": False}
    made = landscape(aliased, nn.CrossEntropyLoss(), data, directions={"kind": "random", "n": 1}, **keys)
    direction = {name: torch.as_tensor(np.asarray(v[0])) for name, v in made.store.directions().vectors.items()}
    assert direction.keys() == {"first.weight", "first.bias", "last.weight", "last.bias"}
    moved = aliased.double()
    with torch.no_grad():
        for name, p in moved.named_parameters():
            p += 0.5 * direction[name]
    expected = nn.functional.cross_entropy(moved(data[0].double()), data[1]).item()
    assert made.loss.values[2] == pytest.approx(expected, rel=1e-12)


@pytest.mark.usefixtures("words_only")
def test_calls_from_threads_wait_for_each_other(model: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    keys: dict[str, Any] = {"grid": {"count": 3, "range": 0.5}, "directions": {"kind": "random", "n": 1}}

    def at_checkpoint(scale: float) -> float:
        made = landscape(model, nn.CrossEntropyLoss(), (scale * data[0], data[1]), progress=False, **keys)
        return float(made.loss.values[1])

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(at_checkpoint, (1.0, 2.0)))
    model = copy.deepcopy(model).eval().double()
    for scale, loss in zip((1.0, 2.0), found, strict=True):
        expected = nn.functional.cross_entropy(model(scale * data[0].double()), data[1]).item()
        assert loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("empty", "told"),
    [
        (nn.Tanh(), r"^landscape\(\): Tanh has no parameters, and so"),
        (nn.Linear(3, 2, device="meta"), r"^landscape\(\): weight is on the meta device"),
    ],
    ids=["no parameters", "no numbers"],
)
def test_a_model_without_numbers(empty: nn.Module, told: str, data: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(InputError, match=told):
        landscape(empty, nn.CrossEntropyLoss(), data)
