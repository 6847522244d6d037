"""Numbers that summarise a merge tree: mean climb, SMAD, persistence statistics, and what of them is above noise.

SMAD: Chen et al., *Landscaper* (2026), eq. 1. Average distance to the diagonal: Xie et al., *Evaluating Loss Landscapes
from a Topology Perspective*, arXiv 2411.09807.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.heights import unit_of
from landscaper_hpc.topology.tree import MergeTree


def smad(tree: MergeTree, normalize: bool = True, weighted: bool = True) -> float:
    """The mean over all minima of the height from the minimum to its first saddle.

    It falls like 1/m when a grid is refined: `mean_climb` is the number that settles.

    Parameters
    ----------
    tree
        The merge tree of a field.
    normalize
        Divide each height by the range of the finite values; without, it is in the values' own unit.
    weighted
        Multiply each height by the basin's share of all vertices.

    Returns
    -------
    float
        A single minimum gives 0: one without a first saddle adds 0. A saddle that is +inf or NaN counts as the largest
        finite value, a minimum or saddle that is -inf as the smallest. NaN if there is no minimum at all.

    References
    ----------
    Chen et al., *Landscaper* (2026), eq. 1, on the merge tree.
    """
    _refuse_no_tree(tree)
    if tree.n_minima == 0:
        return float("nan")
    tree, unit = tree.scaled()
    height, meets = heights(tree, normalize)
    if weighted:
        height = height * (tree.basin_size[meets] / tree.n_vertices)
    return float(height.sum() / tree.n_minima) * (1.0 if normalize else unit)


def mean_climb(tree: MergeTree, normalize: bool = True) -> float:
    """The mean over all vertices of the height from the minimum that a vertex descends to up to its first saddle.

    Parameters
    ----------
    tree
        The merge tree of a field.
    normalize
        Divide by the range of the finite values; without, the mean is in the values' own unit.

    Returns
    -------
    float
        From 0 (a single minimum) to 1, without unit, if normalised. Equals the number of minima times `smad(tree,
        normalize)` up to rounding. What is not finite counts as in `smad`; a vertex that descends to no minimum adds 0.
        NaN if there is no minimum at all.

    References
    ----------
    The mean over vertices of the height of which eq. 1 of Chen et al., *Landscaper* (2026), is the mean over minima.
    """
    _refuse_no_tree(tree)
    if tree.n_minima == 0:
        return float("nan")
    tree, unit = tree.scaled()
    height, meets = heights(tree, normalize)
    return float((height * tree.basin_size[meets]).sum() / tree.n_vertices) * (1.0 if normalize else unit)


def _refuse_no_tree(tree: object) -> None:
    if not isinstance(tree, MergeTree):
        raise InputError(f"this number is of a merge tree; found a {type(tree).__name__}: give merge_tree(values)")


def heights(tree: MergeTree, normalize: bool) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The height from each minimum that has a first saddle up to it, and which minima these are, of a tree that is
    `scaled`."""
    low, high = tree.value_range
    meets = tree.first_saddle >= 0
    if not low < high:  # flat as far as it is finite: no height, with or without normalisation
        return np.zeros(int(np.count_nonzero(meets))), meets
    bottom = np.clip(tree.values[meets], low, high)
    saddle = tree.first_saddle_value[meets]
    top = np.clip(np.where(np.isnan(saddle), low if tree.direction == "superlevel" else high, saddle), low, high)
    height = np.abs(top - bottom)
    return (height / (high - low) if normalize else height), meets


class PersistenceStatistics(NamedTuple):
    """Statistics over the pairs whose birth and death are both finite.

    pairs       how many there are
    mean, max, total    of their persistence |death - birth|; 0 if there are none
    entropy     -sum p log p with p = persistence / total (natural logarithm); 0 if total is 0
    distance_to_diagonal    the mean distance of the points (birth, death) to the diagonal, mean / sqrt 2 (Xie et al.)
    infinite_pairs      pairs left out because a value is infinite or NaN
    persistence_range   the largest persistence, the essential pair with the range of all values among them, less the
                        smallest; Landscaper 1.3.1's is the larger one of those of both directions, to its six digits,
                        where no values are equal

    All but entropy are in the field's unit, and infinite where that is beyond all numbers.
    """

    pairs: int
    mean: float
    max: float
    total: float
    entropy: float
    distance_to_diagonal: float
    infinite_pairs: int
    persistence_range: float


