"""Figures within a page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup, escape
from matplotlib.axes import Axes
from PIL import Image

from landscaper_hpc.report.figures.style import COLOURS, make_room, new_figure, png, svg

_SHADES = 64  # of small pictures


def draw(
    drawing: Callable[[Axes], object],
    key: str,
    alt: str,
    width: float = 4.6,
    height: float = 3.4,
    plane: Sequence[int] = (),
) -> Markup:
    """A figure of this size in inches with one Axes, drawn on and embedded; of the landscape over the axes `plane` it
    says where those are in it."""
    figure, ax = new_figure(width, height)
    drawing(ax)
    element = svg(figure)
    return embed(element, key, alt, _places(ax, plane) if plane else {})


def paint(drawing: Callable[[Axes], object], alt: str, width: float, height: float) -> Markup:
    """The same as pixels: small where there are many."""
    figure, ax = new_figure(width, height)
    drawing(ax)
    make_room(figure)
    few = Image.open(io.BytesIO(png(figure, dpi=100))).convert("RGB").quantize(_SHADES, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, "png", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup(f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">')


def embed(element: str, key: str, alt: str, data: Mapping[str, str] | None = None) -> Markup:
    """An <svg> that stands beside others in one page, takes its colours from the page's variables, and speaks.

    `key` goes before every id, so that no two figures share one; `alt` is what a screen reader says; `data` are
    attributes for the page's script. What is drawn of a basin is in a group of its own that says of which.
    """
    key = re.sub(r"[^A-Za-z0-9_-]", "_", key)
    element = re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL)
    if "#basin:" in element:
        element = re.sub(r'<a xlink:href="#basin:(\d+)" target="_blank">', r'<g data-basin="\1">', element)
        element = element.replace("</a>", "</g>")
    element = re.sub(r' d="[^"]*"', _shorter, element)
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", element)
    for name, colour in COLOURS.items():
        element = element.replace(colour, f"var(--{name})")
    said = "".join(f' data-{name}="{escape(value)}"' for name, value in (data or {}).items())
    return Markup(element.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"{said}', 1))


def _shorter(path: re.Match[str]) -> str:
    """A path to a hundredth of a point."""
    return re.sub(r"(\.\d\d)\d+", r"\1", path[0]).replace(" \n", "").replace("L ", "L").replace("M ", "M")


def _places(ax: Axes, plane: Sequence[int]) -> dict[str, str]:
    """Where the axes lie in the <svg>, in its own units, and what coordinates are at their ends."""
    width, height = ax.figure.get_size_inches() * 72  # type: ignore[union-attr]
    box = ax.get_position()
    edges = (box.x0 * width, (1 - box.y1) * height, box.width * width, box.height * height)
    ends = (*ax.get_xlim(), *ax.get_ylim())
    return {
        "plane": " ".join(map(str, plane)),
        "box": " ".join(f"{edge:.3f}" for edge in edges),
        "ends": " ".join(f"{end:.9g}" for end in ends),
    }
