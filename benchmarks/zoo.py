"""Models as people have them, small: what `everyday.py` measures. Plain torch; each function returns what those of
`models` return."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import models
import torch
from models import Problem
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)


def classified(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def vit(images: int = 64) -> Problem:
    """A vision transformer on images of 32 × 32 in patches of 8 × 8."""
    torch.manual_seed(0)
    return ViT().eval(), [(torch.randn(images, 3, 32, 32), torch.randint(10, (images,)))], classified


def bert(sequences: int = 16, length: int = 32) -> Problem:
    """An encoder that guesses masked tokens of sequences of different lengths, padded."""
    torch.manual_seed(0)
    model = Encoder().eval()
    lengths = torch.randint(length // 4, length + 1, (sequences,))
    padded = torch.arange(length) >= lengths[:, None]
    tokens = torch.randint(2, 200, (sequences, length)).masked_fill(padded, 0)
    asked = (torch.rand(sequences, length) < 0.15) & ~padded
    shown = tokens.masked_fill(asked, 1)

    def loss(model: Any, batch: Any) -> Tensor:
        guesses = model(batch["shown"], batch["padded"])
        labels = batch["tokens"].masked_fill(~batch["asked"], -100)
        return F.cross_entropy(guesses.flatten(0, 1), labels.flatten(), ignore_index=-100)

    return model, [{"shown": shown, "padded": padded, "tokens": tokens, "asked": asked}], loss  # type: ignore[list-item]


def forces(atoms: int = 48) -> Problem:
    """A graph network of SchNet's kind whose loss holds forces, the energy's derivatives by places."""
    torch.manual_seed(0)
    model = Potential().eval()
    kinds = torch.randint(4, (atoms,))
    places = 4 * torch.rand(atoms, 3)
    apart = torch.cdist(places, places).fill_diagonal_(torch.inf)  # which is not 0 to the last bit
    source, target = torch.nonzero(apart < 2.0, as_tuple=True)

    def loss(model: Any, batch: Any) -> Tensor:
        places, kinds, source, target, energy, pull = batch
        with torch.enable_grad():
            moved = places.detach().requires_grad_()
            found = model(moved, kinds, source, target)
            (slope,) = torch.autograd.grad(found, moved, create_graph=True)
        return (found - energy).square() + (slope + pull).square().mean()

    return model, [(places, kinds, source, target, torch.tensor(-3.0), torch.randn(atoms, 3))], loss  # type: ignore[list-item]


def lora(sequences: int = 4) -> Problem:
    """The transformer with everything frozen but updates of rank 4 of its layers' products."""
    model, data, loss = models.transformer(sequences=sequences)
    model.requires_grad_(False)
    for layer in model.layers:  # type: ignore[union-attr]
        for name in ("qkv", "out", "up", "down"):
            setattr(layer, name, LowRank(getattr(layer, name)))
    return model, data, loss


def last_block() -> Problem:
    """The transformer with twelve layers, of which only the last moves."""
    model, data, loss = models.transformer(layers=12, width=128, vocabulary=512, length=64)
    model.requires_grad_(False)
    model.layers[-1].requires_grad_(True)  # type: ignore[index]
    return model, data, loss


def packed(sequences: int = 64, length: int = 16) -> Problem:
    """A GRU that reads sequences of different lengths, packed."""
    torch.manual_seed(0)
    rows, labels = torch.randn(sequences, length, 8), torch.randint(10, (sequences,))
    lengths = torch.randint(3, length + 1, (sequences,))

    def loss(model: Any, batch: Any) -> Tensor:
        rows, lengths, labels = batch
        return F.cross_entropy(model(rows, lengths), labels)

    return PackedReader(), [(rows, lengths, labels)], loss  # type: ignore[list-item]


def compiled(images: int = 64) -> Problem:
    """The vision transformer under torch.compile."""
    model, data, loss = vit(images)
    return torch.compile(model), data, loss  # type: ignore[return-value]


EVERYDAY: dict[str, Callable[[], Problem]] = {
    "MLP": models.mlp,
    "MLP with BatchNorm": partial(models.normed, nn.BatchNorm1d),
    "MLP with LayerNorm": partial(models.normed, nn.LayerNorm),
    "PINN": models.pinn,
    "CNN": models.cnn,
    "digits": models.digits,
    "digits, three channels": partial(models.digits, channels=3),
    "digits, average pooling": partial(models.digits, average=True),
    "ResNet-20": partial(models.resnet20, images=128, batch=128),
    "UNet": models.unet,
    "ViT": vit,
    "ViT, compiled": compiled,
    "GPT-2-like": models.transformer,
    "GPT-2-like, last block of 12": last_block,
    "BERT-like": bert,
    "LoRA": lora,
    "LSTM": models.lstm,
    "GRU, packed": packed,
    "GNN with forces": forces,
}


class ViT(nn.Module):
    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.place = nn.Parameter(0.02 * torch.randn(17, width))
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.place
        return self.head(self.norm(self.encoder(x)[:, 0]))


class Encoder(nn.Module):
    def __init__(self, vocabulary: int = 200, width: int = 64, layers: int = 2, length: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(vocabulary, width, padding_idx=0), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor, padded: Tensor) -> Tensor:
        x = self.embed(tokens) + self.place.weight[: tokens.shape[1]]
        return self.head(self.encoder(x, src_key_padding_mask=padded))


class Potential(nn.Module):
    """Messages along the edges, weighted by what networks make of their lengths; an energy of each atom."""

    def __init__(self, width: int = 32, rounds: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, width)
        filters = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        update = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.filters = nn.ModuleList(copy.deepcopy(filters) for _ in range(rounds))
        self.updates = nn.ModuleList(copy.deepcopy(update) for _ in range(rounds))
        self.energy = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        self.register_buffer("centres", torch.linspace(0, 2, 16))

    def forward(self, places: Tensor, kinds: Tensor, source: Tensor, target: Tensor) -> Tensor:
        x = self.embed(kinds)
        length = (places[source] - places[target]).square().sum(1).sqrt()
        bumps = torch.exp(-10 * (length[:, None] - self.centres).square())
        for filters, update in zip(self.filters, self.updates, strict=True):
            x = x + update(torch.zeros_like(x).index_add(0, target, x[source] * filters(bumps)))
        return self.energy(x).sum()


class LowRank(nn.Module):
    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.b = nn.Parameter(0.02 * torch.randn(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.a.T @ self.b.T


class PackedReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        rows = nn.utils.rnn.pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.gru(rows)[1][-1])
