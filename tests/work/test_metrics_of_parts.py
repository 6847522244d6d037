"""Metrics beside the loss where only the lowest part, or scattered points, of a landscape are evaluated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from studies import command, contents, wells

from landscaper_hpc import InputError, merge_tree, open_landscape
from landscaper_hpc.errors import Interrupted
from landscaper_hpc.exchange import points_table
from landscaper_hpc.report.describe import schema
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.topology.basins import per_basin
from landscaper_hpc.topology.scope import below
from landscaper_hpc.work import points
from tests.work.test_few_batches import waves

METRICS = """
def above(model, data):
    return (model.x.sum() > 0.3).expand(1)

METRICS = {"above": above, "product": lambda model, data: model.x.prod()}
"""
NAMES = ["above", "product"]


def at(alphas: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """What the metrics are at some points, (m, 2)."""
    return {"above": (alphas[:, 0] + alphas[:, 1] > 0.3).astype(float), "product": alphas[:, 0] * alphas[:, 1]}


def study(folder: Path, more: str) -> Path:
    file = wells(folder)
    file.write_text(file.read_text() + more)
    task, data = folder / "task.py", "data=torch.zeros(1, dtype=torch.float64)"
    text = task.read_text()
    assert text.count(data) == 1
    task.write_text(METRICS + text.replace(data, f"{data}, metrics=METRICS"))
    return file


def run(file: Path, folder: Path, *more: object) -> Path:
    done = command("run", file, "--out", folder, *(("--executor", "serial") if "--executor" not in more else ()), *more)
    assert done.returncode == 0, done.stderr
    return folder


def entry(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "results.json").read_text())
    Draft202012Validator(schema()).validate(found)
    return dict(found["landscapes"][0])


def same(found: dict[str, NDArray[np.float64]], expected: dict[str, NDArray[np.float64]]) -> bool:
    return list(found) == NAMES and all(found[name].tobytes() == expected[name].tobytes() for name in NAMES)


# ---- the lowest part ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scoped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("scoped"), "scope: {share: 0.15, descents: 10}\n")


@pytest.fixture(scope="module")
def lowest(scoped: Path) -> Path:
    """What an undisturbed serial run leaves."""
    return run(scoped, scoped.with_name("whole"))


def test_they_are_those_of_the_whole_grid_at_the_points_that_were_evaluated(scoped: Path, lowest: Path) -> None:
    store = open_landscape(lowest)
    ids, _ = store.lowest_points()
    assert 0 < len(ids) < store.grid.size
    axes = np.meshgrid(*store.grid.coordinates(), indexing="ij")
    everywhere = at(np.stack([axis.reshape(-1) for axis in axes], axis=1))
    found = store.lowest_metrics()
    assert same(found, {name: values[ids] for name, values in everywhere.items()})
    with xr.open_zarr(lowest / "study.zarr", group="origin/scope", consolidated=False) as data:
        assert data["metric_product"].to_numpy().tobytes() == found["product"].tobytes()
    table = points_table(store)
    assert list(table.columns) == ["alpha_0", "alpha_1", "loss", *NAMES]
    np.testing.assert_array_equal(table["product"], table["alpha_0"] * table["alpha_1"])
    with pytest.raises(InputError, match="only its lowest part is evaluated"):
        store.metric("above")
    with pytest.raises(InputError, match="there is no metric 'recall'; there are above, product"):
        store.metric("recall")

    told, level = entry(lowest), entry(lowest)["scope"]["level"]
    assert "metrics" not in told  # which are of a whole grid
    x, y = axes
    field = ((x**2 - 1) ** 2 + 2 * (y**2 - 1) ** 2) + 0.1 * (x + y)
    everything = merge_tree(field, store.connectivity, labels=True)
    assert everything.labels is not None
    labels, within = everything.labels.reshape(-1), field.reshape(-1) < level
    part = below(everything, field, everything.labels, level)
    assert part.n_minima == 4
    for i, name in enumerate(NAMES):
        values = everywhere[name]
        (row,) = [row for row in told["scope"]["metrics"]["values"] if row["name"] == name]
        assert row["mean"] == pytest.approx(values[within].mean())
        assert (row["lowest"], row["highest"], row["n_nonfinite"]) == (values[within].min(), values[within].max(), 0)
        assert row["checkpoint"] == values[store.grid.size // 2]
        means = per_basin(np.where(within, labels, -1), values, everything.n_minima)
        for basin in told["scope"]["metrics"]["basins"]:
            of = labels[np.ravel_multi_index(basin["minimum"], store.grid.shape)]
            assert basin["points"] == np.count_nonzero(within & (labels == of))
            assert basin["means"][i] == pytest.approx(means[of])
    assert len(told["scope"]["metrics"]["basins"]) == 4
    page = (lowest / "report.html").read_text()
    assert "Metrics in the scope" in page
    assert "metrics in the basins of the loss, below the level" in page


@pytest.mark.processes
def test_processes_leave_the_same_bytes(scoped: Path, lowest: Path, tmp_path: Path) -> None:
    run(scoped, tmp_path / "run", "--executor", "local", "--workers", "2")
    assert contents(tmp_path / "run") == contents(lowest)


@pytest.mark.thorough
def test_stopped_damaged_and_raised_they_are_the_same(
    scoped: Path, lowest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import landscaper_hpc.work.mapped as mapped

    evaluate, done = mapped.evaluate_points, []

    def stops(*arguments: Any) -> None:
        if len(done) == 5:
            raise Interrupted
        done.append(arguments[0].file.name)
        evaluate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(mapped, "evaluate_points", stops)
        where = ("--out", tmp_path / "run", "--executor", "serial", "--set", "scope.share=0.05")
        assert command("run", scoped, *where).returncode == 130
    held = sorted((tmp_path / "run/points/origin").glob("*.losses"))
    assert sorted(done) == [file.name for file in held]
    held[0].write_bytes(held[0].read_bytes()[:-8])
    done.clear()

    def noted(*arguments: Any) -> None:
        done.append(arguments[0].file.name)
        evaluate(*arguments)

    monkeypatch.setattr(mapped, "evaluate_points", noted)
    run(scoped, tmp_path / "run", "--set", "scope.share=0.05")
    assert not {file.name for file in held[1:]} & set(done)
    less = open_landscape(tmp_path / "run")
    assert len(less.lowest_metrics()["above"]) == len(less.lowest_points()[0])
    run(scoped, tmp_path / "run")
    mine = {name: digest for name, digest in contents(tmp_path / "run").items() if not name.startswith("points/")}
    assert mine == contents(lowest)


@pytest.mark.thorough
def test_a_part_whose_metrics_were_altered_is_sought_again(scoped: Path, lowest: Path, tmp_path: Path) -> None:
    shutil.copytree(lowest, tmp_path / "run")
    file = tmp_path / "run/study.zarr/origin/scope/metric_above/c.0"
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    assert open_landscape(tmp_path / "run").lowest_metrics() == {}
    run(scoped, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(lowest)


@pytest.mark.parametrize("outputs", [1, 3])
def test_files_of_points_hold_what_was_written_and_no_other_number_of_values(outputs: int, tmp_path: Path) -> None:
    """A file of losses alone is what it was before there were metrics."""
    ids, values = np.array([0, 3, 7, 9]), np.arange(4.0 * outputs).reshape(4, outputs)
    file = tmp_path / "a.losses"
    points.write(file, ids, values if outputs > 1 else values[:, 0])
    if outputs == 1:
        assert file.read_bytes()[32:] == ids.astype("<i8").tobytes() + values.astype("<f8").tobytes()
    found = points.read(file, outputs)
    assert found is not None
    np.testing.assert_array_equal(found[0], ids)
    np.testing.assert_array_equal(found[1], values)
    for other in {1, 2, 3} - {outputs}:
        points.write(file, ids, values)
        assert points.read(file, other) is None
        assert not file.exists()


def test_metrics_of_few_batches_are_refused_where_the_part_is_of_all_data(tmp_path: Path) -> None:
    file = waves(tmp_path, "data: {batches: 4, then: all}\nscope: {share: 0.2}\n")
    task = file.with_name("task.py")
    task.write_text(task.read_text().replace("data=list(", "metrics={'m': lambda m, d: m().sum()}, data=list("))
    done = command("run", file, "--out", tmp_path / "run", "--executor", "serial")
    assert done.returncode == 2
    said = "Task.metrics would be of few batches, and with data.then the lowest part is of all data; leave out the"
    assert said in " ".join(done.stderr.split())


# ---- scattered points -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("sampled"), "sampling: {points: 64, minima: 0}\n")


@pytest.fixture(scope="module")
def scattered(sampled: Path) -> Path:
    return run(sampled, sampled.with_name("whole"))


@pytest.mark.thorough
def test_they_are_told_of_scattered_points(scattered: Path) -> None:
    store = open_landscape(scattered)
    known = store.scattered_points()
    assert known is not None
    alphas, losses = known
    expected = at(alphas)
    assert same(store.scattered_metrics(), expected)
    assert store.lowest_metrics() == {}
    assert list(points_table(store).columns) == ["alpha_0", "alpha_1", "loss", *NAMES]
    told = entry(scattered)["sampling"]
    labels = store.whole_answer("sampling", {"kind": "sobol", "points": 64, "minima": 0}).arrays["labels"]
    for i, (row, name) in enumerate(zip(told["metrics"]["values"], NAMES, strict=True)):
        assert (row["name"], row["mean"]) == (name, pytest.approx(expected[name].mean()))
        for basin in told["metrics"]["basins"]:
            (of,) = np.flatnonzero((alphas == basin["point"]).all(axis=1))
            assert basin["loss"] == losses[of]
            assert basin["points"] == np.count_nonzero(labels == labels[of])
            assert basin["means"][i] == pytest.approx(expected[name][labels == labels[of]].mean())
    assert len(told["metrics"]["basins"]) == told["n_minima"] > 1
    page = (scattered / "report.html").read_text()
    assert "Metrics at the points" in page
    assert "metrics in the basins of their graph" in page


@pytest.mark.processes
def test_processes_leave_the_same_scattered_bytes(sampled: Path, scattered: Path, tmp_path: Path) -> None:
    run(sampled, tmp_path / "run", "--executor", "local", "--workers", "2")
    assert contents(tmp_path / "run") == contents(scattered)


@pytest.mark.thorough
def test_scattered_points_that_an_earlier_version_left_are_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It told nothing of metrics, which a task without any has not."""
    from landscaper_hpc.work import sampled as work

    file = wells(tmp_path)
    file.write_text(file.read_text() + "sampling: {points: 16, minima: 0}\n")
    run(file, tmp_path / "run")
    asked = {"kind": "sobol", "points": 16, "minima": 0}
    store = LandscapeStore(tmp_path / "run/study.zarr", "origin")
    found = store.whole_answer("sampling", asked)
    earlier = {key: value for key, value in found.numbers.items() if ".metrics." not in key}
    assert len(earlier) < len(found.numbers)
    store.write_answer("sampling", asked, found._replace(numbers=earlier))

    def never(*_: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(work.Losses, "find", never)
    run(file, tmp_path / "run")
    assert entry(tmp_path / "run")["sampling"]["metrics"] == {"values": None, "basins": None}
