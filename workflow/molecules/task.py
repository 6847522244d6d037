"""Networks of two kinds that learn energies of molecules, and the forces that are their derivatives.

Small: synthetic molecules of four atoms of two kinds with a pair potential. One network sees distances only, as SchNet
does, the other angles as well, as DimeNet++ does. Full size: with `data`, the folder of QM9, SchNet and
DimeNet++ of torch-geometric on that data set (which has no forces).
"""

from collections.abc import Callable
from pathlib import Path

import published
import qm9
import torch
from torch import Tensor, nn

from landscaper_hpc import Task
from landscaper_hpc.errors import InputError

MOLECULES = 16
# energies of two atoms by their distance r, and how far apart atoms of such sizes like to be
POTENTIALS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "morse": lambda r, apart: (1 - torch.exp(apart - r)).square(),
    "lennard_jones": lambda r, apart: (apart / r).pow(4) - 2 * (apart / r).pow(2),
    "yukawa": lambda r, apart: apart * torch.exp(-r) / r,
    "harmonic": lambda r, apart: (r - apart).square(),
    "buckingham": lambda r, apart: 8 * torch.exp(-2 * r / apart) - (apart / r).square() / 2,
}


def task(
    architecture: str = "distances",
    potential: str = "morse",
    seed: int = 0,
    steps: int = 300,
    hidden: int = 8,
    training: bool = False,
    data: str = "",
    rate: float = 0.01,
) -> Task:
    """The loss of molecules that were not trained on; with `training` that of those to train on.

    `seed`, `steps` and `rate` are for train.py. Of QM9 `potential` is the name of a property.
    """
    if data:
        return _of_qm9(architecture, potential, Path(data), training)
    networks = {"distances": Distances, "angles": Angles}
    if architecture not in networks or potential not in POTENTIALS:
        raise InputError(
            f"options: architecture {architecture!r} and potential {potential!r}; there are {', '.join(networks)} and "
            f"{', '.join(POTENTIALS)}"
        )
    half = slice(MOLECULES) if training else slice(MOLECULES, None)
    molecules = tuple(each[half] for each in synthetic(potential, 2 * MOLECULES))
    return Task(model=networks[architecture](hidden).double(), loss=loss, data=molecules)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """One loss for each molecule: the squared error of its energy, and the mean one of the forces."""
    places, energies, forces = batch
    places = places.detach().requires_grad_()
    found = model(places)
    (slope,) = torch.autograd.grad(found.sum(), places, create_graph=True)
    return (found - energies).square() + (slope + forces).square().mean(dim=(1, 2))


def synthetic(potential: str, n: int, atoms: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Places (n, atoms, 3), energies (n,) and forces (n, atoms, 3); energies of mean 0 and standard deviation 1."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([[0.0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=torch.float64)[:atoms]
    places = corners + 0.15 * torch.randn(n, atoms, 3, dtype=torch.float64, generator=generator)
    places.requires_grad_()
    first, second = torch.triu_indices(atoms, atoms, 1)
    distances = (places[:, first] - places[:, second]).norm(dim=-1)
    sizes = kinds(atoms, torch.float64)
    energies = POTENTIALS[potential](distances, (sizes[first] + sizes[second]) / 2).sum(1)
    energies = (energies - energies.mean().detach()) / energies.std().detach()
    (slope,) = torch.autograd.grad(energies.sum(), places)
    return places.detach(), energies.detach(), -slope


def kinds(atoms: int, dtype: torch.dtype) -> Tensor:
    """The size of each atom: two kinds, by turns."""
    return torch.tensor([1.0, 1.3], dtype=dtype).repeat(atoms)[:atoms]


class Pairs(nn.Module):
    """What both networks begin with: where the atoms are from each other."""

    centres: Tensor

    def __init__(self, centres: int = 8) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0.5, 2.5, centres))

    def near(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ways (n, atoms, atoms, 3) and radial functions of lengths (n, atoms, atoms, centres), 0 of an atom from
        itself, and which pairs are two atoms (atoms, atoms, 1)."""
        atoms = places.shape[1]
        itself = torch.eye(atoms, dtype=places.dtype, device=places.device)[..., None]
        ways = places[:, :, None] - places[:, None]
        lengths = (ways.square().sum(-1, keepdim=True) + itself).sqrt()  # of an atom from itself 1, and not counted
        return ways / lengths, torch.exp(-4 * (lengths - self.centres).square()) * (1 - itself), 1 - itself


class Distances(Pairs):
    """Messages between atoms, filtered by their distance, twice."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.start = nn.Linear(1, hidden)
        self.filters = nn.ModuleList(nn.Linear(len(self.centres), hidden) for _ in range(2))
        self.messages = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.energy = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, places: Tensor) -> Tensor:
        _, near, others = self.near(places)
        states = self.start(kinds(places.shape[1], places.dtype)[:, None]).expand(len(places), -1, -1)
        for filtered, message in zip(self.filters, self.messages, strict=True):
            sent = filtered(near) * others * states[:, None]
            states = states + torch.tanh(message(sent.sum(2)))
        return self.energy(states).sum(dim=(1, 2))


class Angles(Pairs):
    """Messages along pairs of atoms, by the angles at which pairs meet."""

    def __init__(self, hidden: int, angular: int = 3) -> None:
        super().__init__()
        self.angular = angular
        self.start = nn.Linear(len(self.centres) + 2, hidden)
        self.turned = nn.Linear(angular, hidden)
        self.messages = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.energy = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, places: Tensor) -> Tensor:
        ways, near, others = self.near(places)
        n, atoms = places.shape[:2]
        sizes = kinds(atoms, places.dtype)
        ends = torch.stack([sizes[:, None].expand(atoms, atoms), sizes[None].expand(atoms, atoms)], dim=-1)
        states = torch.tanh(self.start(torch.cat([near, ends.expand(n, -1, -1, -1)], dim=-1))) * others
        cosines = torch.einsum("nijx,nikx->nijk", ways, ways)[..., None]  # at i, between j and k
        turned = self.turned(torch.cat([cosines**power for power in range(self.angular)], dim=-1))
        for message in self.messages:
            met = torch.einsum("nijkh,nikh->nijh", turned, states) / atoms
            states = states + torch.tanh(message(met)) * others
        return self.energy(states.sum(2)).sum(dim=(1, 2))


def _of_qm9(architecture: str, potential: str, folder: Path, training: bool) -> Task:
    """A model of the paper's, as torch-geometric has it, and a property of mean 0 and standard deviation 1."""
    found = qm9.of(folder, potential, training)
    networks = {"distances": published.schnet, "angles": published.dimenet}
    if architecture not in networks:
        raise InputError(f"options: architecture {architecture!r}; of QM9 there are {', '.join(networks)}")
    return Task(model=networks[architecture](), loss=squared, data=found.batches)


def squared(model: nn.Module, batch: qm9.Batch) -> Tensor:
    """The squared error of each molecule."""
    numbers, places, of, wanted = batch
    return (model(numbers, places, of).squeeze(-1) - wanted).square()
