"""Matrix-free Hessian-vector products of an objective at its checkpoint.

With one batch of data, reverse-over-reverse: the gradient's graph is built once, and a product is one pass through
it; on a CPU in slabs of data, whose graphs are kept as long as there is memory. With many, forward-over-reverse
(Pearlmutter 1994; one jvp through the gradient), which keeps nothing. Each stands in for the other where an operation
lacks forward mode or the loss calls torch.autograd itself. Central finite differences of gradients serve what has no
second derivative at all (fused kernels, custom functions, FSDP); their error is estimated and logged.

Each is proved before it is used: the gradient by first differences of the losses, a product by differences of
gradients and u'Hu by second differences of the losses. See `proof` for when they disagree. (The operator and its proof
share pieces of data, ranks and kept graphs, and so one class.)
"""

from __future__ import annotations

import itertools
import logging
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.func import grad, jvp

from landscaper_hpc.directions.decompose import KINKS, Decomposed, Operations
from landscaper_hpc.directions.gradient import TOLERANCE, batch_gradient, in_place, two_functions
from landscaper_hpc.directions.proof import along
from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.device import Peak
from landscaper_hpc.objective.flat_layout import Layout
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import arithmetic, epsilon, plain_attention
from landscaper_hpc.recording.slabs import Pieces, cut, divide, divide_into, mean_of

log = logging.getLogger(__name__)

# As for evaluation, but half: twice as much is alive. More, smaller slabs would cost time.
_CACHE = 2**20
_PARTS = 16  # of the data, in the start for Lanczos

MODES = ("forward-over-reverse", "reverse-over-reverse", "finite differences")

_AWAY = 0.05  # relative displacement at which the gradient is compared once more: at theta* it may be zero

_proved: weakref.WeakKeyDictionary[Objective, dict[str, str | float | None]] = weakref.WeakKeyDictionary()


