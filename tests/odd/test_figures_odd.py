"""Odd trees and arguments for figures: they are drawn without a warning, or one sentence says what to give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from landscaper_hpc import InputError
from landscaper_hpc.report import figures
from landscaper_hpc.topology import contour_tree, merge_tree
from landscaper_hpc.topology.profile import landscape_profile

FIELD = np.random.default_rng(0).normal(size=(9, 8))
OFTEN = ("persistence_diagram", "persistence_bars", "disconnectivity", "barcode", "merge_tree", "components")
ODD: list[tuple[str, Any]] = [
    ("both infinities", np.where(FIELD > 1, np.inf, np.where(FIELD < -1, -np.inf, FIELD))),
    ("nothing finite", FIELD * np.nan),
    ("one point", np.ones((1, 1))),
    ("a plateau", np.zeros((5, 5))),
    ("next to nothing", np.round(FIELD * 3) * 5e-324),
    ("far from zero", FIELD * 1e-3 + 1e16),
    ("five axes", np.random.default_rng(1).normal(size=(3,) * 5)),
]


@pytest.fixture(autouse=True)
def _closed() -> Any:
    yield
    plt.close("all")


@pytest.mark.parametrize("field", [row[1] for row in ODD], ids=[row[0] for row in ODD])
def test_odd_fields_are_drawn(field: Any) -> None:
    tree = merge_tree(field, labels=True)
    drawn: list[Axes] = [getattr(figures, f"plot_{name}")(tree) for name in OFTEN]
    drawn.append(figures.plot_over_threshold(tree))
    drawn.append(figures.plot_contour_tree(contour_tree(field)))
    drawn.append(figures.plot_profile(landscape_profile(field, tree)))
    drawn[0].figure.canvas.draw()


TREE: Any = merge_tree(FIELD)
REFUSED: list[tuple[str, Callable[[], object], str]] = [
    ("a quantity that is none", lambda: figures.plot_over_threshold(TREE, quantity="depth"), "'depth'; choose one of"),  # type: ignore[arg-type]
    ("of parts", lambda: figures.plot_sensitivity([], quantity="depth"), "'depth'; choose one of mean_climb"),  # type: ignore[arg-type]
    ("values without places", lambda: figures.plot_series({"a": ([0], [1, 2])}), "a has 1 places and 2 values"),
    ("levels below nothing", lambda: figures.plot_disconnectivity(TREE, levels=-3), "levels is -3; give a whole"),
    ("no branch", lambda: figures.plot_contour_tree(contour_tree(FIELD), most=0), "most is 0; give a whole"),
    ("a merge tree", lambda: figures.plot_contour_tree(TREE), r"contour_tree\(losses\); found a MergeTree"),
    ("a name too few", lambda: figures.plot_distances(np.eye(2), ["a"]), r"shape \(2, 2\), and there are 1 names"),
    ("a column too many", lambda: figures.plot_similarity(np.ones((2, 3)), ["a", "b"]), r"shape \(2, 3\)"),
    ("nothing", lambda: figures.plot_similarity(np.ones((0, 0)), []), "there are 0 names"),
]


@pytest.mark.parametrize(("call", "told"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_no_figure_is_of_is_one_sentence(call: Callable[[], object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        call()


def test_where_nothing_is_known_figures_are_empty() -> None:
    figures.plot_distances(np.full((2, 2), np.nan), ["a", "b"]).figure.canvas.draw()
    assert "no trees" in figures.plot_over_threshold({}).texts[0].get_text()
