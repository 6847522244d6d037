"""One rank of test_hessian's data-parallel test: `hessian_rank.py RANK SIZE FOLDER`."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from problems import TASKS, mlp_task

from landscaper_hpc.directions.directions import hessian_directions
from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.objective.objective import Objective

rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=size)
for ranks in range(1, size + 1):
    group = dist.new_group(list(range(ranks)))
    if rank < ranks:
        for name, task in (("batches", mlp_task(batches=True)), ("one batch", TASKS["transformer"]())):
            objective = Objective(task)
            for mode in (None, "finite differences"):
                hessian = Hessian(objective, mode, group=group)
                assert len(hessian.derivatives.mine) > 0  # every rank has work, of a single batch too
                torch.save(hessian @ hessian.random(1), folder / f"{name}-{mode}-{ranks}-{rank}.pt")
            found = hessian_directions(objective, 2, tolerance=1e-8, group=group, normalization="unit")
            torch.save({k: v.clone() for k, v in found.vectors.items()}, folder / f"{name}-vectors-{ranks}-{rank}.pt")
dist.destroy_process_group()
