"""Thick-restart Lanczos with full reorthogonalisation for a few eigenpairs of a symmetric operator.

K. Wu and H. Simon, Thick-Restart Lanczos Method for Large Symmetric Eigenvalue Problems, SIAM J. Matrix Anal. Appl. 22
(2000): section 2, algorithm 1. The projected matrix is taken from the orthogonalisation coefficients, so the arrow that
a restart leaves in it needs no case of its own.

(Longer than most modules: the state, and how it is saved, are one.)
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscaper_hpc.directions.orthonormal import orthonormalize
from landscaper_hpc.errors import InputError
from landscaper_hpc.files import publish
from landscaper_hpc.objective.flat_layout import Layout, is_small, spans
from landscaper_hpc.progress import Progress, silent

Product = Callable[[Tensor], Tensor]
Order = Callable[[NDArray[np.float64]], NDArray[np.intp]]

SECONDS_BETWEEN_SAVES = 60.0
_SECONDS_TO_SAVE = 3.0  # what takes longer, for it may be of a hundred gigabytes, is done as much more seldom


@dataclass(frozen=True)
class Eigenpairs:
    """`values` (n,) in the wanted order; `vectors` (n, size), orthonormal rows; `residuals` (n,), ‖Hv − λv‖ / |λ|;
    `products`: how many operator-vector products were spent."""

    values: NDArray[np.float64]
    vectors: Tensor
    residuals: NDArray[np.float64]
    products: int


def by_magnitude(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Order of eigenvalues by |λ|, largest first."""
    return np.argsort(-np.abs(values), kind="stable")


