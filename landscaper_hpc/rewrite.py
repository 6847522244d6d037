"""Rewrites of a recorded graph for CPUs that change no more than the last bits of its value.

tanh(x) becomes 2 σ(2x) − 1, which is vectorised where tanh is not (an absolute error of 1.5 units in the last place);
BatchNorm in evaluation mode is folded into the convolution before it. Whoever uses them compares the values first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

_aten = torch.ops.aten
# A multiple of two vectors of every instruction set: what is left over at the end of a tensor runs through other code,
# so that a value would depend on its place.
_VECTOR = 32
_FRESH = {
    _aten.addmm.default,
    _aten.mm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
    _aten.convolution.default,
    _aten.add.Tensor,
    _aten.sub.Tensor,
    _aten.mul.Tensor,
    _aten.relu.default,
    _aten.relu_.default,
    _aten.add_.Tensor,
}
_MINUS_ONE = {dtype: torch.tensor(-1, dtype=dtype) for dtype in (torch.float32, torch.float64)}
_IN_PLACE: dict[Any, Any] = {_aten.relu.default: _aten.relu_.default, _aten.add.Tensor: _aten.add_.Tensor}


def rewrite(module: GraphModule, *, batched: bool) -> list[str]:
    """Rewrite a recorded graph in place, unless it writes into tensors; returns what was done, as words for the
    record. `batched`: it is for many points at once, whose values may not depend on their place."""
    if any(getattr(getattr(node.target, "_schema", None), "is_mutable", False) for node in module.graph.nodes):
        return []
    done = []
    if [node for node in list(module.graph.nodes) if _fold_norm(module, node)]:
        done.append("BatchNorm folded")
    if _replace_tanh(module, batched):
        done.append("tanh by sigmoid")
    if done:
        for node in list(module.graph.nodes):
            _reuse_memory(node)
        module.graph.eliminate_dead_code()
        module.recompile()
    return done


def _replace_tanh(module: GraphModule, batched: bool) -> bool:
    found = [node for node in module.graph.nodes if node.target is _aten.tanh.default and _real(node)]
    for node in found:
        (source,) = node.all_input_nodes
        node.target = _tanh
        if batched and node.meta["tensor_meta"].shape.numel() % _VECTOR:
            node.target = _padded_tanh
        elif source.target in _FRESH and len(source.users) == 1 and _contiguous(source):
            node.target = _tanh_in_place
    return bool(found)


def _tanh(x: Tensor) -> Tensor:
    return _finish_tanh(x + x)


def _tanh_in_place(x: Tensor) -> Tensor:
    return _finish_tanh(torch.add(x, x, out=x))


def _padded_tanh(x: Tensor) -> Tensor:
    n = x.numel()
    whole = x.new_empty(n + -n % _VECTOR)
    whole[n:] = 0
    result = whole[:n].view(x.shape)
    torch.add(x, x, out=result)
    _finish_tanh(whole)
    return result


def _finish_tanh(doubled: Tensor) -> Tensor:
    torch.sigmoid(doubled, out=doubled)
    return torch.add(_MINUS_ONE[doubled.dtype], doubled, alpha=2, out=doubled)


def _fold_norm(module: GraphModule, node: Node) -> bool:
    """Fold the BatchNorm `node` into its convolution, where it has one of its own."""
    if node.target not in (_aten.native_batch_norm.default, _aten._native_batch_norm_legit_no_training.default):
        return False
    arguments: list[Any] = list(node.args)
    convolution, weight, bias, mean, variance, *rest = arguments
    training = node.target is _aten.native_batch_norm.default and rest.pop(0)
    eps = rest[-1]
    if training or not isinstance(convolution, Node) or convolution.target is not _aten.convolution.default:
        return False
    if len(convolution.users) != 1 or convolution.args[6] or any(user.args[1] != 0 for user in node.users):
        return False
    spread = getattr(module, str(variance.target), None) if isinstance(variance, Node) else None
    if not isinstance(spread, Tensor):
        return False
    operands: list[Any] = list(convolution.args)
    x, kernel, offset, *geometry = operands
    graph = module.graph
    name = f"_rstd_{node.name}"
    module.register_buffer(name, (spread.double() + eps).rsqrt().to(spread.dtype), persistent=False)
    with graph.inserting_before(node):
        scale = graph.get_attr(name)
        if weight is not None:
            scale = graph.call_function(_aten.mul.Tensor, (weight, scale))
        column = graph.call_function(_aten.view.default, (scale, [-1, *[1] * (len(geometry[0]) + 1)]))
        kernel = graph.call_function(_aten.mul.Tensor, (kernel, column))
        shift = mean if offset is None else graph.call_function(_aten.sub.Tensor, (mean, offset))
        shift = graph.call_function(_aten.mul.Tensor, (shift, scale))
        minuend = 0.0 if bias is None else bias
        shift = graph.call_function(_aten.rsub.Tensor if bias is not None else _aten.rsub.Scalar, (shift, minuend))
        folded = graph.call_function(_aten.convolution.default, (x, kernel, shift, *geometry))
    folded.meta["tensor_meta"] = convolution.meta["tensor_meta"]
    for user in list(node.users):
        user.replace_all_uses_with(folded)
        graph.erase_node(user)
    graph.erase_node(node)
    graph.erase_node(convolution)
    return True


def _reuse_memory(node: Node) -> None:
    """Let an operation write its result into an operand that nothing else reads."""
    operands = [a for a in node.args if isinstance(a, Node)]
    if node.target not in _IN_PLACE or node.kwargs or len(set(operands)) != len(operands):
        return
    for operand in operands:
        if operand.target in _FRESH and len(operand.users) == 1 and _same(operand, node):
            node.args = (operand, *(a for a in node.args if a is not operand))
            node.target = _IN_PLACE[node.target]
            return


def _real(node: Node) -> bool:
    """Whether it is a contiguous tensor of a type that the kernels here are for."""
    return _contiguous(node) and node.meta["tensor_meta"].dtype in _MINUS_ONE


def _contiguous(node: Node) -> bool:
    meta = node.meta.get("tensor_meta")
    return meta is not None and getattr(meta, "memory_format", None) == torch.contiguous_format


def _same(a: Node, b: Node) -> bool:
    x, y = a.meta.get("tensor_meta"), b.meta.get("tensor_meta")
    return x is not None and y is not None and (x.shape, x.dtype, x.stride) == (y.shape, y.dtype, y.stride)
