"""The models and data that the benchmarks of evaluation and Hessians run on: plain torch, so that every peer can
import them.

Each function returns (model, data, loss): `data` is a list of (input, target) batches in float32, `loss(model,
batch)` the mean over the batch. Everything is seeded. `trained` fits a model briefly, so that its Hessian is that of
a trained network.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

Batch = tuple[Tensor, Tensor]
Problem = tuple[nn.Module, list[Batch], Callable[[Any, Batch], Tensor]]


def mlp(points: int = 100) -> Problem:
    """2-50-50-50-50-1 tanh network, mean square error on `points` points of a smooth function."""
    torch.manual_seed(0)
    model = _tanh_network()
    x = torch.rand(points, 2) * 2 - 1
    y = torch.sin(pi * x[:, :1]) * torch.cos(pi * x[:, 1:])
    return model, [(x, y)], lambda model, batch: F.mse_loss(model(batch[0]), batch[1])


def pinn(beta: float = 30.0, points: int = 1000) -> Problem:
    """The loss of the convection study: u_t + beta u_x = 0, u(x, 0) = sin x, periodic in x; derivatives inside."""
    torch.manual_seed(0)
    model = _tanh_network()
    inside = torch.rand(points, 2) * torch.tensor([2 * pi, 1.0])
    edge = torch.linspace(0, 1, 100)
    zero = torch.zeros(100)
    edges = torch.stack(
        [torch.stack([2 * pi * edge, zero], 1), torch.stack([zero, edge], 1), torch.stack([zero + 2 * pi, edge], 1)]
    )

    def loss(model: Any, batch: Batch) -> Tensor:
        inside, (initial, left, right) = batch
        along = torch.tensor([beta, 1.0], dtype=inside.dtype, device=inside.device).expand_as(inside)
        _, residual = torch.func.jvp(model, (inside,), (along,))
        misfit = model(initial) - torch.sin(initial[:, :1])
        jump = model(left) - model(right)
        return residual.square().mean() + misfit.square().mean() + jump.square().mean()

    return model, [(inside, edges)], loss


def resnet20(images: int = 512, batch: int = 512) -> Problem:
    """ResNet-20 for CIFAR (He et al. 2016: 270 thousand parameters) on images made of noise around ten class means."""
    torch.manual_seed(0)
    model = ResNet20().eval()
    labels = torch.randint(10, (images,))
    x = 0.5 * torch.randn(10, 3, 32, 32)[labels] + torch.randn(images, 3, 32, 32)
    data = list(zip(x.split(batch), labels.split(batch), strict=True))
    return model, data, lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])


def cnn(images: int = 64) -> Problem:
    """A small CNN without BatchNorm."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    data = [(torch.randn(images, 1, 12, 12), torch.randint(10, (images,)))]
    return model, data, lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])


def transformer(
    layers: int = 2, width: int = 32, heads: int = 4, vocabulary: int = 61, length: int = 24, sequences: int = 4
) -> Problem:
    """A GPT-style transformer on random tokens; 12 layers of width 768 with 12 heads, vocabulary 50,257 and 1,024
    tokens is the 124-million-parameter one."""
    torch.manual_seed(0)
    model = Transformer(layers, width, heads, vocabulary, length).eval()
    tokens = torch.randint(vocabulary, (sequences, length + 1))

    def loss(model: Any, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch[0]).flatten(0, -2), batch[1].flatten())

    return model, [(tokens[:, :-1], tokens[:, 1:].contiguous())], loss


def digits(channels: int = 1, average: bool = False, images: int = 512) -> Problem:
    """A small CNN on images of 8 × 8, of one channel like the digits of scikit-learn or of more."""
    torch.manual_seed(0)
    pool = nn.AvgPool2d if average else nn.MaxPool2d
    model = nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), pool(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), pool(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    data = [(torch.randn(images, channels, 8, 8), torch.randint(10, (images,)))]
    return model, data, lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])


def normed(norm: Callable[[int], nn.Module], images: int = 512) -> Problem:
    """An MLP on images of 8 × 8 with a normalisation after each layer."""
    torch.manual_seed(0)
    layers = [part for _ in range(2) for part in (nn.Linear(64, 64), norm(64), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(64, 10)).eval()
    data = [(torch.randn(images, 64), torch.randint(10, (images,)))]
    return model, data, lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])


def unet(images: int = 16) -> Problem:
    """A UNet of two levels with GroupNorm, mean square error."""
    torch.manual_seed(0)
    model = UNet()
    data = [(torch.randn(images, 3, 16, 16), torch.randn(images, 3, 16, 16))]
    return model, data, lambda model, batch: F.mse_loss(model(batch[0]), batch[1])


def lstm(sequences: int = 64, length: int = 16) -> Problem:
    """An LSTM that reads rows of numbers and names a class."""
    torch.manual_seed(0)
    model = Reader()
    data = [(torch.randn(sequences, length, 8), torch.randint(10, (sequences,)))]
    return model, data, lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "mlp": mlp, "pinn": pinn, "resnet20": resnet20, "cnn": cnn, "transformer": transformer,
}  # fmt: skip


def trained(problem: Problem, steps: int, rate: float = 1e-2) -> Problem:
    """The problem after `steps` steps of Adam over its batches, in training mode for BatchNorm; then in eval mode."""
    model, data, loss = problem
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    for i in range(steps):
        optimizer.zero_grad()
        loss(model, data[i % len(data)]).backward()
        optimizer.step()
    model.eval()
    return problem


def _tanh_network() -> nn.Sequential:
    widths = [2, 50, 50, 50, 50]
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(50, 1))


class UNet(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.enter = self._layer(3, width)
        self.down = self._layer(width, 2 * width)
        self.up = self._layer(3 * width, width)
        self.leave = nn.Conv2d(width, 3, 1)

    @staticmethod
    def _layer(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        below = F.interpolate(self.down(F.avg_pool2d(x, 2)), scale_factor=2)
        return self.leave(self.up(torch.cat([x, below], dim=1)))


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.lstm(rows)[0][:, -1])


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 2 if outputs > inputs else 1
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.grow = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        # option A of the paper: the shortcut is a subsampling padded with zero channels
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.grow // 2, self.grow // 2)) if self.grow else x
        return F.relu(y + shortcut)


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in pairwise(widths)))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.conv(x))))
        return self.head(x.mean(dim=(2, 3)))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(-3, -2).flatten(-2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Output layer tied to the embedding."""

    def __init__(self, layers: int, width: int, heads: int, vocabulary: int, length: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.place.weight[: tokens.shape[-1]]
        return self.head(self.norm(self.layers(x)))
