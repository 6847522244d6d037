"""Listening to torch's operations while they run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class Listener(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Is told of every operation while it is active; of one that takes functions, such as `torch.cond`, as a whole."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def heard_inside(self, arguments: Any) -> Any:
        """Arguments of what takes functions, with functions that are listened to."""

        def listening(function: Any) -> Any:
            def called(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return function(*args, **kwargs)

            return called if callable(function) and not isinstance(function, torch.Tensor) else function

        return pytree.tree_map(listening, arguments)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports the compiler to switch it off

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # type: ignore[no-untyped-call]
        if told := cls.__dict__.get("__torch_dispatch__"):
            uncompiled = torch._disable_dynamo(told, recursive=True)  # type: ignore[attr-defined]

            @wraps(told)
            def either(*args: Any, **kwargs: Any) -> Any:
                # where the compiler is there it would compile what listens, as a part of the user's model
                return (uncompiled if "torch._dynamo" in sys.modules else told)(*args, **kwargs)

            cls.__torch_dispatch__ = either  # type: ignore[method-assign]


def takes_functions(operation: Any) -> bool:
    """Whether it is one of `torch.cond`'s kind, which has no schema."""
    return isinstance(operation, HigherOrderOperator)


@contextmanager
def as_written() -> Iterator[None]:
    """What is under torch.compile runs as it is written, and so does what compiles by itself (`torch.cond`): compilers
    take who listens for a part of it, and fail ever after."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and loading it takes seconds
        yield
    else:
        with torch.compiler.set_stance("force_eager"):
            yield
