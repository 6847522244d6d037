"""The report of studies made up to hold every case: one basin, many, nothing finite, noise, one to four directions."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.report import page as pages
from landscaper_hpc.report.page import write_report
from landscaper_hpc.report.results import SCHEMA, read_results, results, write_results
from landscaper_hpc.report.text import number, percent
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import StoredDirections
from landscaper_hpc.study.study import Study
from landscaper_hpc.topology import merge_tree
from landscaper_hpc.topology.distances import bottleneck, wasserstein
from landscaper_hpc.topology.drawing import most_persistent
from landscaper_hpc.work.distances import distances_of
from landscaper_hpc.work.measure import measured
from tests.kinds import kinds, slow, thorough


def make_study(
    folder: Path,
    fields: dict[str, NDArray[Any]],
    gram: NDArray[np.float64] | None = None,
    profiles: bool = True,
    precision: str = "float64",
    **directions: Any,
) -> Path:
    """A finished study with these losses, without its report."""
    shape = next(iter(fields.values())).shape
    n = len(shape)
    study = Study.model_validate(
        {
            "name": "made_up",
            "task": "task.py",
            "checkpoints": [{"name": name, "file": f"{name}.pt", "options": {"beta": 1.5}} for name in fields],
            "directions": {"n": n, **directions},
            "precision": precision,
            "grid": {"axes": [{"range": 0.1, "count": k} for k in shape]},
        }
    )
    grid = study.make_grid()
    hessian = study.directions.kind == "hessian"
    stores = []
    for checkpoint in study.checkpoints:
        field = fields[checkpoint.name]
        science = {
            "connectivity": study.connectivity,
            "precision": study.precision,
            "directions": study.directions.model_dump(mode="json"),
            "options": checkpoint.options,
            "task_sha256": "1" * 64,
            "checkpoint_sha256": "2" * 64,
        }
        store = LandscapeStore.create(
            folder / "study.zarr",
            checkpoint.name,
            science,
            grid,
            grid.shape,
            StoredDirections(
                vectors={"w": np.eye(n)},
                gram=np.eye(n) if gram is None else gram,
                hessian={"eigenvalues": np.linspace(5, -1, n), "residuals": np.full(n, 1e-5)} if hessian else {},
            ),
            {
                "checkpoint_loss": float(field[tuple(k // 2 for k in shape)]),
                "iterations": 12 if hessian else None,
                "batch": 16,
                "mode": "vmap",
                "provenance": {"versions": {"torch": "2"}, "device": "a <processor>"},
            },
        )
        for shard in store.shards():
            store.write(shard, field[shard.region])
        tree = merge_tree(field, study.connectivity, labels=True)
        store.write_tree(replace(tree, labels=None), *measured(store, tree, tree.labels if profiles else None))
        stores.append(LandscapeStore(folder / "study.zarr", checkpoint.name))
    found = results(study, "0" * 64, stores, distances_of(stores))
    write_results(folder / "results.json", found)
    return folder


def bowl(*shape: int) -> NDArray[np.float64]:
    axes = np.meshgrid(*(np.linspace(-1, 1, k) for k in shape), indexing="ij")
    return 1e-4 + sum((i + 1) * x**2 for i, x in enumerate(axes))


def rough(*shape: int) -> NDArray[np.float64]:
    return bowl(*shape) * np.random.default_rng(0).uniform(0.1, 10, shape)


class Page(HTMLParser):
    """Checks that tags close in order, and collects ids, references and the text outside of figures."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [value for key, value in attrs if key == "id" and value]
        self.links += [value for key, value in attrs if key in ("src", "href", "xlink:href") and value]
        self.links += [f"#{x}" for _, value in attrs for x in re.findall(r"url\(#([^)]*)\)", value or "")]
        if tag == "svg":
            assert given["role"] == "img"
            self.labels.append(given["aria-label"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"svg", "style", "script"} & set(self.open):
            self.words.append(data)


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text())


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_two_checkpoints_side_by_side(tmp_path: Path) -> None:
    make_study(tmp_path, {"smooth": bowl(9, 7, 5), "rough": rough(9, 7, 5)})
    page = page_of(tmp_path)
    n = merge_tree(rough(9, 7, 5)).n_minima
    assert n > 5
    for name, shows in (("smooth", "a single basin"), ("rough", f"{n} basins")):
        said = f"On 9 × 7 × 5 points the landscape of {name} shows {shows}; whether a finer grid shows the same is not"
        assert f"{said} tested." in page.text
    assert "9 × 7 × 5 = 315 points" in page.text
    assert "1 of the 3 eigenvalues is negative" in page.text
    assert "beta = 1.5" in page.text
    assert len(page.labels) == 2 * (1 + 3 + 1 + 1 + 1) + 3 + 2
    found = read_results(tmp_path / "results.json")["distances"]
    one, other = merge_tree(bowl(9, 7, 5)), merge_tree(rough(9, 7, 5))
    assert found["bottleneck"] == [[0, bottleneck(one, other)], [bottleneck(one, other), 0]]
    assert found["wasserstein"][0][1] == pytest.approx(wasserstein(one, other), rel=1e-8)
    assert "Wasserstein distance between any two landscapes" in page.labels
    assert all(page.labels)
    assert len(set(page.labels)) == len(page.labels)


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_the_first_sentence_says_what_settled(tmp_path: Path) -> None:
    """On three nested grids a bowl settles and noise does not; the page's first sentence and its table say so."""
    field = rough(33, 33)
    page = page_of(make_study(tmp_path, {"smooth": bowl(33, 33), "rough": field}))
    assert (
        "The landscape of smooth has a single basin, settled on 5 × 5, 9 × 9, 17 × 17 and 33 × 33 points." in page.text
    )
    counts = [merge_tree(field[::step, ::step]).n_minima for step in (8, 4, 2, 1)]
    said = f"The landscape of rough is not resolved: it shows {counts[-1]} basins, but {counts[0]}, {counts[1]}, "
    assert f"{said}{counts[2]} and {counts[3]} minima on nested grids" in page.text
    assert page.text.index("settled on") < page.text.index("A basin is")
    assert "17 × 17" in page.text
    for entry in read_results(tmp_path / "results.json")["landscapes"]:
        found = entry["topology"]["refinement"]
        assert found["shapes"] == [[5, 5], [9, 9], [17, 17], [33, 33]]
        assert found["verdict"] == ("settled" if entry["name"] == "smooth" else "not resolved")
        assert found["n_minima"][-1] == entry["topology"]["n_minima"]
        assert found["mean_climb"][-1] == entry["topology"]["mean_climb"]
        assert len(found["bottleneck"]) == 3
    page = page_of(make_study(tmp_path / "two", {"only": bowl(21, 21)}))
    assert "whether a finer grid shows the same is not tested." in page.text


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two landscapes, and its page."""
    folder = tmp_path_factory.mktemp("pair")
    make_study(folder, {"smooth": bowl(7, 5), "rough": rough(7, 5)})
    return write_report(folder)


def test_stands_alone_and_every_reference_is_inside(pair: Path) -> None:
    html = pair.read_text()
    page = Page(html)
    assert len(set(page.ids)) == len(page.ids)
    inside = {f"#{i}" for i in page.ids}
    assert {link for link in page.links if not link.startswith("data:image/png;base64,")} <= inside
    assert html.count("<script") == 2
    assert "<script src" not in html
    assert "@import" not in html
    assert "a &lt;processor&gt;" in html


@pytest.mark.thorough  # figures one by one, and pages without paint, in `make test-fast`
def test_same_study_same_bytes_and_nothing_left_aside(pair: Path) -> None:
    first = pair.read_bytes()
    assert write_report(pair.parent).read_bytes() == first
    assert sorted(p.name for p in pair.parent.iterdir()) == ["report.html", "results.json", "study.zarr"]


@pytest.mark.usefixtures("words_only")
@pytest.mark.parametrize("shape", [(9,), thorough((5, 5)), thorough((5, 3, 3)), (3, 3, 3, 3)])
def test_any_dimension(tmp_path: Path, shape: tuple[int, ...]) -> None:
    make_study(tmp_path, {"only": rough(*shape)}, kind="random", normalization="unit")
    page = page_of(tmp_path)
    slices = [label for label in page.labels if label.startswith("Loss of")]
    assert len(slices) == max(1, len(shape) * (len(shape) - 1) // 2)
    assert "eigenvalue" not in page.text.lower()


@pytest.mark.thorough
def test_values_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    field = rough(7, 7)
    field[0, :3] = np.nan
    field[1, 1] = np.inf
    page = page_of(make_study(tmp_path, {"broken": field}))
    assert "4 of 49 losses are not finite (3 NaN, 1 +∞, 0 −∞)" in page.text


@pytest.mark.parametrize("value", kinds([np.nan, 0.0, np.inf, -np.inf, 2.5], 0.0))
def test_a_landscape_without_any_height(tmp_path: Path, value: float) -> None:
    page = page_of(make_study(tmp_path, {"flat": np.full((5, 5), value)}))
    expected = "Every grid point descends" if value == -np.inf else "The landscape of flat is flat: all of its losses"
    assert ("No point of the grid has a usable loss" if not value < np.inf else expected) in page.text
    assert ("All losses are" in page.text) == ("is flat" in page.text) == np.isfinite(value)
    assert "The loss rises from" not in page.text or not np.isfinite(value)


@pytest.mark.usefixtures("words_only")
def test_losses_that_differ_by_one_rounding_error_are_flat_and_by_more_are_not(tmp_path: Path) -> None:
    field = np.full((17, 17), 3.0)
    field[5, 6] = np.nextafter(3.0, 0)
    page = page_of(make_study(tmp_path / "flat", {"almost": field}))
    assert "The landscape of almost is flat: all of its losses are 3, to rounding." in page.text
    field[5, 6] = 2.999
    assert "is flat" not in page_of(make_study(tmp_path / "deep", {"almost": field})).text


@pytest.mark.usefixtures("words_only")
def test_basins_within_the_noise_are_called_so(tmp_path: Path) -> None:
    field = np.full((5, 5), 1e6)
    field[1, 1], field[3, 3] = 0.0, np.nextafter(1e6, 0)  # one real basin, one of a single rounding error …
    make_study(tmp_path, {"noisy": field})
    path = tmp_path / "results.json"
    changed = read_results(path)
    changed["landscapes"][0]["topology"] |= {"noise_floor": 1.0, "n_above_noise": 1}  # … in a coarser precision
    write_results(path, changed)
    page = page_of(tmp_path)
    assert f"Only 1 of the {merge_tree(field).n_minima} minima stands out from the noise floor, 1;" in page.text


@pytest.mark.usefixtures("words_only")
def test_says_where_the_checkpoint_is_not_the_bottom_and_directions_are_skew(tmp_path: Path) -> None:
    field = bowl(9, 9)
    field[0, 0] = 1e-6
    gram = np.array([[1.0, 0.25], [0.25, 1.0]])
    page = page_of(make_study(tmp_path, {"off": field}, gram=gram, normalization="filter"))
    assert "It is not the bottom of this landscape" in page.text
    assert "not orthogonal (largest cosine 0.25), as filter normalisation makes them" in page.text


@pytest.mark.thorough
def test_thousands_of_minima_stay_readable_and_small(tmp_path: Path) -> None:
    field = np.random.default_rng(0).uniform(1, 2, (75, 75))
    path = write_report(make_study(tmp_path, {"noise": field}))
    page = Page(path.read_text())
    assert merge_tree(field).n_minima > 1000
    assert "the 300 most persistent basins" in page.text
    assert path.stat().st_size < 2_000_000


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.json: cannot be read .*landscaper-hpc run"):
        write_report(tmp_path)
    for text in ("{", "[]", "{}"):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(InputError, match=r"results\.json: is not a study's results"):
            write_report(tmp_path)
    for schema in (1, 99):
        (tmp_path / "results.json").write_text(f'{{"schema": {schema}}}')
        with pytest.raises(InputError, match=f"format {schema}, this version reads {SCHEMA}; remove it and run"):
            write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("most", [1, 2, 10, 1000])
def test_most_persistent_keeps_the_longest(most: int) -> None:
    tree = merge_tree(rough(15, 15))
    kept = most_persistent(tree, most)
    assert kept.n_minima == min(most, tree.n_minima)
    longest = np.sort(tree.lifetimes)[::-1][: kept.n_minima]
    np.testing.assert_array_equal(np.sort(kept.lifetimes)[::-1], longest)


def test_most_persistent_keeps_all_or_none_of_a_tie() -> None:
    tree = merge_tree(np.array([0.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0]))
    assert most_persistent(tree, 2).n_minima == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (1234567, "1,234,567"),
        (0.0125, "0.0125"),
        (-17540.7, "−17,541"),
        (3.5741e-5, "3.574 × 10⁻⁵"),
        (1966455.7, "1.966 × 10⁶"),
        (123456.7, "123,457"),
        (1.0, "1"),
        (float("nan"), "NaN"),
        (float("-inf"), "−∞"),
        (None, "–"),
    ],
)
def test_numbers_read_well(value: float | None, text: str) -> None:
    assert number(value) == text


def test_percentages_read_well() -> None:
    assert [percent(x) for x in (0.5, 0.141, 0.0075, 1.0)] == ["50 %", "14 %", "0.75 %", "100 %"]


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
@pytest.mark.parametrize(
    ("which", "words"),
    [
        thorough("magnitude", "the Hessian's eigenvectors of largest |λ|"),
        ("negative", "the Hessian's eigenvectors of lowest λ (the most negative curvature)"),
        ({"largest": 1, "negative": 2}, "eigenvectors of the Hessian: 1 of largest λ and 2 of lowest λ"),
        ({"largest": 0, "negative": 3}, "eigenvectors of the Hessian: 3 of lowest λ"),
    ],
)
def test_says_which_eigenvectors_the_directions_are(tmp_path: Path, which: Any, words: str) -> None:
    page = page_of(make_study(tmp_path, {"only": rough(3, 3, 3)}, which=which))
    assert f"in 3 directions ({words}), on a grid" in page.text
    assert ("largest |λ|" in page.text) == (which == "magnitude")


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_figures_and_page_compute_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is drawn though no tree can be made, simplified or measured."""
    make_study(tmp_path, {"smooth": bowl(9, 9), "rough": rough(9, 9)})
    expected = write_report(tmp_path).read_bytes()

    def fails(*_: object, **__: object) -> None:
        raise AssertionError("the page computes")

    monkeypatch.setattr("landscaper_hpc.topology.blocks.block.Block.__init__", fails)
    monkeypatch.setattr("landscaper_hpc.topology.build.build_tree", fails)
    for name in ("from_arrays", "simplify", "persistence", "lifetimes", "n_saddles"):
        monkeypatch.setattr(f"landscaper_hpc.topology.tree.MergeTree.{name}", fails)
    monkeypatch.setattr("landscaper_hpc.report.quantity.Measured.__init__", fails)
    monkeypatch.setattr("landscaper_hpc.topology.kernels.outlines.sweep_upwards", fails)
    assert write_report(tmp_path).read_bytes() == expected


