"""How two checkpoints of one model relate: mode connectivity (straight line, trained quadratic Bézier curve) and CKA.

Curves: T. Garipov et al., Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs, NeurIPS 2018, section 3.2.
CKA: S. Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019, equation 2 with the
linear kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscaper_hpc.directions.gradient import gradient
from landscaper_hpc.errors import InputError, list_some
from landscaper_hpc.losses.by_group import without_each_group
from landscaper_hpc.objective.checkpoints.fit import refuse_nonfinite
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import one_thread
from landscaper_hpc.progress import Progress, silent


@dataclass(frozen=True, eq=False)
class Curve:
    """A path from one checkpoint (t = 0) to another (t = 1): `t` (m,), `losses` (m,), the same without one group of the
    data after the other, `less_data` (groups, m), of no rows where the loss tells no parts of the data apart, and for a
    Bézier curve its middle point by parameter name."""

    t: NDArray[np.float64]
    losses: NDArray[np.float64]
    less_data: NDArray[np.float64]
    middle: dict[str, Tensor] | None = None

    @property
    def barrier(self) -> float:
        """The largest excess of the loss over the line between the losses at the ends; 0 for a path that stays below.
        Mode connectivity is often given as its negative."""
        return float(_barrier(self.t, self.losses))

    @property
    def barrier_error(self) -> float:
        """How far the barrier is from that of every second point: what the points between may hide, about."""
        every = np.unique([*range(0, len(self.t), 2), len(self.t) - 1])
        return float(abs(self.barrier - _barrier(self.t[every], self.losses[every])))

    @property
    def barrier_data_error(self) -> float:
        """Its standard error from other choices of data, along this path: the jackknife over groups of them, which are
        the same at all points; NaN where the loss tells no parts of the data apart.

        Efron and Stein, *The Jackknife Estimate of Variance* (1981).
        """
        groups = len(self.less_data)
        return math.sqrt((groups - 1) * _barrier(self.t, self.less_data).var()) if groups else math.nan


def _barrier(t: NDArray[np.float64], losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest excess of losses (…, m) over the line between their ends, (…,)."""
    excess: NDArray[np.float64] = (losses - (1 - t) * losses[..., :1] - t * losses[..., -1:]).max(axis=-1)
    return excess


def line(objective: Objective, other: Mapping[str, Tensor], points: int = 25, progress: Progress = silent) -> Curve:
    """Losses along the straight line from the objective's checkpoint to another.

    Here and along a curve, buffers that `other` has too (BatchNorm's statistics) go straight from end to end, so that
    the losses at the ends are those of the two checkpoints.

    Parameters
    ----------
    objective
        The loss at the first checkpoint.
    other
        The second: tensors by name, of the same names and shapes.
    points
        How many, both ends included.
    progress
        Called with the points done, and their number.

    Returns
    -------
    Curve
        `t` and `losses`, both (points,).
    """
    _refuse_few(points)
    ends = _Ends(objective, other)
    return ends.curve((ends.start + ends.end) / 2, points, progress)


def bezier(
    objective: Objective,
    other: Mapping[str, Tensor],
    *,
    points: int = 25,
    steps: int = 200,
    rate: float = 1e-2,
    seed: int = 0,
    progress: Progress = silent,
) -> Curve:
    """Losses along the curve (1−t)² θ₀ + 2t(1−t) φ + t² θ₁, whose middle φ is trained on the loss at uniformly random
    t.

    Parameters
    ----------
    objective, other, points, progress
        As for `line`.
    steps
        Of Adam, from the middle of the line.
    rate
        Of Adam, relative to the mean square distance of the ends.
    seed
        Of the random t.

    Returns
    -------
    Curve
        With the `middle` that was found.

    References
    ----------
    T. Garipov et al., Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs, NeurIPS 2018, section 3.2.
    """
    _refuse_few(points)
    ends = _Ends(objective, other)
    draws = np.random.default_rng(seed).uniform(0, 1, steps)
    with one_thread(objective.device):
        middle = (ends.start + ends.end) / 2
        scale = float((ends.end - ends.start).square().mean().sqrt())
        optimizer = torch.optim.Adam([middle], lr=rate * max(scale, torch.finfo(objective.dtype).eps))
        for i, t in enumerate(draws.tolist()):
            # batch by batch, so that data that are streamed need no more memory here
            middle.grad = 2 * t * (1 - t) * gradient(objective, ends.at(middle, t), ends.buffers(t))
            optimizer.step()
            progress(i + 1, steps + points)
    curve = ends.curve(middle, points, lambda done, _: progress(steps + done, steps + points))
    return replace(curve, middle={name: v.clone() for name, v in ends.layout.unflatten(middle).items()})


