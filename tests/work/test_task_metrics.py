"""Metrics beside the loss: the same points, the same promises, from the same forward pass."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from jsonschema import Draft202012Validator
from studies import command, contents, wells
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from landscaper_hpc import InputError, Site, Study, merge_tree, open_landscape, run
from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.exchange import export, minima_table, points_table
from landscaper_hpc.executors.local import SerialMapper
from landscaper_hpc.losses.evaluate import evaluation_mode, losses
from landscaper_hpc.losses.evaluator import evaluator
from landscaper_hpc.objective.metrics import with_metrics
from landscaper_hpc.objective.objective import Objective, Task
from landscaper_hpc.progress import Bars
from landscaper_hpc.report import describe
from landscaper_hpc.report.current_page import is_current
from landscaper_hpc.topology.basins import per_basin
from landscaper_hpc.work.campaign import Plan
from landscaper_hpc.work.preparation import prepare_all
from landscaper_hpc.work.worker import work


def accuracy(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return model(batch[0]).argmax(-1) == batch[1]


def margin(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return model(batch[0]).amax(-1).mean()


def classified(several: bool = False) -> Task:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3))
    x, y = torch.randn(12, 4), torch.randint(3, (12,))
    data = list(zip(x.split(5), y.split(5), strict=True)) if several else (x, y)
    loss = lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none")  # noqa: E731
    return Task(model, loss, data, metrics={"accuracy": accuracy, "margin": margin})


@pytest.mark.thorough
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("several", [False, True])
def test_values_are_those_of_the_functions_and_the_losses_are_what_they_are_alone(batch: int, several: bool) -> None:
    objective = Objective(classified(several))
    directions = random_directions(objective, 2)
    points = np.random.default_rng(0).uniform(-1, 1, (7, 2))
    found = losses(with_metrics(objective), directions, points, batch)
    assert evaluation_mode(with_metrics(objective), directions, batch).startswith("vmap" if batch > 1 else "one point")
    assert found[:, 0].tobytes() == losses(objective, directions, points, batch).tobytes()
    x, y = (torch.cat(parts) for parts in zip(*objective.batches, strict=True))
    for alpha, (_, share, mean) in zip(points, found, strict=True):
        params = {n: p + sum(a * u for a, u in zip(alpha, directions.vectors[n], strict=True)) for n, p in
                  objective.parameters.items()}  # fmt: skip
        logits = torch.func.functional_call(objective.model, params, x)
        assert share == pytest.approx(float((logits.argmax(-1) == y).double().mean()))
        assert mean == pytest.approx(float(logits.amax(-1).mean()))


def test_a_forward_pass_serves_all() -> None:
    class Counting(TorchDispatchMode):
        products = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            Counting.products += "addmm" in str(function)
            return function(*args, **(kwargs or {}))

    objective = with_metrics(Objective(classified()))
    found = evaluator(objective, 1)
    with found.ready():
        found(objective.parameters)
        with Counting():
            found(objective.parameters)
    assert Counting.products == 2


METRICS = """
def above(model, data):
    return (model.x.sum() > 0.3).expand(1)

