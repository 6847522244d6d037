"""Gradients and Hessian-vector products of an objective's loss over this rank's share of the data, by three ways.

With one batch of data, reverse-over-reverse: the gradient's graph is built once, and a product is one pass through
it; on a CPU in slabs of data, whose graphs are kept as long as there is memory. With many, forward-over-reverse
(Pearlmutter 1994; one jvp through the gradient), which keeps no graph; of large models, whose copies in it are what
fills the memory, reverse-over-reverse for one batch after the other. Each stands in for the other where an operation
lacks forward mode or the loss calls torch.autograd itself. Central finite differences of gradients serve what has no
second derivative at all (fused kernels, custom functions, FSDP). Which of them is right is for `hessian` to prove.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.func import grad, jvp

from landscaper_hpc.directions.decompose import BATCH_STATISTICS, Decomposed, Operations
from landscaper_hpc.directions.gradient import batch_gradient, in_place
from landscaper_hpc.objective.device import Peak
from landscaper_hpc.objective.flat_layout import is_small, real, spans
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import arithmetic, epsilon, plain_attention
from landscaper_hpc.recording.slabs import Pieces, divide, divide_into, mean_of

# As for evaluation, but half: twice as much is alive. More, smaller slabs would cost time.
CACHE_BYTES = 2**20
_GRADIENTS = 256 << 20


class Derivatives:
    """Derivatives of `objective.loss`, each rank of a `group` adding its share of the data.

    `plain_attention` and `decomposed` say what is differentiated without fused kernels; `pieces` are the slabs of a
    single batch, if it is cut, and `mine` this rank's numbers of pieces or batches.
    """

    def __init__(self, objective: Objective, group: dist.ProcessGroup | None) -> None:
        self.objective = objective
        self.layout = objective.layout
        self.plain_attention = False
        self.decomposed: bool | None = None  # normalisations too, or nothing at all
        self.group = group
        rank, size = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
        self.pieces = self._divided(size)
        self.mine = range(rank, len(self.pieces or objective.batches), size)
        self.kept: dict[int, tuple[dict[str, Tensor], dict[str, Any], int]] = {}
        self.peak = Peak(objective.device)
        self.room = self.peak.free() // 4
        # graphs are not without their gradients, each as large as the parameters
        held = len(self.pieces or ()) * sum(p.nbytes for p in objective.parameters.values())
        self._keeps_gradients = self.pieces is None or held <= _GRADIENTS
        self.operations = self._found_operations()

    def _divided(self, ranks: int) -> Pieces | None:
        """A single batch in slabs, on a CPU or for several ranks, where the loss is their mean."""
        objective = self.objective
        if len(objective.batches) > 1 or objective.sharded:
            return None
        pieces = divide(objective, CACHE_BYTES) if objective.device.type == "cpu" else None
        if pieces is None or len(pieces) < ranks:
            pieces = divide_into(objective.batches[0], objective.examples[0], ranks)
        return pieces if self.all_agree(len(pieces) > 1 and mean_of(objective, pieces)) else None

    def _found_operations(self) -> set[str]:
        """The operations of the loss, as far as this rank's first piece of data shows."""
        if self.objective.sharded or not self.mine:
            return set()
        with Operations() as found:
            self.objective.part(self.objective.parameters, *self._part(self.mine[0])[1:])
        names: set[str] = found.names
        return names

    @contextmanager
    def _differentiating(self) -> Iterator[None]:
        with (
            plain_attention() if self.plain_attention else nullcontext(),
            nullcontext() if self.decomposed is None else Decomposed(norms=self.decomposed),
        ):
            yield

    def described(self, mode: str) -> str:
        """A mode, and what it needs here."""
        fused = ["attention"] * self.plain_attention
        if self.decomposed:
            fused += ["layer normalisation"] * ("native_layer_norm" in self.operations)
            fused += ["batch normalisation"] * (BATCH_STATISTICS in self.operations)
        fused += ["weight normalisation"] * ("_weight_norm_interface" in self.operations)
        return mode + (f", {' and '.join(fused)} without fused kernels" if fused else "")

    def loss_along(self, line: Tensor) -> Callable[[float], float]:
        """The plain loss at theta* + t · line as a function of t; NaN where it fails."""
        theta = self.layout.whole(self.objective.parameters)

        def loss(t: float) -> float:
            params = self.layout.unflatten(torch.add(theta, line, alpha=t))
            total = torch.zeros(2, dtype=torch.float64, device=theta.device)
            for i in self.mine:
                try:
                    value, weight = self.objective.part(params, *self._part(i)[1:])
                except (RuntimeError, ValueError, ArithmeticError, LookupError):  # of the loss, away from theta*
                    value, weight = total.new_tensor(math.nan), 1
                total += torch.stack([value.detach() * weight, total.new_tensor(weight)])
            self.add_up(total)
            return float(total[0] / total[1].clamp(min=1))

        return loss

    def gradient_at(self, line: Tensor, t: float = 0.0) -> Tensor:
        """The gradient at theta* + t · line, flat, of all data."""
        params = self.layout.unflatten(torch.add(self.layout.whole(self.objective.parameters), line, alpha=t))
        exactly = arithmetic(self.objective.precision, self.objective.device, autocast=False)
        with exactly, self._differentiating():
            return self.over_data(lambda _, batch, count: self.gradient(params, batch, count), alone=False)

    def gradient(self, params: Mapping[str, Tensor], batch: Any, count: int) -> tuple[dict[str, Tensor], int]:
        with nullcontext() if self.decomposed is None else Decomposed(norms=self.decomposed):
            return batch_gradient(self.objective, params, batch, count)

    def all_agree(self, works: bool) -> bool:
        if self.group is None:
            return works
        vote = torch.tensor(int(works), device=self.objective.device)
        dist.all_reduce(vote, dist.ReduceOp.MIN, group=self.group)
        return bool(vote)

    def product(self, vector: Tensor, mode: str, *, widen: float = 1.0, alone: bool = False) -> Tensor:
        objective = self.objective
        # backward passes too, not only the loss
        exactly = arithmetic(objective.precision, objective.device, autocast=False)
        with exactly, self._differentiating():
            if mode == "finite differences":
                return self._differences(vector, widen, alone)
            method = self._forward_over_reverse if mode == "forward-over-reverse" else self._reverse_over_reverse
            # forward mode makes a tangent anew, as large as all of the parameter's storage, where its own is another
            tangents = self.layout.unflatten(vector.clone() if mode == "forward-over-reverse" else vector)
            if len(self.mine) == 1 and (alone or self.group is None):  # no sum, which is as large as two of float32
                return self.layout.whole(method(*self._part(self.mine[0]), tangents)[0])
            return self.over_data(lambda i, batch, count: method(i, batch, count, tangents), alone).to(vector.dtype)

    def _part(self, i: int) -> tuple[int, Any, int]:
        """The number of a piece or batch, its data, and how many examples these are."""
        return i, *(self.pieces[i] if self.pieces else (self.objective.batches[i], self.objective.examples[i]))

    def over_data(self, method: Callable[[int, Any, int], tuple[dict[str, Tensor], int]], alone: bool) -> Tensor:
        """The mean over the data, float64 and flat, of what `method` gives for each batch with its weight; over this
        rank's data only if `alone`."""
        total = torch.zeros(self.layout.size + 1, dtype=torch.float64, device=self.objective.device)
        self._sum_up(method, total)
        if not alone:
            self.add_up(total)
        return total[:-1].div_(total[-1].clamp(min=1))

    def _add_gradient(self, at: Tensor, total: Tensor, sign: int) -> None:
        params = self.layout.unflatten(at)
        self._sum_up(lambda _, batch, count: self.gradient(params, batch, count), total, sign)

    def _sum_up(
        self, method: Callable[[int, Any, int], tuple[dict[str, Tensor], int]], total: Tensor, sign: int = 1
    ) -> None:
        """Add weighted vectors of this rank's data, and behind them the weights, to `total` (size + 1,), float64."""
        places = self.layout.slices()
        for i in self.mine:
            parts, weight = method(*self._part(i))
            for name, place in places.items():
                numbers = real(parts.pop(name)).reshape(-1)
                for span in spans(len(numbers)):
                    total[place][span] += sign * weight * numbers[span]
            total[-1] += weight

    def add_up(self, total: Tensor) -> None:
        """Add up over the ranks, in place. All go on with the same bits, whatever order each of them added in."""
        if self.group is not None:
            dist.all_reduce(total, group=self.group)
            dist.broadcast(total, dist.get_global_rank(self.group, 0), group=self.group)

    def _differences(self, vector: Tensor, widen: float, alone: bool) -> Tensor:
        """Central differences of gradients. The step balances truncation, h², against rounding, eps / h, where eps is
        that of the arithmetic: of bf16 it is much larger than that of the parameters."""
        theta = self.layout.whole(self.objective.parameters)
        length = float(self.layout.norm(vector))
        if length == 0:
            return torch.zeros_like(vector)
        rounding = epsilon(self.objective.precision, self.objective.device)
        step = widen * rounding ** (1 / 3) * max(1.0, float(self.layout.norm(theta))) / length

        total = torch.zeros(self.layout.size + 1, dtype=torch.float64, device=theta.device)
        for sign in (1, -1):
            self._add_gradient((sign * step * vector).add_(theta), total, sign)
        if not alone:
            self.add_up(total)
        return total[:-1].div_(total[-1].div_(2).clamp_(min=1)).div_(2 * step).to(vector.dtype)

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
        small = is_small(self.layout.size)
        if i in self.kept:
            keep = True
            params, outputs, weight = self.kept[i]
        else:
            keep = len(self.objective.batches) == 1 and self.peak.bytes() <= self.room and self._keeps_gradients
            params = {name: p.detach().requires_grad_() for name, p in self.objective.parameters.items()}
            gradients, weight = batch_gradient(self.objective, params, batch, count, keep=True)
            active = {name: gradient for name, gradient in gradients.items() if gradient.requires_grad}
            # of a large model the graph alone: gradients are as many numbers as it has
            outputs = active if small else {name: get_gradient_edge(gradient) for name, gradient in active.items()}
            del gradients, active
            if keep:
                self.kept[i] = params, outputs, weight
        if not outputs:
            return {name: torch.zeros_like(p) for name, p in params.items()}, weight
        if small:  # for weights torch imports sympy, which takes longer than all products of a small network
            roots = [torch.stack([inner(found, tangents[name]) for name, found in outputs.items()]).sum()]
            weights = None
        else:
            roots, weights = list(outputs.values()), [tangents[name] for name in outputs]
        if not keep:
            outputs.clear()
        with in_place(self.objective, params):
            products = torch.autograd.grad(
                roots, list(params.values()), weights, retain_graph=keep, materialize_grads=True
            )
        return dict(zip(params, products, strict=True)), weight


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Of the real numbers that complex ones are made of."""
    if a.is_complex():
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    return (a * b).sum()
