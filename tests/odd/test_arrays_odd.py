"""Odd arrays for what takes fields, points and graphs: equal values, or the sentence that answers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from landscaper_hpc.errors import InputError
from landscaper_hpc.sampling.lowest import lowest
from landscaper_hpc.topology import contour_tree, merge_tree, merge_tree_graph, merge_tree_points, mutual_knn

FIELD = np.round(np.random.default_rng(0).normal(size=(5, 6)), 2)
POINTS = np.random.default_rng(1).normal(size=(12, 2))
BOWL = np.add.outer(np.linspace(-1, 1, 9) ** 2, np.linspace(-1, 1, 9) ** 2).reshape(-1)
HALF = np.ma.MaskedArray(FIELD, mask=FIELD > 1)
ROWS: Any = [[1.0, 2], [3]]


def _lowest(evaluate: Callable[[Any], Any], **more: Any) -> object:
    return lowest(evaluate, (9, 9), share=0.1, **more)


REFUSED: list[tuple[str, Callable[[], object], str]] = [
    ("masked", lambda: merge_tree(HALF), r"values: 3 are masked.*give values.filled\(np.nan\)"),
    ("masked, for contours", lambda: contour_tree(HALF), "values: 3 are masked"),
    ("masked, on a graph", lambda: merge_tree_graph(HALF, [0] * 31, []), "values: . are masked"),
    ("masked points", lambda: mutual_knn(np.ma.MaskedArray(POINTS, mask=POINTS > 1)), "points: .* are masked"),
    ("masked answers", lambda: _lowest(lambda i: np.ma.MaskedArray(BOWL[i], mask=BOWL[i] > 1)), "gave: .* are masked"),
    ("rows of two lengths", lambda: merge_tree(ROWS), r"values: are no array of numbers \(setting an array element"),
    ("a tensor with a gradient", lambda: merge_tree(torch.ones(3, requires_grad=True)), "Tensor that requires grad"),
    ("a tensor on meta", lambda: merge_tree(torch.ones(3, device="meta")), "no array of numbers .*meta device"),
    ("bfloat16", lambda: merge_tree(torch.ones(3, dtype=torch.bfloat16)), "no array of numbers .*BFloat16"),
    ("complex points", lambda: mutual_knn(POINTS + 1j), "points: type complex128 is no real number"),
    ("fewer values than points", lambda: merge_tree_points(POINTS, [1.0, 2]), "there are 12 points and 2 values"),
    ("a graph of fractions", lambda: merge_tree_graph([0.0, 1], [0, 1, 2], [1.4, 0.3]), "int64 and float64; give int"),
    ("a start below", lambda: _lowest(lambda i: BOWL[i], start=[-1]), r"start is \[.*-1.*\]; give flat ids"),
    ("a start beyond", lambda: _lowest(lambda i: BOWL[i], start=[81]), "start is .*; give flat ids of .* from 0 to 80"),
    ("a start between", lambda: _lowest(lambda i: BOWL[i], start=[0.7]), "start is .*; give flat ids"),
    ("integers that float64 lacks", lambda: _lowest(lambda i: i + 2**60), "gave: the integer .* has no float64"),
]


@pytest.mark.parametrize(("call", "told"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_no_field_is_one_sentence(call: Callable[[], object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        call()


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-540, 2.0**540, 2.0**1000])
def test_nearest_points_do_not_depend_on_their_unit(scale: float) -> None:
    """Squares of distances vanish or overflow, and all points are as near as any."""
    expected = mutual_knn(POINTS, 3)
    for found, one in zip(mutual_knn(POINTS * scale, 3), expected, strict=True):
        np.testing.assert_array_equal(found, one)


def test_what_an_evaluation_does_to_its_ids_changes_nothing() -> None:
    def evaluate(ids: Any) -> Any:
        values = BOWL[ids]
        ids[:] = 0
        return values

    assert lowest(evaluate, (9, 9), share=0.1).tree.n_vertices == 5
