"""What objects show in a notebook: well-formed, escaped, short, and of what is there."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from landscaper_hpc import notebook, open_landscape
from landscaper_hpc.topology import contour_tree, merge_tree
from tests.studies import command, wells


def rows(html: str) -> dict[str, str]:
    """The table of what is shown; the whole is well-formed."""
    found = ElementTree.fromstring(html)
    cells = [["".join(cell.itertext()) for cell in row] for row in found.iter("tr")]
    return dict(cells)  # type: ignore[arg-type]


def pixels(html: str) -> NDArray[np.uint8]:
    (content,) = re.findall("src='data:image/png;base64,([^']*)'", html)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wells")
    done = command("run", wells(folder, n=3, count=5), "--executor", "serial", "--out", folder / "run", "-q")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.thorough
def test_a_landscape_shows_shape_ranges_numbers_and_a_slice(run: Path) -> None:
    store = open_landscape(run)
    html = store._repr_html_()
    assert len(html) < 10_000
    shown = rows(html)
    assert shown["grid"] == "5 × 5 × 5"
    assert shown["ranges"].startswith("[-1.5, 1.5] × ")
    assert shown["minima"] == str(store.tree().n_minima)
    assert shown["SMAD"] == f"{store.numbers()['topology.smad']:.4g}"
    losses = store.loss()
    assert shown["range of losses"] == f"{losses.min():.4g} to {losses.max():.4g}"
    drawn, middle = pixels(html).astype(int).sum(axis=2), losses[:, :, 2]
    assert drawn.shape == (5, 5)
    order = np.argsort(middle.T[::-1], axis=None)  # the first axis to the right, the second upwards, darker is lower
    assert (np.diff(drawn.reshape(-1)[order]) >= 0).all()


@pytest.mark.thorough
def test_a_landscape_shows_what_is_there(run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run, tmp_path / "run")
    store = open_landscape(tmp_path / "run")
    next((store.folder / "done" / "sha256").glob("c.*")).unlink()
    shown = rows(store._repr_html_())
    assert shown["evaluated"] == f"{store.n_shards() - 1} of {store.n_shards()} shards"
    assert "shard" in shown["damaged"]
    shutil.rmtree(store.folder / "topology")
    assert "minima" not in rows(store._repr_html_())


@pytest.mark.thorough
def test_of_one_axis_there_is_a_curve(tmp_path: Path) -> None:
    done = command("run", wells(tmp_path, n=1, count=5), "--executor", "serial", "--out", tmp_path / "run", "-q")
    assert done.returncode == 0, done.stderr
    html = open_landscape(tmp_path / "run")._repr_html_()
    assert rows(html)["grid"] == "5"
    assert html.count("<path") == 1
    assert "<img" not in html


def test_a_merge_tree_and_its_persistence_show_themselves() -> None:
    values = np.random.default_rng(0).normal(size=(60, 60))
    values[0, :3] = [np.nan, np.inf, -np.inf]
    tree = merge_tree(values)
    html = tree._repr_html_()
    shown = rows(html)
    assert shown["grid"] == "60 × 60"
    assert shown["minima"] == f"{tree.n_minima:,}"
    assert shown["values that are nan"] == shown["values that are neginf"] == "1"
    assert html.count("<path") == 200 < tree.n_minima
    found = tree.persistence()
    html = found._repr_html_()
    assert rows(html)["pairs"] == f"{len(found.births):,}"
    assert html.count("<circle") == 200
    assert len(html) < 20_000
    assert "nan" not in html
    assert rows(merge_tree(-values, direction="superlevel")._repr_html_())["maxima"] == shown["minima"]


def test_a_contour_tree_shows_itself() -> None:
    tree = contour_tree(np.random.default_rng(0).random((7, 6)))
    html = tree._repr_html_()
    shown = rows(html)
    assert (shown["minima"], shown["maxima"]) == (str(len(tree.minima)), str(len(tree.maxima)))
    assert html.count("<path") == len(tree.branches.leaf)
    assert rows(contour_tree([1.0])._repr_html_())["minima"] == "1"


def test_trees_without_pairs_or_minima_show_themselves() -> None:
    for values in (np.arange(4.0), np.full((2, 2), np.nan), np.zeros(1)):
        tree = merge_tree(values)
        assert rows(tree._repr_html_())["minima"] == str(tree.n_minima)
        assert rows(tree.persistence()._repr_html_())["pairs"] == "0"


def test_text_is_escaped() -> None:
    html = notebook.card("<script>", [("<a>", "<b> & 'c'"), ("count", 12345), ("share", 0.123456)])
    assert "<script" not in html
    assert rows(html) == {"<a>": "<b> & 'c'", "count": "12,345", "share": "0.1235"}


def test_pictures_of_what_is_not_finite_and_of_much() -> None:
    drawn = pixels(notebook.heat_map([[0.0, np.nan], [1.0, np.inf]]))
    assert drawn[0].tolist() == [[200, 60, 60], [200, 60, 60]]
    assert drawn[1, 0].sum() < drawn[1, 1].sum()
    assert max(pixels(notebook.heat_map(np.zeros((1000, 7)))).shape) <= 120
    line = notebook.line([0, 1, 2, 3], [1, np.nan, 2, np.inf])
    assert line.count("M") == 2
    assert "nan" not in notebook.line([0, 1], [np.nan, np.nan])


@pytest.mark.thorough
def test_the_cells_of_the_tutorial_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    notebook_file = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"
    code = [cell for cell in json.loads(notebook_file.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))  # as they lie there
    assert all(cell["outputs"] for cell in code)
    there: dict[str, Any] = {}
    for cell in code:
        exec("".join(cell["source"]), there)
    pyplot.close("all")
    assert open_landscape(tmp_path / "runs/notebook").tree().n_minima == there["made"].tree.n_minima
