"""JSON that every reader takes and that loses nothing: for all files and all `--json` of this package.

JSON has no number that is not finite, so these are the strings "NaN", "Infinity" and "-Infinity", which `float()` in
Python and `Number()` in JavaScript read (Zarr v3 writes its metadata in the same way). null means that there is no
value. A text that reads like one of the three gets a "~" in front, and so does one that has it already, so that what
comes back is what was written. Keys are texts and stay as they are.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_LOOKS_LIKE_ONE = re.compile(r"~*(NaN|-?Infinity)")


def dumps(value: Any, indent: int | None = None) -> str:
    """`value` (dicts with texts as keys, lists, tuples, texts, numbers, True, False, None) as JSON."""
    return json.dumps(_written(value), indent=indent, allow_nan=False)


def loads(text: str | bytes) -> Any:
    """What `dumps` was given, tuples as lists. `ValueError` for what is no strict JSON."""
    return _read(parsed(text, parse_constant=_refuse))


def parsed(text: str | bytes, **options: Any) -> Any:
    """What `json.loads` makes of it; `ValueError` as well for what is nested deeper than Python can follow."""
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `object_pairs_hook`: an object; `ValueError` for a key that is given twice, of which readers take either."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice} is given twice")
    return found


def number(value: float) -> float | str:
    """A number as it is written: itself, or one of the three strings."""
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _written(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str) and _LOOKS_LIKE_ONE.fullmatch(value):
        return f"~{value}"
    return value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _read(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_read(item) for item in value]
    if isinstance(value, str) and _LOOKS_LIKE_ONE.fullmatch(value):
        return _NUMBERS[value] if value in _NUMBERS else value[1:]
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")
