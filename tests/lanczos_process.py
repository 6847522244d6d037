"""A search for eigenpairs that test_hessian kills: `lanczos_process.py FILE RESULT LAST` says every product and
waits for its end after product LAST."""

import signal
import sys
from pathlib import Path

import torch
from problems import TASKS

from landscaper_hpc.directions import lanczos
from landscaper_hpc.directions.directions import hessian_directions
from landscaper_hpc.objective.objective import Objective


def say(done: int, total: int) -> None:
    print(done, flush=True)
    if done == int(sys.argv[3]):
        signal.pause()


lanczos.SECONDS_BETWEEN_SAVES = 0.0
found = hessian_directions(
    Objective(TASKS["transformer"]()),
    3,
    tolerance=1e-9,
    max_iterations=500,
    resume=Path(sys.argv[1]),
    progress=say,
)
torch.save(found.vectors, sys.argv[2])
