"""A recorded function replayed as one CUDA graph: one launch instead of one for each operation.

The kernels are the same, and so are the bits: that is checked, and then the faster of both is kept, by a measurement
that no value depends on.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

log = logging.getLogger(__name__)

_WARM_UP, _ROUNDS = 3, 10


def captured(function: GraphModule, example: Any) -> Callable[[Any], Tensor]:
    """`function` as a CUDA graph for arguments shaped like `example`; itself where that does not work, gives other
    bits, or is no faster (the log says which)."""
    device = _tensors(example)[0].device
    with torch.cuda.device(device):
        try:
            graph = _Captured(function, example)
            if not torch.equal(_bits(graph(example)), _bits(function(example))):
                log.info("no CUDA graph: it gives other bits")
                return function
            slow, fast = _milliseconds(function, example), _milliseconds(graph, example)
        except RuntimeError as error:  # an operation that cannot be captured, or no memory for a second copy
            torch.cuda.synchronize()
            log.info("no CUDA graph: %s", " ".join(str(error).split())[:200])
            return function
    log.info("%.3g ms as a CUDA graph, %.3g ms without", fast, slow)
    return graph if fast < slow else function


class _Captured:
    """Arguments are copied to where the graph reads them."""

    def __init__(self, function: GraphModule, example: Any) -> None:
        self._static = pytree.tree_map_only(Tensor, torch.clone, example)
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):  # lazy initialisation of libraries must not be captured
                function(self._static)
            with _no_waiting():
                function(self._static)
        here.wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # the outer one: a capture that fails leaves its own stream behind
        with torch.cuda.stream(here), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._result = function(self._static)

    def __call__(self, argument: Any) -> Tensor:
        torch._foreach_copy_(_tensors(self._static), _tensors(argument))
        self._graph.replay()
        result: Tensor = self._result.clone()  # the next replay overwrites it
        return result


@contextmanager
def _no_waiting() -> Iterator[None]:
    """RuntimeError where the host waits for the GPU. Such an operation cannot be captured, and after a capture that
    failed torch's allocator is not what it was: so it is found out before."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it may overlook some
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _tensors(argument: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(argument) if isinstance(leaf, Tensor)]


def _bits(value: Tensor) -> Tensor:
    return value.view(torch.int64)


def _milliseconds(function: Callable[[Any], Tensor], argument: Any) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin.record()
    for _ in range(_ROUNDS):
        function(argument)
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / _ROUNDS
