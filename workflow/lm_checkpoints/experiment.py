"""Chen et al.: while a language model is trained its curvature grows, and its landscape gets simpler."""

from functools import partial
from pathlib import Path

from experiments import Claim, Experiment, Groups, Size, combined

from landscaper_hpc.objective.usercode import user_module

PAPER = "Chen et al., Landscaper (2026), language models"
NOTE = "figures over steps"
STEPS = [0, 30, 300, 600]
WHOLE = {"only": "*"}
LAYERS = [{"only": [each]} for each in ("*", "embedding.*", "attention.*", "wide.*", "head.*")]
MULTIBERTS = [0, 20_000, 100_000, 500_000, 1_000_000, 2_000_000]
PYTHIA = [0, 1, 16, 128, 512, 1_000, 10_000, 50_000, 143_000]
SEEDS = 5


def check(steps: list[int], data: Path) -> None:
    with user_module(Path(__file__).with_name("task.py")) as module:
        module.check(data, steps, SEEDS)


def claims(steps: list[int]) -> list[Claim]:
    """Of the first step and the last: steps of one training are no independent runs."""
    first, last = {"step": steps[0]}, {"step": steps[-1]}
    return [
        Claim(sentence, PAPER, quantity, Groups(first, last, expected), NOTE, where=WHOLE)
        for sentence, quantity, expected in (
            ("The largest eigenvalue rises over training", "lambda_max", "larger"),
            ("The trace of the Hessian rises over training", "hessian_trace", "larger"),
            ("SMAD falls over training", "smad", "smaller"),
        )
    ]


def full(steps: list[int], models: str) -> Size:
    """The paper's grid, of models that are there; MultiBERTs have five seeds with steps, Pythia more."""
    return Size(
        conditions=combined(step=steps),
        seeds=SEEDS,
        set={"precision": "float32", "grid.count": 11, "hessian.trace_products": 60, "confirm": True},
        variants=LAYERS[:1],
        data=f"a folder with text.txt and seed_0/step_0 to seed_{SEEDS - 1}/step_{steps[-1]}, {models} as folders of "
        "Hugging Face's",
        check=partial(check, steps),
        claims=claims(steps),
    )


EXPERIMENT = Experiment(
    title="A language model's checkpoints",
    show=("loss", "lambda_max", "hessian_trace", "n_minima", "confirmed_minima", "mean_climb", "smad"),
    sizes={
        "smallest": Size(
            conditions=combined(step=[0, 2]),
            seeds=1,
            options={"hidden": 4},
            set={"grid.count": 5},
            variants=LAYERS[:1] + LAYERS[-1:],
        ),
        "small": Size(
            conditions=combined(step=STEPS),
            seeds=5,
            options={"hidden": 8},
            set={"confirm": True},
            variants=LAYERS,
        ),
        "full": full(MULTIBERTS, "MultiBERTs"),
        "pythia": full(PYTHIA, "Pythia and its other seeds"),
    },
    claims=claims(STEPS),
    remarks=[
        "`only = *` are landscapes of all parameters, of which the claims are. In the others one layer moves, along "
        "eigenvectors of its own, up to half of its own length; no claim is tested of them.",
    ],
)
