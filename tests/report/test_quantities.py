"""The table of quantities: a new row is seen everywhere, and what is told of one number is the same in all places."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from landscaper_hpc.commands.run import print_table
from landscaper_hpc.commands.topology import topology
from landscaper_hpc.report import describe, quantities, refined
from landscaper_hpc.report.page import write_report
from landscaper_hpc.report.quantity import NUMBER, Quantity
from landscaper_hpc.report.results import read_results
from landscaper_hpc.report.sweep_page import write_sweep
from landscaper_hpc.report.text import number
from landscaper_hpc.store.sweep_record import Entry, Recorded, write_record
from landscaper_hpc.topology import MergeTree, contour_tree, merge_tree
from landscaper_hpc.topology.decided import DECIDED, causes, warning
from landscaper_hpc.topology.landscaper import smad_landscaper
from landscaper_hpc.topology.metrics import mean_climb, smad
from landscaper_hpc.topology.scope import below, of_logarithm
from landscaper_hpc.work import measure
from tests.report.test_page import Page, bowl, make_study, page_of, rough

app = typer.Typer()
app.command()(topology)


def told(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def printed(results: dict[str, Any]) -> str:
    with redirect_stdout(io.StringIO()) as said:
        print_table(results)
    return said.getvalue()


def sweep_of(folder: Path, **studies: Any) -> Path:
    """A finished sweep of made-up studies of one landscape each."""
    entries = []
    for name, field in studies.items():
        write_report(make_study(folder / "studies" / name, {"only": field}))
        entries.append(Entry(name, [], {"field": name}, ["only"], field.size))
    write_record(folder, Recorded("made_up", "study.yaml", {"checkpoints": None, "directions_from": None}, entries))
    return folder


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_a_new_metric_is_one_function_and_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def largest_basin(tree: MergeTree) -> float:
        return float(tree.basin_size.max() / tree.n_vertices)

    row = Quantity(
        "topology.largest_basin", "largest basin", "", "a share of all points", "max |basin| / N", "a test",
        "tree", NUMBER, lambda m: largest_basin(m.tree), frozenset({"run", "topology", "page", "sweep", "figure"}),
    )  # fmt: skip
    monkeypatch.setattr(quantities, "ROWS", (*quantities.ROWS, row))
    field = rough(9, 9)
    expected = largest_basin(merge_tree(field))
    said = row.text(expected)

    page = page_of(make_study(tmp_path / "study", {"only": field}))
    results = read_results(tmp_path / "study/results.json")
    assert results["landscapes"][0]["topology"]["largest_basin"] == expected
    assert f"largest basin{said}a share of all points" in page.text
    line = next(line for line in printed(results).splitlines() if "largest basin" in line)
    assert said in line
    assert json.loads(told(tmp_path / "study", "--json"))["largest_basin"] == expected
    assert any(line.split() == ["largest", "basin", said] for line in told(tmp_path / "study").splitlines())

    folder = sweep_of(tmp_path / "sweep", bowl=bowl(9, 9), rough=field)
    write_sweep(folder)
    assert pd.read_csv(folder / "sweep.csv")["largest_basin"].tolist() == [1.0, pytest.approx(expected)]
    of_sweep = Page((folder / "sweep.html").read_text())
    assert "largest basin over the values of field" in of_sweep.labels
    assert said in of_sweep.text

    Draft202012Validator(describe.schema()).validate(json.loads((tmp_path / "study/results.json").read_text()))
    assert "| `topology.largest_basin` | largest basin |  | a share of all points |" in describe.markdown()


def test_mean_climb_stands_beside_smad_everywhere() -> None:
    rows = list(quantities.ROWS)
    places = {row.key: row.places for row in rows}
    assert places["topology.mean_climb"] == places["topology.smad"] == {"run", "topology", "page", "sweep", "figure"}
    keys = [row.key for row in rows]
    assert keys.index("topology.smad") == keys.index("topology.mean_climb") + 1


def test_numbers_of_a_scope_of_the_logarithm_and_without_shallow_basins(tmp_path: Path) -> None:
    """Stored as the functions that say what they are give them; none where they are not defined."""
    field, other = rough(9, 9), rough(9, 9)
    other[0, 0] = 0.0
    make_study(tmp_path, {"positive": field, "zero": other})
    for entry, values in zip(read_results(tmp_path / "results.json")["landscapes"], (field, other), strict=True):
        found = entry["topology"]
        tree = merge_tree(values, labels=True)
        assert tree.labels is not None
        level = float(np.sort(values, axis=None)[8])
        scope = below(tree, values, tree.labels, level)
        assert (found["scope"]["level"], found["scope"]["points"]) == (level, 8)
        assert found["scope"]["mean_climb"] == mean_climb(scope)
        assert found["scope"]["smad"] == smad(scope)
        simple = tree.simplify(0.01 * (values.max() - values.min()))
        assert found["simplified"] == {
            "n_minima": simple.n_minima,
            "mean_climb": mean_climb(simple),
            "smad": smad(simple),
        }
        if values is other:
            assert found["mean_climb_log"] is found["smad_log"] is found["scope"]["mean_climb_log"] is None
        else:
            log = of_logarithm(tree)
            assert log is not None
            assert found["mean_climb_log"] == mean_climb(log, normalize=False)
            assert found["smad_log"] == smad(log, normalize=False)


def test_numbers_of_the_contour_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored with a study, but not where the grid is so large that they would cost it time."""
    field, flat = rough(9, 9), np.zeros((9, 9))
    tree = contour_tree(field)
    expected = [
        {
            "n_maxima": len(tree.maxima),
            "smad_landscaper": smad_landscaper(tree),
            "smad_landscaper_normalized": smad_landscaper(tree, weighted=False),
            "smad_landscaper_raw": smad_landscaper(tree, normalize=False, weighted=False),
        },
        {"n_maxima": 1, **dict.fromkeys(["smad_landscaper", "smad_landscaper_normalized", "smad_landscaper_raw"])},
        dict.fromkeys(["n_maxima", "smad_landscaper", "smad_landscaper_normalized", "smad_landscaper_raw"]),
    ]
    make_study(tmp_path / "small", {"rough": field, "flat": flat})
    monkeypatch.setattr(measure, "CONTOUR_POINTS", 80)
    make_study(tmp_path / "large", {"rough": field})
    entries = [e for name in ("small", "large") for e in read_results(tmp_path / name / "results.json")["landscapes"]]
    assert [{name: entry["topology"][name] for name in expected[0]} for entry in entries] == expected


