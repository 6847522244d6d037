"""What ends all ranks is told by the one that met it: in a sentence, unless it is a fault of ours."""

from __future__ import annotations

from typing import Any

import pytest

from landscaper_hpc.errors import InputError, TaskFailed
from landscaper_hpc.parallel.comm import MpiComm

ENDS: list[tuple[BaseException, int, bool]] = [
    (InputError("a.npy: is empty"), 2, False),
    (KeyboardInterrupt(), 130, False),
    (OSError(28, "No space left on device", "labels.zarr"), 1, False),
    (MemoryError(), 1, False),
    (TaskFailed("2 shards failed"), 1, False),
    (ZeroDivisionError("division by zero"), 1, True),
]


@pytest.mark.parametrize(("error", "code", "shown"), ENDS, ids=lambda value: type(value).__name__)
def test_an_abort_is_one_line(error: BaseException, code: int, shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    codes: list[int] = []
    comm: Any = MpiComm.__new__(MpiComm)
    comm.rank, comm.size = 1, 2
    comm._comm = type("World", (), {"Abort": staticmethod(codes.append)})
    comm.abort(error)
    first, *more = capsys.readouterr().err.splitlines()
    assert codes == [code]
    assert first.startswith("landscaper-hpc: rank 1: ")
    assert (str(error) or type(error).__name__) in first
    assert bool(more) == shown
