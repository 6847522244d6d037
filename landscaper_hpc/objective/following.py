"""What a tensor was computed from, operation by operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from landscaper_hpc.objective.listening import Listener, takes_functions


class Follower(Listener):
    """Knows of each storage what it was computed from: the marks of all inputs of every operation that wrote to it."""

    def __init__(self) -> None:
        super().__init__()
        # a weak reference keeps the address from being used again
        self._marks: dict[int, tuple[StorageWeakRef, int]] = {}

    def mark(self, tensor: Tensor, bits: int) -> None:
        if bits and (storage := _storage(tensor)) is not None:
            self._marks[storage._cdata] = StorageWeakRef(storage), bits | self.marks(tensor)  # type: ignore[no-untyped-call]

    def marks(self, tensor: Tensor) -> int:
        storage = _storage(tensor)
        return 0 if storage is None else self._marks.get(storage._cdata, (None, 0))[1]

    def mark_memory(self, held: StorageWeakRef, bits: int) -> None:
        """All that lies in a storage."""
        self._marks[held.cdata] = held, bits

    def forget(self, tensor: Tensor) -> None:
        """Of a tensor whose storage it is alone in, and which is about to be overwritten."""
        storage = _storage(tensor)
        if storage is not None and tensor.nbytes == storage.nbytes():
            self._marks.pop(storage._cdata, None)

    def outliving(self) -> bool:
        """Whether storages that are marked are still there."""
        self._marks = {at: held for at, held in self._marks.items() if not held[0].expired()}  # type: ignore[no-untyped-call]
        return bool(self._marks)

    def take_up(self, other: Follower) -> None:
        """Begin with the marks that another has given to what is still there."""
        other.outliving()
        self._marks |= other._marks

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        bits = 0
        inputs = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for leaf in inputs:
            bits |= self.marks(leaf)
        if takes_functions(function):
            args = self.heard_inside(args)
        result = function(*args, **kwargs)
        written = []
        if not takes_functions(function) and function._schema.is_mutable:
            given = dict(zip((a.name for a in function._schema.arguments), args, strict=False)) | kwargs
            written = [given.get(a.name) for a in function._schema.arguments if a.alias_info and a.alias_info.is_write]
        bits = self.made((result, written), inputs, bits)
        for leaf in pytree.tree_leaves((result, written)):
            if isinstance(leaf, Tensor):
                self.mark(leaf, bits)
        return result

    def made(self, result: Any, inputs: list[Tensor], bits: int) -> int:
        """The marks of what an operation has made of its inputs, which have those of `bits` together."""
        return bits


def _storage(tensor: Tensor) -> Any:
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    if tensor.layout == torch.sparse_coo:
        tensor = tensor._values()
    return tensor.untyped_storage()
