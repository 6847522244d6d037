"""Matrix-free Hessian-vector products of an objective at its checkpoint.

With one batch of data, reverse-over-reverse: the gradient's graph is built once, and a product is one pass through
it; on a CPU in slabs of data, whose graphs are kept as long as there is memory. With many, forward-over-reverse
(Pearlmutter 1994; one jvp through the gradient), which keeps nothing. Each stands in for the other where an operation
lacks forward mode or the loss calls torch.autograd itself. Central finite differences of gradients serve what has no
second derivative at all (fused kernels, custom functions, FSDP); their error is estimated and logged.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.func import grad, jvp

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.device import Peak
from landscaper_hpc.objective.flat_layout import Layout
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import arithmetic, epsilon, plain_attention
from landscaper_hpc.recording.slabs import Pieces, divide, divide_into, mean_of

log = logging.getLogger(__name__)

# As for evaluation, but half: twice as much is alive. More, smaller slabs would cost time.
_CACHE = 2**20
_PARTS = 16  # of the data, in the start for Lanczos

MODES = ("forward-over-reverse", "reverse-over-reverse", "finite differences")


class Hessian:
    """The Hessian of `objective.loss` at theta* as an operator on flat vectors (see `Layout`).

    `mode` is one of MODES; by default the first that works for this loss, which a trial product decides. Attention
    runs in the fused kernel where that can be differentiated twice, and by plain matrix products otherwise. With a
    process `group` of torch.distributed, each rank takes its share of the data batches, or of a single one where the
    loss is a mean over examples, and all ranks get the same product. For a model that FSDP has sharded there are finite
    differences only, and no group: its ranks work together already (see `sharded`).
    """

    def __init__(
        self, objective: Objective, mode: str | None = None, *, group: dist.ProcessGroup | None = None
    ) -> None:
        if objective.sharded:
            if mode not in (None, MODES[2]) or group is not None:
                raise InputError(
                    f"{objective.source}: the model is sharded by FSDP, whose gradients have no derivative and are "
                    f"those of all ranks together; leave out the mode (or give {MODES[2]!r}) and the group"
                )
            log.info("Hessian-vector products by %s, since the model is sharded by FSDP", MODES[2])
            mode = MODES[2]
        self.objective = objective
        self.layout = Layout.of(objective.parameters)
        self.products = 0
        self.plain_attention = False
        self._group = group
        rank, size = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
        self._pieces = self._divided(size)
        self._mine = range(rank, len(self._pieces or objective.batches), size)
        self._kept: dict[int, tuple[dict[str, Tensor], dict[str, Tensor], int]] = {}
        self._peak = Peak(objective.device)
        self._room = self._peak.free() // 4
        first = MODES[1] if len(objective.batches) == 1 else MODES[0]
        self.mode = self._first_working([mode] if mode else sorted(MODES, key=lambda m: (m != first, MODES.index(m))))

    def __matmul__(self, vector: Tensor) -> Tensor:
        """H v for a flat vector of shape (size,), in the objective's dtype and on its device."""
        self.products += 1
        return self._product(vector, self.mode)

    def random(self, seed: int) -> Tensor:
        """A standard normal flat vector, the same on every device."""
        return self.layout.gaussian(1, seed)[0].to(self.objective.device, self.objective.dtype)

    def start(self, seed: int) -> Tensor:
        """A first vector for Lanczos: gradients of parts of the data with random weights. They span what the
        Gauss-Newton part of the Hessian acts on, so the large eigenvalues come out sooner than from a random vector;
        one is added, so that no eigenvector is missed. The same on every rank, to rounding."""
        random = self.random(seed)
        parts = self._pieces or list(zip(self.objective.batches, self.objective.examples, strict=True))
        each = -(-_PARTS // len(parts))
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(len(parts), each, dtype=torch.float64, generator=generator).tolist()
        total = torch.zeros(self.layout.size, dtype=torch.float64, device=random.device)
        for i in self._mine:
            for weight, (batch, count) in zip(weights[i], divide_into(*parts[i], each), strict=False):
                total += (
                    weight
                    * count
                    * self.layout.flatten(_gradient(self.objective, self.objective.parameters, batch, count)[0])
                )
        self._share(total)
        length = torch.linalg.vector_norm(total)
        if not torch.isfinite(length) or not length:
            return random
        mixed: Tensor = total / length + random / torch.linalg.vector_norm(random)
        return mixed.to(random.dtype)

    def _divided(self, ranks: int) -> Pieces | None:
        """A single batch in slabs, on a CPU or for several ranks, where the loss is their mean."""
        objective = self.objective
        if len(objective.batches) > 1:
            return None
        pieces = divide(objective, _CACHE) if objective.device.type == "cpu" else None
        if pieces is None or len(pieces) < ranks:
            pieces = divide_into(objective.batches[0], objective.examples[0], ranks)
        return pieces if self._all_agree(len(pieces) > 1 and mean_of(objective, pieces)) else None

    def _first_working(self, modes: Sequence[str]) -> str:
        probe = self.random(0)
        reasons: dict[str, None] = {}
        for mode, self.plain_attention in itertools.product(modes, (False, True)):
            reason = self._try(mode, probe)
            if not self._all_agree(not reason):
                self._kept.clear()
                reasons[f"{mode}: {reason or 'it fails on another rank'}"] = None
                continue
            if reasons:
                attention = ", attention without fused kernels" if self.plain_attention else ""
                log.info("Hessian-vector products by %s%s, since %s", mode, attention, "; ".join(reasons))
            if mode == "finite differences":
                log.info("their relative error is about %.1g", self._difference_error(probe))
            return mode
        raise InputError(
            f"{self.objective.source}: the loss cannot be differentiated ({'; '.join(reasons)}); "
            "use random directions (directions.kind: random)"
        )

    def _try(self, mode: str, probe: Tensor) -> str:
        """Why this mode does not work for this rank's data, or nothing. No rank waits for another here."""
        try:
            product = self._product(probe, mode, alone=True)
            if mode == "reverse-over-reverse":
                self._refuse_lost_terms(product, probe)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            return " ".join(str(error).split())[:200]
        return ""

    def _all_agree(self, works: bool) -> bool:
        if self._group is None:
            return works
        vote = torch.tensor(int(works), device=self.objective.device)
        dist.all_reduce(vote, dist.ReduceOp.MIN, group=self._group)
        return bool(vote)

    def _refuse_lost_terms(self, product: Tensor, probe: Tensor) -> None:
        """torch takes the derivative of a once-differentiable backward pass for zero, silently. So a part of the
        product that is exactly zero is compared with finite differences."""
        zero = [place for place in self.layout.slices().values() if not product[place].any()]
        if not zero:
            return
        differences = self._product(probe, "finite differences", alone=True)
        lost = max(float(differences[place].norm()) for place in zero)
        if lost > 1e-2 * float(differences.norm()):
            raise RuntimeError("a backward pass in the loss can be differentiated only once")

    def _difference_error(self, probe: Tensor) -> float:
        """Relative error of the finite differences: against twice the step, whose error is four times as large."""
        fine, coarse = (self._product(probe, "finite differences", widen=widen) for widen in (1.0, 2.0))
        return float((coarse - fine).norm() / (3 * fine.norm()))

    def _product(self, vector: Tensor, mode: str, *, widen: float = 1.0, alone: bool = False) -> Tensor:
        objective = self.objective
        # backward passes too, not only the loss
        exactly = arithmetic(objective.precision, objective.device, autocast=False)
        with exactly, plain_attention() if self.plain_attention else nullcontext():
            if mode == "finite differences":
                return self._differences(vector, widen, alone)
            method = self._forward_over_reverse if mode == "forward-over-reverse" else self._reverse_over_reverse
            tangents = self.layout.unflatten(vector)
            return self._over_data(lambda i, batch, count: method(i, batch, count, tangents), alone).to(vector.dtype)

    def _over_data(self, method: Callable[[int, Any, int], tuple[dict[str, Tensor], int]], alone: bool) -> Tensor:
        """The mean over the data, float64 and flat, of what `method` gives for each batch with its weight; over this
        rank's data only if `alone`."""
        objective = self.objective
        total = torch.zeros(self.layout.size + 1, dtype=torch.float64, device=objective.device)
        for i in self._mine:
            batch, count = self._pieces[i] if self._pieces else (objective.batches[i], objective.examples[i])
            parts, weight = method(i, batch, count)
            total[:-1] += weight * self.layout.flatten(parts)
            total[-1] += weight
        if not alone:
            self._share(total)
        return total[:-1] / total[-1].clamp(min=1)

    def _share(self, total: Tensor) -> None:
        """Add up over the ranks, in place. All go on with the same bits, whatever order each of them added in."""
        if self._group is not None:
            dist.all_reduce(total, group=self._group)
            dist.broadcast(total, dist.get_global_rank(self._group, 0), group=self._group)

    def _differences(self, vector: Tensor, widen: float, alone: bool) -> Tensor:
        """Central differences of gradients. The step balances truncation, h², against rounding, eps / h, where eps is
        that of the arithmetic: of bf16 it is much larger than that of the parameters."""
        theta = self.layout.flatten(self.objective.parameters)
        length = float(vector.norm())
        if length == 0:
            return vector
        rounding = epsilon(self.objective.precision, self.objective.device)
        step = widen * rounding ** (1 / 3) * max(1.0, float(theta.norm())) / length

        def gradient_at(flat: Tensor) -> Tensor:
            params = self.layout.unflatten(flat)
            return self._over_data(lambda _, batch, count: _gradient(self.objective, params, batch, count), alone)

        slope: Tensor = (gradient_at(theta + step * vector) - gradient_at(theta - step * vector)) / (2 * step)
        return slope.to(vector.dtype)

    def _forward_over_reverse(
        self, i: int, batch: Any, count: int, tangents: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], int]:
        weights = []

        def loss(params: dict[str, Tensor]) -> Tensor:
            value, weight = self.objective.part(params, batch, count)
            weights.append(weight)
            return value

        product = jvp(grad(loss), (self.objective.parameters,), (dict(tangents),))[1]
        return product, weights[0]

    def _reverse_over_reverse(
        self, i: int, batch: Any, count: int, tangents: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], int]:
        if i in self._kept:
            keep = True
            params, gradients, weight = self._kept[i]
        else:
            keep = len(self.objective.batches) == 1 and self._peak.bytes() <= self._room
            params = {name: p.detach().requires_grad_() for name, p in self.objective.parameters.items()}
            gradients, weight = _gradient(self.objective, params, batch, count, keep=True)
            if keep:
                self._kept[i] = params, gradients, weight
        active = [name for name, gradient in gradients.items() if gradient.requires_grad]
        if not active:
            return {name: torch.zeros_like(p) for name, p in params.items()}, weight
        leaves = list(params.values())
        # not by grad_outputs: for those, torch imports sympy, which takes longer than all products of a small network
        dot = torch.stack([_dot(gradients[name], tangents[name]) for name in active]).sum()
        products = torch.autograd.grad(dot, leaves, retain_graph=keep, materialize_grads=True)
        return dict(zip(params, products, strict=True)), weight


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Of the real numbers that complex ones are made of."""
    if a.is_complex():
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    return (a * b).sum()


def gradient(
    objective: Objective, at: Mapping[str, Tensor] | None = None, buffers: Mapping[str, Tensor] | None = None
) -> Tensor:
    """The gradient of the loss at theta*, or at the parameters `at` with these `buffers`, as a flat vector in the
    objective's dtype."""
    layout = Layout.of(objective.parameters)
    total, examples = torch.zeros(layout.size, dtype=torch.float64, device=objective.device), 0
    for batch, count in zip(objective.batches, objective.examples, strict=True):
        parts, weight = _gradient(objective, at or objective.parameters, batch, count, buffers=buffers)
        total += weight * layout.flatten(parts)
        examples += weight
    return (total / examples).to(objective.dtype)


def _gradient(
    objective: Objective,
    at: Mapping[str, Tensor],
    batch: Any,
    count: int,
    *,
    keep: bool = False,
    buffers: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], int]:
    """Gradient of one batch's mean loss at `at`, whose tensors are or become leaves that require gradients; with
    `keep` it can be differentiated again."""
    params = {name: p if keep else p.detach().requires_grad_() for name, p in at.items()}
    value, weight = objective.part(params | dict(buffers or {}), batch, count)
    if not value.requires_grad:
        return {name: torch.zeros_like(p) for name, p in params.items()}, weight
    with arithmetic(objective.precision, objective.device, autocast=False):
        gradients = torch.autograd.grad(value, list(params.values()), create_graph=keep, materialize_grads=True)
    return dict(zip(params, gradients, strict=True)), weight
