"""A pickle module for `torch.load` that makes tensors and plain values; everything else becomes an inert record.

No name is imported but those listed here, so that nothing in a file is executed.
"""

from __future__ import annotations

import collections
import pickle
from typing import Any

import torch

_PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("builtins", "set"): set,
}


class Record:
    """What an object of a class that is not listed was made of."""

    def __new__(cls, *arguments: Any, **_: Any) -> Record:
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *_: Any, **__: Any) -> None: ...

    arguments: tuple[Any, ...]

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...


class Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return Record


def load(stream: Any, **options: Any) -> Any:
    return Unpickler(stream, **options).load()
