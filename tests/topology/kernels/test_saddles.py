from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from landscaper_hpc.topology.kernels.dense_saddles import dense_candidates
from landscaper_hpc.topology.kernels.saddles import add_label, axis_candidates
from tests.topology.kernels.cases import Case, case, cases


def found_in(result: Any) -> dict[int, set[int]]:
    """Candidates, each with the labels it joins; its own first."""
    vertices, stops, labels = result[0]
    starts = [0, *stops][:-1]
    return {int(v): set(labels[a:b].tolist()) for v, a, b in zip(vertices, starts, stops, strict=True)}


@cases
def test_candidates_of_the_axis_connectivity(block: Case) -> None:
    label = block.labels("axis")
    expected = {}
    for u in block.core():
        lower = block.lower(u, "axis")
        same = [t for t in lower if label[t] == label[u]]
        # v and t are connected below u through the corner v + t - u, if that is below u
        apart = [v for v in lower if label[v] != label[u]]
        apart = [v for v in apart if not any(block.order(v + t - u) < block.order(u) for t in same)]
        if apart:
            expected[u] = {int(label[v]) for v in [u, *apart]}
    result = axis_candidates(block.f, ~label, block.box, block.axes, 0, block.rows, block.band)
    assert found_in(result) == expected
    assert result[1] == block.rows


@cases
@pytest.mark.parametrize("connectivity", ["freudenthal", "full"])
def test_candidates_of_the_others(block: Case, connectivity: Any) -> None:
    label, around = block.labels(connectivity), block.around(connectivity)
    expected = {}
    for u in block.core():
        lower = block.lower(u, connectivity)
        apart = {v for v in lower if label[v] != label[u]}
        front = [t for t in lower if label[t] == label[u]]
        while front:
            near = apart & set(around[front.pop()])  # what is connected with the same basin among the lower ones
            apart -= near
            front += near
        if apart:
            expected[u] = {int(label[v]) for v in [u, *apart]}
    s = block.stencil(connectivity)
    result = dense_candidates(block.f, ~label, block.box, s, 0, block.rows, block.band)
    assert found_in(result) == expected


def test_only_what_lies_in_the_band_is_a_candidate() -> None:
    block = case(3, "random", "f8")
    label = block.labels("axis")
    everything = found_in(axis_candidates(block.f, ~label, block.box, block.axes, 0, block.rows, block.band))
    band = np.quantile(block.f, [0.3, 0.7])
    some = found_in(axis_candidates(block.f, ~label, block.box, block.axes, 0, block.rows, band))
    assert some == {u: labels for u, labels in everything.items() if band[0] <= block.f[u] <= band[1]}
    assert 0 < len(some) < len(everything)


def test_each_label_is_added_once() -> None:
    some = np.random.default_rng(0).integers(0, 9, 40).astype(np.int32)
    labels, used = np.full(50, 3, np.int32), 5  # those before `start` belong to another vertex
    for label in some:
        used = add_label(labels, 5, used, label)
    assert labels[5:used].tolist() == list(dict.fromkeys(some.tolist()))
    assert (labels[:5] == 3).all()