@pytest.mark.usefixtures("words_only")
def test_every_number_of_the_page_is_in_the_results(tmp_path: Path) -> None:
    """Those that stand in sentences follow the results, as those of the table do."""
    gram = np.array([[1.0, 0.25], [0.25, 1.0]])
    make_study(tmp_path, {"only": rough(9, 9)}, gram=gram, normalization="filter")
    changed = read_results(tmp_path / "results.json")
    (entry,) = changed["landscapes"]
    assert entry["topology"]["n_on_edge"] > 1
    assert entry["directions"]["skew"] == 0.25
    assert entry["directions"]["n_negative"] == 1
    assert entry["topology"]["curve"]["smad"][0] == entry["topology"]["smad"]
    assert entry["topology"]["curve"]["mean_climb"][0] == entry["topology"]["mean_climb"]
    entry["topology"] |= {"n_on_edge": 3456}
    entry["topology"]["persistence"] |= {"share": 0.4321}
    entry["directions"] |= {"skew": 0.6543}
    write_results(tmp_path / "results.json", changed)
    page = page_of(tmp_path)
    for words in ("3,456 of the", "43 % of the whole range of losses", "largest cosine 0.6543"):
        assert words in page.text


@pytest.mark.usefixtures("words_only")
def test_a_grid_too_large_for_its_profile_is_said_to_be(tmp_path: Path) -> None:
    page = page_of(make_study(tmp_path, {"large": rough(9, 9)}, profiles=False))
    assert "a grid of 81 points is too large for its profile, which is made of at most 50,000,000" in page.text
    assert not any(label.startswith("Landscape profile") for label in page.labels)


