"""Random fields for property tests: unequal and size-1 axes, ties, plateaus, NaN and infinities."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

_LARGEST = {1: 40, 2: 12, 3: 6, 4: 4, 5: 3, 6: 3}
_PALETTES: list[list[float] | None] = [
    None,
    [0.0, 1.0],
    [0.0, -0.0, 1.0, 2.0, 3.0],
    [0.0, 1.0, 2.0, np.inf],
    [0.0, 1.0, 2.0, np.nan],
    [0.0, -0.0, 1.0, np.nan, np.inf, -np.inf],
    [np.nan, np.inf],
    [5.0],
]


@st.composite
def shapes(draw: st.DrawFn, max_ndim: int = 6, max_size: int = 400) -> tuple[int, ...]:
    ndim = draw(st.integers(1, max_ndim))
    shape: list[int] = []
    for _ in range(ndim):
        room = max(1, max_size // int(np.prod(shape, dtype=int)))
        shape.append(draw(st.integers(1, min(_LARGEST[ndim], room))))
    return tuple(shape)


@st.composite
def fields(draw: st.DrawFn, max_ndim: int = 6, max_size: int = 400) -> NDArray[Any]:
    shape = draw(shapes(max_ndim, max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    palette = draw(st.sampled_from(_PALETTES))
    values = rng.random(shape) if palette is None else rng.choice(palette, shape)
    return values.astype(draw(st.sampled_from([np.float32, np.float64])))


connectivities = st.sampled_from(["axis", "freudenthal", "full"])
directions = st.sampled_from(["sublevel", "superlevel"])