def linear_cka(a: Tensor, b: Tensor) -> float:
    """Linear centred kernel alignment of two representations of the same examples, shapes (examples, p) and
    (examples, q) or with more axes that are flattened; 1 for representations that are equal up to rotation and
    scale."""
    if a.ndim < 2 or b.ndim < 2:
        raise InputError(f"CKA compares tensors of (examples, numbers), found {tuple(a.shape)} and {tuple(b.shape)}")
    if len(a) != len(b):
        raise InputError(f"CKA compares two representations of the same examples, found {len(a)} and {len(b)}")
    _refuse_two(len(a))
    x, y = (centred(as_rows(m)) for m in (a, b))
    if not (bool(torch.isfinite(x).all()) and bool(torch.isfinite(y).all())):
        raise InputError("CKA is undefined for a representation with NaN or infinite numbers")
    if len(x) < min(x.shape[1], y.shape[1]):  # the same numbers from the smaller Gram matrices
        gx, gy = x @ x.T, y @ y.T
        cross, own = (gx * gy).sum(), gx.norm() * gy.norm()
    else:
        cross, own = (x.T @ y).square().sum(), (x.T @ x).norm() * (y.T @ y).norm()
    if float(own) == 0:
        raise InputError("CKA is undefined for a representation that is the same for every example")
    return float(cross / own)


def as_rows(put_out: Tensor) -> Tensor:
    """What is put out for each example, (examples, numbers), float64: of complex numbers both parts."""
    put_out = put_out.detach()
    real = torch.view_as_real(put_out.resolve_conj()) if put_out.is_complex() else put_out
    return real.double().reshape(len(real), -1)


def centred(rows: Tensor) -> Tensor:
    """Rows less their mean; zero where that is all there is, which rounding would fill. Those whose squares might be no
    numbers are in another unit, a power of two: CKA does not depend on it."""
    largest = float(rows.abs().max()) if rows.numel() else 0.0
    if math.isfinite(largest) and largest > 0 and not 2.0**-200 < largest < 2.0**200:
        rows = torch.ldexp(rows, torch.tensor(1 - math.frexp(largest)[1]))
    found = rows - rows.mean(dim=0)
    noise = 4 * torch.finfo(rows.dtype).eps * rows.norm()
    return torch.zeros_like(found) if bool(found.norm() <= noise) else found


def cka_matrices(grams: Sequence[Mapping[str, Tensor]]) -> dict[str, NDArray[np.float64]]:
    """Linear CKA between checkpoints for each layer that all of them have, shape (checkpoints, checkpoints), from their
    `layer_grams`; NaN where a representation is the same for every example."""
    _refuse_two(min((len(gram) for gram in grams[0].values()), default=3))
    return _matrices(grams)


def _matrices(grams: Sequence[Mapping[str, Tensor]]) -> dict[str, NDArray[np.float64]]:
    result = {}
    for name in grams[0]:
        layer = [g[name] for g in grams if name in g and g[name].shape == grams[0][name].shape]
        if len(layer) == len(grams):
            result[name] = np.array([[_aligned(a, b) for b in layer] for a in layer])
    return result


