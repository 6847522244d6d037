"""Listening to torch's operations while they run."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class Listener(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Is told of every operation while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports the compiler to switch it off
