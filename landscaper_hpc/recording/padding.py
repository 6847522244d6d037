"""Element-wise functions whose values do not depend on their place in a tensor.

torch computes whole vector registers by one code and what is left over at the end of a tensor by another, which rounds
differently for all functions but the exactly rounded ones. Of many points in one tensor the last would so get other
bits than the first. So tensors whose length is no multiple of the registers' are filled up first.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

VECTOR = 32
"""Numbers of four bytes or more: a multiple of two vectors of every instruction set."""

_aten = torch.ops.aten
_NOT_TAGGED = {
    *("hardswish", "hardswish_backward", "log_sigmoid_backward", "softplus_backward", "elu_backward", "mish_backward"),
    *("huber_loss", "huber_loss_backward", "smooth_l1_loss", "smooth_l1_loss_backward"),
}
# Rounded once, or not at all: every code gives the same bits.
_EXACT = {
    *("abs", "neg", "mul", "div", "relu", "maximum", "minimum", "fmax", "fmin", "clamp", "clamp_min", "clamp_max"),
    *("where", "masked_fill", "threshold", "threshold_backward", "hardtanh", "leaky_relu", "sign", "sgn", "square"),
    *("floor", "ceil", "round", "trunc", "frac", "sqrt", "reciprocal", "clone", "copysign", "positive", "relu6"),
    *("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite", "signbit", "nan_to_num", "conj_physical"),
    *("bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor"),
    *("logical_and", "logical_not", "logical_or", "logical_xor"),
}
_SUMS = {"add", "sub", "rsub"}  # exact unless a factor is multiplied in
_EXACT_POWERS = {0, 0.5, 1, 2, 3, -1}


def pad(module: GraphModule) -> str:
    """Fill up what is not exact in a recorded graph, in place. Returns an operation for which that cannot be done, or
    nothing."""
    padded = False
    for node in list(module.graph.nodes):
        if not _depends_on_its_place(node):
            continue
        if node.target._schema.is_mutable or len(node.target._schema.returns) != 1:
            return str(node.target)
        node.args = (node.target, tuple(node.meta["tensor_meta"].shape), *node.args)
        node.target = _padded
        padded = True
    if padded:
        module.recompile()
    return ""


def _depends_on_its_place(node: Node) -> bool:
    op, meta = node.target, node.meta.get("tensor_meta")
    if not isinstance(op, torch._ops.OpOverload):
        return False
    name = op.overloadpacket.__name__.removesuffix("_")
    if torch.Tag.pointwise not in op.tags and name not in _NOT_TAGGED:
        return False
    if name in _EXACT or (name in _SUMS and node.kwargs.get("alpha", 1) == 1 and len(node.args) < 3):
        return False
    if name == "pow" and len(node.args) > 1 and node.args[1] in _EXACT_POWERS:
        return False
    if name.endswith("_loss") and (len(node.args) < 3 or node.args[2]):  # its mean or sum
        return False
    if meta is None:  # several results
        return True
    return bool(meta.dtype.is_floating_point or meta.dtype.is_complex) and bool(
        meta.shape.numel() % (VECTOR if meta.dtype.itemsize >= 4 else 2 * VECTOR)
    )


def _padded(op: Any, shape: tuple[int, ...], *args: Any, **kwargs: Any) -> Tensor:
    length = math.prod(shape)

    def fill(t: Tensor) -> Tensor:
        if not t.ndim:
            return t
        whole = t.new_ones(length + -length % (2 * VECTOR))
        whole[:length].view(shape).copy_(t)
        return whole

    args, kwargs = pytree.tree_map_only(Tensor, fill, (args, kwargs))
    result: Tensor = op(*args, **kwargs)
    return result[:length].view(shape)