@pytest.mark.usefixtures("words_only")
def test_where_landscaper_defines_no_smad_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not where the contour tree was not made."""
    assert "not defined by Landscaper" in page_of(make_study(tmp_path / "small", {"flat": np.zeros((9, 9))})).text
    monkeypatch.setattr(measure, "CONTOUR_POINTS", 80)
    assert "by Landscaper" not in page_of(make_study(tmp_path / "large", {"flat": np.zeros((9, 9))})).text


@pytest.mark.usefixtures("words_only")
def test_the_warning_stands_beside_smad_everywhere(tmp_path: Path) -> None:
    field = bowl(9, 9)
    field[0, 0] = 0.01  # one spurious minimum, in a corner
    page = page_of(make_study(tmp_path, {"only": field}))
    said = warning(merge_tree(field))
    assert said is not None
    assert said in page.text
    assert said in told(tmp_path)
    assert json.loads(told(tmp_path, "--json"))["smad_warning"] == said
    table = printed(read_results(tmp_path / "results.json"))
    assert "warning on SMAD" in table
    assert "one pair" in table
    assert "warning on SMAD" not in page_of(make_study(tmp_path / "bowl", {"only": bowl(9, 9)})).text


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_what_decides_smad_stands_in_every_table(tmp_path: Path) -> None:
    """Of a sweep, and of nested grids: where it is a ridge with a slope to either edge, and where it is nothing."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, 17)] * 2, indexing="ij")
    field = 3 - (x - 0.3) ** 2 + y**2
    said = ", ".join(cause.name for cause in causes(merge_tree(field)))
    assert said == "one pair, edge minima"
    folder = sweep_of(tmp_path / "sweep", ridge=field, bowl=bowl(17, 17))
    page = Page(write_sweep(folder).read_text()).text
    assert f"“SMAD decided by” names {DECIDED}" in page
    assert page.count(said) == 1
    table = pd.read_csv(folder / "sweep.csv")
    assert table["smad_decided_by"].fillna("–").tolist() == [said, "–"]
    assert pd.read_parquet(folder / "sweep.parquet")["smad_decided_by"].fillna("–").tolist() == [said, "–"]
    for name, expected in (("ridge", [said] * 3), ("bowl", [None] * 3)):
        (entry,) = read_results(folder / "studies" / name / "results.json")["landscapes"]
        assert entry["topology"]["refinement"]["smad_decided_by"] == expected
        rows = refined.table(entry)
        assert [row[refined.HEADER.index("SMAD decided by")] for row in rows] == [one or "–" for one in expected]
        own = Page((folder / "studies" / name / "report.html").read_text()).text
        assert own.count(said) == (3 if name == "ridge" else 0)


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_mean_climb_is_first_in_every_table_and_smad_beside_it(tmp_path: Path) -> None:
    folder = sweep_of(tmp_path / "sweep", rough=rough(17, 17))
    study = folder / "studies/rough"
    text = printed(read_results(study / "results.json"))
    rows = [line.strip("│ ") for line in text.splitlines() if line.startswith("│")]
    assert [re.split("  |│", row)[0].strip() for row in rows[:2]] == ["mean climb", "SMAD"]
    lines = told(study).splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == ["grid", "mean climb", "SMAD"]
    overview = write_sweep(folder)
    columns = list(pd.read_csv(folder / "sweep.csv").columns)
    assert columns[columns.index("state") + 1 :][:2] == ["mean_climb", "smad"]
    for page in (study / "report.html", overview):
        heads = re.findall(r'<th scope="(?:col" class="n|row)">([^<]*)</th>', page.read_text())
        assert heads.index("mean climb") + 1 == heads.index("SMAD")
        assert heads[: heads.index("mean climb")] in (["only"], ["field"])  # whose numbers they are
    assert refined.HEADER[:3] == ("points", "mean climb", "SMAD")
    assert [row.key for row in quantities.ROWS[:2]] == ["topology.mean_climb", "topology.smad"]


