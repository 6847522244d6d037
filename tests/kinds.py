"""Which of the kinds that a test takes `make test-fast` leaves to `make test`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thorough(*values: Any) -> Any:
    """A value of `parametrize`, or several at once, that only `make test` takes."""
    return pytest.param(*values, marks=pytest.mark.thorough)


def kinds(every: Iterable[Any], *fast: Any) -> list[Any]:
    """All of them, of which `make test-fast` takes these."""
    return [each if each in fast else thorough(each) for each in every]
