"""The fields that merge trees are timed on, of which a name says kind, size and type: `smooth 41^4 float32`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def ripples(k: int, axis: int, dtype: str = "f8") -> NDArray[Any]:
    x = np.linspace(-1, 1, k)
    return (0.5 * x**2 + 0.3 * np.cos(7 * x + axis)).astype(dtype)


def smooth(k: int, n: int, dtype: str = "f8") -> NDArray[Any]:
    """A bowl with ripples along every axis: about 3^n minima on the scale of the grid."""
    field = np.zeros((k,) * n, dtype)
    for d in range(n):
        field += ripples(k, d, dtype).reshape([k if axis == d else 1 for axis in range(n)])
    return field


def noise(k: int, n: int) -> NDArray[Any]:
    return np.random.default_rng(0).random((k,) * n)


def ties(k: int, n: int) -> NDArray[Any]:
    """Noise of ten values."""
    return np.floor(10 * noise(k, n))


def plateau(k: int, n: int) -> NDArray[Any]:
    """Noise on seven tenths of a plateau."""
    return np.where(noise(k, n) < 0.7, 0.5, noise(k, n))


def holes(k: int, n: int) -> NDArray[Any]:
    """Noise of which a hundredth is NaN."""
    return np.where(np.random.default_rng(1).random((k,) * n) < 0.01, np.nan, noise(k, n))


ROUGH = {"noise": noise, "ties": ties, "plateau": plateau, "holes": holes}


def field_of(name: str) -> NDArray[Any]:
    kind, size, *dtype = name.split()
    k, n = map(int, size.split("^"))
    return ROUGH[kind](k, n).astype(*dtype or ["f8"], copy=False) if kind in ROUGH else smooth(k, n, *dtype)
