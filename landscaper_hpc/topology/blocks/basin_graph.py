"""What a rank knows of the basin graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.parallel.comm import Arrays
from landscaper_hpc.topology.kernels.forest import Forest
from landscaper_hpc.topology.kernels.ids import summed
from landscaper_hpc.topology.kernels.order import Census


@dataclass(frozen=True)
class BasinGraph:
    """What a rank knows of the basin graph: minima with their values, vertices per basin (also of basins whose minimum
    lies on another rank), and a forest."""

    minima: NDArray[np.int64]
    values: NDArray[np.float64]
    basins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    forest: Forest
    census: Census

    def arrays(self) -> Arrays:
        c = self.census
        return {
            **{name: getattr(self, name) for name in ("minima", "values", "basins", "sizes")},
            **{f"forest_{name}": getattr(self.forest, name) for name in ("child", "parent", "saddle", "value")},
            "range": np.array([c.low, c.high]),
            "nonfinite": np.array([c.nan, c.posinf, c.neginf]),
        }

    @classmethod
    def of(cls, a: Arrays) -> BasinGraph:
        forest = Forest(*(a[f"forest_{name}"] for name in ("child", "parent", "saddle", "value")))
        (low, high), (nan, posinf, neginf) = a["range"].tolist(), a["nonfinite"].tolist()
        census = Census(low, high, nan, posinf, neginf)
        return cls(a["minima"], a["values"], a["basins"], a["sizes"], forest, census)

    def followed(self, roots: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> BasinGraph:
        """With every exit replaced by where it leads."""
        f = self.forest
        forest = Forest(roots(f.child), roots(f.parent), f.saddle, f.value)
        return BasinGraph(self.minima, self.values, roots(self.basins), self.sizes, forest, self.census)

    @classmethod
    def join(cls, parts: list[BasinGraph]) -> BasinGraph:
        basins, sizes = summed(np.concatenate([p.basins for p in parts]), np.concatenate([p.sizes for p in parts]))
        return cls(
            np.concatenate([p.minima for p in parts]),
            np.concatenate([p.values for p in parts]),
            basins,
            sizes,
            Forest.concatenate([p.forest for p in parts]).reduced(),
            sum((p.census for p in parts), Census()),
        )
