"""Matrix-free Hessian-vector products of an objective at its checkpoint.

There are three ways to them, see `derivatives`. Each is proved before it is used: the gradient by first differences of
the losses, a product by differences of gradients and u'Hu by second differences of the losses. See `proof` for when
they disagree. The error of finite differences is estimated and logged.
"""

from __future__ import annotations

import itertools
import logging
import math
import weakref
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from landscaper_hpc.directions.decompose import BATCH_STATISTICS, KINKS
from landscaper_hpc.directions.derivatives import Derivatives
from landscaper_hpc.directions.gradient import TOLERANCE, of_backward, two_functions
from landscaper_hpc.directions.lanczos import norm_of
from landscaper_hpc.directions.proof import along
from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.flat_layout import is_small, real
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import epsilon
from landscaper_hpc.recording.slabs import cut

log = logging.getLogger(__name__)

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
    """The Hessian of `objective.loss` at theta* as an operator on flat vectors (see `Layout`): `hessian @ vector`.

    Attention runs in the fused kernel where that can be differentiated twice, and by plain matrix products otherwise.
    For a model that FSDP has sharded there are finite differences only, and no group: its ranks work together already
    (see `sharded`).

    Parameters
    ----------
    objective
        The loss.
    mode
        One of MODES; by default the first that works for this loss, which a trial product decides.
    group
        Ranks of torch.distributed: each takes its share of the data batches, or of a single one where the loss is a
        mean over examples, and all get the same product.

    Raises
    ------
    InputError
        Where no mode agrees with differences of the losses, and for a mode or group that a sharded model cannot have.
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
        self.derivatives = Derivatives(objective, group)
        self.layout = self.derivatives.layout
        self.products = 0
        self.agreement: float | None = None
        # forward mode holds some copies more of the parameters
        first = MODES[0] if len(objective.batches) > 1 and is_small(self.layout.size) else MODES[1]
        self.mode = self._first_proved([mode] if mode else sorted(MODES, key=lambda m: (m != first, MODES.index(m))))
        _proved[objective] = {"hessian_mode": self.described, "hessian_agreement": self.agreement}

    def __matmul__(self, vector: Tensor) -> Tensor:
        """H v for a flat vector of shape (size,), in the objective's dtype and on its device."""
        self.products += 1
        return self.derivatives.product(vector, self.mode)

    def random(self, seed: int) -> Tensor:
        """A standard normal vector, the same on every device.

        Parameters
        ----------
        seed
            The same seed gives the same vector.

        Returns
        -------
        (size,) flat, in the objective's dtype and on its device.
        """
        return self.layout.gaussian(1, seed, self.objective.dtype)[0].to(self.objective.device)

    def start(self, seed: int) -> Tensor:
        """A first vector for Lanczos: gradients of parts of the data with random weights.

        They span what the Gauss-Newton part of the Hessian acts on, so the large eigenvalues come out sooner than from
        a random vector; one is added, so that no eigenvector is missed. The same on every rank, to rounding.

        Parameters
        ----------
        seed
            Of the weights.

        Returns
        -------
        (size,) flat, in the objective's dtype and on its device.
        """
        random = self.random(seed)
        parts = self.derivatives.pieces or list(zip(self.objective.batches, self.objective.examples, strict=True))
        each = -(-_PARTS // len(parts))
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(len(parts), each, dtype=torch.float64, generator=generator).tolist()
        total = torch.zeros(self.layout.size, dtype=torch.float64, device=random.device)
        for i in self.derivatives.mine:
            # ranks that hold a model together go through as many batches, of other sizes
            pieces = [parts[i]] if self.objective.sharded else cut(self.objective, *parts[i], each)
            for weight, (batch, count) in zip(weights[i], pieces, strict=False):
                found, losses = self.derivatives.gradient(self.objective.parameters, batch, count)
                count = losses if self.objective.sharded else count
                for name, place in self.layout.slices().items():
                    total[place] += weight * count * real(found.pop(name)).reshape(-1)
        self.derivatives.add_up(total)
        length = self.layout.norm(total)
        if not torch.isfinite(length) or not length:
            return random
        mixed = total.div_(length).add_(random / self.layout.norm(random))
        return mixed.to(random.dtype) if self.layout.norm(mixed) else random  # of one parameter, they may be opposite

    @property
    def described(self) -> str:
        """The mode, and what it needs."""
        return self.derivatives.described(self.mode)

    def _decompositions(self) -> list[bool | None]:
        """What to decompose while differentiating: see `Decomposed`. First what is enough for this loss."""
        found = self.derivatives.operations
        fused: bool | None = False if "_weight_norm_interface" in found else None
        if "native_layer_norm" not in found and BATCH_STATISTICS not in found:
            return [fused]
        inside = "native_layer_norm_backward" in found
        inside |= BATCH_STATISTICS in found and any(name.endswith("batch_norm_backward") for name in found)
        return [True] if inside else [fused, True]

    def _first_proved(self, modes: Sequence[str]) -> str:
        probe = self.random(0)
        line = self._line(probe)
        loss = self.derivatives.loss_along(line)
        tolerance = TOLERANCE.get(self.objective.precision, 0.3)
        rounding = epsilon(self.objective.precision, self.objective.device)
        slope, curvature = along(loss, rounding, tolerance)
        reasons: dict[str, None] = {}
        problem = ""
        for decomposed in self._decompositions():
            self.derivatives.decomposed = decomposed
            steepness: float | None = None
            for mode, self.derivatives.plain_attention in itertools.product(modes, (False, True)):
                reason = self._try(mode, probe)
                off = math.nan if reason else self._off_gradients(mode, probe, tolerance)
                if off is None:
                    reason = "its product is not that of differences of gradients"
                if not self.derivatives.all_agree(not reason):
                    self.derivatives.kept.clear()
                    reasons[f"{mode}: {reason or 'it fails on another rank'}"] = None
                    continue
                if steepness is None:
                    steepness = float(self.layout.dot(self.derivatives.gradient_at(line), line.double()))
                    problem = two_functions(slope, steepness, tolerance)
                if problem:
                    break
                claimed = float(self.layout.dot(self.derivatives.product(line, mode).double(), line.double()))
                if curvature.contradicts(claimed, tolerance):
                    there = along(loss, rounding, tolerance, _AWAY)[0]
                    away = self.layout.dot(self.derivatives.gradient_at(line, _AWAY), line.double())
                    problem = two_functions(there, float(away), tolerance)
                    if problem:
                        break
                    if self._nothing_known(off, mode) and not KINKS & self.derivatives.operations:
                        self.derivatives.kept.clear()
                        reasons[f"{mode}: u'Hu is {claimed:.6g}, second differences {curvature.value:.6g}"] = None
                        continue
                elif curvature.measured(tolerance):
                    off = curvature.off(claimed)
                self.agreement = off if off is not None and math.isfinite(off) else None
                self.mode = mode
                if reasons or self.derivatives.decomposed is not None:
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
        return mode != "finite differences" and not self.derivatives.all_agree(off is not None and math.isfinite(off))

    def _line(self, probe: Tensor) -> Tensor:
        """The probe as long as theta*, so that a step along it is a relative displacement."""
        theta = self.layout.whole(self.objective.parameters)
        line: Tensor = probe / self.layout.norm(probe) * (float(self.layout.norm(theta)) or 1.0)
        return line

    def _off_gradients(self, mode: str, probe: Tensor, tolerance: float) -> float | None:
        """By how much a product differs from differences of gradients, relative, over this rank's data; NaN where that
        cannot be told, None where it is wrong. Small steps see no kinks, if the precision allows them."""
        if mode == "finite differences":
            return math.nan
        product = self.derivatives.product(probe, mode, alone=True)
        wide = self.objective.precision == "float64"
        best, before, consistent = math.inf, None, math.inf
        for widen in (1.0, 1e-2, 1e-4) if wide else (1.0, 0.25):
            difference = self.derivatives.product(probe, "finite differences", widen=widen, alone=True)
            length = max(norm_of(difference), norm_of(product))
            if not math.isfinite(length):
                return math.nan
            best = min(best, norm_of(difference - product) / length if length else 0.0)
            if best <= tolerance:
                return best
            if before is not None:
                consistent = min(consistent, norm_of(difference - before) / length)
            before = difference
        kinks = not wide and bool(KINKS & self.derivatives.operations)
        return None if 5 * consistent < best and not kinks else math.nan

    def _try(self, mode: str, probe: Tensor) -> str:
        """Why this mode does not work for this rank's data, or nothing. No rank waits for another here."""
        try:
            product = self.derivatives.product(probe, mode, alone=True)
            if mode == "reverse-over-reverse":
                self._refuse_lost_terms(product, probe)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if not of_backward(error):
                raise
            return " ".join(str(error).split())[:200]
        return ""

    def _refuse_lost_terms(self, product: Tensor, probe: Tensor) -> None:
        """torch takes the derivative of a once-differentiable backward pass for zero, silently. So a part of the
        product that is exactly zero is compared with finite differences."""
        zero = [place for place in self.layout.slices().values() if not product[place].any()]
        if not zero:
            return
        differences = self.derivatives.product(probe, "finite differences", alone=True)
        lost = max(norm_of(differences[place]) for place in zero)
        if lost > 1e-2 * norm_of(differences):
            raise RuntimeError("a backward pass in the loss can be differentiated only once")

    def _difference_error(self, probe: Tensor) -> float:
        """Relative error of the finite differences: against twice the step, whose error is four times as large."""
        fine, coarse = (self.derivatives.product(probe, "finite differences", widen=widen) for widen in (1.0, 2.0))
        error = norm_of(coarse - fine, self.layout)
        return error / (3 * norm_of(fine, self.layout) or math.nan)
