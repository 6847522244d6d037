"""Listening to torch's operations while they run."""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Listener(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Is told of every operation while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

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
