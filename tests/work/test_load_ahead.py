"""What a client loads, or has compiled, while others work for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from landscaper_hpc.progress import Bars
from landscaper_hpc.topology import compiling
from landscaper_hpc.work.campaign import Campaign
from landscaper_hpc.work.load_ahead import loaded_ahead


def _campaign(finished: bool) -> Campaign:
    plan = SimpleNamespace(finished=lambda: finished, study=SimpleNamespace(connectivity="axis"))
    return cast(Campaign, SimpleNamespace(plans=[plan], scoped=False, sampled=False))


@pytest.mark.parametrize(("compiled", "finished", "expected"), [(False, False, 1), (True, False, 0), (False, True, 0)])
def test_a_client_that_waits_has_compiled_what_is_not(
    compiled: bool, finished: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    begun: list[Any] = []

    @contextmanager
    def beside(tell: Callable[[str], object]) -> Iterator[None]:
        begun.append(tell)
        tell("compiling")
        yield
        told.append("ended")

    monkeypatch.setattr(compiling, "is_compiled", lambda: compiled)
    monkeypatch.setattr(compiling, "compiled_beside", beside)
    bars = Bars()
    monkeypatch.setattr(bars, "tell", told.append)
    with loaded_ahead(_campaign(finished), bars, alone=True):
        while len(begun) < expected:
            time.sleep(0.001)
    assert told == ["compiling", "ended"] * expected