def proof_of(objective: Objective) -> dict[str, str | float | None]:
    """What a result says of its Hessian: `hessian_mode`, one of MODES with what it needs, and `hessian_agreement`, the
    relative difference between u'Hu and a second difference of the losses (of Hu and a difference of gradients where
    that tells nothing; None where neither does). Empty where no Hessian was needed."""
    return dict(_proved.get(objective, {}))


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
        self.agreement: float | None = None
        self._group = group
        rank, size = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
        self._pieces = self._divided(size)
        self._mine = range(rank, len(self._pieces or objective.batches), size)
        self._kept: dict[int, tuple[dict[str, Tensor], dict[str, Tensor], int]] = {}
        self._peak = Peak(objective.device)
        self._room = self._peak.free() // 4
        self._operations = self._found_operations()
        self._decomposed: bool | None = None  # layer normalisation too, or nothing at all
        first = MODES[1] if len(objective.batches) == 1 else MODES[0]
        self.mode = self._first_proved([mode] if mode else sorted(MODES, key=lambda m: (m != first, MODES.index(m))))
        _proved[objective] = {"hessian_mode": self.described, "hessian_agreement": self.agreement}

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
            for weight, (batch, count) in zip(weights[i], cut(self.objective, *parts[i], each), strict=False):
                found = self._gradient(self.objective.parameters, batch, count)[0]
                total += weight * count * self.layout.flatten(found)
        self._add_up(total)
        length = torch.linalg.vector_norm(total)
        if not torch.isfinite(length) or not length:
            return random
        mixed: Tensor = total / length + random / torch.linalg.vector_norm(random)
        return mixed.to(random.dtype) if mixed.any() else random  # of one parameter, they may be opposite

    def _divided(self, ranks: int) -> Pieces | None:
        """A single batch in slabs, on a CPU or for several ranks, where the loss is their mean."""
        objective = self.objective
        if len(objective.batches) > 1:
            return None
        pieces = divide(objective, _CACHE) if objective.device.type == "cpu" else None
        if pieces is None or len(pieces) < ranks:
            pieces = divide_into(objective.batches[0], objective.examples[0], ranks)
        return pieces if self._all_agree(len(pieces) > 1 and mean_of(objective, pieces)) else None

    def _found_operations(self) -> set[str]:
        """The operations of the loss, as far as this rank's first piece of data shows."""
        if self.objective.sharded or not self._mine:
            return set()
        with Operations() as found:
            i = self._mine[0]
            piece = self._pieces[i] if self._pieces else (self.objective.batches[i], self.objective.examples[i])
            self.objective.part(self.objective.parameters, *piece)
        names: set[str] = found.names
        return names

    def _decompositions(self) -> list[bool | None]:
        """What to decompose while differentiating: see `Decomposed`. First what is enough for this loss."""
        fused: bool | None = False if "_weight_norm_interface" in self._operations else None
        if "native_layer_norm" not in self._operations:
            return [fused]
        return [True] if "native_layer_norm_backward" in self._operations else [fused, True]

    @contextmanager
    def _differentiating(self) -> Iterator[None]:
        with (
            plain_attention() if self.plain_attention else nullcontext(),
            nullcontext() if self._decomposed is None else Decomposed(layer_norm=self._decomposed),
        ):
            yield

    @property
    def described(self) -> str:
        """The mode, and what it needs."""
        fused = ["attention"] * self.plain_attention + ["layer normalisation"] * bool(self._decomposed)
        fused += ["weight normalisation"] * ("_weight_norm_interface" in self._operations)
        return self.mode + (f", {' and '.join(fused)} without fused kernels" if fused else "")

    def _first_proved(self, modes: Sequence[str]) -> str:
        probe = self.random(0)
        line = self._line(probe)
        loss = self._loss_along(line)
        tolerance = TOLERANCE.get(self.objective.precision, 0.3)
        rounding = epsilon(self.objective.precision, self.objective.device)
        slope, curvature = along(loss, rounding, tolerance)
        reasons: dict[str, None] = {}
        problem = ""
        for decomposed in self._decompositions():
            self._decomposed = decomposed
            steepness: float | None = None
            for mode, self.plain_attention in itertools.product(modes, (False, True)):
                reason = self._try(mode, probe)
                off = math.nan if reason else self._off_gradients(mode, probe, tolerance)
                if off is None:
                    reason = "its product is not that of differences of gradients"
                if not self._all_agree(not reason):
                    self._kept.clear()
                    reasons[f"{mode}: {reason or 'it fails on another rank'}"] = None
                    continue
                if steepness is None:
                    steepness = float(self._gradient_at(line) @ line.double())
                    problem = two_functions(slope, steepness, tolerance)
                if problem:
                    break
                claimed = float(self._product(line, mode).double() @ line.double())
                if curvature.contradicts(claimed, tolerance):
                    there = along(loss, rounding, tolerance, _AWAY)[0]
                    problem = two_functions(there, float(self._gradient_at(line, _AWAY) @ line.double()), tolerance)
                    if problem:
                        break
                    if self._nothing_known(off, mode) and not KINKS & self._operations:
                        self._kept.clear()
                        reasons[f"{mode}: u'Hu is {claimed:.6g}, second differences {curvature.value:.6g}"] = None
                        continue
                elif curvature.measured(tolerance):
                    off = curvature.off(claimed)
                self.agreement = off if off is not None and math.isfinite(off) else None
                self.mode = mode
                if reasons or self._decomposed is not None:
                    since = "; ".join(reasons) or "those are wrong in higher derivatives"
                    log.info("Hessian-vector products by %s, since %s", self.described, since)
                if mode == "finite differences":
                    log.info("their relative error is about %.1g", self._difference_error(probe))
                return mode
        if problem:
            raise InputError(f"{self.objective.source}: {problem}")
        raise InputError(
            f"{self.objective.source}: the loss cannot be differentiated ({'; '.join(reasons)}); "
            "use random directions (directions.kind: random)"
        )

    def _nothing_known(self, off: float | None, mode: str) -> bool:
        """Whether differences of gradients could not tell, on some rank."""
        return mode != "finite differences" and not self._all_agree(off is not None and math.isfinite(off))

    def _line(self, probe: Tensor) -> Tensor:
        """The probe as long as theta*, so that a step along it is a relative displacement."""
        theta = self.layout.flatten(self.objective.parameters)
        line: Tensor = probe / torch.linalg.vector_norm(probe) * (float(torch.linalg.vector_norm(theta)) or 1.0)
        return line

    def _loss_along(self, line: Tensor) -> Callable[[float], float]:
        """The plain loss at theta* + t · line as a function of t; NaN where it fails."""
        theta = self.layout.flatten(self.objective.parameters)

        def loss(t: float) -> float:
            params = self.layout.unflatten(torch.add(theta, line, alpha=t))
            total = torch.zeros(2, dtype=torch.float64, device=theta.device)
            for i in self._mine:
                piece = self._pieces[i] if self._pieces else (self.objective.batches[i], self.objective.examples[i])
                try:
                    value, weight = self.objective.part(params, *piece)
                except (RuntimeError, ValueError, ArithmeticError, LookupError):  # of the loss, away from theta*
                    value, weight = total.new_tensor(math.nan), 1
                total += torch.stack([value.detach() * weight, total.new_tensor(weight)])
            self._add_up(total)
            return float(total[0] / total[1].clamp(min=1))

        return loss

    def _gradient_at(self, line: Tensor, t: float = 0.0) -> Tensor:
        """The gradient at theta* + t · line, flat, of all data."""
        params = self.layout.unflatten(torch.add(self.layout.flatten(self.objective.parameters), line, alpha=t))
        exactly = arithmetic(self.objective.precision, self.objective.device, autocast=False)
        with exactly, self._differentiating():
            return self._over_data(lambda _, batch, count: self._gradient(params, batch, count), alone=False)

    def _gradient(self, params: Mapping[str, Tensor], batch: Any, count: int) -> tuple[dict[str, Tensor], int]:
        with nullcontext() if self._decomposed is None else Decomposed(layer_norm=self._decomposed):
            return batch_gradient(self.objective, params, batch, count)

    def _off_gradients(self, mode: str, probe: Tensor, tolerance: float) -> float | None:
        """By how much a product differs from differences of gradients, relative, over this rank's data; NaN where that
        cannot be told, None where it is wrong. Small steps see no kinks, if the precision allows them."""
        if mode == "finite differences":
            return math.nan
        product = self._product(probe, mode, alone=True)
        wide = self.objective.precision == "float64"
        best, before, consistent = math.inf, None, math.inf
        for widen in (1.0, 1e-2, 1e-4) if wide else (1.0, 0.25):
            difference = self._product(probe, "finite differences", widen=widen, alone=True)
            length = max(float(difference.norm()), float(product.norm()))
            if not math.isfinite(length):
                return math.nan
            best = min(best, float((difference - product).norm()) / length if length else 0.0)
            if best <= tolerance:
                return best
            if before is not None:
                consistent = min(consistent, float((difference - before).norm()) / length)
            before = difference
        kinks = not wide and bool(KINKS & self._operations)
        return None if 5 * consistent < best and not kinks else math.nan

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
        with exactly, self._differentiating():
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
            self._add_up(total)
        return total[:-1] / total[-1].clamp(min=1)

    def _add_up(self, total: Tensor) -> None:
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
            return self._over_data(lambda _, batch, count: self._gradient(params, batch, count), alone)

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
            gradients, weight = batch_gradient(self.objective, params, batch, count, keep=True)
            if keep:
                self._kept[i] = params, gradients, weight
        active = [name for name, gradient in gradients.items() if gradient.requires_grad]
        if not active:
            return {name: torch.zeros_like(p) for name, p in params.items()}, weight
        leaves = list(params.values())
        # not by grad_outputs: for those, torch imports sympy, which takes longer than all products of a small network
        dot = torch.stack([_dot(gradients[name], tangents[name]) for name in active]).sum()
        with in_place(self.objective, params):
            products = torch.autograd.grad(dot, leaves, retain_graph=keep, materialize_grads=True)
        return dict(zip(params, products, strict=True)), weight


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Of the real numbers that complex ones are made of."""
    if a.is_complex():
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    return (a * b).sum()
