"""The relay between MPICH and Slurm, with a test in Slurm's place; with Slurm itself in tests/slurm/test_mpi.py."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from landscaper_hpc.parallel.pmi import relay

_RANK = """
import os, signal, sys
from pathlib import Path

from landscaper_hpc.parallel.pmi import start_relay
start_relay()
(relay,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
for number in signal.SIGINT, signal.SIGTERM, signal.SIGUSR2:  # Slurm's to all of a step
    os.kill(int(relay), number)
number = int(os.environ["PMI_FD"])
os.write(number, b"cmd=get_maxes\\n")
print(os.read(number, 1023).decode(), end="", flush=True)
left = 300_000
while left:
    data = os.read(number, left)  # a PMI-2 message ends without a newline
    left -= len(data)
    while data:
        data = data[os.write(number, data):]
"""


@pytest.mark.processes
def test_slurm_is_never_asked_more_than_it_reads_and_all_else_passes() -> None:
    ours, rank = socket.socketpair()
    ours.settimeout(60)
    environment = {**os.environ, "SLURM_JOB_ID": "1", "PMI_FD": str(rank.fileno())}
    process = subprocess.Popen(
        [sys.executable, "-c", _RANK], env=environment, pass_fds=[rank.fileno()], stdout=subprocess.PIPE, text=True
    )
    rank.close()
    with ours, process:
        assert ours.recv(100) == b"cmd=get_maxes\n"
        ours.sendall(b"cmd=maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=1024\n")
        assert process.stdout is not None
        assert process.stdout.readline() == "cmd=maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=900\n"
        sent = os.urandom(300_000)
        back = b""
        for begin in range(0, len(sent), 1000):
            ours.sendall(sent[begin : begin + 1000])
            back += ours.recv(1 << 20)
        while data := ours.recv(1 << 20):  # the end of the rank is the end of the relay
            back += data
        assert back == sent
    assert process.returncode == 0


def test_what_passes_through_is_unchanged_but_for_the_longest_value() -> None:
    (slurm, server), (rank, client) = socket.socketpair(), socket.socketpair()
    passing = threading.Thread(target=relay, args=(server.fileno(), client.fileno()))
    passing.start()
    with slurm, server, rank, client:
        for asking, answering, said, heard in (
            (rank, slurm, b"cmd=get_maxes\n", b"cmd=get_maxes\n"),
            (
                slurm,
                rank,
                b"cmd=maxes keylen_max=64 vallen_max=1024\n",
                b"cmd=maxes keylen_max=64 vallen_max=900\n",
            ),
            (slurm, rank, b"cmd=maxes keylen_max=64 vallen_max=64\n", b"cmd=maxes keylen_max=64 vallen_max=64\n"),
        ):
            asking.sendall(said)
            assert answering.recv(1023) == heard
        rank.shutdown(socket.SHUT_WR)
        passing.join(60)
        assert not passing.is_alive()
