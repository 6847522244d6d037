"""Named parameters as one flat real vector and back: displacements, dot products and Lanczos work on the vector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# Every parameter starts at a multiple of 64 bytes (8 float64 or 16 float32 numbers): matrix kernels may round
# differently for differently aligned operands, and a value must not depend on the row of the batch it is in.
_ALIGN = 16


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in the flat vector. Complex numbers are stored as (real, imaginary) pairs; the gaps
    that keep parameters aligned hold zeros, so norms and dot products of flat vectors are those of the parameters."""

    shapes: dict[str, tuple[int, ...]]
    complex_names: frozenset[str]

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor]) -> Layout:
        return cls(
            {name: tuple(p.shape) for name, p in parameters.items()},
            frozenset(name for name, p in parameters.items() if p.is_complex()),
        )

    def _numbers(self, name: str) -> int:
        return math.prod(self.shapes[name]) * (2 if name in self.complex_names else 1)

    @property
    def size(self) -> int:
        """Length of the flat vector, gaps included."""
        return sum(-(-self._numbers(name) // _ALIGN) * _ALIGN for name in self.shapes)

    @property
    def dimension(self) -> int:
        """Number of real numbers that move: the dimension of parameter space."""
        return sum(self._numbers(name) for name in self.shapes)

    def slices(self) -> dict[str, slice]:
        """The part of the flat vector that each parameter occupies."""
        result, start = {}, 0
        for name in self.shapes:
            n = self._numbers(name)
            result[name] = slice(start, start + n)
            start += -(-n // _ALIGN) * _ALIGN
        return result

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """A new tensor of shape (*lead, size) from tensors of shape (*lead, *shape)."""
        first = next(iter(parameters.values()))
        lead = first.shape[: first.ndim - len(self.shapes[next(iter(parameters))])]
        flat = torch.zeros(*lead, self.size, dtype=first.real.dtype, device=first.device)
        for name, place in self.slices().items():
            p = parameters[name]
            flat[..., place] = (torch.view_as_real(p) if p.is_complex() else p).reshape(*lead, -1)
        return flat

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of shape (*lead, *shape) into a tensor of shape (*lead, size)."""
        lead = flat.shape[:-1]
        result = {}
        for name, place in self.slices().items():
            if name in self.complex_names:
                result[name] = torch.view_as_complex(flat[..., place].view((*lead, *self.shapes[name], 2)))
            else:
                result[name] = flat[..., place].view((*lead, *self.shapes[name]))
        return result

    def gaussian(self, n: int, seed: int) -> Tensor:
        """n standard normal flat vectors, shape (n, size), float64 on the CPU: the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        flat = torch.zeros(n, self.size, dtype=torch.float64)
        for place in self.slices().values():
            flat[:, place] = torch.randn(n, place.stop - place.start, dtype=torch.float64, generator=generator)
        return flat
