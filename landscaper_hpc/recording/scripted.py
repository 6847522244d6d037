"""A recorded function replayed by torch's interpreter instead of Python's: of small operations most of the time is the
way to them.

The operations are the same, and so are the bits: that is checked. Nothing is optimised, fused or specialised, so the
first replay is like the thousandth.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

log = logging.getLogger(__name__)

WAY_TO_AN_OPERATION = 5e-6
"""Seconds, from Python."""
_WORTH_IT = 0.002


def scripted(function: GraphModule, example: Any) -> Callable[[Any], Tensor]:
    """`function` for torch's interpreter; itself, without what calls of modules do around it, where that does not
    work, gives other bits, or would be no faster. The argument, like `example`, is a dict of tensors by name, or such a
    dict and a list of tensors."""
    plain = function.forward
    began = time.perf_counter()
    expected = plain(example)
    spent = time.perf_counter() - began
    if len(function.graph.nodes) * WAY_TO_AN_OPERATION < _WORTH_IT * spent:
        return plain
    try:
        found = Scripted(plain, example)
        if torch.equal(found(example).view(torch.int64), expected.view(torch.int64)):
            return found
        log.info("not replayed by torch's interpreter: it gives other bits")
    except (RuntimeError, TypeError, ValueError) as error:
        log.info("not replayed by torch's interpreter: %s", " ".join(str(error).split())[:200])
    return plain


class Scripted:
    def __init__(self, plain: Callable[[Any], Tensor], example: Any) -> None:
        self._plain = plain
        params, self._with_data = (example[0], True) if isinstance(example, tuple) else (example, False)
        names = list(params)
        self._ordered: Callable[[Any], tuple[Tensor, ...]] = itemgetter(*names) if len(names) > 1 else _only(names[0])

        def called(*tensors: Tensor) -> Tensor:
            argument = dict(zip(names, tensors, strict=False))
            return plain((argument, list(tensors[len(names) :])) if self._with_data else argument)

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of shapes, which are constants here
            self._function: Any = torch._C._create_function_from_trace(
                "recorded", called, self._flat(example), lambda _: "", True, False, []
            )

    def _flat(self, argument: Any) -> tuple[Tensor, ...]:
        if not self._with_data:
            return self._ordered(argument)
        params, given = argument
        return (*self._ordered(params), *given)

    def __call__(self, argument: Any) -> Tensor:
        before = torch._C._get_graph_executor_optimize()
        torch._C._set_graph_executor_optimize(False)
        try:
            result: Tensor = self._function(*self._flat(argument))
        except RuntimeError:
            result = self._plain(argument)  # it raises what a user would know
        finally:
            torch._C._set_graph_executor_optimize(before)
        return result


def _only(name: str) -> Callable[[Any], tuple[Tensor, ...]]:
    return lambda params: (params[name],)
