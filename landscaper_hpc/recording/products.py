"""Batched matrix products whose values do not depend on their place in the batch.

Where the matrices of a batch are no whole number of cache lines, the second begins elsewhere in a line than the first,
and BLAS may add up its rows in another order. Whether it does is tried out, for the very shapes of each product; where
it does, the matrices are filled up to whole lines.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

_aten = torch.ops.aten
_PRODUCTS = {_aten.bmm.default, _aten.baddbmm.default}
_LINE = 64
"""Bytes."""
_NUMBERS = 256
"""How many results are compared at least."""


def align(module: GraphModule, argument: Any) -> str:
    """Make the products of a recorded graph independent of their place, in place; `argument` is one for it. Returns a
    product for which that cannot be done, or nothing."""
    if not any(node.target in _PRODUCTS for node in module.graph.nodes):
        return ""
    trial = _Trial(module)
    trial.run(argument)
    for node, strides in trial.uneven.items():
        op: Any = node.target
        node.args = (op, strides, *node.args)
        node.target = aligned
    if trial.uneven:
        module.recompile()
    return trial.hopeless


class _Trial(Interpreter):
    """Tries every product with equal matrices in all places, which lie in memory as those of the graph do."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.uneven: dict[Node, tuple[int, ...]] = {}
        self.hopeless = ""

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.target in _PRODUCTS:
            operands, options = self.fetch_args_kwargs_from_env(n)
            matrices = [result, *operands]
            real = result.is_floating_point() or result.is_complex()
            if real and result.device.type == "cpu" and any(m.stride(0) * m.itemsize % _LINE for m in matrices):
                self._try(n, operands, options, result)
        return result

    def _try(self, node: Node, operands: tuple[Any, ...], options: dict[str, Any], result: Tensor) -> None:
        for seed in range(-(-_NUMBERS // max(result.shape[1:].numel(), 1))):
            generator = torch.Generator().manual_seed(seed)
            equal = [_equal_matrices(operand, generator) for operand in operands]
            if not _is_even(node.target(*equal, **options)):  # type: ignore[operator]
                self.uneven[node] = result.stride()
                if not _is_even(aligned(node.target, result.stride(), *equal, **options)):
                    self.hopeless = str(node.target)
                return


def _is_even(result: Tensor) -> bool:
    bits = torch.view_as_real(result) if result.is_complex() else result
    return bool((bits == bits[:1]).all())


def _equal_matrices(like: Tensor, generator: torch.Generator) -> Tensor:
    """One random matrix in all places of a tensor that lies in memory as `like` does."""
    places = sum((n - 1) * s for n, s in zip(like.shape, like.stride(), strict=True)) + 1
    whole = torch.randn(places, dtype=like.dtype, generator=generator).as_strided(like.shape, like.stride())
    once = whole
    for dim, stride in enumerate(like.stride()):
        once = once if stride else once.narrow(dim, 0, 1)  # one place in memory for many numbers
    once.copy_(once[:1].clone())
    return whole


def aligned(op: Any, strides: tuple[int, ...], *operands: Tensor, **kwargs: Any) -> Tensor:
    *bias, left, right = operands
    n, m = left.shape[1], right.shape[2]
    unit = _LINE // left.dtype.itemsize
    rows, columns = n + -n % unit, m + -m % unit
    wide = [_filled(each.expand(len(left), n, m), rows, columns) for each in bias]
    result: Tensor = op(*wide, _filled(left, rows, left.shape[2]), _filled(right, right.shape[1], columns), **kwargs)
    return result.new_empty_strided((len(left), n, m), strides).copy_(result[:, :n, :m])


def _filled(matrices: Tensor, rows: int, columns: int) -> Tensor:
    whole = matrices.new_zeros(len(matrices), rows, columns)
    whole[:, : matrices.shape[1], : matrices.shape[2]] = matrices
    return whole
