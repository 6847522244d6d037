"""A relay between MPICH and Slurm's pmi2, so that MPI starts every time.

MPICH tells the other ranks its address through PMI-1, in pieces that are as long as the server allows. Slurm allows
1,024 characters, but reads no more than 1,023 of a request, command and key included, and takes the rest of a longer
one for another. How long pieces are is chance: MPICH sends 4 KiB of its memory, the address and what lies behind it,
with runs of zeros as their length. A longer one made ranks fail ("value not properly terminated in client request"), or
wait for ever. So the relay says that the server allows less. All else passes unchanged.

The relay is a process of its own, since MPI holds the interpreter lock while it talks to Slurm. It ends when either
side closes.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys

_LONGEST_VALUE = 900  # leaves room for the command, the name of the job step and the key
_MAXES = re.compile(rb"(cmd=maxes .*\bvallen_max=)(\d+)")
# Slurm sends these to all processes of a step, and they are the rank's to answer
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


def start_relay() -> None:
    """Put the relay between this process and Slurm, unless MPI has started or Slurm's pmi2 is not there."""
    if "mpi4py.MPI" in sys.modules or "SLURM_JOB_ID" not in os.environ or not os.environ.get("PMI_FD", "").isdigit():
        return
    number = int(os.environ["PMI_FD"])
    try:
        slurm = os.dup(number)
    except OSError:
        return  # inherited from a parent whose descriptor it was
    here, there = socket.socketpair()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # which the relay inherits
    try:
        ends = (slurm, there.fileno())
        subprocess.Popen([sys.executable, "-I", "-S", __file__, *map(str, ends)], pass_fds=ends)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.dup2(here.fileno(), number)
    here.close()
    there.close()
    os.close(slurm)


def relay(server: int, rank: int) -> None:
    """Pass on what comes from two descriptors, each to the other, until one is closed."""
    while True:
        for source in select.select([server, rank], [], [])[0]:
            try:
                data = os.read(source, 1 << 16)
                if source == server:
                    data = _MAXES.sub(lambda found: found[1] + b"%d" % min(int(found[2]), _LONGEST_VALUE), data)
                rest = data
                while rest:
                    rest = rest[os.write(rank if source == server else server, rest) :]
            except ConnectionError:
                return
            if not data:
                return


if __name__ == "__main__":
    relay(*map(int, sys.argv[1:]))
