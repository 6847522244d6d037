"""What does not depend on the moving parameters is computed once for each batch of data, and kept.

A recording is cut in two: what follows from constants and data alone, and the rest, which reads what the first gives.
The operations are the same, on the same numbers, and so are the bits; views are left to run, since they hold what they
look at. It is cut last, when a recording is what is to be replayed: nothing but time and memory hangs on it.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from landscaper_hpc.objective.device import free_bytes
from landscaper_hpc.recording.rewrite import writes

_aten = torch.ops.aten


def room(device: torch.device) -> int:
    """Bytes that may be kept: half of what is free now, on a CPU shared by a process on each core."""
    return free_bytes(device) // (2 if device.type == "cuda" else 2 * (os.cpu_count() or 1))


def bytes_of(tensors: Sequence[Tensor]) -> int:
    """Of the memory that they lie in, each part counted once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())


def with_constants(module: GraphModule) -> GraphModule:
    """A recording of a function of parameters, with all that does not depend on them as constants; itself, where there
    is no room for them, or nothing to keep."""
    kept = _kept(module, _moving(module, of_data=False))
    if not kept:
        return module
    values = _extracted(module, kept, {}, {})(None)
    if bytes_of(values) > room(values[0].device):
        return module
    names = {node: f"_kept_{i}" for i, node in enumerate(kept)}
    constants = {names[node]: value for node, value in zip(kept, values, strict=True)}
    return _extracted(module, None, {node: _constant(name) for node, name in names.items()}, constants)


Ready = Callable[[GraphModule, Any], Callable[[Any], Tensor]]
"""Makes of a recording, and of an argument for it, what is called."""


class Kept:
    """A recording of a function of (parameters, data): called with parameters and with the data of batch `i`, it
    computes what depends on these alone the first time, and keeps it where there is room."""

    def __init__(self, module: GraphModule, ready: Ready, device: torch.device) -> None:
        self._module, self._ready = module, ready
        self._sources = _kept(module, _moving(module, of_data=True))
        self._still = _extracted(module, self._sources, {}, {}) if self._sources else None
        self._room = room(device)
        self._kept: dict[int, list[Tensor]] = {}
        self._calls: dict[bool, Callable[[Any], Tensor]] = {}  # by whether it is given what is kept

    def __call__(self, params: Any, i: int, data: list[Tensor]) -> Tensor:
        if self._still is not None and i not in self._kept:
            values = self._still((None, data))
            self._room -= bytes_of(values)
            if self._room >= 0:
                self._kept[i] = values
            else:
                self._still = None  # the others have the same shapes
        with_kept = i in self._kept
        argument = (params, [*data, *self._kept.get(i, ())])
        if with_kept not in self._calls:
            self._calls[with_kept] = self._ready(self._cut(len(data)) if with_kept else self._module, argument)
        return self._calls[with_kept](argument)

    def _cut(self, tensors: int) -> GraphModule:
        return _extracted(self._module, None, {node: _given(tensors + j) for j, node in enumerate(self._sources)}, {})


def by_batch(
    recorded: GraphModule, argument: Any, alone: bool, ready: Ready, device: torch.device
) -> Callable[[Any, int, list[Tensor]], Tensor]:
    """A recording as a function of parameters and the data of batch `i`, with what does not depend on the parameters
    computed once. `argument` is one for it: parameters where the batch is `alone`, the data a part of the recording, or
    else both."""
    by_operations = not any(map(writes, recorded.graph.nodes))  # else what it reads may be another the next time
    if alone:
        call = ready(with_constants(recorded) if by_operations else recorded, argument)
        return lambda params, i, data: call(params)
    if by_operations:
        return Kept(recorded, ready, device)
    whole = ready(recorded, argument)
    return lambda params, i, data: whole((params, data))


def _moving(module: GraphModule, of_data: bool) -> set[Node]:
    """What depends on the argument; with `of_data`, on the first part of it, the second being data."""
    moving: set[Node] = set()
    for node in module.graph.nodes:
        second = of_data and _is_item(node) and node.args[0].op == "placeholder" and node.args[1] == 1
        if node.op == "placeholder" or (not second and any(i in moving for i in node.all_input_nodes)):
            moving.add(node)
    return moving


def _kept(module: GraphModule, moving: set[Node]) -> list[Node]:
    """The tensors to keep: what `moving` operations read, or look at."""
    kept: dict[Node, None] = {}
    for node in module.graph.nodes:
        if node in moving or node.op == "output":
            found = (_looked_at(i) for i in node.all_input_nodes if i not in moving)
            kept |= {source: None for source in found if source is not None}
    return list(kept)


def _looked_at(node: Node) -> Node | None:
    """The tensor itself, of views of it; None for data and constants."""
    while node.op == "call_function":
        if _is_item(node):
            source = node.args[0]
            assert isinstance(source, Node)
            if not isinstance(source.target, torch._ops.OpOverload):
                return None  # a part of the argument
            if not _is_view(source):
                return node
            node = source
        if not _is_view(node):
            return node
        node = node.all_input_nodes[0]
    return None


def _is_item(node: Node) -> bool:
    return node.op == "call_function" and node.target is operator.getitem


def _is_view(node: Node) -> bool:
    op = node.target
    return isinstance(op, torch._ops.OpOverload) and any(
        result.alias_info is not None and not result.alias_info.is_write for result in op._schema.returns
    )


Source = Callable[[Graph, Node], Node]


def _constant(name: str) -> Source:
    return lambda graph, _: graph.get_attr(name)


def _given(i: int) -> Source:
    def made(graph: Graph, argument: Node) -> Node:
        data = graph.call_function(operator.getitem, (argument, 1))
        return graph.call_function(operator.getitem, (data, i))

    return made


def _extracted(
    module: GraphModule, results: list[Node] | None, sources: dict[Node, Source], constants: dict[str, Tensor]
) -> GraphModule:
    """The part of a recording that makes these results, its own where none are given, from `sources` in place of
    nodes."""
    (last,) = (node for node in module.graph.nodes if node.op == "output")
    wanted: set[Node] = set()
    waiting = list(last.all_input_nodes if results is None else results)
    while waiting:
        node = waiting.pop()
        if node not in wanted:
            wanted.add(node)
            waiting += [] if node in sources else node.all_input_nodes
    graph, copies = Graph(), dict[Node, Node]()
    constants = dict(constants)
    for node in module.graph.nodes:
        if node.op == "placeholder":
            argument = copies[node] = graph.node_copy(node)
        elif node in wanted and node in sources:
            copies[node] = sources[node](graph, argument)
            if any(writes(user) for user in node.users):  # it is to be there the next time
                copies[node] = graph.call_function(_aten.clone.default, (copies[node],))
            copies[node].meta = dict(node.meta)
        elif node in wanted:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            if node.op == "get_attr":
                constants[str(node.target)] = getattr(module, str(node.target))
    graph.output(copies[last.all_input_nodes[0]] if results is None else [copies[node] for node in results])
    return GraphModule(constants, graph)
