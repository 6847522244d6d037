"""Named parameters as one flat real vector and back: displacements, dot products and Lanczos work on the vector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

# Every parameter starts at a multiple of 64 bytes (8 float64 or 16 float32 numbers): matrix kernels may round
# differently for differently aligned operands, and a value must not depend on the row of the batch it is in.
_ALIGN = 16

# In float64 128 MB: what is smaller is computed as a whole, in the order that its bits have always had.
_SMALL = 2**24
_BLOCK = 2**19


def real(tensor: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones, in the same memory; others as they are."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def is_small(size: int, rows: int = 1) -> bool:
    """Whether so many vectors of this size may be held once more."""
    return size * rows <= _SMALL


def working_type(dtype: torch.dtype, size: int, rows: int) -> torch.dtype:
    """What so many vectors of this size are held in while they are worked on: float64 where they are small."""
    return torch.float64 if is_small(size, rows) else dtype


def block_bytes(size: int, rows: int = 1) -> int:
    """What working on so many vectors of this size takes beside them: some float64 copies of what is done at once."""
    return 3 * 8 * min(size * rows, _SMALL if is_small(size, rows) else _BLOCK)


def spans(size: int, rows: int = 1) -> Iterator[slice]:
    """The parts of vectors of this `size`, of which so many `rows` are worked on together, that fit beside vectors
    which fill a device; all at once where they are small."""
    width = size if is_small(size, rows) else max(_BLOCK // rows // _ALIGN, 1) * _ALIGN
    yield from (slice(start, min(start + width, size)) for start in range(0, max(size, 1), max(width, 1)))


def lay_flat(parameters: Mapping[str, Tensor]) -> None:
    """Have the tensors be views into one flat tensor, with the same numbers; they stay as they are where one of them
    lies in an order of its own, which a loss may be made for."""
    if not parameters or not all(type(p.data) is Tensor and p.is_contiguous() for p in parameters.values()):
        return
    layout = Layout.of(parameters)
    first = next(iter(parameters.values())).detach()
    flat = torch.empty(layout.size, dtype=first.real.dtype, device=first.device)
    end = 0
    for (name, place), view in zip(layout.slices().items(), layout.unflatten(flat).values(), strict=True):
        flat[end : place.start] = 0
        view.copy_(parameters[name].detach())
        parameters[name].data = view  # one after the other: never twice all of them
        end = place.stop
    flat[end:] = 0


class Parts(Protocol):
    """How tensors are divided among ranks that work together, each number on one of them. All ranks call every method
    but `part`, in one order."""

    shapes: dict[str, tuple[int, ...]]
    """Of the whole tensors."""
    rank: int
    size: int
    by_rows: bool
    """Whether each rank has whole rows, along the first axis, of every tensor."""

    def part(self, name: str, whole: Tensor) -> Tensor:
        """This rank's part of (*shape)."""
        ...

    def whole(self, name: str, part: Tensor) -> Tensor:
        """(*shape), on every rank."""
        ...

    def gathered(self, tensor: Tensor) -> Tensor:
        """Every rank's tensor, of one shape on all, in the order of the ranks: (ranks, …)."""
        ...


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in the flat vector. Complex numbers are stored as (real, imaginary) pairs; the gaps
    that keep parameters aligned hold zeros, so norms and dot products of flat vectors are those of the parameters.

    Of a model in `parts` a flat vector holds this rank's; sums of them over the whole are taken by `total`, `dot` and
    `norm`, which all ranks call together and which give the same bits on all."""

    shapes: dict[str, tuple[int, ...]]
    complex_names: frozenset[str]
    parts: Parts | None = field(default=None, compare=False)

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor], parts: Parts | None = None) -> Layout:
        return cls(
            {name: tuple(p.shape) for name, p in parameters.items()},
            frozenset(name for name, p in parameters.items() if p.is_complex()),
            parts,
        )

    def _numbers(self, name: str) -> int:
        return math.prod(self.shapes[name]) * (2 if name in self.complex_names else 1)

    @property
    def whole_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters, whether this rank has all of them or a part."""
        return self.shapes if self.parts is None else {name: self.parts.shapes[name] for name in self.shapes}

    @property
    def size(self) -> int:
        """Length of the flat vector, gaps included."""
        return sum(-(-self._numbers(name) // _ALIGN) * _ALIGN for name in self.shapes)

    @property
    def dimension(self) -> int:
        """Number of real numbers that move: the dimension of parameter space."""
        pairs = {name: 2 if name in self.complex_names else 1 for name in self.shapes}
        return sum(math.prod(shape) * pairs[name] for name, shape in self.whole_shapes.items())

    def working_type(self, dtype: torch.dtype, rows: int) -> torch.dtype:
        """What so many flat vectors are held in while they are worked on; the same on all ranks."""
        return working_type(dtype, self.size if self.parts is None else self.dimension, rows)

    def own(self, name: str, whole: Tensor) -> Tensor:
        """What a flat vector holds of a whole tensor (*shape): all of it, or this rank's part."""
        return whole if self.parts is None else self.parts.part(name, whole)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks, in their order, of what is the sum over a rank's part of a flat vector."""
        if self.parts is None:
            return tensor
        every = self.parts.gathered(tensor)
        found = every[0]
        for other in every[1:]:
            found = found + other
        return found

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """The inner product of two flat vectors, or of rows of them (k, size) with one."""
        product: Tensor = a @ b
        return self.total(product)

    def norm(self, vectors: Tensor) -> Tensor:
        """Of flat vectors (*lead, size)."""
        length: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
        if self.parts is not None:
            length = self.total(length.double().square()).sqrt().to(length.dtype)
        return length

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
            flat[..., place] = real(p).reshape(*lead, -1)
        return flat

    def whole(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """As `flatten`, but no copy where the tensors are views into one flat tensor: not to be written into."""
        (name, place), *_ = self.slices().items()
        first = parameters[name]
        lead = first.shape[: first.ndim - len(self.shapes[name])]
        numbers = real(first)
        held, offset = numbers.untyped_storage(), numbers.storage_offset()
        needed = (offset + math.prod(lead) * self.size) * numbers.element_size()
        if len(lead) > 1 or place.start or held.nbytes() < needed:
            return self.flatten(parameters)
        flat = torch.empty(0, dtype=numbers.dtype, device=numbers.device)
        flat.set_(held, offset, (*lead, self.size), (self.size, 1)[-1 - len(lead) :])
        for name, view in self.unflatten(flat).items():
            p = parameters[name]
            if p.data_ptr() != view.data_ptr() or p.stride() != view.stride() or p.dtype != view.dtype:
                return self.flatten(parameters)
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

    def gaussian(self, n: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """n standard normal flat vectors, shape (n, size), on the CPU: the same on every device. They are drawn in
        float64 and then rounded."""
        flat = torch.zeros(n, self.size, dtype=dtype)
        if self.parts is not None:
            for name, i, row in self._drawn_whole(n, seed):
                flat[i, self.slices()[name]] = real(self.parts.part(name, row)).reshape(-1).to(dtype)
            return flat
        for place, start, numbers in self._drawn(n, seed):
            rows = flat[:, place]
            if numbers.numel() == rows.numel():
                rows.copy_(numbers.view(rows.shape))
                continue
            while numbers.numel():
                i, j = divmod(start, rows.shape[1])
                part = numbers[: rows.shape[1] - j]
                rows[i, j : j + len(part)] = part
                numbers, start = numbers[len(part) :], start + len(part)
        return flat

    def gaussian_row(self, i: int, n: int, seed: int, out: Tensor) -> Tensor:
        """The i-th vector of `gaussian` written into `out` (size,), without the others beside it."""
        flat = out.zero_()
        for place, start, numbers in self._drawn(n, seed):
            row = flat[place]
            first, last = (min(max(at - start, 0), len(numbers)) for at in (i * len(row), (i + 1) * len(row)))
            at = start + first - i * len(row)
            if last > first:
                row[at : at + last - first] = numbers[first:last]
        return flat

    def _drawn_whole(self, n: int, seed: int) -> Iterator[tuple[str, int, Tensor]]:
        """The whole of a parameter's part of every vector, of which ranks keep their own, one after the other: whose
        it is, of which vector, and what."""
        whole = Layout(self.whole_shapes, self.complex_names)
        names = {place.start: name for name, place in whole.slices().items() if place.stop > place.start}
        for place, start, numbers in whole._drawn(n, seed):
            name, length = names[place.start], place.stop - place.start
            while numbers.numel():
                i, j = divmod(start, length)
                if not (i or j):
                    row = torch.empty(length, dtype=torch.float64)  # one for all vectors
                piece = numbers[: length - j]
                row[j : j + len(piece)] = piece
                numbers, start = numbers[len(piece) :], start + len(piece)
                if j + len(piece) == length:
                    shape = whole.shapes[name]
                    is_pair = name in self.complex_names
                    yield name, i, torch.view_as_complex(row.view(*shape, 2)) if is_pair else row.view(shape)

    def _drawn(self, n: int, seed: int) -> Iterator[tuple[slice, int, Tensor]]:
        """For every parameter the numbers that its part of n vectors holds, row after row, in pieces: where it lies,
        how many of them came before, and float64 numbers. torch draws normal numbers in groups of 16: pieces of whole
        groups are what it would draw at once."""
        generator = torch.Generator().manual_seed(seed)
        for place in self.slices().values():
            count, start = n * (place.stop - place.start), 0
            while start < count:
                left = count - start
                piece = left if left < 2 * _BLOCK else _BLOCK
                yield place, start, torch.randn(piece, dtype=torch.float64, generator=generator)
                start += piece