@pytest.mark.usefixtures("words_only")
@pytest.mark.thorough
@pytest.mark.parametrize("n", [5, slow(12)])
def test_many_checkpoints_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """Beyond four each is a row; beyond ten each has small figures."""
    fields = {f"step_{i}": bowl(5, 5) if i % 3 else rough(5, 5) * (i + 1) for i in range(n)}
    page = page_of(make_study(tmp_path, fields))
    single = sum(merge_tree(field).n_minima == 1 for field in fields.values())
    assert f"{single} of the {n} landscapes show a single basin" in page.text
    html = (tmp_path / "report.html").read_text()
    (table,) = re.findall(r'<section id="over">.*?</section>', html, flags=re.DOTALL)
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", table)]
    assert [row[0] for row in rows] == ["checkpoint", *fields]
    column = rows[0].index("minima")
    assert [row[column] for row in rows[1:]] == [number(merge_tree(field).n_minima) for field in fields.values()]
    assert html.count("<img ") == 0
    assert len(re.findall(r'<figure data-of="\d+" data-kind="profile">', html)) == html.count('data-plane="0 1"') == n
    monkeypatch.setattr(pages, "SMALL_BYTES", 1000)  # what would make the page too large is pixels
    assert write_report(tmp_path).read_text().count("<img ") == (2 * n if n > 10 else 0)
    assert ("Persistence barcode" in html) == (n <= 10)


