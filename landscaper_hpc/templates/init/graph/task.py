"""What is evaluated: a model, a loss and data. Replace all three by yours.

Here: a graph network that learns energies of small clusters of atoms, and the forces that are their derivatives.
"""

import torch
from torch import Tensor, nn

from landscaper_hpc import Task


def task(hidden: int = 16) -> Task:
    """Called with a checkpoint's `options`; its parameters are then loaded into the model."""
    return Task(model=Network(hidden).double(), loss=loss, data=clusters())


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """One loss for each cluster: the squared error of its energy, and the mean one of the forces.

    Forces are derivatives of the energy by the places, so that the loss itself has a gradient in it.
    """
    places, energies, forces = batch
    places = places.detach().requires_grad_()
    found = model(places)
    (slope,) = torch.autograd.grad(found.sum(), places, create_graph=True)
    return (found - energies).square() + (slope + forces).square().mean(dim=(1, 2))


class Network(nn.Module):
    """Messages between all pairs of atoms, twice: places (clusters, atoms, 3) to energies (clusters,)."""

    def __init__(self, hidden: int, centres: int = 8) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0.5, 3.0, centres))
        self.first = nn.Linear(centres, hidden)
        self.messages = nn.ModuleList(nn.Linear(hidden + centres, hidden) for _ in range(2))
        self.energy = nn.Linear(hidden, 1)

    def forward(self, places: Tensor) -> Tensor:
        atoms = places.shape[1]
        apart = places[:, :, None] - places[:, None, :]
        itself = torch.eye(atoms, dtype=places.dtype, device=places.device)
        distances = (apart.square().sum(-1) + itself).sqrt()  # of an atom from itself 1, and not counted
        near = torch.exp(-4 * (distances[..., None] - self.centres).square()) * (1 - itself)[..., None]
        states = torch.tanh(self.first(near.sum(2)))
        for message in self.messages:
            pairs = torch.cat([states[:, None].expand(-1, atoms, -1, -1), near], dim=-1)
            states = states + (torch.tanh(message(pairs)) * (1 - itself)[..., None]).sum(2) / atoms
        return self.energy(states).sum(dim=(1, 2))


def clusters(n: int = 40, atoms: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Places (n, atoms, 3), energies (n,) and forces (n, atoms, 3) of a pair potential, (1 - exp(1 - r))² for each."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([[0.0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=torch.float64)[:atoms]
    places = corners + 0.2 * torch.randn(n, atoms, 3, dtype=torch.float64, generator=generator)
    places.requires_grad_()
    first, second = torch.triu_indices(atoms, atoms, 1)
    distances = (places[:, first] - places[:, second]).norm(dim=-1)
    energies = (1 - torch.exp(1 - distances)).square().sum(1)
    (slope,) = torch.autograd.grad(energies.sum(), places)
    return places.detach(), energies.detach(), -slope
