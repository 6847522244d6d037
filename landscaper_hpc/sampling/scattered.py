"""A landscape from scattered points, where a grid would need too many: their nearest-neighbour graph and its numbers.

Points of a Sobol sequence, uniform ones or a Latin hypercube in the box, joined by the mutual 4n-nearest-neighbour
graph: Geniesse et al., *Visualizing Loss Functions as Topological Landscape Profiles*, arXiv 2411.12136. What the
numbers depend on is shown by random halves of the points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscaper_hpc.errors import InputError
from landscaper_hpc.topology.graph import merge_tree_graph, merge_tree_points, mutual_knn
from landscaper_hpc.topology.metrics import mean_climb, smad
from landscaper_hpc.topology.tree import MergeTree

Kind = Literal["sobol", "random", "latin"]
HALVES = 40

Interval = tuple[float, float]


def unit_points(kind: Kind, points: int, n: int, seed: int = 0) -> NDArray[np.float64]:
    """So many points of the unit cube, always the same for a seed.

    Parameters
    ----------
    kind
        "sobol": the beginning of a scrambled Sobol sequence; "random": uniform and independent; "latin": a Latin
        hypercube.
    points, n
        How many, in how many dimensions.
    seed
        Of the scrambling or the drawing.

    Returns
    -------
    (points, n)

    References
    ----------
    Sobol (1967), Joe and Kuo (2008), Owen (1998); McKay, Beckman, Conover (1979); as SciPy has them (scipy.stats.qmc).
    """
    from scipy.stats import qmc

    generator = np.random.default_rng(seed)
    if kind == "random":
        return generator.random((points, n))
    if kind == "latin":
        drawn = qmc.LatinHypercube(n, rng=generator).random(points)
    else:
        drawn = qmc.Sobol(n, rng=generator).random_base2(max(1, points - 1).bit_length())[:points]
    found: NDArray[np.float64] = drawn
    return found


@dataclass(frozen=True)
class Scattered:
    """What scattered points say of a landscape.

    Attributes
    ----------
    tree
        The merge tree of their graph, with labels; its vertices are the points.
    components
        Of the graph: between them nothing is known.
    spacing
        The median distance of a point from its nearest neighbour, where the box is the unit cube.
    mean_climb, smad
        Of the tree.
    minima_of_halves, mean_climb_of_halves, smad_of_halves
        The 2.5 % and 97.5 % quantiles of the same numbers from random halves of the points.
    """

    tree: MergeTree
    components: int
    spacing: float
    mean_climb: float
    smad: float
    minima_of_halves: Interval
    mean_climb_of_halves: Interval
    smad_of_halves: Interval

    def sentence(self) -> str:
        """What was found, and what cannot be known at that density, in words."""
        low, high = (f"{bound:.3g}" for bound in self.mean_climb_of_halves)
        fewest, most = (f"{bound:,.0f}" for bound in self.minima_of_halves)
        pieces = "" if self.components == 1 else f" in {self.components:,} pieces"
        return (
            f"the graph of {self.tree.n_vertices:,} points{pieces} has {self.tree.n_minima:,} "
            f"{'minimum' if self.tree.n_minima == 1 else 'minima'} and a mean climb of {self.mean_climb:.3g}; halves "
            f"of the points have {fewest} to {most} minima and a mean climb of {low} to {high}. Basins narrower than "
            f"the distance of neighbours, {self.spacing:.0%} of the box's side, may be missed or seen as several; how "
            "many minima there are, and with that SMAD, cannot be known at that density: they grow with the points"
        )


def scattered(points: ArrayLike, values: ArrayLike, seed: int = 0) -> Scattered:
    """The numbers of a landscape that is known at scattered points.

    Parameters
    ----------
    points
        (m, n) coordinates in the unit cube, at least 4.
    values
        (m,) the field there.
    seed
        Of the halves.

    Returns
    -------
    Scattered

    Raises
    ------
    InputError
        For points or values that do not fit.

    References
    ----------
    Geniesse et al., arXiv 2411.12136, of the graph; Politis and Romano (1994), of numbers of subsamples.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    x, f = np.asarray(points, np.float64), np.asarray(values, np.float64)
    if x.ndim != 2 or len(x) < 4 or f.shape != (len(x),):
        raise InputError(f"points have shape {x.shape}, values {f.shape}; give 4 points or more, and a value of each")
    indptr, indices = mutual_knn(x)
    tree = merge_tree_graph(f, indptr, indices, labels=True, connectivity="knn")
    joined = csr_array((np.ones(len(indices), bool), indices, indptr), shape=(len(x), len(x)))
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(HALVES):
        half = np.sort(generator.choice(len(x), len(x) // 2, replace=False))
        one = merge_tree_points(x[half], f[half])
        rows.append((one.n_minima, mean_climb(one), smad(one)))
    bounds = [(float(low), float(high)) for low, high in np.quantile(rows, [0.025, 0.975], axis=0).T]
    return Scattered(
        tree,
        int(connected_components(joined, directed=False)[0]),
        float(np.median(KDTree(x).query(x, 2)[0][:, 1])),
        mean_climb(tree),
        smad(tree),
        *bounds,
    )