def persistence_statistics(tree: MergeTree, threshold: float = 0.0) -> PersistenceStatistics:
    """Statistics over the finite pairs of the elder rule.

    Parameters
    ----------
    tree
        The merge tree of a field.
    threshold
        Only pairs of at least this persistence, in the values' own unit.

    Returns
    -------
    PersistenceStatistics

    References
    ----------
    Xie et al., *Evaluating Loss Landscapes from a Topology Perspective*, arXiv 2411.09807.
    """
    tree, unit = tree.scaled()
    pairs = tree.persistence()
    finite = np.isfinite(pairs.births) & np.isfinite(pairs.deaths)
    life = np.abs(pairs.deaths[finite] - pairs.births[finite])
    life = life[life >= threshold / unit]
    total = float(life.sum())
    share = life[life > 0] / total if total > 0 else life[:0]
    mean = total / len(life) if len(life) else 0.0
    low, high = tree.value_range
    essential = high - low if low <= high else 0.0
    return PersistenceStatistics(
        pairs=len(life),
        mean=mean * unit,
        max=float(life.max(initial=0.0)) * unit,
        total=total * unit,
        entropy=abs(float((share * np.log(share)).sum())),
        distance_to_diagonal=mean / 2**0.5 * unit,
        infinite_pairs=int(np.count_nonzero(~finite)),
        persistence_range=float(essential - life.min(initial=essential)) * unit,
    )


# products in these precisions keep 10 and 7 of the 23 bits behind the point of a float32 number
_COARSER = {"tf32": 2**13, "bf16": 2**16}


def noise_floor(precision: DTypeLike, value_range: tuple[float, float]) -> float:
    """The rounding error of one value that was computed in this precision, at the largest magnitude in `value_range`.

    It is the distance between neighbouring numbers there; 0 if nothing is finite. Differences in height below a few of
    these are noise, not landscape. `precision` is a study's ("float64", "float32", "tf32", "bf16") or a type of
    numbers: the one that the values were computed in, which may be narrower than the one that they are stored in.
    """
    largest = np.abs(np.asarray(value_range, np.float64)).max()
    if not np.isfinite(largest):
        return 0.0
    coarser = _COARSER.get(precision, 1) if isinstance(precision, str) else 1
    return float(np.spacing(np.asarray(largest, precision if coarser == 1 else np.float32))) * coarser


def minima_above(tree: MergeTree, threshold: float) -> int:
    """How many minima a persistence of at least `threshold` leaves, the essential ones included."""
    return int(np.count_nonzero(~(tree.lifetimes < threshold)))


def on_edge(tree: MergeTree) -> NDArray[np.bool_]:
    """Which minima lie on the edge of the grid, (m,)."""
    index = np.unravel_index(tree.minima, tree.shape)
    edge = [(i == 0) | (i == k - 1) for i, k in zip(index, tree.shape, strict=True)]
    found: NDArray[np.bool_] = np.any(edge, axis=0)
    return found


def minima_on_edge(tree: MergeTree) -> int:
    """How many minima lie on the edge of the grid."""
    return int(np.count_nonzero(on_edge(tree)))


class SmadCurve(NamedTuple):
    """Mean climb, SMAD and the number of minima after simplification at each of the persistence `thresholds`, (t,)."""

    thresholds: NDArray[np.float64]
    mean_climb: NDArray[np.float64]
    smad: NDArray[np.float64]
    n_minima: NDArray[np.int64]


def smad_curve(tree: MergeTree, thresholds: ArrayLike | None = None) -> SmadCurve:
    """Mean climb, SMAD and the number of minima as functions of the persistence threshold.

    The tree is simplified step by step, each time from what the last threshold left.

    Parameters
    ----------
    tree
        The merge tree of a field.
    thresholds
        Shape (t,), in the values' own unit; by default 0 and 32 steps, evenly spaced in the logarithm, from the
        smallest positive persistence to the largest.

    Returns
    -------
    SmadCurve
        Arrays of shape (t,).

    Raises
    ------
    InputError
        For a threshold that is NaN.
    """
    if thresholds is None:
        life = tree.lifetimes
        life = life[np.isfinite(life) & (life > 0)]
        life, unit = life / unit_of(tree.value_range), unit_of(tree.value_range)
        steps = np.geomspace(life.min(), life.max(), 32) * unit if len(life) else np.empty(0)
        chosen = np.concatenate([[0.0], steps])
    else:
        chosen = np.sort(np.asarray(thresholds, np.float64).reshape(-1))
        if np.isnan(chosen).any():
            raise InputError("a threshold is NaN, and nothing lies below it; give heights")
    climbs, heights, counts = [], [], []
    for threshold in chosen:
        tree = tree.simplify(float(threshold))
        climbs.append(mean_climb(tree))
        heights.append(smad(tree))
        counts.append(tree.n_minima)
    return SmadCurve(chosen, np.array(climbs), np.array(heights), np.array(counts, np.int64))
