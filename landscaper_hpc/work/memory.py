"""How much memory a study takes, before anything is spent. A test holds the formulas against measured peaks.

P are the bytes of the parameters that move. What the loss itself holds between its operations comes on top, as does
what a process takes before it has a model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from landscaper_hpc.directions.from_study import needs_hessian
from landscaper_hpc.errors import InputError
from landscaper_hpc.study.study import Study
from landscaper_hpc.work.landscape import Landscape

if TYPE_CHECKING:
    from landscaper_hpc.objective.objective import Objective


_PASSED_ON = 3
"""How often what FSDP gathers is held: as it comes, as it is used, and that of the block before."""


@dataclass(frozen=True)
class Sizes:
    """Of what a process holds, in bytes: `moving`, the parameters that move; `wide`, the same in float64; `others`,
    what else there is of model and data; `largest`, of the largest tensor that moves, all of it; `work`, what is
    computed at once; `gathered`, what FSDP makes whole at once where so many `ranks` hold the model together."""

    moving: int
    wide: int
    others: int
    largest: int
    work: int
    gathered: int = 0
    ranks: int = 1

    @classmethod
    def of(cls, objective: Objective, n: int) -> Sizes:
        from torch import Tensor
        from torch.utils import _pytree as pytree

        from landscaper_hpc.objective.flat_layout import block_bytes
        from landscaper_hpc.objective.fsdp import gathered_bytes, held_bytes

        tensors, parts = objective.parameters, objective.layout.parts
        size = objective.layout.size
        held = [*objective.model.parameters(), *objective.model.buffers()]
        data = [leaf for leaf in pytree.tree_leaves(list(objective.batches)) if isinstance(leaf, Tensor)]
        moving = sum(p.nbytes for p in tensors.values())
        return cls(
            moving=moving,
            wide=8 * size,
            # the model's own parts of what moves are beside theta* where ranks hold it together
            others=max(sum(map(held_bytes, [*held, *data])) - (0 if objective.sharded else moving), 0),
            largest=max(
                math.prod(shape) * tensors[name].element_size() for name, shape in objective.layout.whole_shapes.items()
            ),
            work=block_bytes(size, n),
            gathered=gathered_bytes(objective.model, objective.shard),
            ranks=1 if parts is None else parts.size,
        )

    def divided(self, ranks: int) -> Sizes:
        """Of one of so many processes that hold the model together: the largest part, and the model's own of what moves
        beside theta*."""
        moving = -(-self.moving // ranks)
        others = self.others + moving * (ranks > 1)
        return replace(self, moving=moving, wide=-(-self.wide // ranks), others=others, ranks=ranks)

    @property
    def whole(self) -> int:
        """What a rank holds of what FSDP gathers."""
        return _PASSED_ON * self.gathered if self.ranks > 1 else 0

    @property
    def drawn(self) -> int:
        """The float64 row that a rank draws of the largest tensor, to keep its part."""
        return self.largest * self.wide // max(self.moving, 1) if self.ranks > 1 else 0


@dataclass(frozen=True)
class Stage:
    """What one process holds at most in a stage, in bytes, on the device of its model, and beside it in the host's
    memory where that is another."""

    name: str
    device: int
    host: int


def stages(study: Study, sizes: Sizes, dimension: int, batch: int = 1) -> list[Stage]:
    """The stages of a study in their order; `dimension` is the number of real numbers that move, `batch` that of points
    that are evaluated at once."""
    n, p, rest = study.directions.n, sizes.moving, sizes.others
    # tried once with copies of everything; and displaced, to see what it depends on
    found = [Stage("loading", rest + max(2 * (p + rest) - rest, 3 * p), 2 * (p + rest))]
    kind = study.directions
    if kind.kind == "hessian" and kind.solver == "lanczos":
        found.append(
            Stage("directions", rest + hessian_bytes(sizes, n, basis_of(study, dimension), bits_of(study)), n * p)
        )
    else:
        # random ones are drawn, and written, on the host
        found.append(Stage("directions", rest + random_bytes(sizes, n), n * p + sizes.work))
    if study.hessian.trace_products:
        k = min(study.hessian.trace_products // 2, dimension)
        found.append(Stage("trace", rest + (n + 4 * k + 1) * p, 0))
    if study.hessian.density_probes:
        found.append(Stage("density", rest + (n + study.hessian.density_steps + 2) * p + 2 * sizes.wide, 0))
    batch = batch if study.batch == "auto" else study.batch
    found.append(Stage("evaluation", rest + evaluation_bytes(sizes, n, batch), n * sizes.largest))
    if study.confirm is not None or (study.sampling is not None and study.sampling.minima):
        found.append(Stage("confirming", rest + confirming_bytes(sizes, n), n * sizes.largest))
    return found


def basis_of(study: Study, dimension: int) -> int:
    """How many vectors Lanczos holds for this study."""
    from landscaper_hpc.directions.lanczos import basis_size

    return min(dimension, study.directions.basis or basis_size(study.directions.n, dimension))


def bits_of(study: Study) -> int | None:
    """How many bits Lanczos holds of a number, where that is not in the study's precision."""
    return {None: None, "float32": 32, "bf16": 16}[study.directions.basis_precision]


def evaluation_bytes(sizes: Sizes, n: int, batch: int = 1) -> int:
    """theta*, n directions and the points that are evaluated at once."""
    return (n + 1 + batch) * sizes.moving + (sizes.work if batch == 1 else sizes.moving) + sizes.whole


