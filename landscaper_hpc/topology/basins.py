"""Numbers of basins: how points are shared among them, how wide they are, what lies between, what holds within each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.tree import MergeTree


def basin_entropy(tree: MergeTree) -> float:
    """The Shannon entropy of the shares of points that descend to each minimum.

    Parameters
    ----------
    tree
        The merge tree of a field.

    Returns
    -------
    float
        −Σ p ln p with p = |basin| / Σ |basin|: 0 where all descend to one, ln m where m basins are equally large.

    References
    ----------
    Shannon (1948), of the basin volumes of Menck et al., *How basin stability complements the linear-stability
    paradigm* (2013).
    """
    share = tree.basin_size[tree.basin_size > 0] / max(1, tree.basin_size.sum())
    return abs(float((share * np.log(share)).sum()))


def basin_width(share: float, ranges: Sequence[float]) -> float:
    """The side of a cube that has the volume of a share of a grid.

    Parameters
    ----------
    share
        Of the grid's points, from 0 to 1.
    ranges
        The length of each axis, in the coordinates' unit.

    Returns
    -------
    float
        (share · Π range)^(1/n), in the coordinates' unit, to about a step of the grid.
    """
    return float((share * np.prod(np.asarray(ranges, np.float64))) ** (1 / len(ranges)))


def below_half(tree: MergeTree, values: ArrayLike, labels: ArrayLike, minimum: int = 0) -> float:
    """The share of points that descend to a minimum and lie below half the way up to its first saddle.

    Parameters
    ----------
    tree
        The merge tree of a field, of direction "sublevel".
    values, labels
        The field, and the index of the minimum that each point descends to, in the grid's shape.
    minimum
        Its index; 0 is the deepest.

    Returns
    -------
    float
        From 0 to 1. A basin without a saddle reaches up to the largest finite value.

    Raises
    ------
    InputError
        For a tree of direction "superlevel".
    """
    _refuse_superlevel(tree)
    low, high = tree.value_range
    top = tree.first_saddle_value[minimum]
    half = (np.clip(tree.values[minimum], low, high) + (high if np.isnan(top) else min(top, high))) / 2
    inside = (np.asarray(labels) == minimum) & (np.asarray(values) <= half)
    return float(np.count_nonzero(inside) / tree.n_vertices)


def passes(tree: MergeTree, minima: ArrayLike) -> NDArray[np.float64]:
    """The lowest loss that a way between minima has to climb to, for each two of them.

    Parameters
    ----------
    tree
        The merge tree of a field, of direction "sublevel".
    minima
        (k,) their flat ids.

    Returns
    -------
    (k, k) minimax values, in the unit of the field; the minimum's own on the diagonal, NaN where there is no way. The
    barrier from i to j is what this is above the value of i.

    Raises
    ------
    InputError
        Where one is no minimum of the tree, or the tree is of direction "superlevel".
    """
    _refuse_superlevel(tree)
    index = {int(v): i for i, v in enumerate(tree.minima)}
    wanted = np.asarray(minima).reshape(-1).tolist()  # what is no integer is no key
    if unknown := [v for v in wanted if v not in index]:
        raise InputError(f"{unknown[0]} is no minimum of this merge tree; those are in its attribute minima")
    chains = [_upwards(tree, index[v]) for v in wanted]
    found = np.full((len(wanted), len(wanted)), np.nan)
    for i, one in enumerate(chains):
        for j, other in enumerate(chains):
            common = [max(height, other[k]) for k, height in one.items() if k in other]
            found[i, j] = min(common, default=np.nan)
    return found


def _refuse_superlevel(tree: MergeTree) -> None:
    if tree.direction != "sublevel":
        raise InputError(
            "the merge tree is of direction superlevel; give that of the negated field, whose maxima are minima"
        )


def _upwards(tree: MergeTree, i: int) -> dict[int, float]:
    """The branches that take a minimum in, one after the other, and at which value it is within each."""
    height, found = float(tree.values[i]), {i: float(tree.values[i])}
    while tree.parent[i] >= 0:
        height, i = max(height, float(tree.death_value[i])), int(tree.parent[i])
        found[i] = height
    return found


def per_basin(
    labels: ArrayLike, array: ArrayLike, n_minima: int, how: Literal["mean", "min", "max", "sum"] = "mean"
) -> NDArray[np.float64]:
    """Any number of the grid's points, such as an accuracy, for each basin.

    Parameters
    ----------
    labels
        Index of the minimum that each point descends to; −1 for none.
    array
        The numbers, in the same shape. NaN counts as what is not known.
    n_minima
        How many basins there are.
    how
        Over a basin's points.

    Returns
    -------
    (n_minima,) NaN where nothing is known of a basin.

    Raises
    ------
    InputError
        Where the two are of different sizes, labels name more basins than there are, or `how` is none of these.
    """
    if how not in ("mean", "min", "max", "sum"):
        raise InputError(f"how is {how!r}; choose one of mean, min, max, sum")
    where, values = np.asarray(labels).reshape(-1), np.asarray(array, np.float64).reshape(-1)
    if where.shape != values.shape:
        raise InputError(f"labels have {where.size} points and the array {values.size}; give both of one grid")
    if where.max(initial=-1) >= n_minima:
        raise InputError(
            f"a label is {where.max()}, but there are {n_minima} basins; give all of them, or their labels"
        )
    known = (where >= 0) & ~np.isnan(values)
    where, values = where[known], values[known]
    count = np.bincount(where, minlength=n_minima)
    if how in ("mean", "sum"):
        found = np.bincount(where, values, minlength=n_minima).astype(np.float64)
        found = found / np.maximum(count, 1) if how == "mean" else found
    else:
        found = np.full(n_minima, np.inf if how == "min" else -np.inf)
        (np.minimum if how == "min" else np.maximum).at(found, where, values)
    found[count == 0] = np.nan
    return found


def pairwise(trees: Mapping[str, MergeTree], distance: Callable[[MergeTree, MergeTree], float]) -> NDArray[np.float64]:
    """A distance between each two merge trees, such as `bottleneck` or `wasserstein` of the landscapes of a study.

    Parameters
    ----------
    trees
        By name, in the order of rows and columns.
    distance
        Symmetric, and 0 of a tree from itself.

    Returns
    -------
    (k, k) in the unit of the field.
    """
    each = list(trees.values())
    found = np.zeros((len(each), len(each)))
    for i, one in enumerate(each):
        for j, other in enumerate(each[:i]):
            found[i, j] = found[j, i] = distance(one, other)
    return found
