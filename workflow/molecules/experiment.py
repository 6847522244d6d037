"""Chen et al.: of two networks for molecules, differences of the Hessian's trace go with differences of the error."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from experiments import Claim, Done, Experiment, Size, Trend, combined

from landscaper_hpc.objective import load_task
from landscaper_hpc.objective.usercode import user_module

PAPER = "Chen et al., Landscaper (2026), SchNet and DimeNet++"
ARCHITECTURES = ["distances", "angles"]
POTENTIALS = ["morse", "lennard_jones", "yukawa", "harmonic", "buckingham"]


def errors(checkpoint: Path, **options: Any) -> dict[str, float]:
    """The mean absolute error of the energies of molecules that were not trained on; of QM9 in standard deviations of
    the property."""
    problem = load_task(Path(__file__).with_name("task.py"), options)
    problem.model.load_state_dict(torch.load(checkpoint, weights_only=True))
    batches = problem.data if isinstance(problem.data, list) else [problem.data]
    wrong = []
    for batch in batches:
        inputs, wanted = (batch[:-1], batch[-1]) if "data" in options else (batch[:1], batch[1])
        with torch.no_grad():
            wrong.append((problem.model(*inputs).flatten() - wanted).abs())
    return {"error": float(torch.cat(wrong).mean())}


def differences(done: Done) -> pd.DataFrame:
    """Of each potential, means over seeds: the network that sees angles minus the one that does not."""
    assert done.landscapes is not None
    columns = ["error", "hessian_trace", "lambda_max", "smad", "mean_climb"]
    means = done.landscapes.groupby(["potential", "architecture"])[columns].mean()
    found = means.xs("angles", level="architecture") - means.xs("distances", level="architecture")
    return found.add_suffix("_difference").reset_index()


def check(data: Path) -> None:
    with user_module(Path(__file__).with_name("qm9.py")) as module:
        module.check(data)


EXPERIMENT = Experiment(
    title="Molecules: networks of distances and of angles",
    show=("error", "loss", "lambda_max", "hessian_trace", "n_minima", "confirmed_minima", "mean_climb", "smad"),
    outcomes=errors,
    tables={"differences": differences},
    sizes={
        "smallest": Size(
            conditions=combined(architecture=ARCHITECTURES, potential=POTENTIALS[:1]),
            seeds=1,
            options={"steps": 3, "hidden": 3},
            set={"grid.count": 5, "hessian.trace_products": 4},
        ),
        "small": Size(
            conditions=combined(architecture=ARCHITECTURES, potential=POTENTIALS),
            seeds=5,
            options={"steps": 150},
            set={"grid.count": 9, "confirm": True},
        ),
        "full": Size(
            conditions=combined(architecture=ARCHITECTURES, potential=["homo", "lumo", "gap", "zpve", "u0_atom", "cv"]),
            seeds=5,
            options={"steps": 300_000, "rate": 0.0005},
            set={"precision": "float32", "grid.count": 41, "confirm": True},
            data="the folder of QM9 with gdb9.sdf, gdb9.sdf.csv and uncharacterized.txt",
            check=check,
        ),
    },
    claims=[
        Claim(
            "Where the trace of one network is larger, so is its error",
            PAPER,
            "error_difference",
            Trend("hessian_trace_difference", "rises"),
            "a figure",
            table="differences",
        ),
    ],
)