def test_every_row_has_its_own_key_label_and_column() -> None:
    for of in (lambda row: row.key, lambda row: row.label, lambda row: row.column):
        assert len({of(row) for row in quantities.ROWS}) == len(quantities.ROWS)


def test_the_published_schema_and_the_docs_are_those_of_the_table() -> None:
    again = "; run python -m landscaper_hpc.report.describe"
    assert describe.SCHEMA_FILE.read_text() == describe.schema_text(), f"the schema is not that of the table{again}"
    docs = Path(__file__).parents[2] / "docs/quantities.md"
    assert docs.read_text() == describe.markdown(), f"the page is not that of the table{again}"


@pytest.mark.parametrize(
    ("field", "more"),
    [
        (rough(7, 7), {}),
        (rough(7, 7), {"which": {"largest": 1, "negative": 1}}),
        (rough(5, 5, 5), {"kind": "random"}),
        (np.full((5, 5), np.nan), {}),
        (np.full((5, 5), -np.inf), {"precision": "bf16"}),
        (np.where(rough(7, 7) > 5, np.inf, rough(7, 7)), {}),
    ],
)
def test_results_are_as_the_schema_says(tmp_path: Path, field: Any, more: dict[str, Any]) -> None:
    make_study(tmp_path, {"NaN": field}, **more)  # a name that reads like a number
    text = (tmp_path / "results.json").read_text()
    found = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no strict JSON"))
    validator = Draft202012Validator(json.loads(describe.SCHEMA_FILE.read_text()))
    validator.validate(found)
    assert read_results(tmp_path / "results.json")["landscapes"][0]["name"] == "NaN"
    found["landscapes"][0]["topology"]["smad"] = "nan"
    assert not validator.is_valid(found)
    del found["landscapes"][0]["topology"]["smad"]
    assert not validator.is_valid(found)


@pytest.mark.parametrize("precision", ["float64", "float32", "tf32", "bf16"])
def test_one_noise_floor(tmp_path: Path, precision: str) -> None:
    """Losses are stored as float64, whatever they were computed in."""
    field = rough(9, 9)
    field[4, 4] = np.nextafter(field[4, 3], 0)
    make_study(tmp_path, {"only": field}, precision=precision)
    (entry,) = read_results(tmp_path / "results.json")["landscapes"]
    found = json.loads(told(tmp_path, "--json"))
    top = np.abs(field).max()
    spacing = {"float64": np.spacing(top), "float32": float(np.spacing(np.float32(top)))}
    spacing |= {"tf32": 2**13 * spacing["float32"], "bf16": 2**16 * spacing["float32"]}
    assert found["noise_floor"] == entry["topology"]["noise_floor"] == spacing[precision]
    assert found["n_above_noise"] == entry["topology"]["n_above_noise"]


def test_topology_tells_what_the_results_hold(tmp_path: Path) -> None:
    field = rough(9, 9)
    field[0, 0], field[8, 8] = np.nan, np.inf
    make_study(tmp_path, {"only": field})
    (entry,) = json.loads((tmp_path / "results.json").read_text())["landscapes"]
    found = json.loads(told(tmp_path, "--json", "--contour"))
    held = dict(entry["topology"])
    assert set(held.pop("curve")) == {"thresholds", "mean_climb", "smad", "n_minima"}
    assert held.pop("refinement")["verdict"] == "not tested"
    assert set(held.pop("scope")) == {"level", "points", "n_minima", "mean_climb", "smad", "mean_climb_log", "smad_log"}
    assert {key: found[key] for key in held} == held


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_beyond_four_checkpoints_are_rows_on_the_terminal(tmp_path: Path) -> None:
    fields = {f"step_{i}": bowl(3, 3) * (i + 1) for i in range(10)}
    make_study(tmp_path, fields)
    lines = printed(read_results(tmp_path / "results.json")).splitlines()
    rows = [line for line in lines if line.startswith("│ step_")]
    assert [line.split()[1] for line in rows] == list(fields)
    assert len({len(line) for line in lines if line[:1] in "│┏"}) == 1
    assert all(
        str(number(entry["loss"])) in line
        for entry, line in zip(read_results(tmp_path / "results.json")["landscapes"], rows, strict=True)
    )
