"""One rank of test_sharded: `sharded_rank.py RANK SIZE FOLDER`, with theta.pt in the folder. Also its task file."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from landscaper_hpc.directions.directions import gradient_direction, hessian_directions, random_directions
from landscaper_hpc.directions.hessian import Hessian
from landscaper_hpc.errors import InputError
from landscaper_hpc.losses.evaluate import choose_batch, evaluation_mode, losses
from landscaper_hpc.objective.dependence import prove_dependence
from landscaper_hpc.objective.flat_layout import Layout
from landscaper_hpc.objective.loading import load_objective
from landscaper_hpc.objective.objective import Objective, Task

torch.set_num_threads(1)
POINTS = np.random.default_rng(0).normal(0, 0.3, (4, 2))


def task(
    ranks: int = 0, share: int = -1, shape: str = "batches", uneven: bool = False, idle: bool = False, **how: Any
) -> Task:
    """A network with tied and with frozen parameters, on 12 examples; of those the share of one of the `ranks`."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, 2))
    model[4].weight = model[2].weight
    model[0].bias.requires_grad_(False)
    x, y = torch.randn(12, 4), torch.randn(12, 2)
    if ranks:
        shard(model, ranks, **how)
    if share >= 0:
        x, y = x[share::ranks], y[share::ranks]
    data = (
        [(x, y), (x[: 2 + (uneven and share == 0)], y[: 2 + (uneven and share == 0)])] if shape == "batches" else (x, y)
    )

    def loss(m: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        return ((m(batch[0]) * (not idle)) - batch[1]).square().sum(dim=1)

    return Task(model, loss, data)


def shard(model: nn.Module, ranks: int, narrow: bool = False, early: bool = False) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if not dist.is_initialized():
        meeting = f"file://{Path(sys.argv[3]) / 'meeting'}"
        dist.init_process_group("gloo", init_method=meeting, rank=int(sys.argv[1]), world_size=ranks)
    options: Any = {"mesh": init_device_mesh("cpu", (ranks,))}
    if narrow:
        options["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    fully_shard(model[0], **options)
    fully_shard(model, **options)
    if early:
        model(torch.randn(3, 4))


def together(objective: Objective, flat: Tensor) -> Tensor:
    """Flat vectors (size,) or (n, size) of all ranks as those of the whole model."""
    layout, parts = objective.layout, objective.layout.parts
    if parts is None:
        return flat
    rows = [
        {name: parts.whole(name, p) for name, p in layout.unflatten(row).items()} for row in flat.view(-1, layout.size)
    ]
    flattened = torch.stack([Layout.of(row).flatten(row) for row in rows])
    return flattened.view(*flat.shape[:-1], -1)


def found(objective: Objective, mode: str | None) -> dict[str, Any]:
    """What every kind of computation gives; the same for a sharded model and a whole one."""
    hessian = Hessian(objective, mode)
    directions = random_directions(objective, 2, seed=1)
    result = {
        "product": together(objective, hessian @ hessian.random(1)),
        "loss": torch.tensor(objective.prove_deterministic()),
        "gradient": together(objective, hessian.layout.flatten(gradient_direction(objective).vectors)[0]),
    }
    if len(objective.batches) == 1:  # once is enough: it takes most of the time
        eigen = hessian_directions(objective, 2, tolerance=1e-6, normalization="unit")
        result |= {
            "values": torch.from_numpy(eigen.eigenvalues),
            "vectors": together(objective, hessian.layout.flatten(eigen.vectors)),
        }
    # last: what is left in the model is then another point, if it was not put back
    return result | {"losses": torch.from_numpy(losses(objective, directions, POINTS, batch=3))}


def bits(model: nn.Module) -> list[Tensor]:
    """This rank's part of the parameters."""
    return [p.detach().to_local().clone() for p in model.parameters()]


def main(rank: int, size: int, folder: Path) -> None:
    said: list[str] = []
    logging.getLogger("landscaper_hpc").setLevel("INFO")
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("landscaper_hpc").addHandler(handler)

    def load(**options: Any) -> Objective:
        return load_objective(Path(__file__), folder / "theta.pt", options={"ranks": size} | options)

    for name, options in (("all", {}), ("shares", {"share": rank, "shape": "one"})):
        said.clear()
        objective = load(**options)
        before = bits(objective.model)
        result = found(objective, None)
        result["unchanged"] = all(torch.equal(a, b) for a, b in zip(before, bits(objective.model), strict=True))
        result["notices"] = prove_dependence(objective)
        result["shards"] = [tuple(part.shape) for part in before]
        directions = random_directions(objective, 2)
        result["ways"] = [evaluation_mode(objective, directions, 4), choose_batch(objective, directions)]
        torch.save(result | {"said": list(said)}, folder / f"{name}-{rank}.pt")

    refused = {}
    for name, attempt in {
        "mode": lambda: Hessian(load(), "reverse-over-reverse"),
        "group": lambda: Hessian(load(), group=dist.group.WORLD),
        "uneven": lambda: load(share=rank, uneven=True),
        "narrow": lambda: load(narrow=True),
        "early": lambda: load(early=True),
        "idle": lambda: prove_dependence(load(idle=True)),
    }.items():
        try:
            attempt()
        except InputError as error:
            refused[name] = str(error)
    torch.save(refused, folder / f"refused-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
