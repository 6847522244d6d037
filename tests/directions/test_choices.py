"""What a study can choose for its directions comes from tables: a new one is one file and one row."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from landscaper_hpc import InputError, Study, Task
from landscaper_hpc.directions.directions import random_directions
from landscaper_hpc.directions.from_study import make_directions
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.progress import silent
from landscaper_hpc.study.choices import DIRECTION_KINDS, NORMALIZATIONS


def _objective() -> Objective:
    torch.manual_seed(0)
    return Objective(Task(nn.Linear(3, 2), lambda m, x: m(x).square().mean(1), torch.randn(5, 3)))


def _study(folder: Path) -> Path:
    (folder / "study.yaml").write_text("{name: s, task: t.py, checkpoints: [{name: a, file: a.pt}]}")
    return folder / "study.yaml"


def test_every_row_is_there() -> None:
    for table in (NORMALIZATIONS, DIRECTION_KINDS):
        assert all(callable(table.load(name)) for name in table.names())


def test_a_normalisation_is_one_file_and_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "doubled.py").write_text("scaled = lambda flat, layout, theta: 2 * flat\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(NORMALIZATIONS.own, "doubled", "doubled:scaled")
    study = Study.load(_study(tmp_path), ["directions={n: 1, normalization: doubled}"])
    found = random_directions(_objective(), 1, normalization=study.directions.normalization)
    assert found.gram.item() == pytest.approx(4.0)
    with pytest.raises(InputError, match=r"must be one of model, .*landscaper, doubled; found 'odd'"):
        Study.load(_study(tmp_path), ["directions.normalization=odd"])
    with pytest.raises(InputError, match="'odd'; choose one of model, unit, layer, filter, landscaper, doubled"):
        random_directions(_objective(), 1, normalization="odd")


def test_a_kind_of_directions_is_one_file_and_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first.py").write_text(
        "from landscaper_hpc.directions.directions import make_directions\n"
        "from landscaper_hpc.objective.flat_layout import Layout\n"
        "import torch\n"
        "def directions(study, objective, progress, resume):\n"
        "    flat = torch.zeros(1, Layout.of(objective.parameters).size)\n"
        "    flat[0, 0] = 1\n"
        "    return make_directions(objective, 'first', flat, study.directions.normalization)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(DIRECTION_KINDS.own, "first", "first:directions")
    study = Study.load(_study(tmp_path), ["directions={kind: first, n: 1, normalization: unit}"])
    found = make_directions(study, _objective(), silent)
    assert found.vectors["weight"][0, 0].tolist() == [1, 0, 0]
    with pytest.raises(InputError, match=r"must be one of hessian, .*first; found 'second'"):
        Study.load(_study(tmp_path), ["directions.kind=second"])
