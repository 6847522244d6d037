from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscaper_hpc import strict_json

words = st.sampled_from(["NaN", "Infinity", "-Infinity", "~NaN", "~~-Infinity", "nan", "inf", "~", ""])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | words
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text() | words, inner), max_leaves=20)


def same(a: Any, b: Any) -> bool:
    """Equal, with NaN like NaN, -0.0 unlike 0.0, and 1 unlike 1.0."""
    return repr(a) == repr(b)


@given(values)
@pytest.mark.thorough
def test_what_is_written_comes_back(value: Any) -> None:
    text = strict_json.dumps(value)
    assert same(strict_json.loads(text), value)
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no strict JSON"))


def test_words_that_languages_read_as_numbers() -> None:
    assert strict_json.dumps({"a": [math.nan, math.inf, -math.inf, None]}) == (
        '{"a": ["NaN", "Infinity", "-Infinity", null]}'
    )
    assert [float(word) for word in ("Infinity", "-Infinity")] == [math.inf, -math.inf]
    assert strict_json.dumps((1.5, "nan")) == '[1.5, "nan"]'


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{", ""])
def test_what_is_no_strict_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON number|Expecting"):
        strict_json.loads(text)
