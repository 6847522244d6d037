"""Chen et al. (2026), Table 3: SMAD of a network that is underfit, well-fit and overfit."""

from pathlib import Path
from typing import Any

from experiments import Claim, Experiment, Groups, Size, combined

from landscaper_hpc.objective.usercode import user_module

TABLE = "Chen et al., Landscaper (2026), Table 3"
UNDERFIT, WELL, OVERFIT = ({"regime": regime} for regime in ("underfit", "well", "overfit"))


def accuracies(checkpoint: Path, **options: Any) -> dict[str, float]:
    with user_module(Path(__file__).with_name("train.py")) as module:
        found: dict[str, float] = module.accuracies(checkpoint, **options)
    return found


def check(data: Path) -> None:
    with user_module(Path(__file__).with_name("cifar10.py")) as module:
        module.check(data)


EXPERIMENT = Experiment(
    title="A network underfit, well-fit and overfit",
    outcomes=accuracies,
    show=(
        *("accuracy_seen", "accuracy_unseen", "loss", "lambda_max", "trace"),
        *("n_minima", "confirmed_minima", "confirmed_kinks", "mean_climb", "smad", "smad_landscaper"),
    ),
    sizes={
        "smallest": Size(
            conditions=combined(regime=["underfit", "overfit"]),
            seeds=1,
            options={"channels": 1, "examples": 20, "epochs": 1},
            set={"grid.count": 5, "hessian.trace_products": 0},
        ),
        "small": Size(
            conditions=combined(regime=["underfit", "well", "overfit"]),
            seeds=6,
            options={"channels": 4, "examples": 200, "epochs": 20},
            set={"grid.count": 21, "confirm": True},
        ),
        "full": Size(
            conditions=combined(regime=["underfit", "well", "overfit"]),
            seeds=10,
            set={"grid.count": 51, "confirm": True, "precision": "float32"},
            data="the folder of CIFAR-10's binary or Python version, with data_batch_1.bin or data_batch_1, …",
            check=check,
        ),
    },
    claims=[
        Claim(
            sentence="SMAD is lower where the network is well-fit than where it is underfit",
            source=TABLE,
            paper="0.130 against 0.234",
            quantity="smad_landscaper",
            test=Groups(UNDERFIT, WELL, "smaller"),
        ),
        Claim(
            sentence="SMAD is lower where the network is well-fit than where it is overfit",
            source=TABLE,
            paper="0.130 against 0.294",
            quantity="smad_landscaper",
            test=Groups(OVERFIT, WELL, "smaller"),
        ),
        Claim(
            sentence="SMAD is higher where the network is overfit than where it is underfit",
            source=TABLE,
            paper="0.294 against 0.234",
            quantity="smad_landscaper",
            test=Groups(UNDERFIT, OVERFIT, "larger"),
        ),
    ],
    remarks=[
        "`smad_landscaper` is SMAD as Landscaper 1.3.1 computes it, which the table's numbers are of: a lone minimum "
        "has a large value there, and none in `smad`.",
        "The landscape is of the loss over the images that the network has seen. The paper's networks, optimiser and "
        "data are not these.",
    ],
)
