"""Rewrites of a recorded graph for CPUs that change no more than the last bits of its value.

tanh(x) becomes 2 σ(2x) − 1, which is vectorised where tanh is not (an absolute error of 1.5 units in the last place);
a linear layer's bias is added by its matrix product, with examples as columns where that is faster; BatchNorm in
evaluation mode is folded into the convolution before it. Whoever uses them compares the values first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from landscaper_hpc.recording.padding import VECTOR
from landscaper_hpc.recording.record import Meta

_aten = torch.ops.aten
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
_PRODUCTS = {_aten.addmm.default, _aten.baddbmm.default}
_MINUS_ONE = {dtype: torch.tensor(-1, dtype=dtype) for dtype in (torch.float32, torch.float64)}
_IN_PLACE: dict[Any, Any] = {_aten.relu.default: _aten.relu_.default, _aten.add.Tensor: _aten.add_.Tensor}


def rewrite(module: GraphModule, *, batched: bool) -> list[str]:
    """Rewrite a recorded graph in place, unless it writes into tensors; returns what was done, as words for the
    record. `batched`: it is for many points at once, whose values may not depend on their place."""
    if any(map(writes, module.graph.nodes)):
        return []
    done = []
    if [node for node in list(module.graph.nodes) if _fold_norm(module, node)]:
        done.append("BatchNorm folded")
    if [node for node in list(module.graph.nodes) if _fuse_bias(module.graph, node)]:
        done.append("bias in the product")
    if _replace_tanh(module, batched):
        done.append("tanh by sigmoid")
    if done:
        for node in list(module.graph.nodes):
            _reuse_memory(node)
        module.graph.eliminate_dead_code()
        module.recompile()
    return done


def writes(node: Node) -> bool:
    """Whether an operation writes into what it reads."""
    mutable = getattr(getattr(node.target, "_schema", None), "is_mutable", False)
    return bool(mutable) or node.target in (_tanh_in_place, _finish_tanh)


def _replace_tanh(module: GraphModule, batched: bool) -> bool:
    found = [node for node in module.graph.nodes if node.target is _aten.tanh.default and _real(node)]
    for node in found:
        (source,) = node.all_input_nodes
        node.target = _tanh
        if batched and node.meta["tensor_meta"].shape.numel() % VECTOR:
            node.target = _padded_tanh
        elif source.target in _FRESH and len(source.users) == 1 and _contiguous(source):
            node.target = _tanh_in_place
            if source.target in _PRODUCTS:  # 2x is a product by 2, which rounds nothing
                source.kwargs = {key: 2 * source.kwargs.get(key, 1) for key in ("beta", "alpha")}
                node.target = _finish_tanh
    return bool(found)


def _tanh(x: Tensor) -> Tensor:
    return _finish_tanh(x + x)


def _tanh_in_place(x: Tensor) -> Tensor:
    return _finish_tanh(torch.add(x, x, out=x))


def _padded_tanh(x: Tensor) -> Tensor:
    n = x.numel()
    whole = x.new_empty(n + -n % VECTOR)
    whole[n:] = 0
    result = whole[:n].view(x.shape)
    torch.add(x, x, out=result)
    _finish_tanh(whole)
    return result


def _finish_tanh(doubled: Tensor) -> Tensor:
    torch.sigmoid(doubled, out=doubled)
    return torch.add(_MINUS_ONE[doubled.dtype], doubled, alpha=2, out=doubled)


def _fuse_bias(graph: Graph, node: Node) -> bool:
    """Let the batched matrix product before the addition `node` add the bias, (b, 1, n) to (b, m, n). Where only a
    tanh and more products follow, and where n is 1, it is done as (b, n, m): a bias that is a column costs the kernel
    nothing, and long rows are faster than long columns."""
    if node.target is not _aten.add.Tensor or node.kwargs:
        return False
    for product, bias in (node.args, node.args[::-1]):
        if isinstance(product, Node) and isinstance(bias, Node) and _is_bias(bias, product, node):
            break
    else:
        return False
    left, right = product.all_input_nodes
    tanh = _between_products(node)
    turned = tanh is not None or node.meta["tensor_meta"].shape[2] == 1
    with graph.inserting_before(node):
        row = _unsqueezed(graph, bias)
        operands = [_turned(graph, x) for x in (row, right, left)] if turned else [row, left, right]
        result = graph.call_function(_aten.baddbmm.default, tuple(operands))
        result.meta["tensor_meta"] = _contiguous_meta(node, turned)
        if tanh is not None:
            meta = result.meta["tensor_meta"]
            result = graph.call_function(_aten.tanh.default, (result,))
            result.meta["tensor_meta"] = meta
        if turned:
            result = graph.call_function(_aten.transpose.int, (result, 1, 2))
    replaced = [node] if tanh is None else [tanh, node]
    replaced[0].replace_all_uses_with(result)
    for old in (*replaced, product):
        graph.erase_node(old)
    return True


def _between_products(node: Node) -> Node | None:
    """The tanh that is all that reads `node`, and that only batched matrix products read, from the left."""
    (tanh,) = node.users if len(node.users) == 1 else (node,)
    between = tanh.target is _aten.tanh.default and all(
        user.target is _aten.bmm.default and user.args[0] is tanh and user.args[1] is not tanh for user in tanh.users
    )
    return tanh if between else None


def _is_bias(bias: Node, product: Node, total: Node) -> bool:
    if product.target is not _aten.bmm.default or len(product.users) != 1 or len(product.all_input_nodes) != 2:
        return False
    a, b, c = (node.meta.get("tensor_meta") for node in (bias, product, total))
    if a is None or b is None or c is None or not a.dtype == b.dtype == c.dtype:
        return False
    return bool(b.shape == c.shape and a.shape == (c.shape[0], 1, c.shape[2]))


def _unsqueezed(graph: Graph, bias: Node) -> Node:
    """A bias (b, 1, n), without the copy that vmap makes of it."""
    shape, source = bias.meta["tensor_meta"].shape, bias
    while source.target is _aten.view.default or (source.target is _aten.mul.Scalar and source.args[1] == 1):
        (source,) = source.all_input_nodes
        meta = source.meta.get("tensor_meta")
        if meta is not None and meta.shape == (shape[0], shape[2]) and meta.dtype == bias.meta["tensor_meta"].dtype:
            bias = source
    return bias if bias.meta["tensor_meta"].shape == shape else graph.call_function(_aten.unsqueeze.default, (bias, 1))


def _turned(graph: Graph, node: Node) -> Node:
    """The transpose of each matrix of a stack."""
    if node.target is _aten.transpose.int and node.args[1:] == (1, 2):
        return node.all_input_nodes[0]
    return graph.call_function(_aten.transpose.int, (node, 1, 2))


def _contiguous_meta(node: Node, turned: bool) -> Meta:
    meta = node.meta["tensor_meta"]
    b, m, n = meta.shape
    rows, columns = (n, m) if turned else (m, n)
    return Meta(
        torch.Size((b, rows, columns)), meta.dtype, (rows * columns, columns, 1), contiguous=True, device=meta.device
    )


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
    return meta is not None and meta.contiguous


def _same(a: Node, b: Node) -> bool:
    x, y = a.meta.get("tensor_meta"), b.meta.get("tensor_meta")
    return x is not None and x == y
