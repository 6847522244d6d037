"""What is evaluated: a model, a loss and data. Replace all three by yours.

Here: a physics-informed network for the heat equation u_t = u_xx on x in [0, π], t in [0, 1], u(x, 0) = sin x and
u(0, t) = u(π, t) = 0, whose solution is exp(-t) sin x.
"""

from math import pi

import torch
from torch import Tensor, nn

from landscaper_hpc import Task


def task(hidden: int = 16) -> Task:
    """Called with a checkpoint's `options`; its parameters are then loaded into the model."""
    model = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    return Task(model=model.double(), loss=loss, data=domain())


def loss(u: nn.Module, points: dict[str, Tensor]) -> Tensor:
    """Mean squares of the equation's residual, of the misfit at t = 0, and of that at both ends.

    It must give the same value every time: the points are the same at every call.
    """
    inside = points["inside"]
    along_x, along_t = torch.eye(2, dtype=inside.dtype, device=inside.device)[:, None, :].expand(2, *inside.shape)

    def u_x(at: Tensor) -> Tensor:
        return torch.func.jvp(u, (at,), (along_x,))[1]

    _, u_t = torch.func.jvp(u, (inside,), (along_t,))
    _, u_xx = torch.func.jvp(u_x, (inside,), (along_x,))
    start, ends = points["start"], points["ends"]
    misfit = u(start) - torch.sin(start[:, :1])
    return (u_t - u_xx).square().mean() + misfit.square().mean() + u(ends).square().mean()


def domain(n: int = 200, edge: int = 40) -> dict[str, Tensor]:
    """Points (x, t) of shape (points, 2) in float64, always the same: inside, at t = 0, and at both ends."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([pi, 1.0], dtype=torch.float64)
    one, zero = torch.linspace(0, 1, edge, dtype=torch.float64), torch.zeros(edge, dtype=torch.float64)
    return {
        "inside": torch.rand(n, 2, dtype=torch.float64, generator=generator) * scale,
        "start": torch.stack([one, zero], dim=1) * scale,
        "ends": torch.cat([torch.stack([zero, one], dim=1), torch.stack([zero + 1, one], dim=1)]) * scale,
    }
