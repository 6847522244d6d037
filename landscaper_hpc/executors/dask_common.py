"""What both ways to Dask's workers on Slurm need: dask_jobqueue as it is imported here, and the keys of a run.

All talk TLS, with a certificate that is made for one run, in a folder that only its owner can read.
"""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path

from distributed.security import Security

# Dask looks for the way to the internet; where there is none, the host's name is as good
warnings.filterwarnings("ignore", "Couldn't detect a suitable IP address", RuntimeWarning)

_sigint = signal.getsignal(signal.SIGINT)

from dask_jobqueue.slurm import SLURMCluster, SLURMJob, SLURMRunner  # noqa: E402

signal.signal(signal.SIGINT, _sigint)  # the import replaced it by one that exits with code 0

__all__ = ["SCRATCH", "START_SECONDS", "SLURMCluster", "SLURMJob", "SLURMRunner", "write_keys"]

START_SECONDS = 300
SCRATCH = "scratch"
"""The folder beside the keys that Dask's processes have for themselves."""


def write_keys(folder: Path, security: Security) -> tuple[Path, Path]:
    """The certificate and its key, in a new folder that only its owner can read; the key comes last, and whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    (folder / SCRATCH).mkdir(mode=0o700)  # a node's own may be another user's, and Python looks for modules in it
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    for file, text in (certificate, security.tls_worker_cert), (key.with_suffix(".new"), security.tls_worker_key):
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
    key.with_suffix(".new").rename(key)
    return certificate, key
