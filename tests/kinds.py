"""Which of the kinds that a test takes `make test-fast` leaves to `make test`, and that to `make test-slow`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thorough(*values: Any) -> Any:
    """A value of `parametrize`, or several at once, that only `make test` takes."""
    return pytest.param(*values, marks=pytest.mark.thorough)


def slow(*values: Any) -> Any:
    """The same, that only `make test-slow` takes."""
    return pytest.param(*values, marks=pytest.mark.slow)


def kinds(every: Iterable[Any], *fast: Any) -> list[Any]:
    """All of them, of which `make test-fast` takes these."""
    return [each if each in fast else thorough(each) for each in every]
