"""What the figures of a sweep's page are over: steps, checkpoints, or the key that varies."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from landscaper_hpc.report import sweep_page
from landscaper_hpc.report.figures import new_figure
from landscaper_hpc.report.quantities import shown

pytestmark = pytest.mark.usefixtures("words_only")


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    numbers = {row.column: 1.0 for row in shown("figure")}
    own = {"checkpoint": "a.pt", "run": None, "step": None, "landscape": "a", "state": "done"}
    return pd.DataFrame([own | numbers | {"study": f"s{i}"} | row for i, row in enumerate(rows)])


def drawn(monkeypatch: pytest.MonkeyPatch, found: pd.DataFrame, varied: list[str]) -> tuple[Any, Any, Any]:
    said = []
    monkeypatch.setattr(
        "landscaper_hpc.report.figures.plot_series",
        lambda series, ax, *, label, over, ticks: said.append((series, over, ticks)),
    )
    sweep_page._figures(found, varied)
    return said[0]


@pytest.mark.thorough
def test_one_checkpoint_is_drawn_over_the_number_that_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on top of each other, at the only checkpoint there is."""
    found = table([{"grid.count": n, "mean_climb": 1 / n} for n in (41, 11, 21)])
    series, over, ticks = drawn(monkeypatch, found, ["grid.count"])
    assert over == "grid.count"
    assert not ticks
    assert [x for x, _ in series.values()] == [[11, 21, 41]]


def test_the_key_of_most_values_is_the_axis_and_others_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"grid.count": n, "grid.range": r, "precision": p} for n in (5, 7, 9) for r in (1, 2) for p in ("a", "b")]
    series, over, _ = drawn(monkeypatch, table(rows), ["grid.count", "grid.range", "precision"])
    assert over == "grid.count"
    assert sorted(series) == sorted(f"grid.range = {r}, precision = {p}" for r in (1, 2) for p in ("a", "b"))
    assert all(x == [5, 7, 9] for x, _ in series.values())


@pytest.mark.thorough
def test_steps_and_names_stay_the_axis_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [{"checkpoint": f"{s}.pt", "step": s, "run": "r", "grid.count": n} for s in (20, 10) for n in (5, 7)]
    series, over, _ = drawn(monkeypatch, table(steps), ["grid.count"])
    assert over == "step"
    assert {name: x for name, (x, _) in series.items()} == {f"r, grid.count = {n}": [10, 20] for n in (5, 7)}
    names = [{"checkpoint": name, "grid.count": n} for name in ("b.pt", "a.pt") for n in (5, 7)]
    series, over, ticks = drawn(monkeypatch, table(names), ["grid.count"])
    assert (over, ticks) == ("checkpoint", ["b.pt", "a.pt"])
    assert all(x == [0, 1] for x, _ in series.values())


def test_traces_and_eigenvalues_of_layers_are_bars_with_their_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    axes: dict[str, Any] = {}

    def kept(plot: Any, key: str, alt: str) -> str:
        axes[key] = plot(new_figure(3, 3)[1])
        return alt

    monkeypatch.setattr(sweep_page, "draw", kept)
    layers = [{"only": f'["h.{i}.*"]', "lambda_max": -1.0 * i} for i in (10, 2)]
    rows = [row | {"hessian_trace": 3.0 + i, "hessian_trace_error": 0.5 * i} for i, row in enumerate(layers)]
    drawn = sweep_page._figures(table(rows), ["only"])
    assert "trace of the Hessian over the values of only" in drawn.values()
    bars = [(bar.get_height(), bar.get_facecolor()) for bar in axes["sweep-lambda_max"].patches]
    assert [height for height, _ in bars] == [-2, -10]  # in the order of depth
    assert [bar.get_height() for bar in axes["sweep-hessian_trace"].patches] == [4, 3]
    (whiskers,) = (c for c in axes["sweep-hessian_trace"].collections if isinstance(c, LineCollection))
    assert [line[:, 1].tolist() for line in whiskers.get_segments()] == [[3.5, 4.5], [3, 3]]
    steps = [row | {"step": i, "run": "r"} for i, row in enumerate(rows)]
    sweep_page._figures(table(steps).drop(columns="only"), [])
    (whiskers,) = (c for c in axes["sweep-hessian_trace"].collections if isinstance(c, LineCollection))
    assert [line[:, 1].tolist() for line in whiskers.get_segments()] == [[3, 3], [3.5, 4.5]]
