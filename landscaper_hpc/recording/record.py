"""A function of tensors recorded once as a flat list of tensor operations, and shortened.

Recording (torch.fx) follows every transform inside the function (vmap, jvp, autograd), so that what is replayed for
each point has no transform left in it. Then everything that does not depend on the arguments is computed once, and
products with the zero tangents that forward mode makes up for constants are dropped. The operations that remain are
the ones that would have run anyway, in the same order, on the same numbers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functionalize
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakTensorKeyDictionary

from landscaper_hpc.objective.exits import Exits, watching_calls
from landscaper_hpc.objective.listening import Listener, as_written, takes_functions
from landscaper_hpc.recording.shorten import shorten, without_dropout

_aten = torch.ops.aten


class NotRecordable(Exception):
    """The function does something that a list of operations cannot say; the message names it."""


class _Aliased(Exception):
    """A tensor is written into that has other names, or that was there before."""


class Meta(NamedTuple):
    """What is known of the tensor that a node stands for: `node.meta["tensor_meta"]`."""

    shape: torch.Size
    dtype: torch.dtype
    stride: tuple[int, ...]
    contiguous: bool
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> Meta:
        return cls(tensor.shape, tensor.dtype, tensor.stride(), tensor.is_contiguous(), tensor.device)


def record(function: Callable[[Any], Tensor], example: Any) -> GraphModule:
    """`function` of one argument (tensors in dicts, lists or tuples), recorded at `example` and shortened.

    The result is valid for arguments of the same shapes and dtypes. Tensors that the function closes over are taken
    as constants. NotRecordable where the course of the function or a shape in it depends on the values (`if loss > 1`,
    `.item()`, `x[x > 0]`), where a value leaves torch (`.numpy()`, `.tolist()`), or it draws random numbers. Values
    that depend on constants alone may do all of this.
    """
    try:
        try:
            try:
                module = _recorded(function, example, without_writes=True)
            except _Aliased:  # torch knows how to do without such writes, with what its compilers bring along
                module = _recorded(functionalize(lambda x: function(x)), example)
        except RuntimeError:
            # what calls torch.autograd itself, or writes into a tensor that it closes over, is recorded writes and all
            module = _recorded(function, example)
    except (NotRecordable, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever user code or torch raises: the caller then runs the function as it is
        raise NotRecordable(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    writes = False
    for node in module.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            writes |= node.target._schema.is_mutable
    if not writes:  # else an operation may depend on more than its arguments
        shorten(module)
    return module


def _recorded(function: Callable[[Any], Tensor], example: Any, without_writes: bool = False) -> GraphModule:
    recorder = _Recorder(example, without_writes)
    with as_written(), recorder, Exits(recorder.leaves), watching_calls(recorder.hands_out):
        result = function(example)
    return recorder.module(result)


class _Recorder(Listener):
    """Writes down every tensor operation while it is active. (torch's make_fx does this as well, but imports the
    compilers first, which takes longer than all else that a small study does.)"""

    def __init__(self, example: Any, without_writes: bool) -> None:
        """`without_writes`: what writes into a tensor is recorded as what makes a new one, or is `_Aliased`."""
        super().__init__()
        self._without_writes = without_writes
        self._aliased = False
        self._graph = Graph()
        self._nodes: Any = WeakTensorKeyDictionary()
        self._moving: set[Node] = set()  # what depends on the argument
        self._constants: dict[str, Tensor] = {}
        self._refused = ""  # what was noticed, even if the function itself caught the exception
        self._place(self._graph.placeholder("x"), example)

    def _place(self, node: Node, value: Any) -> None:
        """Parts of the argument."""
        self._moving.add(node)
        if isinstance(value, Tensor):
            self._is(value, node)
        elif isinstance(value, Mapping | Sequence) and not isinstance(value, str):
            keys = value.keys() if isinstance(value, Mapping) else range(len(value))
            for key in keys:
                self._place(self._graph.call_function(operator.getitem, (node, key)), value[key])

    def _is(self, tensor: Tensor, node: Node) -> None:
        self._nodes[tensor] = node
        node.meta["tensor_meta"] = Meta.of(tensor)

    def _node(self, tensor: Tensor) -> Node:
        if tensor not in self._nodes:
            name = f"_constant_{len(self._constants)}"
            self._constants[name] = tensor
            self._is(tensor, self._graph.create_node("get_attr", name))
        node: Node = self._nodes[tensor]
        return node

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if takes_functions(function):
            self.refuse(f"it calls {function.name()}")
        if self._without_writes and function._schema.is_mutable:
            return self._written(function, args, kwargs)
        as_nodes, named = pytree.tree_map_only(Tensor, self._node, (args, kwargs))
        moves = any(leaf in self._moving for leaf in pytree.tree_leaves((as_nodes, named)) if isinstance(leaf, Node))
        if moves and torch.Tag.data_dependent_output in function.tags:
            self.refuse(f"its course depends on values ({function})")
        if moves and torch.Tag.dynamic_output_shape in function.tags and self._chooses(function, args):
            self.refuse(f"a shape depends on values ({function})")
        result = function(*args, **kwargs)
        if isinstance(result, Tensor | tuple | list):
            node = self._graph.call_function(function, tuple(as_nodes), named)
            self._keep(node, result, moves)
        return result

    def _written(self, function: Any, args: Any, kwargs: Any) -> Tensor:
        """What the operation writes, as a new tensor's node; the tensor itself has it as well."""
        tensor, fresh = args[0] if args else None, _without_write(function)
        if fresh is not None and isinstance(tensor, Tensor) and self._is_only_name(tensor):
            new: Tensor = self.__torch_dispatch__(fresh, (), args, kwargs)
            if Meta.of(new) == Meta.of(tensor):
                self._is(tensor.copy_(new), self._nodes[new])
                return tensor
        self._aliased = True  # even if the function itself catches the exception
        raise _Aliased

    def _is_only_name(self, tensor: Tensor) -> bool:
        """Whether an operation made the tensor, and nothing else lies in its memory."""
        node = self._nodes.get(tensor)
        if node is None or not isinstance(node.target, torch._ops.OpOverload):
            return False
        is_alias: Any = torch._C._is_alias_of  # type: ignore[attr-defined]
        return not any(is_alias(other, tensor) for other in self._nodes if other is not tensor)

    def refuse(self, problem: str) -> None:
        self._refused = self._refused or problem
        raise NotRecordable(problem)

    def _chooses(self, function: Any, args: Any) -> bool:
        """Whether values that move decide the shape of the result: of an indexed tensor only masks do."""
        if function is not _aten.index.Tensor:
            return True
        masks = [i for i in args[1] if isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8)]
        return any(self._node(mask) in self._moving for mask in masks)

    def hands_out(self, way: str) -> None:
        self.refuse(f"values leave torch ({way})")

    def leaves(self, tensor: Any, way: str, of_constants: bool) -> None:
        """Refuse a tensor that depends on the argument; `way` is how it leaves torch, and whether it tells the numbers
        of constants within transforms."""
        wrapped = False
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            tensor, wrapped = torch._C._functorch.get_unwrapped(tensor), True
        if isinstance(tensor, Tensor) and self._nodes.get(tensor) in self._moving:
            self.refuse(f"values leave torch ({way})")
        if (
            wrapped and not of_constants
        ):  # what holds the numbers of a constant is inside: from here anything might be read
            raise RuntimeError(f"a constant leaves torch within a transform ({way})")

    def _keep(self, node: Node, result: Any, moves: bool) -> None:
        if moves:
            self._moving.add(node)
        if isinstance(result, Tensor):
            self._is(result, node)
        elif isinstance(result, tuple | list):
            for i, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._keep(self._graph.call_function(operator.getitem, (node, i)), part, moves)

    def module(self, result: Tensor) -> GraphModule:
        if self._refused:
            raise NotRecordable(self._refused)
        if self._aliased:
            raise _Aliased
        for node in self._graph.nodes:
            op = node.target
            seeded = isinstance(op, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in op.tags
            if seeded and not without_dropout(node):
                raise NotRecordable(f"it draws random numbers ({op})")
        self._graph.output(self._node(result))
        return GraphModule(self._constants, self._graph)


def _without_write(function: Any) -> Any:
    """The operation that computes for each number what this one writes in its place; None where there is none."""
    name = function.overloadpacket.__name__
    packet = getattr(_aten, name.removesuffix("_"), None) if function.namespace == "aten" else None
    fresh = getattr(packet, function._overloadname, None) if name.endswith("_") else None
    if fresh is None or fresh._schema.is_mutable or torch.Tag.pointwise not in fresh.tags:
        return None
    return fresh


def result_bytes(module: GraphModule) -> list[int]:
    """Bytes of the tensor that each operation of a recorded graph makes."""
    metas = [node.meta.get("tensor_meta") for node in module.graph.nodes if node.op == "call_function"]
    return [m.shape.numel() * m.dtype.itemsize if m else 0 for m in metas]
