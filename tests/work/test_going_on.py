"""A study that somebody wrote to, or that goes on elsewhere: the same numbers, or a refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from studies import contents, wells

from landscaper_hpc import InputError, Site, Study, merge_tree, open_landscape, run
from landscaper_hpc.losses.evaluate import evaluation_mode, losses
from landscaper_hpc.work import identity
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.loaded import worker_for

SERIAL = Site(executor="serial", shard_points=5)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study and its finished run."""
    folder = tmp_path_factory.mktemp("done")
    run(Study.load(wells(folder / "study", count=5)), SERIAL, folder / "run")
    return folder


@pytest.fixture
def study(done: Path, tmp_path: Path) -> Study:
    shutil.copytree(done / "run", tmp_path / "run")
    return Study.load(done / "study/study.yaml")


@pytest.mark.thorough
def test_a_tree_that_somebody_wrote_is_not_the_studys(study: Study, tmp_path: Path) -> None:
    before = contents(tmp_path / "run")
    store = open_landscape(tmp_path / "run")
    store.write_tree(merge_tree(store.loss(), store.connectivity, "superlevel"))
    run(study, SERIAL, tmp_path / "run")
    after = contents(tmp_path / "run")
    assert {key for key in before if before[key] != after[key]} == {  # lists of what there is
        "study.zarr/zarr.json",
        "study.zarr/origin/zarr.json",
        "study.zarr/origin/topology/zarr.json",
    }
    tree = xr.open_datatree(tmp_path / "run/study.zarr", engine="zarr")
    assert "/origin/topology/axis.superlevel" in {node.path for node in tree.subtree}


@pytest.mark.thorough
def test_a_loss_that_is_evaluated_as_it_is_written_is_so_by_every_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landscaper_hpc.losses.evaluate._slower_than_written", lambda *_: True)
    study = Study.load(wells(tmp_path / "study", count=5), ["batch=auto"])
    run(study, SERIAL, tmp_path / "run")
    monkeypatch.undo()
    store = open_landscape(tmp_path / "run")
    assert store.attributes["as_written"]
    (item,) = Campaign.of(study, SERIAL, tmp_path / "run").landscapes
    worker = worker_for(item)
    assert "as the loss is written" in evaluation_mode(worker.objective, worker.directions, worker.batch)
    (shard,) = store.grid.shards(store.grid.shape)
    found = losses(worker.objective, worker.directions, store.grid.points(shard), worker.batch)
    assert found.tolist() == store.loss().reshape(-1).tolist()


@pytest.mark.thorough
@pytest.mark.parametrize("damage", ["flip", "foreign", "remove"])
def test_a_damaged_or_foreign_tree_is_computed_again(study: Study, tmp_path: Path, damage: str) -> None:
    before = contents(tmp_path / "run")
    tree = tmp_path / "run/study.zarr/origin/topology/axis.sublevel"
    if damage == "flip":
        content = bytearray((tree / "minima/c.0").read_bytes())
        content[0] ^= 1
        (tree / "minima/c.0").write_bytes(content)
    elif damage == "remove":
        (tree / "values/zarr.json").unlink()
    else:
        (tree / "zarr.json").write_text((tree / "zarr.json").read_text().replace('"losses_sha256": "', '"x": "'))
    run(study, SERIAL, tmp_path / "run")
    assert contents(tmp_path / "run") == before


def pending(folder: Path) -> None:
    """As if the run had been killed before its last shards."""
    for entry in sorted((folder / "study.zarr/origin/done/sha256").glob("c.*"))[-2:]:
        entry.unlink()


def altered(environment: dict[str, Any], torch: str) -> dict[str, Any]:
    return {**environment, "versions": {**environment["versions"], "torch": torch}}


@pytest.mark.thorough
def test_other_versions_do_not_go_on_unless_they_are_accepted(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = identity.provenance(Site())
    losses = open_landscape(tmp_path / "run").loss().tobytes()
    before = contents(tmp_path / "run")
    monkeypatch.setattr(identity, "provenance", lambda device: altered(here, "2.0.1"))
    run(study, SERIAL, tmp_path / "run")  # nothing is left to evaluate, so nothing is mixed
    assert contents(tmp_path / "run") == before
    pending(tmp_path / "run")
    words = rf"begun with torch {here['versions']['torch'].replace('+', '.')}, and here is torch 2\.0\.1 \(on "
    with pytest.raises(InputError, match=f"{words}.*--accept-versions"):
        run(study, SERIAL, tmp_path / "run")
    assert open_landscape(tmp_path / "run").n_done() == open_landscape(tmp_path / "run").n_shards() - 2
    found = run(study, SERIAL.model_copy(update={"accept_versions": True}), tmp_path / "run")
    assert found is not None
    assert found["provenance"]["accepted"] == {"origin": [altered(here, "2.0.1")]}
    assert open_landscape(tmp_path / "run").loss().tobytes() == losses
    assert "torch 2.0.1" in (tmp_path / "run/report.html").read_text()
    pending(tmp_path / "run")
    run(study, SERIAL, tmp_path / "run")  # what is accepted is so for good


@pytest.mark.parametrize("key", ["batch", "grid", "science"])
def test_a_study_does_not_go_on_with_edited_metadata(study: Study, tmp_path: Path, key: str) -> None:
    pending(tmp_path / "run")
    file = tmp_path / "run/study.zarr/origin/zarr.json"
    document = json.loads(file.read_text())
    edited = {"batch": 8, "grid": "[[-1.0, 1.0, 5], [-1.5, 1.5, 5]]", "science": "{}"}
    document["attributes"][key] = edited[key]
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match="metadata were altered"):
        run(study, SERIAL, tmp_path / "run")


@pytest.mark.thorough
def test_a_study_does_not_go_on_without_its_hessian(tmp_path: Path) -> None:
    study = Study.load(wells(tmp_path / "study", count=5), ["directions={kind: hessian, n: 2, normalization: unit}"])
    run(study, SERIAL, tmp_path / "run")
    (tmp_path / "run/study.zarr/origin/hessian/zarr.json").unlink()
    with pytest.raises(InputError, match="metadata were altered"):
        run(study, SERIAL, tmp_path / "run")