METRICS = {"above": above, "product": lambda model, data: model.x.prod()}
"""


def study(folder: Path, metrics: str = METRICS) -> Path:
    file = wells(folder, count=9)
    task = (folder / "task.py").read_text()
    data = "data=torch.zeros(1, dtype=torch.float64)"
    assert task.count(data) == 1
    (folder / "task.py").write_text(metrics + task.replace(data, f"{data}, metrics=METRICS"))
    return file


def evaluated(file: Path, out: Path, points: int) -> Plan:
    plan = Plan.of(Study.load(file), Site(executor="serial", shard_points=points), out)
    with Bars() as bars:
        prepare_all(plan.landscapes, SerialMapper(), bars)
    work(plan.landscapes)
    return plan


@pytest.mark.thorough
def test_metrics_are_stored_beside_the_loss_in_any_shards_and_mended(tmp_path: Path) -> None:
    file = study(tmp_path / "study")
    stores = [evaluated(file, tmp_path / f"{n}", n).landscapes[0].open() for n in (7, 81)]
    a0, a1 = np.meshgrid(*stores[0].grid.coordinates(), indexing="ij")
    for store in stores:
        assert store.metric("above").tobytes() == (a0 + a1 > 0.3).astype(float).tobytes()
        assert store.metric("product").tobytes() == (a0 * a1).tobytes()
    with pytest.raises(InputError, match="there is no metric 'recall'; there are above, product"):
        stores[0].metric("recall")
    data = xr.open_zarr(tmp_path / "7/study.zarr", group="origin", consolidated=False)
    assert data["above"].dims == data["loss"].dims
    # torn, and gone: both are found, and come again
    folder = stores[0].folder
    before = contents(tmp_path / "7")
    chunks = sorted((folder / "product").glob("c.*"))
    chunks[0].write_bytes(b"torn")
    next(iter(sorted((folder / "done/sha256_above").glob("c.*"))[1:])).unlink()
    again = open_landscape(tmp_path / "7")
    assert len(again.verify()) == 2
    evaluated(file, tmp_path / "7", 7)
    after = contents(tmp_path / "7")
    assert {k: v for k, v in after.items() if "/product/" in k or "/loss/" in k or "sha256" in k} == {
        k: v for k, v in before.items() if "/product/" in k or "/loss/" in k or "sha256" in k
    }
    # as every array of numbers: a merge tree and means of basins
    tree = merge_tree(again.loss(), labels=True)
    assert tree.labels is not None
    means = per_basin(tree.labels, again.metric("above"), tree.n_minima)
    assert np.isfinite(means).all()
    told = command("topology", folder / "product", "--json")
    assert told.returncode == 0, told.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metrics")
    run(Study.load(study(folder)), Site(executor="serial"), folder / "run")
    return folder / "run"


@pytest.mark.thorough
def test_results_tell_each_metric_and_its_mean_over_each_basin(finished: Path) -> None:
    store = open_landscape(finished)
    tree = merge_tree(store.loss(), store.connectivity, labels=True)
    assert tree.labels is not None
    assert tree.n_minima > 1
    found = json.loads((finished / "results.json").read_text())["landscapes"][0]["metrics"]
    for i, (name, entry) in enumerate(zip(("above", "product"), found["values"], strict=True)):
        values = store.metric(name)
        assert entry["name"] == name
        assert entry["checkpoint"] == values[4, 4]
        assert (entry["lowest"], entry["highest"]) == (values.min(), values.max())
        assert entry["mean"] == pytest.approx(values.mean())
        assert len(found["basins"]) == tree.n_minima
        for basin in found["basins"]:
            at = int(tree.labels[tuple(basin["minimum"])])
            assert basin["points"] == tree.basin_size[at]
            assert basin["means"][i] == pytest.approx(values[tree.labels == at].mean())
    Draft202012Validator(describe.schema()).validate(json.loads((finished / "results.json").read_text()))
    page = (finished / "report.html").read_text()
    assert 'id="metrics"' in page
    assert "above of origin over" in page
    assert "product of origin over" in page


@pytest.mark.thorough
def test_a_page_of_other_values_of_a_metric_is_not_current(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    assert is_current(folder)
    entry = next((folder / "study.zarr/origin/done/sha256_above").glob("c.*"))
    entry.write_bytes(bytes(32))
    assert not is_current(folder)


@pytest.mark.thorough
def test_tables_and_merge_trees_on_request(finished: Path) -> None:
    store = open_landscape(finished)
    points, minima = points_table(store), minima_table(store)
    assert points["above"].to_numpy().tobytes() == store.metric("above").tobytes()
    for basin, row in minima.iterrows():
        assert row["mean_product"] == pytest.approx(points["product"][points["basin"] == basin].mean())
    told = command("topology", finished, "--metric", "product", "--direction", "superlevel", "--json")
    assert told.returncode == 0, told.stderr
    tree = merge_tree(store.metric("product"), store.connectivity, direction="superlevel")
    assert json.loads(told.stdout)["n_minima"] == tree.n_minima
    refused = command("topology", finished, "--metric", "recall")
    assert refused.returncode == 2
    assert "there is no metric 'recall'; there are above, product" in " ".join(refused.stderr.split())


@pytest.mark.thorough
def test_figures_of_metrics_are_exported(finished: Path, tmp_path: Path) -> None:
    names = {file.name for file in export(finished, ["figures"], folder=tmp_path)}
    for figure in ("merge_tree", "merge_tree_negated", "slice_0-1", "line_1"):
        assert f"origin.metric_product.{figure}.svg" in names
    assert "−product" in (tmp_path / "origin.metric_product.merge_tree_negated.svg").read_text()


@pytest.mark.thorough
@pytest.mark.peers
def test_images_for_paraview_hold_the_metrics(finished: Path, tmp_path: Path) -> None:
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOXML import vtkXMLImageDataReader

    (file,) = export(finished, ["vti"], folder=tmp_path)
    reader = vtkXMLImageDataReader()
    reader.SetFileName(str(file))
    reader.Update()
    held = vtk_to_numpy(reader.GetOutput().GetPointData().GetArray("product"))
    np.testing.assert_array_equal(held, open_landscape(finished).metric("product").ravel(order="F"))


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ("METRICS = {'m': lambda model, data: model.x.sum() / 0}", "the metric m is (nan|inf) at the checkpoint"),
        ("METRICS = {'m': lambda model, data: 3.0}", "the metric m returned a float; expected a tensor"),
        (
            "METRICS = {'m': lambda model, data: model.x.new_zeros(0)}",
            r"the metric m returned a tensor of shape \(0,\)",
        ),
        ("METRICS = {'loss': lambda model, data: model.x.sum()}", "'loss' cannot be the name of a metric"),
        ("METRICS = {'basin': lambda model, data: model.x.sum()}", "'basin' cannot be the name of a metric"),
        ("METRICS = {'error_bars': lambda model, data: model.x.sum()}", "it is one of the store's own"),
        ("METRICS = {'1st': lambda model, data: model.x.sum()}", "'1st' cannot be the name of a metric; give letters"),
        ("METRICS = {'alpha_0': lambda model, data: model.x.sum()}", "'alpha_0' cannot be the name of a metric"),
        ("METRICS = {'m': 3}", r"Task.metrics: m is a int; expected a function metric\(model, batch\)"),
        ("METRICS = [len]", "Task.metrics is a list; expected functions by"),
    ],
)
def test_bad_metrics_are_refused_in_a_sentence(tmp_path: Path, metrics: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluated(study(tmp_path / "study", metrics + "\n"), tmp_path / "run", 81)
    assert not (tmp_path / "run/study.zarr/origin").exists()
