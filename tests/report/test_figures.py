"""Figures: what is drawn where, and the same bytes twice. Reads the artists back, compares no pictures."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from landscaper_hpc.errors import InputError
from landscaper_hpc.report import figures
from landscaper_hpc.report.figures.embed import embed
from landscaper_hpc.report.figures.profiles import mean_losses, parents, regions, widened
from landscaper_hpc.report.figures.slices import Cut
from landscaper_hpc.report.figures.style import COLOURS, is_log, loss_axis
from landscaper_hpc.report.figures.subject import Subject
from landscaper_hpc.report.page_figures import with_places
from landscaper_hpc.store.layout import StoredDirections
from landscaper_hpc.topology import MergeTree, contour_tree, merge_tree
from landscaper_hpc.topology.drawing import Drawing, bars, most_persistent
from landscaper_hpc.topology.metrics import mean_climb
from landscaper_hpc.topology.profile import landscape_profile
from landscaper_hpc.topology.sensitivity import sensitivity
from tests.kinds import kinds

WELLS = np.array([4.0, 1.0, 3.0, 0.5, 5.0, 2.0, 4.5])  # minima 0.5, 1 (dies at 3) and 2 (dies at 5)


def segments(ax: Axes) -> list[Any]:
    (lines,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    return [np.asarray(s) for s in lines.get_segments()]


def colours(ax: Axes) -> list[str]:
    (lines,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    return [to_hex(c) for c in lines.get_colors()]


def dots(ax: Axes, colour: str) -> list[tuple[float, float]]:
    """Where the dots of a colour are."""
    found = [c for c in ax.collections if isinstance(c, PathCollection) and len(c.get_facecolor())]
    return [tuple(p) for c in found if to_hex(c.get_facecolor()[0]) == colour for p in np.asarray(c.get_offsets())]


def rough(seed: int = 0, *shape: int) -> tuple[Any, MergeTree]:
    values = np.random.default_rng(seed).random(shape or (12, 12))
    return values, merge_tree(values, labels=True)


def test_profile_draws_each_basin_as_wide_as_it_is() -> None:
    tree = merge_tree(WELLS, labels=True)
    profile = landscape_profile(WELLS, tree)
    with figures.style():
        _, ax = figures.new_figure(4, 3)
        assert figures.plot_profile(profile, ax) is ax
    (basins,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert ax.get_xlim() == (0, 7)
    extents = [path.get_extents() for path in basins.get_paths()]
    top = max(extents, key=lambda e: e.y1 * 100 + e.width)
    assert (top.x0, top.x1, top.y0, top.y1) == (0, 7, 5, 5)
    found = sorted((e.width, e.y0, e.y1) for e in extents)
    # 0.5 alone until 3, then with 1.0 and 3, then with all; 1.0 alone until 3; 2.0 with 4.5 until 5
    assert found == [(1, 0.5, 3), (1, 1, 3), (2, 2, 5), (4, 3, 5), (7, 5, 5)]
    minima, saddles = dots(ax, COLOURS["minimum"]), dots(ax, COLOURS["saddle"])
    assert sorted(y for _, y in minima) == [0.5, 1, 2]
    assert sorted(y for _, y in saddles) == [3, 5]
    assert ax.get_ylabel() == "loss"
    assert ax.get_xlabel() == "grid points below that loss"


def test_barcode_runs_from_birth_to_death_longest_first() -> None:
    tree = merge_tree(WELLS)
    with figures.style():
        _, ax = figures.new_figure(4, 3)
        figures.plot_barcode(tree, ax)
    assert [(s[0, 0], s[1, 0]) for s in segments(ax)] == [(0.5, 5), (2, 5), (1, 3)]
    assert colours(ax) == [COLOURS["deep"], COLOURS["basin"], COLOURS["basin"]]


def test_barcode_shades_what_is_noise_and_says_what_it_leaves_out() -> None:
    tree = merge_tree(WELLS)
    with figures.style():
        _, ax = figures.new_figure(4, 3)
        shown = Subject(Drawing.of(tree, None), tree.value_range, 3, 7, noise_floor=2.5)
        figures.plot_barcode(shown, ax)
        assert ax.get_title(loc="left") == ""
        assert colours(ax)[-1] == COLOURS["noise"]
        (band,) = ax.patches
        assert band.get_extents().y0 == pytest.approx(ax.transData.transform((0, 2.5))[1])
        _, ax = figures.new_figure(4, 3)
        figures.plot_barcode(
            replace(shown, drawing=replace(shown.drawing, bars=bars(tree, most=2)), noise_floor=0.0), ax
        )
    assert ax.get_title(loc="left") == "the 2 most persistent of 3 basins"
    assert len(segments(ax)) == 2


def test_merge_tree_lines_never_cross() -> None:
    for seed in range(5):
        _, tree = rough(seed)
        with figures.style():
            _, ax = figures.new_figure(4, 3)
            figures.plot_merge_tree(tree, ax)
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
            figures.plot_merge_tree(Subject(Drawing.of(shown, None), tree.value_range, total, 7), ax)
        assert ax.get_title(loc="left") == title


def test_a_slice_puts_every_loss_at_its_coordinates() -> None:
    x, y = np.linspace(-1, 1, 5), np.linspace(-2, 2, 3)
    losses = 1 + np.arange(15.0).reshape(5, 3) ** 3
    losses[0, 0] = np.nan
    with figures.style():
        _, ax = figures.new_figure(4, 3)
        figures.plot_slice(Cut([x, y], losses, ["a", "b"]), ax, limits=(1, 2745))
    (image,) = ax.images
    assert np.asarray(image.get_array())[2, 4] == losses[4, 2]
    assert np.ma.getmaskarray(np.ma.masked_invalid(image.get_array()))[0, 0]
    assert tuple(image.get_extent()) == (-1.25, 1.25, -3, 3)
    assert isinstance(image.norm, LogNorm)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")


def test_curves_start_at_the_whole_tree_and_end_with_the_last_basin() -> None:
    _, tree = rough()
    single = merge_tree(np.arange(5.0))
    with figures.style():
        axes = {
            name: figures.plot_over_threshold(
                {"rough": tree, "single": single}, figures.new_figure(4, 3)[1], quantity=name
            )
            for name in ("mean_climb", "smad", "n_minima")
        }
    lines = {name: {line.get_label(): line for line in ax.lines} for name, ax in axes.items()}
    assert lines["n_minima"]["rough"].get_ydata()[0] == tree.n_minima
    assert set(lines["n_minima"]["single"].get_ydata()) == {1}
    assert axes["smad"].get_ylim()[0] == 0
    assert lines["mean_climb"]["rough"].get_ydata()[0] == mean_climb(tree)
    assert [ax.get_ylabel() for ax in axes.values()] == ["mean climb", "SMAD", "minima"]
    assert axes["smad"].get_legend() is not None
    x = lines["smad"]["rough"].get_xdata()  # shares of the range
    low, high = tree.value_range
    assert x[-2] == pytest.approx(tree.lifetimes[np.isfinite(tree.lifetimes)].max() / (high - low))


LIMITS = [(3.0, 3.0), (np.nan, np.nan), (0.0, 1e9), (0.0, 0.0), (-1.0, 1.0), (1e-9, 1e9)]


@pytest.mark.thorough
@pytest.mark.parametrize("limits", kinds(LIMITS, LIMITS[0]))
def test_every_figure_takes_any_range(limits: tuple[float, float]) -> None:
    low = 0.0 if np.isnan(limits[0]) else limits[0]
    field = np.linspace(low, 0.0 if np.isnan(limits[1]) else limits[1], 25).reshape(5, 5)
    tree = merge_tree(field, labels=True)
    x = np.linspace(-1, 1, 5)
    with figures.style():
        for draw in (
            lambda ax: figures.plot_profile(landscape_profile(field, tree), ax, limits=limits),
            lambda ax: figures.plot_barcode(tree, ax, limits=limits),
            lambda ax: figures.plot_merge_tree(tree, ax, limits=limits),
            lambda ax: figures.plot_disconnectivity(tree, ax, limits=limits),
            lambda ax: figures.plot_contour_tree(contour_tree(field), ax, limits=limits),
            lambda ax: figures.plot_persistence_diagram(tree, ax, limits=limits),
            lambda ax: figures.plot_persistence_bars(tree, ax),
            lambda ax: figures.plot_components(tree, ax, limits=limits),
            lambda ax: figures.plot_over_threshold(tree, ax),
            lambda ax: figures.plot_slice(Cut([x, x], field, ["a", "b"]), ax, limits=limits),
            lambda ax: figures.plot_line(Cut([x], field[0], ["a"]), ax, limits=limits, curvature=1.0),
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
            figures.plot_profile(landscape_profile(values, tree), ax)
            twice.append((figures.svg(figure), figures.png(figure), figures.pdf(figure)))
    assert twice[0] == twice[1]
    assert "date" not in twice[0][0].lower()
    assert b"Software" not in twice[0][1]


@pytest.mark.thorough
def test_all_that_stands_around_the_axes_has_room() -> None:
    for limits, names in [((1e-12, 1e9), ["a"]), ((0.0, 123456.0), ["a longer name", "b"])]:
        with figures.style():
            figure, ax = figures.new_figure(4.6, 3.4)
            x, field = np.linspace(-1, 1, 5), np.geomspace(1e-12, limits[1], 25).reshape(5, 5)
            part = Cut([x, x], field, ["over", "a label of some length"], distances=True)
            figures.plot_slice(part, ax, limits=limits)
            series, below = figures.new_figure(4.6, 3.4)
            figures.plot_series(
                {"one": ([0, 1], [1e-5, 1.0])}, below, label="a number", over="checkpoints", ticks=names
            )
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


def test_losses_up_to_the_largest_numbers_have_an_axis() -> None:
    _, ax = figures.new_figure(4, 3)
    loss_axis(ax, "y", (1e-3, 1e306))
    assert np.isfinite(ax.get_ylim()).all()


def test_embedding_keeps_figures_apart_and_takes_the_page_s_colours() -> None:
    element = f'<svg id="a"><use href="#b"/><path style="clip-path: url(#c); fill: {COLOURS["ink"]}"/></svg>'
    found = embed(element, "tree of <x>", 'a "tree"')
    assert found == (
        '<svg role="img" aria-label="a &#34;tree&#34;" id="tree_of__x_-a"><use href="#tree_of__x_-b"/>'
        '<path style="clip-path: url(#tree_of__x_-c); fill: var(--ink)"/></svg>'
    )


def test_no_basin_is_too_narrow_to_see_and_outlines_still_nest() -> None:
    values, tree = rough(0, 40, 40)
    profile = landscape_profile(values, most_persistent(tree, 48))
    wide = widened(profile, values.size)
    last = profile.start[1:] - 1
    assert (profile.right - profile.left)[last].min() < 0.002 * values.size
    least = (wide.right - wide.left)[last].min() / values.size
    assert least == pytest.approx(wide.least)
    assert wide.least > 0.009
    up = parents(profile)
    for child in np.flatnonzero(profile.depth > 0):
        s = profile.branch(int(up[child]))
        after = [k for k in range(s.start, s.stop) if profile.left[k] <= profile.left[last[child]] < profile.right[k]]
        assert wide.left[after[0]] <= wide.left[last[child]] + 1e-9
        assert wide.right[last[child]] <= wide.right[after[0]] + 1e-9
    with figures.style():
        _, ax = figures.new_figure(4, 3)
        figures.plot_profile(Subject(Drawing.of(tree, values), tree.value_range, tree.n_minima, values.size), ax)
    assert "of them at least" in ax.get_xlabel()
    assert len(dots(ax, COLOURS["minimum"])) == min(300, tree.n_minima)


def test_the_profile_is_filled_by_mean_losses() -> None:
    tree = merge_tree(WELLS, labels=True)
    profile = landscape_profile(WELLS, tree)
    branch, begin, end = regions(profile)
    means = mean_losses(profile, begin, end, tree.value_range)
    found = sorted(zip(branch.tolist(), profile.height[begin].tolist(), means.tolist(), strict=True))
    # minima in order: 0.5 alone; with 3 and 4 until 5; the rest. 1.0 alone; 2.0 and 4.5
    assert found == [(0, 0.5, 0.5), (0, 3, 3.5), (0, 5, 5), (1, 1, 1), (2, 2, 3.25)]


def test_what_stands_only_on_the_grid_is_hollow_and_grey() -> None:
    values, tree = rough(1, 6, 6)
    stands = np.arange(tree.n_minima) % 2 == 0
    drawing = Drawing.of(tree, values)
    shown = Subject(drawing, tree.value_range, tree.n_minima, values.size, stands={"basins": stands, "leaves": stands})
    with figures.style():
        for plot in (figures.plot_profile, figures.plot_merge_tree):
            _, ax = figures.new_figure(4, 3)
            plot(shown, ax)
            assert len(dots(ax, COLOURS["minimum"])) == stands.sum()
            hollow = [c for c in ax.collections if isinstance(c, PathCollection) and not len(c.get_facecolor())]
            assert sum(len(c.get_offsets()) for c in hollow) == (~stands).sum()


def test_components_count_minima_less_saddles() -> None:
    with figures.style():
        _, ax = figures.new_figure(4, 3)
        figures.plot_components(merge_tree(WELLS), ax)
    (line,) = ax.lines
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True))[:-1] == [(0.5, 1), (1, 2), (2, 3), (3, 2), (5, 1)]


def test_a_disconnectivity_graph_joins_what_the_tree_joins() -> None:
    _, tree = rough(3)
    with figures.style():
        _, ax = figures.new_figure(4, 3)
        figures.plot_disconnectivity(tree, ax, levels=12)
    ends: dict[tuple[float, float], set[tuple[float, float]]] = {}
    for line in segments(ax):  # every line is drawn upwards: leaves are where none ends
        points = [tuple(p) for p in line]
        for low, high in pairwise(points):
            assert high[1] >= low[1] - 1e-12
            if high != low:
                ends.setdefault(high, set()).add(low)
    feet = {tuple(line[0]) for line in segments(ax)} - set(ends)
    assert sorted(y for _, y in feet) == sorted(tree.values.tolist())


def test_the_hessian_is_drawn_with_its_errors() -> None:
    stored = StoredDirections(
        {"a": np.array([[3.0, 0.0], [0.0, 0.0]]), "b": np.array([[[4.0]], [[1.0]]])},
        np.eye(2),
        {
            "eigenvalues": np.array([5.0, -1.0]),
            "residuals": np.array([0.1, 0.2]),
            "trace": np.array([4.0, 0.5]),
            "density_nodes": np.array([[-1.0, 0.0, 5.0], [-1.0, 0.5, 5.0]]),
            "density_weights": np.array([[0.25, 0.5, 0.25], [0.25, 0.5, 0.25]]),
        },
    )
    with figures.style():
        ax = figures.plot_eigenvalues(stored, figures.new_figure(4, 3)[1])
        bars_ = [patch for patch in ax.patches if patch.get_height()]
        assert [p.get_height() for p in bars_] == [5, -1]
        assert [to_hex(p.get_facecolor()) for p in bars_] == [COLOURS["deep"], COLOURS["basin"]]
        (errors,) = [c for c in ax.collections if isinstance(c, LineCollection)]
        assert [s[:, 1].tolist() for s in errors.get_segments()] == [[4.5, 5.5], [-1.2, -0.8]]
        ax = figures.plot_density(stored, figures.new_figure(4, 3)[1])
        assert ax.get_title(loc="left") == "25 % of the weight lies below 0"
        x, y = ax.lines[0].get_data()
        assert np.trapezoid(y, x) == pytest.approx(1, rel=1e-3)
        ax = figures.plot_layers(stored, figures.new_figure(4, 3)[1])
        assert [(p.get_width(), t.get_text()) for p, t in zip(ax.patches, ax.get_yticklabels(), strict=True)] == [
            (0.64, "b"), (0.36, "a"),
        ]  # fmt: skip
        ax = figures.plot_trace({"one": [4.0, 0.5], "none": None, "two": [3.0, 0.1]}, figures.new_figure(4, 3)[1])
        (errors,) = [c for c in ax.collections if isinstance(c, LineCollection)]
        assert [s[:, 1].tolist() for s in errors.get_segments()] == [[3.5, 4.5], [2.9, 3.1]]


def test_every_figure_needs_no_axes_and_returns_them() -> None:
    import matplotlib.pyplot as plt

    values, tree = rough()
    x = np.linspace(-1, 1, 12)
    made = [
        figures.plot_profile(landscape_profile(values, tree)),
        *(plot(tree) for plot in (figures.plot_barcode, figures.plot_merge_tree, figures.plot_disconnectivity)),
        *(plot(tree) for plot in (figures.plot_persistence_diagram, figures.plot_persistence_bars)),
        *(plot(tree) for plot in (figures.plot_components, figures.plot_over_threshold)),
        figures.plot_contour_tree(contour_tree(values)),
        figures.plot_slice(Cut([x, x], values, ["a", "b"])),
        figures.plot_surface(Cut([x, x], values, ["a", "b"])),
        figures.plot_line(Cut([x], values[0], ["a"])),
        figures.plot_series({"a": ([0, 1], [1.0, 2.0])}),
        figures.plot_trace({}),
        figures.plot_distances(np.eye(2), ["a", "b"]),
        figures.plot_similarity(np.eye(2), ["a", "b"]),
        figures.plot_sensitivity(sensitivity(values[:9, :9], (4, 4))),
        figures.plot_sensitivity([]),
        figures.plot_bars({"a": 1.0}),
    ]
    assert len({id(ax.figure) for ax in made}) == len(made)
    plt.close("all")


def test_sensitivity_has_a_panel_for_each_number_and_each_number_of_directions() -> None:
    rows = sensitivity(np.random.default_rng(0).random((17, 9)), (8, 4))
    drawn = figures.draw_sensitivity(rows)
    labels = [ax.get_ylabel() for ax in drawn.axes]
    assert labels == ["mean climb", "", "SMAD", "", "minima", ""]
    assert all(ax.yaxis.get_tick_params()["labelleft"] for ax in drawn.axes), "each has a scale of its own"
    climbs = drawn.axes[1]
    assert climbs.get_title() == "2 directions"
    assert not climbs.get_legend()
    shown = {str(line.get_label()): line for line in climbs.get_lines()}
    alone = {str(line.get_label()): line for line in figures.plot_sensitivity(rows, Figure().add_subplot()).get_lines()}
    for share, connectivity in {(r.share, r.connectivity) for r in rows if r.directions == 2}:
        line = [r for r in rows if (r.directions, r.share, r.connectivity) == (2, share, connectivity)]
        expected = [[r.shape[0] for r in line], [r.mean_climb for r in line]]
        name = f"{100 * share:.0f} % of the range, {connectivity}"
        for found in (shown, alone):
            np.testing.assert_array_equal(found[name].get_data(), expected)


def test_a_figure_of_something_else_says_what_it_is_of() -> None:
    values, tree = rough()
    for plot, of in (
        (figures.plot_slice, tree),
        (figures.plot_line, tree),
        (figures.plot_eigenvalues, tree),
        (figures.plot_trace, tree),
        (figures.plot_barcode, values),
    ):
        with pytest.raises(InputError, match=r"of a landscape, as open_landscape gives one; found a (Merge|nd)"):
            plot(of, Figure().add_subplot())  # type: ignore[operator]
    with pytest.raises(InputError, match=r"draw landscape_profile\(losses, tree\)"):
        figures.plot_profile(tree, Figure().add_subplot())  # type: ignore[arg-type]


def test_checkpoints_are_projected_whatever_the_angle_of_the_directions() -> None:
    random = np.random.default_rng(0)
    vectors = {"a": random.normal(size=(2, 3)), "b": random.normal(size=(2, 2, 2))}
    flat = np.hstack([v.reshape(2, -1) for v in vectors.values()])
    stored = StoredDirections(vectors, flat @ flat.T)
    origin = {"a": random.normal(size=3), "b": random.normal(size=(2, 2)), "other": np.zeros(1)}
    off = random.normal(size=7)
    off -= flat.T @ np.linalg.solve(flat @ flat.T, flat @ off)
    alphas = np.array([[0.5, -2.0], [0.1, 0.3], [0.0, 0.0]])
    moves = [alpha @ flat + t * off for alpha, t in zip(alphas, (0.0, 1.0, 0.0), strict=True)]
    path = figures.projected(
        stored, origin, [{"a": origin["a"] + m[:3], "b": origin["b"] + m[3:].reshape(2, 2)} for m in moves]
    )
    np.testing.assert_allclose(path.alphas, alphas, atol=1e-12)
    within = np.sum((alphas[1] @ flat) ** 2)
    np.testing.assert_allclose(path.shares, [1, within / (within + off @ off), 1])
    with pytest.raises(InputError, match="checkpoint 0 has no parameter b of shape"):
        figures.projected(stored, origin, [{"a": origin["a"]}])


def test_a_run_is_drawn_where_it_was_projected_to() -> None:
    x = np.linspace(-1, 1, 5)
    part = Cut([x, x], np.add.outer(x**2, x**2), ["a", "b"])
    path = figures.Trajectory(np.array([[0.5, 9.0, -0.5], [0.2, 9.0, 0.1], [0.0, 9.0, 0.0]]), np.array([0.9, 0.8, 1.0]))
    ax = figures.plot_trajectory(part, path, axes=(0, 2))
    drawn = {line.get_gid(): np.transpose(line.get_data()) for line in ax.lines if line.get_gid()}
    np.testing.assert_array_equal(drawn["checkpoint21"], [[0.5, -0.5], [0.2, 0.1], [0, 0]])
    np.testing.assert_array_equal(drawn["checkpoint22"], [[0.5, -0.5]])
    assert ax.get_title(loc="left") == "at least 80 % of each move lies in the directions"
    ax = figures.plot_trajectory(part, path, axes=(0, 2), names=["first", "second", "third"])
    assert {text.get_text(): text.xy for text in ax.texts if hasattr(text, "xy")} == {
        "first": (0.5, -0.5),
        "second": (0.2, 0.1),
        "third": (0.0, 0.0),
    }
    joined = {line.get_gid(): line.get_linestyle() for line in ax.lines}
    assert joined["checkpoint21"] == "None"
    line = figures.plot_trajectory(Cut([x], x**2, ["a"]), path, axes=(0,))
    drawn = {each.get_gid(): each.get_xdata() for each in line.lines if each.get_gid()}
    np.testing.assert_array_equal(drawn["checkpoint21"], [0.5, 0.2, 0.0])


@pytest.mark.parametrize("kind", ["plane", "hessian"])
def test_slices_of_a_page_name_the_checkpoints_of_a_plane_and_join_those_of_a_run(kind: str) -> None:
    places = [{"file": f"runs/{name}.pt", "point": point} for name, point in (("a", [1, 2, 3]), ("b", [4, 5, 6]))]
    entry = {"directions": {"kind": kind}, "trajectory": {"checkpoints": places}}
    ax = figures.new_figure(3, 3)[1]
    with_places(lambda ax: None, entry, (0, 2))(ax)
    lines = {line.get_gid(): line for line in ax.lines}
    np.testing.assert_array_equal(np.transpose(lines["checkpoint21"].get_data()), [[1, 3], [4, 6]])
    assert [text.get_text() for text in ax.texts] == (["a", "b"] if kind == "plane" else [])
    assert ("checkpoint22" in lines) == (kind != "plane")


def test_words_wider_than_the_figure_are_cut() -> None:
    figure, ax = figures.new_figure(4, 3)
    ax.plot([0, 1], [0, 1], label="w" * 400)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    before = ax.get_position().bounds
    assert figures.svg(figure).startswith("<svg")
    assert ax.get_position().bounds == before
