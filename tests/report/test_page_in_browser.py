"""The page in a browser: what one points at, taps, moves and prints. Real events in headless Chromium."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image as pictures
from numpy.typing import NDArray

from landscaper_hpc.confirm.result import FATES
from landscaper_hpc.report.figures.slices import colour_scale
from landscaper_hpc.report.page import write_report
from landscaper_hpc.store.landscape import open_landscape
from landscaper_hpc.topology import merge_tree
from tests.browser import chromium
from tests.report.test_page import bowl, make_study

pytestmark = pytest.mark.processes

Opened = Any


def hills(*shape: int) -> NDArray[np.float64]:
    """A bowl with a few deep holes and many shallow ones."""
    axes = np.meshgrid(*(np.linspace(-1, 1, k) for k in shape), indexing="ij")
    random = np.random.default_rng(1)
    field = bowl(*shape) + 1e-2
    for _ in range(40):
        centre, width = random.uniform(-1, 1, len(shape)), random.uniform(0.05, 0.3)
        field = field * (1 - 0.8 * np.exp(-sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True)) / width**2))
    return field


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    make_study(folder, {"smooth": bowl(11, 9, 7), "rough": hills(11, 9, 7)})
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    program = chromium()
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium in CI, and apt-get did not install it")
        pytest.skip("no Chromium on this machine, and it cannot be installed by root with apt-get")

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any, study: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """The page of the study, of which no word is said in the console, and which loads nothing."""
    context = browser.new_context(**getattr(request, "param", {"viewport": {"width": 1200, "height": 900}}))
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((study / "report.html").as_uri())
    yield page
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [(study / "report.html").as_uri()]
    context.close()


def dot(page: Opened, minimum: int, of: int = 1) -> tuple[float, float]:
    """Where the red dot of a minimum is in the profile, in the window."""
    at = page.locator(f'figure[data-of="{of}"][data-kind="profile"] [data-basin="{minimum}"] use').last
    at.scroll_into_view_if_needed()
    box = at.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_pointing_at_a_basin_says_what_it_is_and_marks_it_everywhere(opened: Opened, study: Path) -> None:
    tree = open_landscape(study, "rough").tree()
    grid = open_landscape(study, "rough").grid
    assert tree.n_minima > 8
    for rank, k in list(enumerate(np.argsort(-tree.lifetimes, kind="stable")))[1:4]:
        minimum = int(tree.minima[k])
        opened.mouse.move(*dot(opened, minimum))
        panel = opened.locator("#basin")
        words = panel.inner_text()
        at = [c[i] for c, i in zip(grid.coordinates(), np.unravel_index(minimum, grid.shape), strict=True)]
        assert f"rough: basin {rank + 1} of {tree.n_minima}" in words
        assert ", ".join(f"α{'₁₂₃'[d]} = {x:.6g}".replace("-", "−") for d, x in enumerate(at)) in words
        assert f"points that descend to it\n{tree.basin_size[k]}" in words
        hot = opened.locator('[data-of="1"] .hot')
        assert {e.get_attribute("data-basin") for e in hot.all()} == {str(minimum)}
        kinds = {e.evaluate("e => e.closest('figure').dataset.kind") for e in hot.all()}
        assert kinds == {"profile", "tree", "bars"}
        marks = opened.locator('.slices[data-of="1"] .mark')
        assert marks.count() == 3
        for svg in opened.locator('.slices[data-of="1"] svg').all():
            (a, b) = map(int, svg.get_attribute("data-plane").split())
            cx, cy = (float(svg.locator(".mark").get_attribute(name)) for name in ("cx", "cy"))
            left, top, width, height = map(float, svg.get_attribute("data-box").split())
            half = [(c[1] - c[0]) / 2 for c in grid.coordinates()]
            low = [c[0] - h for c, h in zip(grid.coordinates(), half, strict=True)]
            high = [c[-1] + h for c, h in zip(grid.coordinates(), half, strict=True)]
            assert cx == pytest.approx(left + width * (at[a] - low[a]) / (high[a] - low[a]), abs=0.01)
            assert cy == pytest.approx(top + height * (high[b] - at[b]) / (high[b] - low[b]), abs=0.01)
    opened.mouse.move(5, 5)
    assert panel.is_hidden()
    assert opened.locator(".hot, .mark").count() == 0


def test_of_many_checkpoints_each_is_explored(browser: Any, tmp_path: Path) -> None:
    make_study(tmp_path, {f"step_{i:02d}": hills(9, 7) * (i + 1) for i in range(11)})
    write_report(tmp_path)
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    tree = open_landscape(tmp_path, "step_06").tree()
    k = int(np.argsort(-tree.lifetimes, kind="stable")[1])
    page.mouse.move(*dot(page, int(tree.minima[k]), of=6))
    assert f"step_06: basin 2 of {tree.n_minima}" in page.locator("#basin").inner_text()
    assert page.locator('.slices[data-of="6"] .mark').count() == 1
    assert page.locator(".mark").count() == 1
    assert said == []
    page.close()


def test_a_click_holds_a_basin_until_escape_and_arrow_keys_go_on(opened: Opened, study: Path) -> None:
    tree = open_landscape(study, "rough").tree()
    order = np.argsort(-tree.lifetimes, kind="stable")
    opened.mouse.click(*dot(opened, int(tree.minima[order[2]])))
    opened.mouse.move(5, 5)
    assert "basin 3 of" in opened.locator("#basin").inner_text()
    opened.keyboard.press("ArrowRight")
    assert "basin 4 of" in opened.locator("#basin").inner_text()
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("ArrowLeft")
    assert "basin 2 of" in opened.locator("#basin").inner_text()
    opened.keyboard.press("Escape")
    assert opened.locator("#basin").is_hidden()


def test_the_threshold_takes_shallow_basins_away(opened: Opened, study: Path) -> None:
    tree = open_landscape(study, "rough").tree()
    slider = opened.locator('figure[data-of="1"] .threshold input')
    curve = open_landscape(study, "rough").numbers()
    for k in (0, 9, 20, int(slider.get_attribute("max"))):
        slider.fill(str(k))
        threshold = curve["topology.curve.thresholds"][k]
        below = opened.locator('figure[data-of="1"][data-kind="tree"] .below')
        gone = {int(e.get_attribute("data-basin")) for e in below.all()}
        assert gone == set(tree.minima[tree.lifetimes < threshold].tolist())
        left = tree.n_minima - len(gone)
        assert left == curve["topology.curve.n_minima"][k]
        assert f"{left} minima" in opened.locator('figure[data-of="1"] .threshold output').inner_text()


def test_slices_go_through_other_places(opened: Opened, study: Path) -> None:
    store = open_landscape(study, "rough")
    losses = store.loss()
    low, high = merge_tree(bowl(11, 9, 7)).value_range[0], max(losses.max(), bowl(11, 9, 7).max())
    svg = opened.locator('.slices[data-of="1"] svg').first
    before = svg.locator('image[id$="-loss"]').get_attribute("xlink:href")
    sliders = opened.locator(".through").nth(1).locator("input")

    def shown() -> NDArray[np.float64]:
        data = svg.locator('image[id$="-loss"]').get_attribute("xlink:href").partition(",")[2]
        return pictures.imread(io.BytesIO(base64.b64decode(data)))

    drawn = shown()
    sliders.nth(2).fill("5")
    moved = shown()
    sliders.nth(2).fill("3")  # back at the checkpoint: the same cells as were drawn
    assert np.abs(shown() - drawn).max() < 0.02
    assert drawn.shape == moved.shape == (9, 11, 4)
    scale = colour_scale((low, high))
    import matplotlib as mpl

    expected = mpl.colormaps["viridis"](scale(losses[:, :, 5].T.reshape(-1)).reshape(9, 11))
    assert np.abs(moved - expected).max() < 0.02
    assert before != svg.locator('image[id$="-loss"]').get_attribute("xlink:href")
    sliders.nth(2).fill("5")
    for part in ("checkpoint11", "contours", "label0"):  # are of the slice through the checkpoint
        assert svg.locator(f'[id$="-{part}"]').first.evaluate("e => e.style.visibility") == "hidden"
    others = opened.locator('.slices[data-of="1"] svg').nth(1)
    assert others.locator('[id$="-checkpoint11"]').first.evaluate("e => e.style.visibility") == ""


PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("opened", [PHONE], indirect=True)
def test_on_a_phone_nothing_is_cut_and_a_tap_tells(opened: Opened, study: Path) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360
    tree = open_landscape(study, "rough").tree()
    k = int(np.argsort(-tree.lifetimes, kind="stable")[1])
    opened.touchscreen.tap(*dot(opened, int(tree.minima[k])))
    panel = opened.locator("#basin")
    assert "basin 2 of" in panel.inner_text()
    box = panel.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


@pytest.mark.parametrize("opened", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_it_is_a_page_that_does_not_move(opened: Opened) -> None:
    assert opened.locator("#basin").is_hidden()
    assert not any(e.is_visible() for e in opened.locator(".live, .controls").all())
    assert opened.locator("figure svg").first.is_visible()
    assert opened.get_by_text("What was found").is_visible()


def test_contents_lead_to_their_parts(opened: Opened) -> None:
    for link in opened.locator("nav a").all():
        link.click()
        at = opened.locator(link.get_attribute("href")).bounding_box()["y"]
        end = opened.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 2")
        assert abs(at) < 2 or end


def test_in_print_no_heading_ends_a_page(opened: Opened, study: Path) -> None:
    """On every page of the PDF, something follows its last heading."""
    pypdf = pytest.importorskip("pypdf")
    pdf = opened.pdf(format="A4")
    headings = opened.locator("h2").all_inner_texts()
    assert len(headings) > 6
    for page in pypdf.PdfReader(io.BytesIO(pdf)).pages:
        lines = [line.strip() for line in page.extract_text().splitlines() if line.strip()]
        assert not lines or lines[-1] not in headings
    assert "slices through" not in "".join(p.extract_text() for p in pypdf.PdfReader(io.BytesIO(pdf)).pages)


def test_fates_that_the_page_can_tell_are_all() -> None:
    from landscaper_hpc.report.interactive import _FATES

    assert set(_FATES) == set(FATES)


def test_the_script_is_a_few_hundred_lines_and_the_page_small(study: Path) -> None:
    html = (study / "report.html").read_text()
    assert len(html.encode()) < 3_000_000
    (script,) = re.findall(r"<script>\n(.*?)</script>", html, flags=re.DOTALL)
    assert len(script.splitlines()) < 300
