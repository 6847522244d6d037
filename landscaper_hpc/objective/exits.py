"""How values leave torch by ways that are no tensor operation, so that who listens to operations cannot see them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

# `.item()` and `bool()` are operations.
_LEAVES = {
    Tensor.numpy,
    Tensor.tolist,
    Tensor.__array__,
    Tensor.__dlpack__,
    Tensor.__deepcopy__,
    Tensor.__reduce_ex__,
    Tensor.__repr__,
    Tensor.tensor_split,
    torch.tensor_split,
    Tensor.untyped_storage,  # so does copy.copy(); of a wrapped tensor it is a null pointer
    Tensor.storage,
    Tensor.share_memory_,
    Tensor.data_ptr,
    Tensor.apply_,
    Tensor.map_,
    Tensor.map2_,
}
# These take no part in torch's ways to be noticed: they hand out memory, which a tensor that is recorded has none of.
_HAND_OUT = {torch._C._to_dlpack, torch._C._to_dlpack_versioned}
# How a tensor among others in a list becomes a number of a new one.
_NUMBERS = {Tensor.__float__, Tensor.__int__, Tensor.__index__, Tensor.__bool__, Tensor.__complex__}
_OF_A_LIST = {torch.tensor, torch.as_tensor, torch.asarray, torch.sparse_coo_tensor, Tensor.new_tensor, Tensor.new}
_DATA = vars(torch._C.TensorBase)["data"].__get__

Told = Callable[[Any, str, bool], None]
"""Is called with a tensor, the way by which it leaves, and whether that tells numbers of constants in transforms."""


class Exits(TorchFunctionMode):
    """While it is active, tells of tensors that leave."""

    def __init__(self, told: Told) -> None:
        super().__init__()
        self._told = told

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is _DATA:  # the same numbers, by an operation
            return args[0].detach()
        if function in _LEAVES:
            self._told(args[0], getattr(function, "__name__", str(function)), False)
        elif function in _NUMBERS or function in _OF_A_LIST:
            listed = args if function in _NUMBERS else [arg for arg in args if not isinstance(arg, Tensor)]
            for tensor in filter(lambda leaf: isinstance(leaf, Tensor), pytree.tree_leaves(listed)):
                self._told(tensor, function.__name__, True)
        return function(*args, **(kwargs or {}))


@contextmanager
def watching_calls(told: Callable[[str], None]) -> Iterator[None]:
    """Tell of what hands out memory before it is called, under whatever name."""

    def heard(_: Any, event: str, called: Any) -> None:
        if event == "c_call" and called in _HAND_OUT:
            told(called.__name__.lstrip("_"))

    if sys.getprofile() is not None:  # there is one place, and it is taken
        yield
        return
    sys.setprofile(heard)
    try:
        yield
    finally:
        sys.setprofile(None)