def _refuse_two(examples: int) -> None:
    if examples < 3:
        raise InputError(f"CKA of {examples} examples is 1, or none, whatever the representations: give 3 or more")


GROUPS = 8
"""Of examples, which the error of CKA leaves out one after the other."""


def cka_errors(grams: Sequence[Mapping[str, Tensor]]) -> dict[str, NDArray[np.float64]]:
    """The standard errors of `cka_matrices`, from other choices of examples: the jackknife over groups of them; NaN for
    fewer examples than twice the groups.

    Efron and Stein, *The Jackknife Estimate of Variance* (1981).
    """
    left = []
    for g in range(GROUPS):
        some = []
        for layers in grams:
            kept = {name: torch.arange(len(gram)) % GROUPS != g for name, gram in layers.items()}
            some.append({name: _centred(gram[kept[name]][:, kept[name]]) for name, gram in layers.items()})
        left.append(_matrices(some))
    found = {}
    for name in left[0]:
        values = np.stack([matrices[name] for matrices in left])
        found[name] = np.sqrt((GROUPS - 1) * values.var(axis=0))
        if len(grams[0][name]) < 2 * GROUPS:
            found[name][:] = np.nan
    return found


def _centred(gram: Tensor) -> Tensor:
    """The Gram matrix of what has this one, less its mean."""
    rows = gram - gram.mean(dim=0, keepdim=True)
    return rows - rows.mean(dim=1, keepdim=True)


def _aligned(a: Tensor, b: Tensor) -> float:
    own = float(a.norm() * b.norm())
    return float((a * b).sum()) / own if own else math.nan


def _refuse_few(points: int) -> None:
    if points < 2:
        raise InputError(f"points is {points}; a path has two ends, and a barrier lies between them: give 3 or more")


class _Ends:
    """Two checkpoints of one model, and what lies on quadratic Bézier curves from one to the other."""

    def __init__(self, objective: Objective, other: Mapping[str, Tensor]) -> None:
        missing = [k for k, p in objective.parameters.items() if k not in other or other[k].shape != p.shape]
        if missing:
            raise InputError(
                f"the other checkpoint lacks {list_some(missing)} in the shape of this one; give one of the same model"
            )
        self.objective, self.layout = objective, objective.layout
        self.start = self.layout.flatten(objective.parameters)
        self.end = self.layout.flatten({name: other[name].to(p) for name, p in objective.parameters.items()})
        self._buffers = {
            name: (buffer, other[name].to(buffer))
            for name, buffer in objective.model.named_buffers()
            if name in other and buffer.is_floating_point() and other[name].shape == buffer.shape
        }
        if torch.equal(self.start, self.end) and all(torch.equal(a, b) for a, b in self._buffers.values()):
            raise InputError("both checkpoints have the same weights, and no path lies between them; give two others")
        refuse_nonfinite({name: other[name] for name in objective.parameters}, "the other checkpoint")

    def at(self, middle: Tensor, t: float) -> dict[str, Tensor]:
        return self.layout.unflatten((1 - t) ** 2 * self.start + 2 * t * (1 - t) * middle + t**2 * self.end)

    def buffers(self, t: float) -> dict[str, Tensor]:
        # what is the same at both ends stays: a causal mask holds -inf
        return {name: torch.where(a == b, a, (1 - t) * a + t * b) for name, (a, b) in self._buffers.items()}

    def curve(self, middle: Tensor, points: int, progress: Progress) -> Curve:
        """The losses along the curve with this middle point."""
        t = np.linspace(0, 1, points)
        values = []
        with one_thread(self.objective.device):
            for i, s in enumerate(t.tolist()):
                values.append(self.objective.loss(self.at(middle, s) | self.buffers(s)).detach())
                progress(i + 1, points)
        less_data = without_each_group(self.objective, (self.at(middle, s) | self.buffers(s) for s in t.tolist()))
        return Curve(t, torch.stack(values).cpu().numpy(), less_data)
