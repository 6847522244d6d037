"""Geniesse et al.: over β and learning rates, low errors go with simple landscapes."""

from math import pi
from pathlib import Path
from typing import Any

import torch
from experiments import Claim, Experiment, Groups, Size, Trend, combined
from numpy.typing import NDArray

from landscaper_hpc import merge_tree
from landscaper_hpc.objective import load_task

PAPER = "Geniesse et al., arXiv 2411.12136"
GRID = {"directions.n": 3, "grid.count": 17, "confirm": None}
LARGER = {"directions.n": 4, "grid.count": 9, "confirm": None}


def error(checkpoint: Path, **options: Any) -> dict[str, float]:
    """The relative L2 error of u on a grid over the domain, where sin(x − βt) is the solution."""
    model = load_task(Path(__file__).with_name("task.py"), options).model
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    x, t = torch.meshgrid(
        torch.linspace(0, 2 * pi, 64, dtype=torch.float64), torch.linspace(0, 1, 32, dtype=torch.float64), indexing="ij"
    )
    points = torch.stack([x.flatten(), t.flatten()], dim=1)
    exact = torch.sin(points[:, :1] - options["beta"] * points[:, 1:])
    with torch.no_grad():
        return {"error": float((model(points) - exact).norm() / exact.norm())}


def basins_of_three(values: NDArray[Any]) -> float:
    """Minima deeper than 1 % of the range, along the first three directions only."""
    slice_ = values if values.ndim == 3 else values[..., values.shape[-1] // 2]
    tree = merge_tree(slice_)
    low, high = tree.value_range
    return tree.simplify(0.01 * (high - low)).n_minima


EXPERIMENT = Experiment(
    title="Physics-informed networks, β × learning rate",
    outcomes=error,
    quantities={"basins_of_three": basins_of_three},
    show=("error", "loss", "lambda_max", "n_minima", "simplified_n_minima", "mean_climb", "smad", "confirmed_minima"),
    sizes={
        "smallest": Size(
            conditions=combined(beta=[1.0, 10.0], lr=[1.0]),
            seeds=1,
            options={"width": 6, "interior": 20, "iterations": 5},
            variants=[{**GRID, "grid.count": 5}],
        ),
        "small": Size(
            conditions=combined(beta=[1.0, 5.0, 10.0, 20.0, 30.0], lr=[0.1, 1.0]),
            seeds=5,
            options={"width": 12, "interior": 128, "iterations": 160},
            variants=[{**GRID, "confirm": {"minima": 20}}, LARGER],
        ),
        "full": Size(
            conditions=combined(beta=[1.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0], lr=[0.01, 0.1, 1.0]),
            seeds=10,
            variants=[{**GRID, "grid.count": 41, "confirm": True}, {**LARGER, "grid.count": 25}],
        ),
    },
    claims=[
        Claim(
            sentence="The error grows with β",
            source="Krishnapriyan et al., arXiv 2109.01050",
            quantity="error",
            test=Trend("beta", "rises"),
            where={"directions.n": 3},
        ),
        Claim(
            sentence="Where the error is low the landscape is simpler",
            source=PAPER,
            quantity="mean_climb",
            test=Trend("error", "rises", by=["beta", "lr"]),
            where={"directions.n": 3},
        ),
        Claim(
            sentence="Where the error is low there are fewer basins",
            source=PAPER,
            quantity="simplified_n_minima",
            test=Trend("error", "rises", by=["beta", "lr"]),
            where={"directions.n": 3},
        ),
        Claim(
            sentence="Seeds differ more near the transition from learning to failing",
            source=PAPER,
            quantity="error",
            test=Groups({"beta": 1.0}, {"beta": 10.0}, "larger", spread=True),
            where={"directions.n": 3},
        ),
        Claim(
            sentence="Landscapes with more basins in three directions have more in four",
            source=PAPER,
            quantity="simplified_n_minima",
            test=Trend("basins_of_three", "rises"),
            where={"directions.n": 4},
        ),
    ],
)