def confirming_bytes(sizes: Sizes, n: int) -> int:
    """theta*, n directions, the point, and a copy of it that autograd may keep; where ways to a gradient are compared,
    one in float64, and beside it another with what it is made of; of a Hessian, a gradient, a row of it as it is and
    as one vector; and what a backward pass holds of one tensor meanwhile."""
    p, wide, passing = sizes.moving, sizes.wide, 3 * sizes.largest
    return (n + 3) * p + max(p + wide + max(wide, passing), 3 * p + passing) + sizes.work + sizes.whole


def random_bytes(sizes: Sizes, n: int) -> int:
    """theta* and n directions, which are drawn, made orthonormal and scaled in their own memory; small ones in float64,
    three times, the vectors themselves among them."""
    return (n + 1) * sizes.moving + max(min(2 * sizes.work, 3 * n * sizes.wide), sizes.work + sizes.drawn)


def hessian_bytes(sizes: Sizes, n: int, basis: int, bits: int | None = None) -> int:
    """theta*, the basis with the vector that waits; of one batch its gradient and this one's derivative, twice when it
    becomes one vector, of several a derivative and the sum in float64; and what a backward pass holds of one tensor
    meanwhile. Before there is a basis, a proof with differences of gradients; at last the directions beside it, and
    then without it what scales them."""
    p, product = sizes.moving, max(3 * sizes.moving, sizes.moving + sizes.wide) + 3 * sizes.largest
    held = (basis + 1) * (p if bits is None else min(p, sizes.wide * bits // 64))
    product += 0 if bits is None else p  # the vector that is multiplied, as the product takes it
    sought = max(p + held + product, 7 * p + sizes.wide, p + held + n * p) + min(sizes.work, 2 * p)
    return max(sought, (n + 1) * p + product + sizes.work) + sizes.whole


# ---- what there is --------------------------------------------------------------------------------------------------


def refuse_too_large(landscape: Landscape, objective: Objective) -> None:
    """`InputError` where a stage needs more memory than this device, or this node for all its processes, has."""
    study, sizes = landscape.study, Sizes.of(objective, landscape.study.directions.n)
    dimension = objective.layout.dimension
    for stage in stages(study, sizes, dimension):
        for place, needed, room in _needs(landscape, objective, stage):
            if needed > room:
                ways = "; ".join(_ways(landscape, stage, sizes, dimension))
                raise InputError(
                    f"{landscape}: {stage.name} takes {bytes_in_words(needed)} in one process, {place} has "
                    f"{bytes_in_words(room)} for it ({bytes_in_words(sizes.moving)} of parameters move); {ways}"
                )


def _needs(landscape: Landscape, objective: Objective, stage: Stage) -> Iterator[tuple[str, int, int]]:
    """Where, how much is needed, and how much there is for one process."""
    import torch

    site = landscape.site
    workers = site.worker_count() if site.executor == "local" and stage.name in ("evaluation", "confirming") else 1
    workers *= site.gpus_per_model
    on_host = stage.host
    if objective.device.type == "cuda":
        share = -(-workers // max(torch.cuda.device_count(), 1)) if site.device == "cuda" else workers
        total = torch.cuda.get_device_properties(objective.device).total_memory
        yield f"the GPU {objective.device}", stage.device, total // share
    else:
        on_host = stage.device
    shared = "this machine" if workers == 1 else f"each of {workers} processes of this machine"
    yield shared, on_host, host_memory() // workers


def _ways(landscape: Landscape, stage: Stage, sizes: Sizes, dimension: int) -> Iterator[str]:
    """What may be done about it."""
    study, n = landscape.study, landscape.study.directions.n
    if stage.name == "directions" and needs_hessian(study) and (basis := basis_of(study, dimension)) > n + 2:
        least = bytes_in_words(sizes.others + hessian_bytes(sizes, n, n + 2, bits_of(study)))
        yield f"hold fewer basis vectors (directions.basis: {n + 2} takes {least}, {basis} are asked for)"
    of_lanczos = study.directions.kind == "hessian" and study.directions.solver == "lanczos"
    if stage.name == "directions" and of_lanczos and study.directions.basis_precision != "bf16":
        least = bytes_in_words(sizes.others + hessian_bytes(sizes, n, basis_of(study, dimension), 16))
        yield f"hold them in fewer bits (directions.basis_precision: bf16 takes {least})"
    if stage.name == "directions" and study.directions.kind == "hessian":
        yield f"take random directions, which take {bytes_in_words(sizes.others + random_bytes(sizes, n))}"
    if stage.name in ("trace", "density"):
        yield "leave hessian.trace_products and hessian.density_probes out, or ask for less"
    if (
        stage.name in ("evaluation", "confirming")
        and landscape.site.executor == "local"
        and landscape.site.worker_count() > 1
    ):
        yield "use fewer processes (--workers 1)"
    yield "move fewer parameters (only: a layer)"
    if stage.name == "confirming":
        yield "leave confirm out" if study.confirm is not None else "leave sampling.minima out"
    if n > 1:
        yield "ask for fewer directions"
    yield "use a device or node with more memory"


def host_memory() -> int:
    """Bytes of memory of this machine, or of the container that this process is in."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(file).read_text()))
        except (OSError, ValueError):
            continue
    return total


def bytes_in_words(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
