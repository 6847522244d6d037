"""Threads that share the rows of a box."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """Calls a function on consecutive parts of a range, results in the order of the parts.

    The results of the kernels do not depend on how the range is split.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count) if count > 1 else None

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[int, int], T], stop: int, parts: int) -> list[T]:
        if self._pool is None or parts <= 1:
            return [function(0, stop)]
        edges = [stop * i // parts for i in range(parts + 1)]
        return list(self._pool.map(function, edges[:-1], edges[1:]))
