from __future__ import annotations

import numpy as np
import pytest

from landscaper_hpc.topology.kernels.order import Census, census, key_values, keys_at, ordered_keys
from landscaper_hpc.topology.kernels.rows import joined, row_count
from tests.topology.kernels.cases import BOXES

ODD = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3.4e38]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_keys_sort_as_the_order_of_vertices(dtype: str) -> None:
    values = np.random.default_rng(0).choice(ODD, 300).astype(dtype)
    keys = ordered_keys(values)
    twin = sorted(range(300), key=lambda v: (bool(np.isnan(values[v])), 0 if np.isnan(values[v]) else values[v], v))
    assert np.argsort(keys, kind="stable").tolist() == twin
    np.testing.assert_array_equal(key_values(keys), values)
    some = np.array([3, 3, 299, 0, 17], np.int32)
    proper = np.where(np.isnan(values), 0, values).astype(dtype)
    np.testing.assert_array_equal(keys_at(proper.view(f"i{proper.itemsize}"), some, True), ordered_keys(proper)[some])
    np.testing.assert_array_equal(keys_at(keys, some, False), keys[some])


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("sizes", "low", "high"), BOXES)
def test_the_census_of_a_box(
    sizes: tuple[int, ...], low: tuple[int, ...], high: tuple[int, ...], dtype: str, odd: bool
) -> None:
    rng = np.random.default_rng(len(sizes))
    values = (rng.choice(ODD, sizes) if odd else rng.normal(size=sizes)).astype(dtype)
    core = values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    finite = core[np.isfinite(core)].astype(float)
    expected = Census(
        finite.min(), finite.max(), *(int(x.sum()) for x in (np.isnan(core), core == np.inf, core == -np.inf))
    )
    box = joined(sizes, low, high, 3)
    rows = row_count(box)
    assert census(values.reshape(-1), box, 0, rows // 2) + census(values.reshape(-1), box, rows // 2, rows) == expected


def test_a_census_of_nothing_finite() -> None:
    assert census(np.array([np.nan, np.inf, -np.inf, np.inf])) == Census(np.inf, -np.inf, 1, 2, 1)
