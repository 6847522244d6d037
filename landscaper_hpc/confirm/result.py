"""What the minima of a grid are in the continuous subspace: the result of `confirmed.confirm`, in numbers and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.confirm.ends import CONFIRMED, KINDS
from landscaper_hpc.confirm.surface import Array
from landscaper_hpc.topology.tree import MergeTree

FATES = ("confirmed", "runs into another", "unconfirmed", "not followed")
"""What became of a minimum of the grid: of those that end in one place the lowest stands for it."""

PASSES = ("saddle inside", "saddle on a face", "over others", "not found")
"""What a pass is: a confirmed saddle in the box; one of the loss along a face that holds it; none, for searches that
began there led to saddles between other ends; none, for no search came to a saddle."""


@dataclass(frozen=True)
class Confirmed:
    """What the minima of a grid are in the continuous subspace. Coordinates are alphas, values are losses.

    Attributes
    ----------
    kinds
        (m,) index into `KINDS` of each distinct end, the lowest first.
    points, values, gradients
        (m, n), (m,), (m, n) of the ends; the gradients are with respect to alpha.
    eigenvalues
        (m, n) of the Hessian with respect to alpha, along the faces of the box that an end lies on; NaN for each face.
    grid_minima, ends
        (g,) flat ids of the minima of the grid that were followed, and the index of the end of each.
    saddle_points, saddle_values, saddle_eigenvalues
        (s, n), (s,), (s, n): saddles with one negative eigenvalue; as of the ends.
    joins
        (p, 2) which ends meet.
    heights, saddles
        (p,) at which loss they meet, and at which saddle: −1 where none was found, −2 where what was found is between
        others, and the height is that of the grid's saddle, or the highest of some values along the straight way,
        whichever is lower, but no lower than what it joins.
    tree
        The tree of the ends, as a merge tree: vertices are the ends, then the passes. Its basins are of grid points.
    n_grid_minima
        Of the whole grid.
    gradients_spent, products_spent
        Gradients, and products of a Hessian with a direction.
    by_differences
        Whether Hessians are differences of gradients, and not second derivatives.
    level
        Of a scope, of which alone all this is, and its tree of what lies below it; None for the whole grid.
    """

    kinds: NDArray[np.int64]
    points: Array
    values: Array
    gradients: Array
    eigenvalues: Array
    grid_minima: NDArray[np.int64]
    ends: NDArray[np.int64]
    saddle_points: Array
    saddle_values: Array
    saddle_eigenvalues: Array
    joins: NDArray[np.int64]
    heights: Array
    saddles: NDArray[np.int64]
    tree: MergeTree
    n_grid_minima: int
    gradients_spent: int
    products_spent: int
    by_differences: bool = False
    level: float | None = None

    def count(self, *kinds: str) -> int:
        """How many ends that minima of the grid lead to are of these kinds.

        Parameters
        ----------
        *kinds
            Of `KINDS`.

        Returns
        -------
        int
        """
        return int((self._are(*kinds) & self._seen).sum())

    @property
    def beyond(self) -> int:
        """How many confirmed minima no minimum of the grid leads to: they were found beyond saddles."""
        return int((self.stands & ~self._seen).sum())

    @property
    def n_saddles(self) -> int:
        """How many joins have a confirmed saddle."""
        return int((self.saddles >= 0).sum())

    @property
    def passes(self) -> list[str]:
        """What each join is, of `PASSES`."""
        held = np.isnan(self.saddle_eigenvalues).sum(axis=1) > 0
        return [PASSES[int(held[i]) if i >= 0 else (2 if i < -1 else 3)] for i in self.saddles.tolist()]

    def _are(self, *kinds: str) -> NDArray[np.bool_]:
        return np.isin(self.kinds, [KINDS.index(kind) for kind in kinds])

    @property
    def _seen(self) -> NDArray[np.bool_]:
        return np.isin(np.arange(len(self.kinds)), self.ends)

    @property
    def stands(self) -> NDArray[np.bool_]:
        """(m,) which ends are confirmed minima: inside, on a face, or on a kink."""
        return self._are(*CONFIRMED)

    def kinds_of(self, minima: NDArray[np.int64]) -> NDArray[np.int64]:
        """What minima of its tree are, (k,) index into `KINDS`: a pass is the lowest where no end beside it has a
        value, and unresolved."""
        unresolved = np.full(len(self.joins), KINDS.index("unresolved"), np.int64)
        return np.concatenate([self.kinds, unresolved])[minima]

    def fates(self, minima: NDArray[np.int64]) -> NDArray[np.int64]:
        """What became of minima of the grid.

        Parameters
        ----------
        minima
            (k,) flat ids.

        Returns
        -------
        (k,) an index into `FATES` for each.
        """
        found = np.full(len(minima), FATES.index("not followed"), np.int64)
        first = {int(end): int(minimum) for minimum, end in zip(self.grid_minima[::-1], self.ends[::-1], strict=True)}
        end_of_minimum = dict(zip(self.grid_minima.tolist(), self.ends.tolist(), strict=True))
        for i, minimum in enumerate(minima.tolist()):
            if minimum in end_of_minimum:
                end = end_of_minimum[minimum]
                fate = "confirmed" if self.stands[end] else "unconfirmed"
                found[i] = FATES.index(fate if first[end] == minimum else "runs into another")
        return found

    def sentence(self) -> str:
        """What the minima of the grid are, in words.

        Returns
        -------
        str
        """
        followed = len(self.grid_minima)
        of = f"{followed:,} minima" if followed != 1 else "1 minimum"
        if followed < self.n_grid_minima:
            of = f"the {followed:,} most persistent of {self.n_grid_minima:,} minima"
        inside = self.count("interior")
        parts = [f"{inside:,} {'minimum' if inside == 1 else 'minima'} of the loss"]
        words = {"edge": "at the edge of the box", "kink": "on kinks", "flat": "flat to rounding"}
        words |= {"saddle": "stalled at saddles", "unresolved": "unresolved"}
        parts += [f"{found:,} {said}" for kind, said in words.items() if (found := self.count(kind))]
        said = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
        more = f"; {self.beyond:,} more, found beyond saddles, the grid does not show" if self.beyond else ""
        said = f"{of} of the grid {'is' if followed == 1 else 'are'} {said}{more}"
        said += _BY_DIFFERENCES if self.by_differences else ""
        if self.level is None:
            return said
        apart = int(np.count_nonzero(self.tree.parent < 0))
        if apart > 1:
            said += f"; they lie in {apart:,} components, and what joins these, at the level or above, is not known"
        return f"in the scope, below {self.level:.6g}, {said}"

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays by name; `from_arrays` reads it back."""
        found: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _ARRAYS}
        found |= {name: np.array(getattr(self, name), np.int64) for name in _COUNTS}
        if self.level is not None:
            found["level"] = np.array(self.level)
        if self.by_differences:
            found["by_differences"] = np.array(True)
        return found | {f"tree_{name}": values for name, values in self.tree.to_arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Confirmed:
        """What `to_arrays` was made of."""
        tree = {name.removeprefix("tree_"): values for name, values in arrays.items() if name.startswith("tree_")}
        own: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
        own |= {name: int(arrays[name]) for name in _COUNTS}
        own["by_differences"] = "by_differences" in arrays
        own["level"] = float(arrays["level"]) if "level" in arrays else None
        return cls(tree=MergeTree.from_arrays(tree), **own)


_BY_DIFFERENCES = "; Hessians are differences of gradients"
_ARRAYS = (
    *("kinds", "points", "values", "gradients", "eigenvalues", "grid_minima", "ends"),
    *("saddle_points", "saddle_values", "saddle_eigenvalues", "joins", "heights", "saddles"),
)
_COUNTS = ("n_grid_minima", "gradients_spent", "products_spent")
