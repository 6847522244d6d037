"""How objects show themselves in a notebook: a few rows and a small picture, as HTML in one piece.

Text and numbers are escaped, pictures are inline; nothing is imported but numpy, so that the lowest rooms can use it.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

_WIDTH, _HEIGHT = 200, 130
_MOST_CELLS = 120
_MOST_MARKS = 200
_LOW_TO_HIGH = np.array([[8, 48, 107], [33, 113, 181], [107, 174, 214], [198, 219, 239], [252, 250, 240]], np.float64)
"""Darker is lower, as on the page."""
_NO_NUMBER = (200, 60, 60)
_LINE = "#2171b5"


def card(title: str, rows: Iterable[tuple[str, object]], picture: str = "") -> str:
    """A title, rows of a name and a value each, and beside them a picture of this module."""
    table = "".join(
        f"<tr><td style='text-align:left'>{escape(name)}</td>"
        f"<td style='text-align:left'>{escape(value if isinstance(value, str) else number(value))}</td></tr>"
        for name, value in rows
    )
    return (
        f"<div><b>{escape(title)}</b><div style='display:flex;gap:1.5em;align-items:flex-start;flex-wrap:wrap'>"
        f"<table>{table}</table>{picture}</div></div>"
    )


def number(value: object) -> str:
    """A number in short."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def heat_map(values: ArrayLike) -> str:
    """A picture of a plane, the first axis to the right and the second upwards; red is no finite number."""
    found = _in_reach(values)
    found = found[tuple(slice(None, None, max(1, -(-k // _MOST_CELLS))) for k in found.shape)].T[::-1]
    finite = np.isfinite(found)
    low, high = (float(found[finite].min()), float(found[finite].max())) if finite.any() else (0.0, 0.0)
    share = np.zeros(found.shape)
    if high > low:
        share[finite] = (found[finite] - low) / (high - low)
    place = share * (len(_LOW_TO_HIGH) - 1)
    colours = np.stack([np.interp(place, np.arange(len(_LOW_TO_HIGH)), column) for column in _LOW_TO_HIGH.T], axis=-1)
    colours[~finite] = _NO_NUMBER
    image = base64.b64encode(_png(colours.round().astype(np.uint8))).decode()
    return (
        f"<img alt='the loss over two axes' width='{_HEIGHT}' height='{_HEIGHT}' style='image-rendering:pixelated' "
        f"src='data:image/png;base64,{image}'/>"
    )


def line(places: ArrayLike, values: ArrayLike) -> str:
    """A curve; where it is no finite number it has a gap."""
    x, y = _scaled(places, _WIDTH), _scaled(values, _HEIGHT)
    pieces, begin = [], True
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if math.isfinite(b):
            pieces.append(f"{'M' if begin else 'L'}{a:.1f},{_HEIGHT - b:.1f}")
        begin = not math.isfinite(b)
    return _svg("the loss along the axis", [f"<path d='{' '.join(pieces)}' fill='none' stroke='{_LINE}'/>"])


def bars(births: ArrayLike, deaths: ArrayLike) -> str:
    """A vertical bar from each birth to its death; what never dies reaches the top."""
    lower, upper = _within(births, deaths)
    step = _WIDTH / max(1, len(lower))
    return _svg(
        "persistence, a bar for each minimum",
        [
            f"<path d='M{(i + 0.5) * step:.1f},{_HEIGHT - a:.1f}V{_HEIGHT - b:.1f}' stroke='{_LINE}' "
            f"stroke-width='{min(4.0, 0.7 * step):.1f}'/>"
            for i, (a, b) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True))
        ],
    )


def diagram(births: ArrayLike, deaths: ArrayLike) -> str:
    """A dot at each birth and death, above the diagonal."""
    lower, upper = _within(births, deaths)
    dots = [
        f"<circle cx='{a * _WIDTH / _HEIGHT:.1f}' cy='{_HEIGHT - b:.1f}' r='2.5' fill='{_LINE}'/>"
        for a, b in zip(lower.tolist(), upper.tolist(), strict=True)
    ]
    return _svg("persistence diagram", [f"<path d='M0,{_HEIGHT}L{_WIDTH},0' stroke='#999'/>", *dots])


def _within(births: ArrayLike, deaths: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both on one scale of heights, at most so many, the longest; what is not finite lies at an end of it."""
    lower, upper = np.asarray(births, np.float64), np.asarray(deaths, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        life = np.nan_to_num(upper - lower, nan=np.inf)
    kept = np.argsort(-life, kind="stable")[:_MOST_MARKS]
    both = np.concatenate([lower[kept], np.where(np.isnan(upper[kept]), np.inf, upper[kept])])
    found = _scaled(both, _HEIGHT)
    return found[: len(kept)], found[len(kept) :]


def _in_reach(values: ArrayLike) -> NDArray[np.float64]:
    """Values on a scale on which their differences are numbers."""
    found = np.asarray(values, np.float64)
    return (
        found / 4
        if np.abs(found, where=np.isfinite(found), out=np.zeros(found.shape)).max(initial=0) > 1e300
        else found
    )


def _scaled(values: ArrayLike, size: float) -> NDArray[np.float64]:
    """Values within 0 to `size`, infinities at its ends; NaN stays."""
    found = _in_reach(values)
    finite = found[np.isfinite(found)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if high <= low:
        high = low + 1
    with np.errstate(invalid="ignore"):
        scaled: NDArray[np.float64] = np.clip((found - low) / (high - low), 0, 1) * size
    return scaled


def _svg(title: str, marks: Sequence[str]) -> str:
    return (
        f"<svg role='img' xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{_HEIGHT}' "
        f"viewBox='-4 -4 {_WIDTH + 8} {_HEIGHT + 8}'><title>{escape(title)}</title>{''.join(marks)}</svg>"
    )


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """An image of (height, width, 3)."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
