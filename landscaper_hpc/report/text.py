"""How numbers are written for people, on the page, in tables and on the terminal alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def number(value: float | None) -> str:
    """Four significant digits, in words' notation: 0.0125, 17,541, 3.574 × 10⁻⁵."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return _sign(f"{value:,}")
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    mantissa, _, exponent = f"{value:.3e}".partition("e")
    if value == 0 or -4 <= int(exponent) <= 5:
        digits = max(0, 3 - int(exponent))
        text = f"{value:,.{digits}f}"
        return _sign(text.rstrip("0").rstrip(".") if "." in text else text)
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return _sign(f"{mantissa.rstrip('0').rstrip('.')} × 10{raised}")


def percent(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def numbers(values: Sequence[float]) -> str:
    return ", ".join(map(number, values))


def texts(values: Sequence[str | None]) -> str:
    return "; ".join(value or "–" for value in values)


def bounds(values: Sequence[float]) -> str:
    return " to ".join(map(number, values))


def with_error(values: Sequence[float]) -> str:
    return " ± ".join(map(number, values))


def shape(values: Sequence[int]) -> str:
    return " × ".join(map(str, values))


def shapes(values: Sequence[Sequence[int]]) -> str:
    return ", ".join(map(shape, values))


def matrix(values: Sequence[Sequence[Any]]) -> str:
    return "; ".join(map(numbers, values))


def _sign(text: str) -> str:
    return text.replace("-", "−")