@pytest.mark.thorough
@pytest.mark.slow
def test_fifty_checkpoints_make_a_page_that_one_can_send(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    fields = {f"step_{i}": rough(21, 21) * random.uniform(0.5, 1, (21, 21)) for i in range(50)}
    path = write_report(make_study(tmp_path, fields))
    html = path.read_text()
    assert path.stat().st_size < 6_000_000
    assert html.count('data-plane="0 1"') == 50
    assert len(re.findall(r'<figure data-of="\d+" data-kind="profile">', html)) == 50


@pytest.mark.thorough
@pytest.mark.usefixtures("words_only")
def test_sharpness_and_basins_are_told_of_a_study(tmp_path: Path) -> None:
    """Sharpness where coordinates are relative distances; widths and climbs of every grid that has labels."""
    field = bowl(9, 9)
    field[1, 1] = 0.0  # away from the checkpoint, which has to climb to it
    make_study(tmp_path, {"only": field})
    (entry,) = read_results(tmp_path / "results.json")["landscapes"]
    here = field[4, 4]
    assert entry["sharpness"]["box"] == pytest.approx(100 * (field[2:7, 2:7].max() - here) / (1 + here))
    assert entry["sharpness"]["ball"] == pytest.approx(max(field[2, 4], field[4, 2]) - here)
    assert entry["sharpness"]["adaptive"] is None
    tree = merge_tree(field)
    assert tree.n_minima == 2
    assert entry["basins"]["climb_to_deepest"] == pytest.approx(tree.death_value[1] - here)
    share = tree.basin_size[0] / 81
    assert entry["topology"]["deepest_share"] == share
    assert entry["basins"]["deepest_width"] == pytest.approx((share * 0.2**2) ** 0.5)
    coarse = merge_tree(field[::2, ::2])  # 5 × 5, without the hole
    errors = entry["errors"]
    assert errors["deepest_share"] == abs(share - coarse.basin_size[0] / 25)
    assert errors["basin_entropy"] == entry["topology"]["basin_entropy"] > 0
    assert errors["basins_climb_to_deepest"] == entry["basins"]["climb_to_deepest"]
    assert errors["sharpness_ball"] == pytest.approx(0, abs=1e-12)  # the same points are the highest
    said = f"{percent(share)} ± {percent(errors['deepest_share'])}"
    assert said in page_of(tmp_path).text
    make_study(tmp_path / "filter", {"only": field}, normalization="filter")
    (entry,) = read_results(tmp_path / "filter" / "results.json")["landscapes"]
    assert entry["sharpness"]["box"] is entry["sharpness"]["ball"] is None
    assert entry["sharpness"]["adaptive"] == pytest.approx(max(field[2, 4], field[4, 2]) - here)
