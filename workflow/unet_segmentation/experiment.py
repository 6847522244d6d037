"""Geniesse et al.: how a UNet's basin gets deeper over epochs, and that good models have simple landscapes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import Claim, Experiment, Groups, Size, Trend, combined
from numpy.typing import NDArray

from landscaper_hpc.objective import load_task
from landscaper_hpc.objective.usercode import user_module

PAPER = "Geniesse et al., arXiv 2411.12136, UNet"
NOTE = "pictures of profiles"
PICTURES = 3680  # all of them, of either list


def errors(checkpoint: Path, **options: Any) -> dict[str, float]:
    """The share of pixels that are taken for another class."""
    problem = load_task(Path(__file__).with_name("task.py"), options)
    problem.model.load_state_dict(torch.load(checkpoint, weights_only=True))
    parts = problem.data if isinstance(problem.data, list) else [problem.data]
    with torch.no_grad():
        wrong = [(problem.model(images).argmax(1) != labels).flatten() for images, labels in parts]
    return {"error": float(torch.cat(wrong).float().mean())}


def depth(losses: NDArray[Any]) -> float:
    """From the lowest loss to the highest at which the region is left: the largest one that is finite."""
    finite = losses[np.isfinite(losses)]
    return float(np.ptp(finite)) if finite.size else np.nan


def check(data: Path) -> None:
    with user_module(Path(__file__).with_name("pets.py")) as module:
        module.check(data, PICTURES)


def claims(last: int) -> list[Claim]:
    """The first epoch compared with the last: epochs of one training are no independent runs."""
    return [
        Claim(
            "The basin gets deeper over epochs", PAPER, "depth", Groups({"epoch": 1}, {"epoch": last}, "larger"), NOTE
        ),
        Claim(
            "The landscape is simpler for better-performing models",
            PAPER,
            "mean_climb",
            Trend("error", "rises", by=["epoch", "rate"]),
            NOTE,
        ),
    ]


EXPERIMENT = Experiment(
    title="A UNet over epochs and learning rates",
    show=(
        "error",
        "loss",
        "depth",
        "lambda_max",
        "hessian_trace",
        "n_minima",
        "confirmed_minima",
        "mean_climb",
        "smad",
    ),
    outcomes=errors,
    quantities={"depth": depth},
    sizes={
        "smallest": Size(
            conditions=combined(epoch=[1, 2], rate=[0.01]),
            seeds=1,
            options={"width": 1},
            set={"grid.count": 5, "hessian.trace_products": 4},
        ),
        "small": Size(
            conditions=combined(epoch=[1, 8, 64], rate=[0.001, 0.01]),
            seeds=5,
            options={"width": 2},
            set={"confirm": True},
        ),
        "full": Size(
            conditions=combined(epoch=[1, 5, 10, 20, 30], rate=[0.0001, 0.001, 0.01]),
            seeds=5,
            options={"width": 64, "crf": 5, "pictures": PICTURES},
            set={"precision": "float32", "directions.n": 3, "grid.count": 25},
            data="the folder in which images and annotations of the Oxford-IIIT Pet data are",
            check=check,
            claims=claims(30),
        ),
    },
    claims=claims(64),
)
