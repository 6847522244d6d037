"""Small objectives whose answers are known, shared by the tests of evaluation and Hessians."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscaper_hpc.objective.objective import Objective, Task

# tiny tensors on a busy machine: threads that wait for each other cost a thousand times what they save
torch.set_num_threads(1)


class Point(nn.Module):
    """A model that is nothing but its parameter x."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x)

    def forward(self) -> Tensor:
        return self.x


def function(f: Callable[[Tensor], Tensor], x: Tensor, **kwargs: Any) -> Objective:
    """The objective f(x), with theta* = x."""
    return Objective(Task(Point(x), lambda model, batch: f(model()), torch.zeros(1)), **kwargs)


def quadratic(diagonal: list[float]) -> Objective:
    """½ Σ d_i x_i² at x = (1, 1, …): its Hessian is the diagonal matrix."""
    d = torch.tensor(diagonal, dtype=torch.float64)
    return function(lambda x: (d.to(x.dtype) * x.square()).sum() / 2, torch.ones(len(d), dtype=torch.float64))


def mlp_task(*, per_example: bool = True, batches: bool = False, seed: int = 0) -> Task:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
    x, y = torch.randn(11, 3), torch.randn(11, 2)

    def loss(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        error = (model(batch[0]) - batch[1]).square().sum(dim=1)
        return error if per_example else error.mean()

    data = [(x[:4], y[:4]), (x[4:8], y[4:8]), (x[8:], y[8:])] if batches else (x, y)
    return Task(model, loss, data)


def pinn_task(beta: float = 2.0, points: int = 40) -> Task:
    """A loss that differentiates the model with respect to its input (forward mode)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(model: Any, batch: Tensor) -> Tensor:
        along = torch.tensor([beta, 1.0], dtype=batch.dtype, device=batch.device).expand_as(batch)
        u, residual = torch.func.jvp(model, (batch,), (along,))
        return residual.square().mean() + (u - batch[:, :1].sin()).square().mean()

    return Task(model, loss, torch.rand(points, 2))


def autograd_task() -> Task:
    """A loss that calls torch.autograd itself: neither vmap nor forward mode can see through it."""
    base = pinn_task()

    def loss(model: Any, batch: Tensor) -> Tensor:
        x = batch.clone().requires_grad_()
        u = model(x)
        (gradient,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return gradient.square().sum(dim=1) + u[:, 0].square()

    return Task(base.model, loss, base.data)


def cnn_task(images: int = 8) -> Task:
    """Convolutions, BatchNorm (evaluation mode, statistics not trivial), dropout, a residual connection."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.second = nn.Conv2d(4, 4, 3, padding=1)
            self.drop = nn.Dropout(0.5)
            self.head = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.nn.functional.softplus(self.norm(self.first(x)))
            x = x + self.second(x).tanh()
            return self.head(self.drop(x.mean(dim=(2, 3))))

    model = Net()
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2.0)
    data = (torch.randn(images, 3, 6, 6), torch.randint(5, (images,)))
    return Task(model, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none"), data)


def transformer_task() -> Task:
    """Token embeddings tied to the output layer, causal attention, LayerNorm; per-token losses."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(13, 8)
            self.norm = nn.LayerNorm(8)
            self.qkv = nn.Linear(8, 24)
            self.out = nn.Linear(8, 8)
            self.head = nn.Linear(8, 13, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.embed(tokens)
            q, k, v = (part.unflatten(-1, (2, 4)).transpose(-3, -2) for part in self.qkv(self.norm(x)).chunk(3, dim=-1))
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.head(x + self.out(mixed.transpose(-3, -2).flatten(-2)))

    tokens = torch.randint(13, (3, 7))

    def loss(model: Any, batch: Tensor) -> Tensor:
        logits = model(batch[:, :-1])
        return nn.functional.cross_entropy(logits.transpose(-2, -1), batch[:, 1:], reduction="none")

    return Task(Net(), loss, tokens)


def branching_task() -> Task:
    """A loss whose course depends on its value: it can be neither recorded nor batched."""
    base = mlp_task()

    def loss(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        error = (model(batch[0]) - batch[1]).square().sum(dim=1)
        return error if float(error.detach().mean()) > 1.5 else 2 * error

    return Task(base.model, loss, base.data)


def laplacian_task() -> Task:
    """A loss with second derivatives of the model, by transforms within transforms."""
    base = pinn_task(points=15)

    def loss(model: Any, batch: Tensor) -> Tensor:
        second = torch.func.vmap(lambda x: torch.func.hessian(lambda y: model(y)[0])(x).diagonal().sum())(batch)
        return (second - batch[:, 0]).square()

    return Task(base.model, loss, base.data)


TASKS: dict[str, Callable[[], Task]] = {
    "mlp": mlp_task,
    "mlp, scalar loss": lambda: mlp_task(per_example=False),
    "mlp, unequal batches": lambda: mlp_task(batches=True),
    "pinn": pinn_task,
    "autograd inside": autograd_task,
    "cnn": cnn_task,
    "transformer": transformer_task,
    "laplacian": laplacian_task,
    "branching": branching_task,
}


def dense_hessian(objective: Objective) -> Tensor:
    """The full Hessian by reverse mode, row by row: slow, and independent of landscaper_hpc.directions.hessian. Its
    rows are the parameters one after the other, without gaps."""
    names = list(objective.parameters)
    leaves = [p.detach().clone().requires_grad_() for p in objective.parameters.values()]
    with sdpa_kernel(SDPBackend.MATH):
        value = objective.loss(dict(zip(names, leaves, strict=True)))
    gradients = torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True)
    flat = torch.cat([g.reshape(-1) for g in gradients])
    rows = []
    for entry in flat:
        row = torch.autograd.grad(entry, leaves, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([r.reshape(-1) for r in row]))
    return torch.stack(rows)


@cache
def dense_hessian_of(name: str) -> Tensor:
    """That of one of the `TASKS`, made once for all tests: not to be written to."""
    return dense_hessian(Objective(TASKS[name]()))


def compact(objective: Objective, vectors: dict[str, Tensor]) -> Tensor:
    """Vectors (n, *shape) by name as one (n, dimension) matrix without gaps."""
    return torch.cat([vectors[name].reshape(len(vectors[name]), -1) for name in objective.parameters], dim=1)
