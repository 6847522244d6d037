"""Figures: what is drawn where, and the same bytes twice. Reads the artists back, compares no pictures."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LogNorm, to_hex
from matplotlib.transforms import Bbox

from landscaper_hpc.report import figures
from landscaper_hpc.report.figures.embed import embed
from landscaper_hpc.report.figures.style import COLOURS, is_log
from landscaper_hpc.topology import MergeTree, merge_tree
from landscaper_hpc.topology.drawing import bars, branches
from landscaper_hpc.topology.metrics import mean_climb, smad_curve
from landscaper_hpc.topology.profile import landscape_profile

WELLS = np.array([4.0, 1.0, 3.0, 0.5, 5.0, 2.0, 4.5])  # minima 0.5, 1 (dies at 3) and 2 (dies at 5)


def segments(ax: Axes) -> list[Any]:
    (lines,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    return [np.asarray(s) for s in lines.get_segments()]


def colours(ax: Axes) -> list[str]:
    (lines,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    return [to_hex(c) for c in lines.get_colors()]


def rough(seed: int = 0, *shape: int) -> tuple[Any, MergeTree]:
    values = np.random.default_rng(seed).random(shape or (12, 12))
    return values, merge_tree(values, labels=True)


def test_profile_draws_each_basin_as_wide_as_it_is() -> None:
    tree = merge_tree(WELLS, labels=True)
    profile = landscape_profile(WELLS, tree)
    with figures.style():
        _, ax = figures.new_figure(4, 3)
        figures.plot_profile(ax, profile, 7, tree.value_range)
    deep, others = [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert len(deep.get_paths()) == 1
    assert len(others.get_paths()) == 2
    assert ax.get_xlim() == (0, 7)
    extent = deep.get_paths()[0].get_extents()
    assert (extent.x0, extent.x1, extent.y0, extent.y1) == (0, 7, 0.5, 5)
    widths = sorted(p.get_extents().width for p in others.get_paths())
    assert widths == [1, 2]  # 1.0 alone until 3; 2.0 with 4.5 until 5
    assert ax.get_ylabel() == "loss"
    assert ax.get_xlabel() == "grid points below that loss"


def test_barcode_runs_from_birth_to_death_longest_first() -> None:
    tree = merge_tree(WELLS)
    with figures.style():
        _, ax = figures.new_figure(4, 3)
        figures.plot_barcode(ax, bars(tree), tree.value_range, 0.0, 3)
    assert [(s[0, 0], s[1, 0]) for s in segments(ax)] == [(0.5, 5), (2, 5), (1, 3)]
    assert colours(ax) == [COLOURS["deep"], COLOURS["basin"], COLOURS["basin"]]


def test_barcode_shades_what_is_noise_and_says_what_it_leaves_out() -> None:
    tree = merge_tree(WELLS)
    with figures.style():
        _, ax = figures.new_figure(4, 3)
        figures.plot_barcode(ax, bars(tree), tree.value_range, 2.5, 3)
        assert ax.get_title(loc="left") == ""
        assert colours(ax)[-1] == COLOURS["noise"]
        (band,) = ax.patches
        assert band.get_extents().y0 == pytest.approx(ax.transData.transform((0, 2.5))[1])
        _, ax = figures.new_figure(4, 3)
        figures.plot_barcode(ax, bars(tree, most=2), tree.value_range, 0.0, 3)
    assert ax.get_title(loc="left") == "the 2 most persistent of 3 basins"
    assert len(segments(ax)) == 2


def test_merge_tree_lines_never_cross() -> None:
    for seed in range(5):
        _, tree = rough(seed)
        with figures.style():
            _, ax = figures.new_figure(4, 3)
            figures.plot_merge_tree(ax, branches(tree), tree.value_range, tree.n_minima)
        lines = segments(ax)
        assert len(lines) == tree.n_minima > 10
        assert sorted(line[0, 0] for line in lines) == list(range(tree.n_minima))
        for i, (_, corner, end) in enumerate(lines):
            left, right = sorted((corner[0], end[0]))
            for j, (foot, top, _) in enumerate(lines):
                if i != j and left < foot[0] < right:
                    assert not foot[1] < corner[1] < top[1]


def test_merge_tree_says_how_many_it_shows() -> None:
    tree = merge_tree(WELLS)
    for shown, total, title in [
        (tree, 3, "3 minima"),
        (tree.simplify(2.5), 3, "the 2 most persistent of 3 minima"),
        (tree.simplify(9), 1, "a single minimum"),
    ]:
        with figures.style():
            _, ax = figures.new_figure(4, 3)
            figures.plot_merge_tree(ax, branches(shown), tree.value_range, total)
        assert ax.get_title(loc="left") == title


def test_a_slice_puts_every_loss_at_its_coordinates() -> None:
    x, y = np.linspace(-1, 1, 5), np.linspace(-2, 2, 3)
    losses = 1 + np.arange(15.0).reshape(5, 3) ** 3
    losses[0, 0] = np.nan
    with figures.style():
        _, ax = figures.new_figure(4, 3)
        figures.plot_slice(ax, x, y, losses, (1, 2745), ("a", "b"))
    (image,) = ax.images
    assert np.asarray(image.get_array())[2, 4] == losses[4, 2]
    assert np.ma.getmaskarray(np.ma.masked_invalid(image.get_array()))[0, 0]
    assert tuple(image.get_extent()) == (-1.25, 1.25, -3, 3)
    assert isinstance(image.norm, LogNorm)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")


def test_smad_curves_start_at_the_whole_tree_and_end_with_the_last_basin() -> None:
    _, tree = rough()
    single = merge_tree(np.arange(5.0))
    with figures.style():
        figure, unused = figures.new_figure(4, 3)
        unused.remove()
        top, above, below = figure.subplots(3, 1)
        curves = {"rough": smad_curve(tree), "single": smad_curve(single)}
        figures.plot_smad_curves((top, above, below), curves, 1e-3)
    lines = {line.get_label(): line for line in below.lines}
    assert lines["rough"].get_ydata()[0] == tree.n_minima
    assert set(lines["single"].get_ydata()) == {1}
    assert above.get_ylim()[0] == 0
    climbs = {line.get_label(): line for line in top.lines}
    assert climbs["rough"].get_ydata()[0] == mean_climb(tree)
    assert (top.get_ylabel(), above.get_ylabel()) == ("mean climb", "SMAD")
    assert top.get_legend() is not None


ODD = [(np.nan, np.nan), (3.0, 3.0), (0.0, 1e9)]
MORE = [(0.0, 0.0), (-1.0, 1.0), (1e-9, 1e9)]


@pytest.mark.parametrize("limits", [*ODD, *(pytest.param(limits, marks=pytest.mark.thorough) for limits in MORE)])
def test_every_figure_takes_any_range(limits: tuple[float, float]) -> None:
    low = 0.0 if np.isnan(limits[0]) else limits[0]
    field = np.linspace(low, 0.0 if np.isnan(limits[1]) else limits[1], 25).reshape(5, 5)
    tree = merge_tree(field, labels=True)
    x = np.linspace(-1, 1, 5)
    with figures.style():
        for draw in (
            lambda ax: figures.plot_profile(ax, landscape_profile(field, tree), 25, limits),
            lambda ax: figures.plot_barcode(ax, bars(tree), limits, 0.0, tree.n_minima),
            lambda ax: figures.plot_merge_tree(ax, branches(tree), limits, tree.n_minima),
            lambda ax: figures.plot_slice(ax, x, x, field, limits, ("a", "b")),
            lambda ax: figures.plot_line(ax, x, field[0], limits, "a"),
        ):
            figure, ax = figures.new_figure(4, 3)
            draw(ax)
            assert figures.svg(figure).startswith("<svg")


def test_same_bytes_twice_and_no_date() -> None:
    values, tree = rough()
    twice = []
    for _ in range(2):
        with figures.style():
            figure, ax = figures.new_figure(4, 3)
            figures.plot_profile(ax, landscape_profile(values, tree), values.size, tree.value_range)
            twice.append((figures.svg(figure), figures.png(figure)))
    assert twice[0] == twice[1]
    assert "date" not in twice[0][0].lower()
    assert b"Software" not in twice[0][1]


def test_all_that_stands_around_the_axes_has_room() -> None:
    for limits, names in [((1e-12, 1e9), ["a"]), ((0.0, 123456.0), ["a longer name", "b"])]:
        with figures.style():
            figure, ax = figures.new_figure(4.6, 3.4)
            x, field = np.linspace(-1, 1, 5), np.geomspace(1e-12, limits[1], 25).reshape(5, 5)
            figures.plot_slice(ax, x, x, field, limits, ("over", "a label of some length"))
            series, below = figures.new_figure(4.6, 3.4)
            figures.plot_series(below, {"one": ([0, 1], [1e-5, 1.0])}, "a number", "checkpoints", names)
            for each in (figure, series):
                element = figures.svg(each)
                whole = Bbox([(0, 0), each.bbox.size])
                canvas: Any = FigureCanvasAgg(each)
                renderer = canvas.get_renderer()
                for part in each.axes:
                    box = part.get_tightbbox(renderer)
                    assert whole.count_contains([box.min, box.max]) == 2
                assert "10⁻" in element or limits[0] == 0
                assert "mathdefault" not in element


@pytest.mark.processes
def test_a_page_needs_no_compiler() -> None:
    heavy = "{'numba', 'torch', 'pandas'}"
    code = f"import sys, landscaper_hpc.report.page; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "[]\n"


def test_logarithmic_only_where_it_helps() -> None:
    assert is_log(1e-3, 1.0)
    assert not is_log(1.0, 50.0)
    assert not is_log(0.0, 1e9)
    assert not is_log(-1.0, 1e9)
    assert not is_log(float("nan"), 1.0)


def test_embedding_keeps_figures_apart_and_takes_the_page_s_colours() -> None:
    element = f'<svg id="a"><use href="#b"/><path style="clip-path: url(#c); fill: {COLOURS["ink"]}"/></svg>'
    found = embed(element, "tree of <x>", 'a "tree"')
    assert found == (
        '<svg role="img" aria-label="a &#34;tree&#34;" id="tree_of__x_-a"><use href="#tree_of__x_-b"/>'
        '<path style="clip-path: url(#tree_of__x_-c); fill: var(--ink)"/></svg>'
    )
