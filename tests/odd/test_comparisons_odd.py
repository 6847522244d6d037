"""Odd checkpoints and layers for paths between checkpoints, CKA and spectra of weights: the number of a plain
computation, or the sentence that answers them."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from landscaper_hpc import InputError
from landscaper_hpc.comparison.representations import layer_grams
from landscaper_hpc.comparison.similarity import bezier, cka_matrices, line, linear_cka
from landscaper_hpc.comparison.weight_spectra import power_laws
from landscaper_hpc.objective.objective import Objective, Task

X, Y = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.arange(10) % 2
A, B = torch.randn(2, 10, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class _Masked(nn.Module):
    """With a mask as attention has it: a buffer of -inf."""

    mask: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("mask", torch.tensor([0.0, 0, -torch.inf, 0]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.softmax(self.a(x) + self.mask, -1))
        return out


def _objective(model: nn.Module) -> Objective:
    return Objective(Task(model, lambda m, b: cross_entropy(m(b[0]), b[1], reduction="none"), (X, Y)))


def test_what_both_ends_have_stays_along_the_path() -> None:
    first, second = _Masked(0), _Masked(1)
    found = line(_objective(first), second.state_dict(), 3).losses
    ends = [cross_entropy(m.double()(X.double()), Y).item() for m in (first, second)]
    assert found[[0, 2]].tolist() == pytest.approx(ends, rel=1e-12)
    assert math.isfinite(found[1])


def test_a_checkpoint_that_is_not_finite_is_no_end_of_a_path() -> None:
    other = {name: t.clone() for name, t in _Masked(1).state_dict().items()}
    other["a.weight"][0, 0] = torch.nan
    for path in (line, bezier):
        with pytest.raises(InputError, match=r"the other checkpoint holds NaN or infinite numbers in a\.weight"):
            path(_objective(_Masked(0)), other, points=3)
        with pytest.raises(InputError, match="points is 1; a path has two ends"):
            path(_objective(_Masked(0)), _Masked(1).state_dict(), points=1)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_cka_does_not_depend_on_a_unit(scale: float) -> None:
    assert linear_cka(A * scale, B) == pytest.approx(linear_cka(A, B), rel=1e-12)


def test_cka_of_complex_numbers_is_of_both_parts() -> None:
    z = torch.complex(A, B)
    assert linear_cka(z, B) == pytest.approx(linear_cka(torch.cat([A, B], 1), B))
    assert linear_cka(z.conj() * 1j, z) == pytest.approx(1)


UNDEFINED: list[tuple[str, Callable[[], object], str]] = [
    ("a mean that is rounded", lambda: linear_cka(torch.full((3, 2), 0.1, dtype=torch.float64), B[:3]), "the same for"),
    ("two examples", lambda: linear_cka(A[:2], B[:2]), "of 2 examples is 1, or none, whatever"),
    ("two examples of layers", lambda: cka_matrices([{"a": A[:2] @ A[:2].T}] * 2), "of 2 examples is 1"),
    ("NaN", lambda: linear_cka(A * torch.nan, B), "with NaN or infinite numbers"),
    ("numbers without an axis", lambda: linear_cka(A[:, 0], B), r"tensors of \(examples, numbers\), found \(10,\) and"),
]


@pytest.mark.parametrize(("call", "told"), [row[1:] for row in UNDEFINED], ids=[row[0] for row in UNDEFINED])
def test_where_there_is_no_cka_a_sentence_says_so(call: Callable[[], object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        call()


class _Odd(nn.Module):
    """Layers that put out complex numbers, the same for every example, and what is not finite."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.complex, self.same = nn.Linear(3, 3, dtype=torch.complex64), nn.Linear(3, 3)
        self.large, self.last = nn.Linear(3, 3), nn.Linear(6, 2)
        nn.init.zeros_(self.same.weight)

    def forward(self, x: Tensor) -> Tensor:
        large = self.large(x * 1e308 * 10).nan_to_num(0).clamp(-1, 1)
        out: Tensor = self.last(torch.cat([self.complex(torch.complex(x, x)).abs(), self.same(x) + large], 1))
        return out


def test_layers_that_put_out_odd_things() -> None:
    models, left_out = [_Odd(0), _Odd(1)], dict[str, str]()
    grams = [layer_grams(_objective(model), left_out=left_out) for model in models]
    found = cka_matrices(grams)
    z = torch.complex(X, X).to(torch.complex128)
    plain: list[Any] = [z @ m.complex.weight.detach().to(torch.complex128).T for m in models]
    assert found["complex"][0, 1] == pytest.approx(linear_cka(*plain), rel=1e-12)
    assert math.isnan(found["same"][0, 1])
    assert left_out == {"large": "it puts out NaN or infinite numbers"}


@pytest.mark.skipif(importlib.util.find_spec("weightwatcher") is None, reason="the extra power-law")
@pytest.mark.parametrize(
    ("weight", "told"),
    [(torch.full((9, 9), torch.nan), "NaN or infinite numbers"), (torch.ones(9, 9) * 1j, "complex numbers, of which")],
)
def test_weights_without_a_spectrum_are_named(weight: Tensor, told: str) -> None:
    layer = nn.Linear(9, 9)
    layer.weight = nn.Parameter(weight)
    with pytest.raises(InputError, match=f"power_law: 0.weight holds {told}"):
        power_laws(nn.Sequential(layer))
