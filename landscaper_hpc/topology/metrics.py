"""Numbers that summarise a merge tree: SMAD, persistence statistics, and what of them is above numerical noise.

SMAD: Chen et al., *Landscaper* (2026), eq. 1. Average distance to the diagonal: Xie et al., *Evaluating Loss Landscapes
from a Topology Perspective*, arXiv 2411.09807.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from landscaper_hpc.topology.tree import MergeTree


def smad(tree: MergeTree, normalize: bool = True, weighted: bool = True) -> float:
    """The mean over all minima of the height from the minimum to its first saddle.

    `normalize` divides each height by the range of the finite values, `weighted` multiplies it by the basin's share of
    all vertices. Both together equal Landscaper 1.3.1's `smad(normalize=True, weighted=True)`, and so do the variants.

    A saddle that is +inf or NaN counts as the largest finite value, a minimum or saddle that is -inf as the smallest. A
    minimum without a first saddle adds 0, so that a single minimum gives 0. NaN if there is no minimum at all.
    """
    if tree.n_minima == 0:
        return float("nan")
    low, high = tree.value_range
    if not low < high:  # flat as far as it is finite: no height, with or without normalisation
        return 0.0
    meets = tree.first_saddle >= 0
    bottom = np.clip(tree.values[meets], low, high)
    saddle = tree.first_saddle_value[meets]
    top = np.clip(np.where(np.isnan(saddle), low if tree.direction == "superlevel" else high, saddle), low, high)
    height = np.abs(top - bottom)
    if normalize:
        height = height / (high - low)
    if weighted:
        height = height * (tree.basin_size[meets] / tree.n_vertices)
    return float(height.sum() / tree.n_minima)


class PersistenceStatistics(NamedTuple):
    """Statistics over the pairs whose birth and death are both finite.

    pairs       how many there are
    mean, max, total    of their persistence |death - birth|; 0 if there are none
    entropy     -sum p log p with p = persistence / total (natural logarithm); 0 if total is 0
    distance_to_diagonal    the mean distance of the points (birth, death) to the diagonal, mean / sqrt 2 (Xie et al.)
    infinite_pairs      pairs left out because a value is infinite or NaN
    persistence_range   the largest persistence, the essential pair with the range of all values among them, less the
                        smallest; Landscaper's is the larger one of those of both directions
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
    """Statistics over the finite elder-rule pairs of a persistence of at least `threshold`."""
    pairs = tree.persistence()
    finite = np.isfinite(pairs.births) & np.isfinite(pairs.deaths)
    life = np.abs(pairs.deaths[finite] - pairs.births[finite])
    life = life[life >= threshold]
    total = float(life.sum())
    share = life[life > 0] / total if total > 0 else life[:0]
    mean = total / len(life) if len(life) else 0.0
    low, high = tree.value_range
    essential = high - low if low <= high else 0.0
    return PersistenceStatistics(
        pairs=len(life),
        mean=mean,
        max=float(life.max(initial=0.0)),
        total=total,
        entropy=abs(float((share * np.log(share)).sum())),
        distance_to_diagonal=mean / 2**0.5,
        infinite_pairs=int(np.count_nonzero(~finite)),
        persistence_range=float(essential - life.min(initial=essential)),
    )


def noise_floor(dtype: DTypeLike, value_range: tuple[float, float]) -> float:
    """The rounding error of one value: the distance between neighbouring numbers of type `dtype` at the largest
    magnitude in `value_range`. Differences in height below a few of these are noise, not landscape. Give the type
    the loss was computed in, not the one it was stored in."""
    largest = np.abs(np.asarray(value_range, np.float64)).max()
    return float(np.spacing(np.asarray(largest, dtype))) if np.isfinite(largest) else 0.0


def minima_above(tree: MergeTree, threshold: float) -> int:
    """How many minima a persistence of at least `threshold` leaves, the essential ones included."""
    return int(np.count_nonzero(~(tree.lifetimes < threshold)))


class SmadCurve(NamedTuple):
    """SMAD and the number of minima after simplification at each of the persistence `thresholds`, all (t,)."""

    thresholds: NDArray[np.float64]
    smad: NDArray[np.float64]
    n_minima: NDArray[np.int64]


def smad_curve(
    tree: MergeTree, thresholds: ArrayLike | None = None, normalize: bool = True, weighted: bool = True
) -> SmadCurve:
    """SMAD as a function of the persistence threshold.

    By default the thresholds are 0 and 32 steps, evenly spaced in the logarithm, from the smallest positive
    persistence to the largest. The tree is simplified step by step, each time from what the last threshold left.
    """
    if thresholds is None:
        life = tree.lifetimes
        life = life[np.isfinite(life) & (life > 0)]
        steps = np.geomspace(life.min(), life.max(), 32) if len(life) else np.empty(0)
        chosen = np.concatenate([[0.0], steps])
    else:
        chosen = np.sort(np.asarray(thresholds, np.float64).reshape(-1))
    heights, counts = [], []
    for threshold in chosen:
        tree = tree.simplify(float(threshold))
        heights.append(smad(tree, normalize, weighted))
        counts.append(tree.n_minima)
    return SmadCurve(chosen, np.array(heights), np.array(counts, np.int64))


def summary(tree: MergeTree) -> dict[str, Any]:
    """What the command `topology --json` prints about a tree, by the names of its keys."""
    statistics = persistence_statistics(tree)
    low, high = tree.value_range
    return {
        "shape": list(tree.shape),
        "connectivity": tree.connectivity,
        "direction": tree.direction,
        "n_minima": tree.n_minima,
        "n_saddles": tree.n_saddles,
        "smad": smad(tree),
        "smad_normalized": smad(tree, weighted=False),
        "smad_raw": smad(tree, normalize=False, weighted=False),
        "range": [low, high],
        "persistence": statistics._asdict(),
        "nonfinite": tree.nonfinite,
    }
