"""A recording without what does nothing: dropout that is off, constants computed once, equal operations merged."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

_aten = torch.ops.aten
_KEEPS_ZERO = {
    _aten.alias.default,
    _aten.detach.default,
    _aten.expand.default,
    _aten.t.default,
    _aten.transpose.int,
    _aten.view.default,
    _aten.unsqueeze.default,
    _aten._to_copy.default,
    _aten._reshape_alias.default,
    _aten.clone.default,
}
# Nothing writes into a tensor here, so a copy or view of the same shape, type, layout and device is the tensor itself.
_COPIES = {
    _aten.alias.default,
    _aten.detach.default,
    _aten.expand.default,
    _aten.view.default,
    _aten._unsafe_view.default,
    _aten._reshape_alias.default,
    _aten._to_copy.default,
    _aten.clone.default,
}
_SMALL = 4096
_ZERO_BY_A_FACTOR = {_aten.mm.default, _aten.bmm.default, _aten.mul.Tensor}


def without_dropout(node: Node) -> bool:
    """Fused attention is marked as random for the dropout that it could do."""
    assert isinstance(node.target, torch._ops.OpOverload)
    given = dict(zip((a.name for a in node.target._schema.arguments), node.args, strict=False)) | node.kwargs
    return "scaled_dot_product" in str(node.target) and not given.get("dropout_p", 0.0)


def shorten(module: GraphModule) -> None:
    """Fold what does not depend on the arguments, and drop products with made-up zeros."""
    graph = module.graph
    known: dict[Node, Any] = {}
    zero: set[Node] = set()
    for node in list(graph.nodes):
        if node.op == "get_attr":
            known[node] = getattr(module, str(node.target))
        elif node.op == "call_function":
            inputs = node.all_input_nodes
            if all(i in known for i in inputs) and _cheap(node, known):
                known[node] = _compute(node, known)
            if node.target in _COPIES and inputs and _same(node, inputs[0]):
                node.replace_all_uses_with(inputs[0])
            elif node.target is _aten.zeros.default or (
                node.target in _KEEPS_ZERO and zero.issuperset(inputs[:1] or [node])
            ):
                zero.add(node)
            elif node.target in _ZERO_BY_A_FACTOR and any(i in zero for i in inputs):
                meta = node.meta["tensor_meta"]
                known[node] = torch.zeros((), dtype=meta.dtype, device=meta.device).expand(meta.shape)
                zero.add(node)
            elif node.target is _aten.add.Tensor and not node.kwargs:
                _drop_zero_term(node, zero)
    _merge_equal(module)
    for i, (node, value) in enumerate(known.items()):
        if node.op == "call_function" and any(user not in known for user in node.users):
            name = f"_folded_{i}"
            module.register_buffer(name, value, persistent=False)
            with graph.inserting_before(node):
                constant = graph.get_attr(name)
            node.replace_all_uses_with(constant, delete_user_cb=lambda user: user not in known)
    graph.eliminate_dead_code()
    used = {node.target for node in graph.nodes if node.op == "get_attr"}
    for name in {*dict(module.named_buffers()), *dict(module.named_parameters())} - used:
        delattr(module, name)
    module.recompile()


def _merge_equal(module: GraphModule) -> None:
    """Compute once what is computed twice, from constants that are equal."""
    first: dict[Any, Node] = {}
    for node in list(module.graph.nodes):
        key: Any = None
        if node.op == "call_function":
            # a node is written as its name, which is its own
            key = f"{node.target} {node.args!r} {node.kwargs!r}"
        elif node.op == "get_attr":
            key = _content(getattr(module, str(node.target)))
        if key is not None and (same := first.setdefault(key, node)) is not node:
            node.replace_all_uses_with(same)


def _content(constant: Any) -> Any:
    """What a small tensor is equal by, which a model may make anew with every call; None of others."""
    if not isinstance(constant, Tensor) or constant.layout is not torch.strided or constant.numel() > _SMALL:
        return None
    if constant.is_meta or constant.is_conj() or constant.is_neg():
        return None
    numbers = constant.detach().reshape(-1).cpu().contiguous().view(torch.uint8).numpy()
    return constant.dtype, constant.shape, constant.stride(), constant.device, numbers.tobytes()


def _same(node: Node, other: Node) -> bool:
    a, b = node.meta.get("tensor_meta"), other.meta.get("tensor_meta")
    return a is not None and a == b


def _cheap(node: Node, known: dict[Node, Any]) -> bool:
    """Whether folding saves work and does not cost memory: views are left to run, and a result may not be much larger
    than what it is made from."""
    if node.target is operator.getitem:
        return True
    meta = node.meta.get("tensor_meta")
    if meta is None:
        return False
    made_from = sum(
        value.untyped_storage().nbytes() for i in node.all_input_nodes if isinstance(value := known[i], Tensor)
    )
    return meta.shape.numel() * meta.dtype.itemsize <= max(4 * made_from, 1 << 20) or node.target in _KEEPS_ZERO


def _compute(node: Node, known: dict[Node, Any]) -> Any:
    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: known[n])
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _drop_zero_term(node: Node, zero: set[Node]) -> None:
    """x + 0 is x, where the sum has the shape and type of x."""
    a, b = node.args
    for term, other in ((a, b), (b, a)):
        if isinstance(term, Node) and isinstance(other, Node) and term in zero:
            mine, sums = other.meta.get("tensor_meta"), node.meta["tensor_meta"]
            if mine is not None and (mine.shape, mine.dtype) == (sums.shape, sums.dtype):
                node.replace_all_uses_with(other)
                return
