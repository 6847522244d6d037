"""Figures within a page."""

from __future__ import annotations

import re
from collections.abc import Callable

from markupsafe import Markup, escape
from matplotlib.axes import Axes

from landscaper_hpc.report.figures.style import COLOURS, new_figure, svg


def draw(drawing: Callable[[Axes], None], key: str, alt: str, width: float = 4.6, height: float = 3.4) -> Markup:
    """A figure of this size in inches with one Axes, drawn on and embedded."""
    figure, ax = new_figure(width, height)
    drawing(ax)
    return embed(svg(figure), key, alt)


def embed(element: str, key: str, alt: str) -> Markup:
    """An <svg> that stands beside others in one page, takes its colours from the page's variables, and speaks.

    `key` goes before every id, so that no two figures share one; `alt` is what a screen reader says.
    """
    key = re.sub(r"[^A-Za-z0-9_-]", "_", key)
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", element)
    element = re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL)
    for name, colour in COLOURS.items():
        element = element.replace(colour, f"var(--{name})")
    return Markup(element.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1))
