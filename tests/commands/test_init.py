"""`landscaper-hpc init --kind`: each kind is a study that runs as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from studies import command

import landscaper_hpc
from landscaper_hpc import InputError, Site, Study, run
from landscaper_hpc.commands.init import Kind
from landscaper_hpc.objective import load_task

TEMPLATES = Path(landscaper_hpc.__file__).parent / "templates/init"


def test_every_folder_of_templates_is_a_kind() -> None:
    assert {each.name for each in TEMPLATES.iterdir() if each.is_dir() and each.name != "__pycache__"} == set(Kind)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.CLASSIFIER])  # which others run
def test_a_study_of_each_kind_runs_and_its_checkpoint_was_trained(tmp_path: Path, kind: Kind) -> None:
    made = command("init", tmp_path / "mine", "--kind", kind.value)
    assert made.returncode == 0, made.stderr
    assert len(made.stdout.splitlines()) == 4
    done = command("run", "study.yaml", "--executor", "serial", "--set", "grid.count=5", cwd=tmp_path / "mine")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((tmp_path / "mine/runs/my_study/results.json").read_text())["landscapes"]
    torch.manual_seed(0)
    task = load_task(tmp_path / "mine/task.py", {"hidden": 16})
    untrained = float(task.loss(task.model, task.data).mean().detach())
    assert 0 < found["loss"] < untrained / 20


def test_what_is_padded_counts_for_nothing(tmp_path: Path) -> None:
    assert command("init", tmp_path / "mine", "--kind", "language-model").returncode == 0
    task = load_task(tmp_path / "mine/task.py", {})
    tokens, labels = task.data
    assert tokens.shape == labels.shape
    whole = task.loss(task.model, (tokens[:1], labels[:1]))
    labels = labels[:1].repeat(2, 1)
    labels[1] = -100
    torch.testing.assert_close(task.loss(task.model, (tokens[:2], labels)), whole)


@pytest.mark.processes
@pytest.mark.thorough
def test_the_language_model_is_held_by_two_processes_as_it_is(tmp_path: Path) -> None:
    assert command("init", tmp_path / "mine", "--kind", "language-model").returncode == 0
    file = tmp_path / "mine/checkpoints/trained.pt"
    file.parent.mkdir()
    torch.save(load_task(tmp_path / "mine/task.py", {"hidden": 16}).model.state_dict(), file)
    study = Study.load(tmp_path / "mine/study.yaml", ["grid.count=3", "directions.kind=random"])
    found = []
    for size in (1, 2):
        run(study, Site(executor="serial", gpus_per_model=size), tmp_path / str(size))
        found.append(np.asarray(zarr.open_group(tmp_path / f"{size}/study.zarr", mode="r", path="trained")["loss"][:]))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-13)


@pytest.mark.parametrize(
    ("files", "options", "says"),
    [
        ((), {}, "made has no config.json; name the model's folder as folder: in the options"),
        (("config.json",), {}, r"made has no tokenizer \(tokenizer.json, .*save_pretrained\(folder\), or name a "),
        (("config.json",), {"base": "base"}, "made has no tokenizer"),
        (("adapter_config.json",), {}, r"made is an adapter without its base model \(none is named in its adapter"),
        (("adapter_config.json",), {"base": "base"}, r"without its base model \(no config.json in .*/base\); name"),
    ],
)
def test_what_a_folder_of_hugging_faces_lacks(
    files: tuple[str, ...], options: dict[str, str], says: str, tmp_path: Path
) -> None:
    assert command("init", tmp_path, "--kind", "language-model").returncode == 0
    for name in ("made", "base"):
        (tmp_path / name).mkdir()
    for file in files:
        (tmp_path / "made" / file).write_text('{"base_model_name_or_path": null}')
    with pytest.raises(InputError, match=says) as refused:
        load_task(tmp_path / "task.py", {"folder": "made", "text": "text.txt", **options})
    assert "\n" not in str(refused.value)


def test_a_kind_that_is_none_is_refused(tmp_path: Path) -> None:
    done = command("init", tmp_path / "mine", "--kind", "diffusion")
    assert done.returncode == 2
    assert "language-model" in done.stderr
    assert not (tmp_path / "mine").exists()