def most_negative(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Order of eigenvalues from the most negative up."""
    return np.argsort(values, kind="stable")


def mixture(largest: int, smallest: int) -> Order:
    """First the `largest` largest, then the `smallest` most negative, then the rest from both ends."""

    def order(values: NDArray[np.float64]) -> NDArray[np.intp]:
        up = np.argsort(values, kind="stable")
        down = up[::-1]
        rest = np.stack([down, up], axis=1).reshape(-1)
        wanted = np.concatenate([down[:largest], up[:smallest], rest])
        return wanted[np.sort(np.unique(wanted, return_index=True)[1])]  # each once, where it comes first

    return order


def basis_size(n: int, dimension: int) -> int:
    """How many vectors are held for n eigenpairs where nothing else is asked for: many need fewer products, few fit
    beside a large model."""
    return min(dimension, max(4 * n, 60) if is_small(dimension) else 2 * n + 6)


def eigenpairs(
    product: Product,
    random: Callable[[int], Tensor],
    dimension: int,
    n: int,
    *,
    tolerance: float,
    max_products: int,
    order: Order = by_magnitude,
    start: Callable[[], Tensor] | None = None,
    basis: int | None = None,
    kept_in: torch.dtype | None = None,
    layout: Layout | None = None,
    resume: Path | None = None,
    progress: Progress = silent,
) -> Eigenpairs:
    """The first n eigenpairs in `order` of a symmetric operator on a space of `dimension`.

    `product` maps a vector (size,) to a vector (size,); `random(i)` gives the i-th random start, and
    `start()` the first vector where that is not random(0). Stops when every
    wanted pair has residual ‖Hv − λv‖ ≤ tolerance · |λ| (or is zero to rounding). At most `basis` vectors are kept,
    perhaps in a type with fewer bits (`kept_in`); then the recurrence knows nothing of their rounding, and residuals
    are those of n more products. Of a `layout` in parts the vectors are this rank's.
    What is done is saved in the file `resume` every minute (each rank has its own), and taken up from there: the result
    is the same, bit for bit. InputError where `max_products` is not enough, or the operator gives numbers that are not
    finite, or is zero.
    """
    if n > dimension:
        raise InputError(
            f"directions.n is {n} but only {dimension} parameters move; ask for at most that many directions"
        )
    m = min(dimension, basis or basis_size(n, dimension))
    # a run that goes on is known by random(0): a start that was computed may differ in its last bits
    layout = layout or Layout({}, frozenset())
    if resume is not None and layout.parts is not None:
        resume = resume.with_name(f"{resume.name}.rank{layout.parts.rank}")
    state = _State.begin(random(0), m, start, layout, kept_in)
    if resume is not None:
        state.take_up(resume)
    saved, pause = time.monotonic(), SECONDS_BETWEEN_SAVES
    while True:
        state.extend(product)
        progress(state.products, max_products)
        residuals, limits = state.residuals(order, n)
        asked = tolerance if state.q.dtype == state.kind else tolerance / 2  # which leaves room for what was rounded
        converged = len(residuals) == n and bool((residuals <= np.maximum(asked * limits, state.rounding)).all())
        if converged and (state.settled(n, dimension) or state.products >= max_products):
            found = state.pairs(order, n)
            if state.q.dtype == state.kind:
                return found
            del state  # with the basis: n vectors and the products need its room
            return _measured(found, product, tolerance, layout)
        if state.products >= max_products:
            raise InputError(
                f"directions.max_iterations: {state.products} Hessian-vector products left a residual of "
                f"{(residuals / limits).max():.2g} where directions.tolerance asks for {tolerance:g}; "
                "raise directions.max_iterations or directions.tolerance"
            )
        state.advance(order, n, random)
        # all ranks or none: what they have saved belongs together
        if resume is not None and layout.total(torch.tensor(float(time.monotonic() - saved > pause))):
            began = time.monotonic()
            state.save(resume)
            saved = time.monotonic()
            pause = SECONDS_BETWEEN_SAVES * max(1.0, (saved - began) / _SECONDS_TO_SAVE)


class _State:
    """What goes on from one product to the next: orthonormal rows `q`, of which the first j are expanded and the next
    one waits; their projection `t`; then `w`, what the last product added, and its length `beta`."""

    def __init__(
        self,
        q: Tensor,
        t: NDArray[np.float64],
        j: int,
        products: int,
        breakdowns: int,
        start: str,
        layout: Layout,
        kind: torch.dtype,
    ) -> None:
        self.q, self.t, self.j, self.products, self.breakdowns, self.start = q, t, j, products, breakdowns, start
        self.layout = layout
        self.kind = kind  # of what the operator takes, and of all that is not kept
        self.eps = float(torch.finfo(kind).eps)

    @classmethod
    def begin(
        cls,
        first: Tensor,
        m: int,
        vector: Callable[[], Tensor] | None,
        layout: Layout,
        kept_in: torch.dtype | None,
    ) -> _State:
        start = hashlib.sha256(memoryview(first.cpu().numpy()))  # type: ignore[arg-type]
        start.update(str(m).encode() if kept_in is None else f"{m} {kept_in}".encode())
        given = first if vector is None else vector()  # which takes memory of its own, before there are others
        q = first.new_zeros(m + 1, len(first), dtype=kept_in)
        torch.div(given, layout.norm(given), out=q[0])
        return cls(q, np.zeros((m, m)), 0, 0, 0, start.hexdigest(), layout, first.dtype)

    def take_up(self, path: Path) -> None:
        """Go on from what the file holds; this stays a beginning where it is missing, damaged, or belongs to another
        start, on any rank, or the ranks have saved different states."""
        m, done = len(self.t), -1
        if path.exists() and _is_whole(path):
            with path.open("rb") as stream:
                saved = json.loads(stream.readline())
                done = saved["products"] if saved["start"] == self.start else -1
        if self.layout.parts is None:
            agreed = done >= 0
        else:
            every = self.layout.parts.gathered(torch.tensor(float(done))).tolist()
            agreed = min(every) == max(every) >= 0
        if agreed:
            with path.open("rb") as stream:
                saved = json.loads(stream.readline())
                self.t = np.fromfile(stream, np.float64, m * m).reshape(m, m)
                self.j, self.products, self.breakdowns = saved["j"], saved["products"], saved["breakdowns"]
                for row in map(_bits, self.q[: self.j + 1]):
                    kind = row[:0].cpu().numpy().dtype
                    row.copy_(torch.from_numpy(np.fromfile(stream, kind, len(row))))

    def save(self, path: Path) -> None:
        """Row after row, and last the SHA-256 of it all: there may be no room for the vectors twice."""

        def content() -> Iterator[bytes | memoryview]:
            numbers = {"j": self.j, "products": self.products, "breakdowns": self.breakdowns, "start": self.start}
            digest = hashlib.sha256()
            for part in ((json.dumps(numbers) + "\n").encode(), self.t, *self.q[: self.j + 1]):
                given = _bits(part).cpu().numpy() if isinstance(part, Tensor) else part
                held = memoryview(given).cast("B")  # type: ignore[arg-type]
                digest.update(held)
                yield held
            yield digest.digest()

        publish(path, content())

    def extend(self, product: Product) -> None:
        """Apply the operator to the waiting row and orthogonalise, twice."""
        j, q = self.j, self.q
        w = product(q[j].to(self.kind))
        self.products += 1
        h = _shares(q[: j + 1], w, self.layout)
        w = _without(w, h, q[: j + 1])
        again = _shares(q[: j + 1], w, self.layout)
        self.w = _without(w, again, q[: j + 1])
        self.beta = norm_of(self.w, self.layout)
        self.t[: j + 1, j] = self.t[j, : j + 1] = (h + again).double().cpu().numpy()
        self.j += 1
        if not np.isfinite(self.beta) or not np.isfinite(self.t[: self.j, : self.j]).all():
            raise InputError(
                "a Hessian-vector product is not finite; the loss has no finite curvature at the checkpoint "
                "(overflow, or a function without a second derivative there)"
            )
        self.theta, self.s = np.linalg.eigh(self.t[: self.j, : self.j])
        self.scale = float(np.abs(self.theta).max())
        self.broke = self.beta <= 10 * self.eps * self.scale
        self.breakdowns += self.broke

    @property
    def rounding(self) -> float:
        return 10 * self.eps * self.scale

    def settled(self, n: int, dimension: int) -> bool:
        """Once the space is exhausted, a repeated eigenvalue may have more copies: each new start finds one."""
        return self.breakdowns == 0 or self.breakdowns >= n or self.j == dimension

    def residuals(self, order: Order, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """‖Hv − λv‖ of the (at most n) wanted pairs, and what they are measured against: |λ| or rounding."""
        wanted = order(self.theta)[:n]
        residuals = (0.0 if self.broke else self.beta) * np.abs(self.s[-1, wanted])
        tiny = max(self.eps * self.scale, np.finfo(float).tiny)
        return residuals, np.maximum(np.abs(self.theta[wanted]), tiny)

    def pairs(self, order: Order, n: int) -> Eigenpairs:
        if self.scale == 0:
            raise InputError(
                "the Hessian at the checkpoint is zero in every direction; use random directions, or check "
                "that the loss depends on the parameters (no torch.no_grad or detach inside it)"
            )
        wanted = order(self.theta)[:n]
        residuals, limits = self.residuals(order, n)
        del self.w  # n vectors come beside the basis
        return Eigenpairs(self.theta[wanted], self._rotate(wanted), residuals / limits, self.products)

    def advance(self, order: Order, n: int, random: Callable[[int], Tensor]) -> None:
        """Put the next row in place; where there is no room, keep the best of what was found and restart from that."""
        m = len(self.t)
        if self.j == m:
            keep = min(m - 1, n + (m - n) // 2)
            kept = order(self.theta)[:keep]
            self._rotate(kept, self.q[:keep])
            self.t[:] = 0
            self.t[:keep, :keep] = np.diag(self.theta[kept])
            self.j = keep
        rows = self.q[: self.j]
        if self.broke:
            self.q[self.j] = _orthonormal(random(self.breakdowns).to(rows.device, self.kind), rows, self.layout)
        else:
            torch.div(self.w, self.beta, out=self.q[self.j])
        del self.w

    def _rotate(self, which: NDArray[np.intp], out: Tensor | None = None) -> Tensor:
        """Ritz vectors, shape (len(which), size), in new memory or that of the rows they are made of."""
        s = torch.from_numpy(self.s[:, which].T.copy()).to(self.q.device, self.kind)
        rows = self.q[: s.shape[1]]
        result = rows.new_empty(len(s), rows.shape[1], dtype=self.kind) if out is None else out
        for span in spans(rows.shape[1], len(rows)):
            result[:, span] = s @ rows[:, span].to(self.kind)
        return result


def norm_of(vector: Tensor, layout: Layout | None = None) -> float:
    """The Euclidean norm, over all ranks of what a `layout` divides, also where the squares of its numbers are too
    large or too small for their type: a loss of 1e-25 has curvatures whose squares are 0 in float32."""
    if layout is not None and layout.parts is not None:
        own = torch.tensor(norm_of(vector), dtype=torch.float64, device=vector.device)
        return float(layout.total(own.square()).sqrt())
    plain, kind = float(torch.linalg.vector_norm(vector)), torch.finfo(vector.dtype)
    if math.sqrt(kind.tiny / kind.eps) <= plain < math.inf:
        return plain
    largest = float(torch.linalg.vector_norm(vector, math.inf))
    if not 0 < largest < math.inf:
        return plain
    return largest * float(torch.linalg.vector_norm(vector / largest))


def _measured(found: Eigenpairs, product: Product, tolerance: float, layout: Layout) -> Eigenpairs:
    """Ritz vectors of a basis that was rounded, made orthonormal, with what products say of each: its Rayleigh quotient
    and residual. InputError where one is larger than `tolerance`."""
    orthonormalize(found.vectors, layout)
    values, residuals = found.values.copy(), found.residuals.copy()
    for i, vector in enumerate(found.vectors):
        image = product(vector)
        values[i] = float(layout.dot(image, vector))
        left = norm_of(image.sub_(vector, alpha=values[i]), layout)
        residuals[i] = left / max(abs(values[i]), np.finfo(float).tiny)
    if residuals.max() > tolerance:
        raise InputError(
            f"directions.basis_precision: a basis of so few bits leaves a residual of {residuals.max():.2g} where "
            f"directions.tolerance asks for {tolerance:g}; raise directions.tolerance, or leave basis_precision out"
        )
    return Eigenpairs(values, found.vectors, residuals, found.products + len(values))


def _bits(vector: Tensor) -> Tensor:
    """bf16, which numpy lacks, as whole numbers; others as they are."""
    return vector.view(torch.int16) if vector.dtype == torch.bfloat16 else vector


def _shares(rows: Tensor, vector: Tensor, layout: Layout) -> Tensor:
    """The inner products of rows with a vector, in its type."""
    if rows.dtype == vector.dtype:
        return layout.dot(rows, vector)
    parts = [rows[:, span].to(vector.dtype) @ vector[span] for span in spans(len(vector), len(rows))]
    return layout.total(torch.stack(parts).sum(dim=0))


def _without(vector: Tensor, shares: Tensor, rows: Tensor) -> Tensor:
    """The vector, in its own memory, less so much of each of the rows."""
    rounded = rows.dtype != vector.dtype
    for span in spans(len(vector), len(rows) if rounded else 1):
        vector[span] -= shares @ rows[:, span].to(vector.dtype)
    return vector


def _is_whole(path: Path) -> bool:
    """Whether a file ends with the SHA-256 of all before."""
    digest, left = hashlib.sha256(), path.stat().st_size - hashlib.sha256().digest_size
    with path.open("rb") as stream:
        while left > 0 and (part := stream.read(min(left, 1 << 24))):
            digest.update(part)
            left -= len(part)
        return left == 0 and stream.read() == digest.digest()


def _orthonormal(vector: Tensor, basis: Tensor, layout: Layout) -> Tensor:
    """The unit vector of what is left of `vector` outside the orthonormal rows of `basis`."""
    for _ in range(3):
        if basis.dtype == vector.dtype:
            vector = vector - layout.dot(basis, vector) @ basis
        else:
            vector = _without(vector.clone(), _shares(basis, vector, layout), basis)
        vector = vector / layout.norm(vector)
    return vector
