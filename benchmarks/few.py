"""Networks whose landscapes of all data are sought from few of them, for `sampling.py`: batches of losses at points."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

BATCHES = 32
Data = tuple[Tensor, Tensor]


def digits() -> tuple[nn.Module, Data]:
    """A small CNN and 1,792 of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    pictures, names = load_digits(return_X_y=True)
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 10)),
    )
    x = torch.tensor(pictures[:1792] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return model, (x, torch.tensor(names[:1792]).long())


class Language(nn.Module):
    """Characters by one block of a transformer."""

    def __init__(self, vocabulary: int, width: int = 32, length: int = 32) -> None:
        super().__init__()
        self.embedded = nn.Embedding(vocabulary, width)
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        self.asked, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.out = nn.Linear(width, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        z = self.embedded(x) + self.place
        q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in self.asked(self.first(z)).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        z = z + self.mixed(mixed)
        return self.out(z + self.inner(self.second(z)))  # type: ignore[no-any-return]


def language() -> tuple[nn.Module, Data]:
    """512 pieces of 32 characters of Python's argparse."""
    text = Path(argparse.__file__).read_text(encoding="utf-8")
    characters = sorted(set(text))
    ids = torch.tensor([characters.index(c) for c in text])
    pieces = torch.randperm((len(ids) - 1) // 32, generator=torch.Generator().manual_seed(0))[:512]
    at = 32 * pieces[:, None] + torch.arange(32)
    return Language(len(characters)), (ids[at], ids[at + 1])


def trained(made: Callable[[], tuple[nn.Module, Data]], steps: int, rate: float) -> tuple[nn.Module, Data]:
    torch.manual_seed(0)
    model, (x, y) = made()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(steps):
        part = slice(step % BATCHES, None, BATCHES)
        optimizer.zero_grad()
        out = model(x[part])
        F.cross_entropy(out.flatten(0, -2), y[part].flatten()).backward()
        optimizer.step()
    return model, (x, y)


class Losses:
    """Of each batch of the data, (m, BATCHES), at vertices of a cube about a checkpoint, along random directions that
    are as long as its parameters; each is evaluated once."""

    def __init__(self, model: nn.Module, data: Data, shape: tuple[int, ...], reach: float) -> None:
        self._model, self._data, self._shape = model, data, shape
        self._parameters = {name: p.detach() for name, p in model.named_parameters()}
        generator = torch.Generator().manual_seed(0)
        length = torch.cat([p.flatten() for p in self._parameters.values()]).norm()
        self._directions = []
        for _ in shape:
            drawn = {name: torch.randn(p.shape, generator=generator) for name, p in self._parameters.items()}
            own = torch.cat([p.flatten() for p in drawn.values()]).norm()
            self._directions.append({name: p * length / own for name, p in drawn.items()})
        self._axes = [np.linspace(-reach, reach, k) for k in shape]
        self._known: dict[int, NDArray[np.float64]] = {}

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        for vertex in ids.tolist():
            if vertex not in self._known:
                self._known[vertex] = self._at(vertex)
        return np.array([self._known[vertex] for vertex in ids.tolist()]).reshape(-1, BATCHES)

    @torch.no_grad()
    def _at(self, vertex: int) -> NDArray[np.float64]:
        place = [axis[i] for axis, i in zip(self._axes, np.unravel_index(vertex, self._shape), strict=True)]
        moved = dict(self._parameters)
        for along, direction in zip(place, self._directions, strict=True):
            moved = {name: p + float(along) * direction[name] for name, p in moved.items()}
        x, y = self._data
        out = functional_call(self._model, moved, (x,))
        found = F.cross_entropy(out.flatten(0, -2), y.flatten(), reduction="none").double().reshape(len(y), -1)
        return np.array([found[i::BATCHES].mean() for i in range(BATCHES)])
