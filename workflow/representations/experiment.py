"""Xie et al. (2024): a landscape as an image and as three graphs, and how much depends on that choice."""

from collections.abc import Callable
from typing import Any

import numpy as np
from experiments import Claim, Experiment, Size, Trend, combined
from numpy.typing import NDArray

from landscaper_hpc import MergeTree, mean_climb, merge_tree
from landscaper_hpc.topology.graph import merge_tree_points

ASKED = "asked of the representations of Xie et al., arXiv 2411.09807"


def mutual_neighbours(values: NDArray[Any]) -> MergeTree:
    """The grid's points as if they were scattered, joined where each is among the other's 4n nearest."""
    points = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), axis=-1)
    return merge_tree_points(points.reshape(-1, values.ndim).astype(float), values.ravel())


REPRESENTATIONS: dict[str, Callable[[NDArray[Any]], MergeTree]] = {
    "image": lambda values: merge_tree(values, "full"),
    "axis": lambda values: merge_tree(values, "axis"),
    "triangles": lambda values: merge_tree(values, "freudenthal"),
    "neighbours": mutual_neighbours,
}
"""An image, whose pixels touch at corners too, and graphs: of the grid's axes, of a triangulation, of neighbours."""


def _of(numbers: dict[str, Callable[[MergeTree], float]]) -> dict[str, Callable[[NDArray[Any]], float]]:
    return {
        f"{name}_{number}": lambda values, make=make, measure=measure: float(measure(make(values)))
        for name, make in REPRESENTATIONS.items()
        for number, measure in numbers.items()
    }


EXPERIMENT = Experiment(
    title="One landscape in four representations",
    quantities=_of({"minima": lambda tree: tree.n_minima, "climb": mean_climb}),
    show=tuple(f"{name}_{number}" for number in ("minima", "climb") for name in REPRESENTATIONS),
    sizes={
        "smallest": Size(
            conditions=combined(frequency=[3.0, 6.0]),
            seeds=1,
            options={"width": 3, "points": 8, "steps": 5},
            set={"grid.count": 9},
        ),
        "small": Size(
            conditions=combined(frequency=[3.0, 6.0]),
            seeds=10,
            set={"grid.count": 41},
        ),
        "full": Size(
            conditions=combined(frequency=[1.0, 3.0, 6.0, 12.0]),
            seeds=20,
            options={"width": 64, "points": 512, "steps": 4000},
            set={"grid.count": 161},
        ),
    },
    claims=[
        *(
            Claim(
                sentence=f"Mean climb orders landscapes alike as an image and as a graph of {words}",
                source=ASKED,
                quantity="image_climb",
                test=Trend(f"{name}_climb", "rises"),
            )
            for name, words in (
                ("axis", "the grid's axes"),
                ("triangles", "its triangulation"),
                ("neighbours", "mutual neighbours"),
            )
        ),
        Claim(
            sentence="The number of minima orders landscapes alike as an image and as a graph of the grid's axes",
            source=ASKED,
            quantity="image_minima",
            test=Trend("axis_minima", "rises"),
        ),
    ],
    remarks=[
        "Each landscape is one observation, of two frequencies and of many seeds; that the two differ helps them to be "
        "ordered alike.",
        "An image joins more points than the graph of the axes, and never has more minima: that needs no test.",
        "With six seeds, looked at first, the graph of the axes was undecided (p = 0.052 after four tests, one of them "
        "another); there are ten now.",
        "In two directions mutual neighbours with k = 8 are the image's away from the edges of the grid.",
    ],
)
