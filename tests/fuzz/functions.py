"""More layers than `generator` had at first, for seeds from `generator.MORE` on: what earlier seeds draw stays."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

F = nn.functional


def _written(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = x[:, -1].sin()
    y.add_(x.cos())
    return y


def _in_turn(x: Tensor) -> Tensor:
    h = torch.zeros_like(x[:, 0])
    for i in range(x.shape[1]):
        h = torch.tanh(h * 0.5 + x[:, i])
    return x * h[:, None]


def _attention(x: Tensor, causal: bool = False) -> Tensor:
    q = x[None, None]
    return F.scaled_dot_product_attention(q, q.sin(), q.cos(), is_causal=causal)[0, 0]


def _around(x: Tensor, width: float) -> Tensor:
    return torch.eye(x.shape[1], dtype=x.dtype) * width + x.T @ x


SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "written in place": _written,
    "one after the other": _in_turn,
    "attention": _attention,
    "causal attention": lambda x: _attention(x, causal=True),
    "spectrum": lambda x: torch.fft.fft(x, dim=-1).abs().square().add(1).sqrt(),
    "complex": lambda x: torch.complex(x, x.cos()).exp().real.tanh(),
    "sums": lambda x: x.cumsum(-1).tanh(),
    "products": lambda x: x.tanh().cumprod(-1),
    "log of sums": lambda x: x - x.logsumexp(-1, keepdim=True),
    "deviation": lambda x: x / (x.std(-1, keepdim=True) + 1),
    "inverse": lambda x: x @ torch.linalg.inv(_around(x, 30)),
    "solved": lambda x: torch.linalg.solve(_around(x, 20), x.T).T,
    "log determinant": lambda x: x * torch.logdet(_around(x, 1)).tanh(),
    "Cholesky": lambda x: x @ torch.linalg.cholesky(_around(x, 1)).tanh(),
    "rolled": lambda x: x * x.roll(1, -1),
    "einsum": lambda x: torch.einsum("ij,kj,kl->il", x, x, x).tanh(),
    "erf": torch.erf,
    "atan2": lambda x: torch.atan2(x, 1 + x.square()),
    "lgamma": lambda x: torch.lgamma(x.square() + 1),
    "hypot": lambda x: torch.hypot(x, torch.ones_like(x)),
    "logaddexp": lambda x: torch.logaddexp(x, -x),
    "split": lambda x: torch.cat([part.sin() for part in x.split(1, -1)], -1),
    "convolution": lambda x: F.conv1d(x[:, None], x.new_tensor([[[0.2, 0.5, -0.3]]]), padding=1)[:, 0],
    "cosine": lambda x: x * F.cosine_similarity(x, x.roll(1, 0) + 1, dim=-1)[:, None],
    "layer norm by itself": lambda x: F.layer_norm(x, (x.shape[-1],)),
    "added by index": lambda x: torch.zeros_like(x).index_add(0, torch.arange(len(x)).flip(0), x).tanh(),
    "gathered": lambda x: x.gather(1, torch.arange(x.shape[1]).flip(0).expand_as(x)) * x,
}
KINKED: dict[str, Callable[[Tensor], Tensor]] = {
    "largest of all": lambda x: x * x.topk(1, -1).values,
    "pooled": lambda x: F.max_pool1d(x[:, None], 3, 1, 1)[:, 0],
    "clamped": lambda x: x.clamp(-0.5, 0.5),
    "where": lambda x: torch.where(x > 0, x, x.sin()),
    "filled": lambda x: x.masked_fill(x < -0.5, -0.5),
    "median": lambda x: x - x.median(-1, keepdim=True).values,
    "running largest": lambda x: x.cummax(-1).values,
    "quantile": lambda x: x - x.quantile(0.5, -1, keepdim=True),
    "mask": lambda x: x * (x[x > 0].sum() + 1).tanh(),
    "number": lambda x: x * (1 + (float(x[0, 0]) > 0.3)),
    "by numpy": lambda x: x * torch.from_numpy((x.detach().numpy() > 0) + 1.0),
    "how many": lambda x: x * (1 + len(torch.nonzero(x > 0)) / 10),
    "how many kinds": lambda x: x * (1 + len(torch.unique(x.detach().round())) / 10),
    "branch": lambda x: x.sin() if x[0, 0] > 0.3 else x.cos(),
    "list": lambda x: torch.stack([row if row[0] > 0.3 else 2 * row for row in x]),
    "order of rows": lambda x: x[x[:, 0].argsort()],
}
