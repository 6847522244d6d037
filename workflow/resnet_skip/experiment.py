"""Xie et al. (2024) and Chen et al. (2026): what skip connections do to the landscape of a ResNet-20."""

from pathlib import Path
from typing import Any

import numpy as np
from experiments import Claim, Experiment, Groups, Size, combined
from numpy.typing import NDArray

from landscaper_hpc import merge_tree
from landscaper_hpc.objective.usercode import user_module

XIE = "Xie et al., arXiv 2411.09807"
WITHOUT, WITH = {"skip": False}, {"skip": True}


def accuracy(checkpoint: Path, **options: Any) -> dict[str, float]:
    """On images that were not trained on."""
    with user_module(Path(__file__).with_name("train.py")) as module:
        return {"accuracy": module.accuracy(checkpoint, **options)}


def mean_persistence(values: NDArray[Any]) -> float:
    """As a share of the range, the deepest basin with the whole range among them."""
    found = merge_tree(values)
    low, high = found.value_range
    finite = found.persistence()
    return float(np.mean([*(finite.deaths - finite.births) / (high - low), 1.0]))


def check(data: Path) -> None:
    with user_module(Path(__file__).with_name("cifar10.py")) as module:
        module.check(data)


EXPERIMENT = Experiment(
    title="ResNets with and without skip connections",
    outcomes=accuracy,
    quantities={"mean_persistence": mean_persistence},
    show=(
        "accuracy",
        "loss",
        "lambda_max",
        "trace",
        "n_minima",
        "confirmed_minima",
        "n_saddles",
        "mean_persistence",
        "mean_climb",
        "smad",
    ),
    sizes={
        "smallest": Size(
            conditions=combined(skip=[False, True]),
            seeds=1,
            options={"widths": "2", "blocks": 1, "examples": 20, "epochs": 1},
            set={"grid.count": 5, "hessian.trace_products": 0},
        ),
        "small": Size(
            conditions=combined(skip=[False, True]),
            seeds=5,
            options={"widths": "4 6 8", "blocks": 2, "examples": 128, "epochs": 10},
            set={"grid.count": 21, "confirm": True},
        ),
        "full": Size(
            conditions=combined(skip=[False, True]),
            seeds=10,
            set={"grid.count": 81, "confirm": True, "precision": "float32"},
            data="the folder of CIFAR-10's binary or Python version, with data_batch_1.bin or data_batch_1, …",
            check=check,
        ),
    },
    claims=[
        Claim(
            sentence="With skip connections the landscape has one minimum, without them several",
            source=XIE,
            paper="1 with skips",
            quantity="n_minima",
            test=Groups(WITH, WITHOUT, "larger"),
        ),
        Claim(
            sentence="Without skip connections there are more saddles",
            source=XIE,
            quantity="n_saddles",
            test=Groups(WITH, WITHOUT, "larger"),
        ),
        Claim(
            sentence="Without skip connections the mean persistence is less",
            source=XIE,
            quantity="mean_persistence",
            test=Groups(WITH, WITHOUT, "smaller"),
        ),
        Claim(
            sentence="Skip connections make SMAD 40 times lower",
            source="Chen et al., Landscaper (2026)",
            paper="40 times",
            quantity="smad",
            test=Groups(WITHOUT, WITH, "smaller"),
        ),
    ],
    remarks=[
        "A sixth seed was trained and has no landscape: its network with skips has a kink (ReLU) within the steps by "
        "which gradients are checked, and eigenvectors there are refused.",
        "The claims about minima and saddles are one claim twice, where every saddle joins two basins.",
        "Where a descent ends on a kink (ReLU) that is a class of its own, and no confirmed minimum: so there are fewer"
        " of these than landscapes.",
        "Largest eigenvalue and trace stand beside as the paper has them, and are not claims of it.",
    ],
)
