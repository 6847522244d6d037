"""A physics-informed network for convection: u_t + β u_x = 0 on x in [0, 2π], t in [0, 1], u(x, 0) = sin x, periodic.

The exact solution is sin(x - β t). At β = 1 the network learns it; at β = 30 the same network, the same points and the
same optimiser fail (Krishnapriyan et al., arXiv 2109.01050), and the loss landscape shows it (Geniesse et al., arXiv
2411.12136). The network is 2-50-50-50-50-1 with tanh, all in float64.
"""

from collections.abc import Callable
from itertools import pairwise
from math import pi

import torch
from torch import Tensor, nn

from landscaper_hpc import Task

INTERIOR, EDGE = 1000, 100  # points inside the domain, and on each of its edges t = 0, x = 0 and x = 2π


def task(
    beta: float, width: int = 50, interior: int = INTERIOR, seed: int = 0, lr: float = 1.0, iterations: int = 1000
) -> Task:
    """Model, loss and data for one convection speed `beta`; how it is trained is for train.py, and changes no loss."""

    def loss(u: Callable[[Tensor], Tensor], points: dict[str, Tensor]) -> Tensor:
        """Mean squares of the residual, of the misfit to the initial condition, and of the jump at the period."""
        inside, initial = points["interior"], points["initial"]
        # u_t + β u_x is the derivative of u along (β, 1) in the (x, t) plane: one forward-mode pass gives it
        along = torch.tensor([beta, 1.0], dtype=inside.dtype, device=inside.device).expand_as(inside)
        _, residual = torch.func.jvp(u, (inside,), (along,))
        misfit = u(initial) - torch.sin(initial[:, :1])
        jump = u(points["left"]) - u(points["right"])
        return residual.square().mean() + misfit.square().mean() + jump.square().mean()

    return Task(model=network(width), loss=loss, data=domain(interior))


def network(width: int = 50) -> nn.Sequential:
    """u(x, t): input of shape (points, 2), output of shape (points, 1)."""
    widths = [2, *[width] * 4]
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(width, 1)).double()


def domain(interior: int = INTERIOR) -> dict[str, Tensor]:
    """The same points at every call: (x, t) inside, and along the edges; float64, shape (points, 2)."""
    generator = torch.Generator().manual_seed(0)
    unit = torch.rand(interior, 2, dtype=torch.float64, generator=generator)
    zero = torch.zeros(EDGE, dtype=torch.float64)
    one = torch.linspace(0, 1, EDGE, dtype=torch.float64)
    return {
        "interior": unit * torch.tensor([2 * pi, 1.0], dtype=torch.float64),
        "initial": torch.stack([2 * pi * one, zero], dim=1),
        "left": torch.stack([zero, one], dim=1),
        "right": torch.stack([zero + 2 * pi, one], dim=1),
    }
