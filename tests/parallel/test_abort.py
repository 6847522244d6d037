"""What ends all ranks is told by the one that met it: in a sentence. The way to a fault of ours is in the log."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from landscaper_hpc.errors import TIME_IS_UP, InputError, Interrupted, Stopped, TaskFailed
from landscaper_hpc.exit_codes import guarded
from landscaper_hpc.grid import Grid
from landscaper_hpc.parallel.comm import MpiComm, RankError, SerialComm, agree
from landscaper_hpc.store.folder import RunFolder
from landscaper_hpc.store.lock import log_to

ENDS: list[tuple[BaseException, int, bool]] = [
    (InputError("a.npy: is empty"), 2, False),
    (KeyboardInterrupt(), 130, False),
    (Stopped(TIME_IS_UP), 75, False),
    (OSError(28, "No space left on device", "labels.zarr"), 1, False),
    (MemoryError(), 1, False),
    (TaskFailed("2 shards failed"), 1, False),
    (ZeroDivisionError("division by zero"), 1, True),
]


@pytest.mark.parametrize(("error", "code", "logged"), ENDS, ids=lambda value: type(value).__name__)
def test_an_abort_is_one_line(
    error: BaseException, code: int, logged: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    codes: list[int] = []
    world: Any = SimpleNamespace(Get_rank=lambda: 1, Get_size=lambda: 2, Abort=codes.append)
    comm = MpiComm(world, world)
    with log_to(RunFolder(tmp_path), first=False):
        comm.abort(error)
    first, *more = capsys.readouterr().err.splitlines()
    assert codes == [code]
    assert first.startswith("landscaper-hpc: rank 1: ")
    assert (str(error) or type(error).__name__) in first
    assert not more
    log = (tmp_path / "logs/run.log").read_text()
    assert log.count("rank 1: ZeroDivisionError: division by zero\nZeroDivisionError") == logged
    assert bool(log) == logged


@pytest.mark.parametrize("error", [InputError("a.npy: is empty"), KeyboardInterrupt(), Stopped(), TaskFailed("a\nb")])
def test_what_ends_all_ranks_is_said_by_one(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    """By the first of those that met it; what is another error is said as well."""
    first: list[Any] = []
    comm: Any = SerialComm()
    comm.gather = lambda own: first.append(own) or [own]
    with pytest.raises(type(error)):
        agree(comm, error)
    (theirs,) = first
    said = []
    for rank, mine in ((0, error), (1, error), (1, None), (1, InputError("another"))):
        comm = SerialComm()
        comm.rank = rank
        comm.gather = lambda own: [theirs, own]

        with pytest.raises(SystemExit):
            guarded(partial(agree, comm, mine))()
        said.append(len(capsys.readouterr().err.splitlines()))
    assert said == [1, 0, 0, 1]


def test_ctrl_c_is_said_by_one_whatever_it_was_made_into_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Python makes another error of it where a class is being made, and a rank may be hit before it listens."""
    made = RuntimeError("Error calling __set_name__")
    made.__cause__ = Interrupted()
    theirs: list[Any] = []
    comm: Any = SerialComm()
    comm.gather = lambda own: theirs.append(own) or [own]
    with pytest.raises(KeyboardInterrupt):
        agree(comm, Interrupted())
    comm.rank, comm.gather = 1, lambda own: [*theirs, own]
    for error in (made, KeyboardInterrupt(), Interrupted()):
        with pytest.raises(SystemExit) as ended:
            guarded(partial(agree, comm, error))()
        assert ended.value.code == 130
        assert not capsys.readouterr().err


def test_a_fault_of_ours_is_told_to_all_ranks_with_its_place() -> None:
    told: list[Any] = []
    failing: Any = SerialComm()
    failing.gather = lambda mine: told.append(mine) or [mine]
    with pytest.raises(TypeError) as fault:
        Grid(None).coordinates()  # type: ignore[arg-type]
    inside = fault.value.with_traceback(fault.tb.tb_next)  # without this file, which is a user's
    with pytest.raises(TypeError):
        agree(failing, inside)
    other: Any = SerialComm()
    other.gather = lambda mine: [mine, *told]
    with pytest.raises(RankError, match=r"rank 1: TypeError: .* \(a fault of landscaper-hpc, in grid\.py, line \d+\)"):
        agree(other, None)


@pytest.mark.parametrize("error", [InputError("3 restarts of this job"), KeyboardInterrupt(), Stopped()])
def test_who_is_interrupted_while_it_waits_for_others_tells_them(error: BaseException) -> None:
    """Whoever left them alone would be waited for, for ever."""
    told: list[Any] = []
    comm: Any = SerialComm()
    comm.gather = lambda mine: told.append(mine) or [mine]

    def interrupted() -> None:
        raise error

    comm.meet = interrupted
    with pytest.raises(type(error)):
        agree(comm, None)
    ((kind, *_),) = told
    assert kind is type(error)
