"""Ranks that work together: what the distributed merge tree needs of MPI, and the same for a process alone."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import TIME_IS_UP, InputError, Stopped, TaskFailed, comes_of_ctrl_c, is_fault, said_of_fault
from landscaper_hpc.parallel.pmi import start_relay

log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]


class Comm(Protocol):
    """A group of ranks. Every method but `send` and `receive` is called by all of them together."""

    rank: int
    size: int
    bytes_sent: int

    def exchange(self, parts: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Give parts[r] to rank r; get what each rank gave."""
        ...

    def total(self, number: int) -> int: ...

    def gather(self, thing: Any) -> list[Any]:
        """Every rank's `thing` on every rank. For small things."""
        ...

    def send(self, arrays: Arrays, to: int) -> None: ...

    def receive(self, source: int) -> Arrays: ...

    def meet(self) -> None:
        """Wait until all ranks are here, and leave the processors to those that still work."""
        ...

    def once_per_node(self, work: Callable[[], None]) -> None:
        """Let one rank of each node do the work before the others go on."""
        ...

    def ranks_on_node(self) -> int: ...

    def abort(self, error: BaseException) -> None:
        """End all ranks at once, for errors in the midst of talking to each other."""
        ...


class SerialComm:
    """A process by itself."""

    rank = 0
    size = 1
    bytes_sent = 0

    def exchange(self, parts: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        return parts

    def total(self, number: int) -> int:
        return number

    def gather(self, thing: Any) -> list[Any]:
        return [thing]

    def send(self, arrays: Arrays, to: int) -> None:
        raise AssertionError("there is nobody to send to")

    def receive(self, source: int) -> Arrays:
        raise AssertionError("there is nobody to receive from")

    def meet(self) -> None:
        pass

    def once_per_node(self, work: Callable[[], None]) -> None:
        work()

    def ranks_on_node(self) -> int:
        return 1

    def abort(self, error: BaseException) -> None:
        raise error


class MpiComm:
    """The ranks of an mpi4py communicator, and those of them on this `node`. Large arrays travel in buffers, never
    pickled."""

    def __init__(self, comm: Any, node: Any) -> None:
        self._comm, self._node = comm, node
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.bytes_sent = 0

    @classmethod
    def of(cls, comm: Any) -> MpiComm:
        """With the ranks of the own node among them; all ranks call this."""
        from mpi4py import MPI

        return cls(comm, comm.Split_type(MPI.COMM_TYPE_SHARED))

    def exchange(self, parts: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        counts = np.array([len(p) for p in parts], np.int64)
        theirs = np.empty_like(counts)
        self._comm.Alltoall(counts, theirs)
        out = np.concatenate(parts)
        received = np.empty(int(theirs.sum()), np.int64)
        self._comm.Alltoallv([out, counts], [received, theirs])
        self.bytes_sent += out.nbytes - parts[self.rank].nbytes + counts.nbytes
        return np.split(received, np.cumsum(theirs)[:-1])

    def total(self, number: int) -> int:
        self.bytes_sent += 8
        return int(self._comm.allreduce(number))

    def gather(self, thing: Any) -> list[Any]:
        return list(self._comm.allgather(thing))

    def send(self, arrays: Arrays, to: int) -> None:
        self._comm.send({name: (a.shape, a.dtype.str) for name, a in arrays.items()}, to)
        for a in arrays.values():
            self._comm.Send(np.ascontiguousarray(a).view(np.uint8).reshape(-1), to)
            self.bytes_sent += a.nbytes

    def receive(self, source: int) -> Arrays:
        arrays = {}
        for name, (shape, dtype) in self._comm.recv(source=source).items():
            arrays[name] = np.empty(shape, dtype)
            self._comm.Recv(arrays[name].view(np.uint8).reshape(-1), source)
        return arrays

    def meet(self) -> None:
        _wait_for(self._comm.Ibarrier())

    def once_per_node(self, work: Callable[[], None]) -> None:
        if self._node.Get_rank() == 0:
            work()
        _wait_for(self._node.Ibarrier())

    def ranks_on_node(self) -> int:
        return int(self._node.Get_size())

    def abort(self, error: BaseException) -> None:
        if self.size == 1:
            raise error
        words = " ".join(str(error).split()) or (TIME_IS_UP if isinstance(error, Stopped) else type(error).__name__)
        if is_fault(error):
            words = said_of_fault(error)
            if log.hasHandlers():  # else it would go to the terminal
                log.critical("rank %d: %s", self.rank, words, exc_info=error)
        print(f"landscaper-hpc: rank {self.rank}: {words}", file=sys.stderr, flush=True)
        codes = {InputError: 2, KeyboardInterrupt: 130, Stopped: 75}
        self._comm.Abort(codes.get(type(error), 1))


def _wait_for(request: Any) -> None:
    """MPI's own waiting would take the processor from the one that works, who may have threads as well."""
    pause = 1e-4
    while not request.Test():
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


# what sets the number of ranks, nearest first: mpiexec inside a Slurm step counts, not the step; and a batch script
# itself is no step (SLURM_NTASKS is set there too, for a single process)
_LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


_DO_NOT_FIT = (
    "launcher and MPI library do not fit; use the library's own mpiexec, or srun --mpi=pmi2 for MPICH and --mpi=pmix "
    "for Open MPI"
)


def world() -> Comm:
    """All ranks the launcher started, or this process alone; InputError if the launcher started more than MPI sees.

    mpi4py is imported only under a launcher. With the wrong pair of launcher and library MPI starts every rank as a
    world of its own, and each would do all the work and print a result.
    """
    expected = next((int(os.environ[name]) for name in _LAUNCHERS if os.environ.get(name, "").isdigit()), 1)
    if expected == 1:
        return SerialComm()
    _refuse_to_inherit()
    try:
        start_relay()
        MPI = _started(expected)
    except ImportError as error:
        raise InputError(
            f"started as {expected} ranks, but mpi4py cannot be used ({error}); "
            "install landscaper-hpc[mpi] and an MPI library"
        ) from None
    size = MPI.COMM_WORLD.Get_size()
    if size != expected:
        raise InputError(f"the launcher started {expected} ranks but MPI sees {size}: {_DO_NOT_FIT}")
    return MpiComm.of(MPI.COMM_WORLD)


def _refuse_to_inherit() -> None:
    """`InputError` in what a rank has started, which has its variables but not its descriptors: MPI would end it."""
    if (number := os.environ.get("PMI_FD", "")).isdecimal() and "mpi4py.MPI" not in sys.modules:
        try:
            os.fstat(int(number))
        except (OSError, OverflowError):
            raise InputError(
                f"PMI_FD={number} in the environment is no connection to a launcher: this was started by a rank, not "
                "by the launcher; start it by mpiexec or srun itself, or without PMI_SIZE and PMI_FD to work alone"
            ) from None


def _started(expected: int) -> Any:
    """mpi4py's MPI. `InputError` where it would end this process as it starts: MPICH that was built without PMIx, under
    that."""
    import mpi4py

    if "mpi4py.MPI" not in sys.modules:
        mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
    from mpi4py import MPI

    if not MPI.Is_initialized():
        library = MPI.Get_library_version()
        if "PMIX_NAMESPACE" in os.environ and library.startswith("MPICH") and "pmix" not in library.lower():
            raise InputError(f"the launcher started {expected} ranks by PMIx, which MPICH does not know: {_DO_NOT_FIT}")
        MPI.Init_thread()
    return MPI


class RankError(TaskFailed):
    """Another rank failed; the message is that rank's."""


_SHARED: tuple[type[BaseException], ...] = (InputError, Stopped, KeyboardInterrupt)
"""Ends that are the same for all ranks; any other is a failure of one, which the others tell in a sentence."""


def agree(comm: Comm, error: BaseException | None) -> None:
    """Stop all ranks if one has failed: the failed raise their own error, the others that of the first of them. Who
    would say what the first says is `told`: a thousand ranks may end by one Ctrl-C."""
    try:
        comm.meet()
    except _SHARED as interrupted:  # those that are waited for come all the same
        error = error or interrupted
    kind: type[BaseException]
    if error is not None and (isinstance(error, KeyboardInterrupt) or comes_of_ctrl_c(error)):
        kind, said = KeyboardInterrupt, ""  # whatever became of it on its way is said in the same words
    else:
        kind = next((kind for kind in _SHARED if isinstance(error, kind)), RankError)
        said = "" if error is None else said_of_fault(error) if is_fault(error) else str(error) or type(error).__name__
    mine = None if error is None else (kind, said, getattr(error, "traceback", ""))
    failures = [(rank, f) for rank, f in enumerate(comm.gather(mine)) if f is not None]
    if not failures:
        return
    rank, (kind, message, way) = failures[0]
    if error is None:
        said = f"rank {rank}: {message}"
        error = kind(said, way) if kind is InputError else kind(said)
        error.__dict__["told"] = True
    elif mine is not None and comm.rank != rank and mine[:2] == (kind, message):
        error.__dict__["told"] = True
    raise error
