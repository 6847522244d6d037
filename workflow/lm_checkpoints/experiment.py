"""Chen et al.: while a language model is trained its curvature grows, and its landscape gets simpler."""

from experiments import Claim, Experiment, Groups, Size, combined

PAPER = "Chen et al., Landscaper (2026), language models"
NOTE = "figures over steps"
STEPS = [0, 30, 300, 600]
WHOLE = {"only": "*"}
LAYERS = [{"only": [each]} for each in ("*", "embedding.*", "attention.*", "wide.*", "head.*")]
FIRST, LAST = {"step": STEPS[0]}, {"step": STEPS[-1]}  # steps of one training are no independent runs

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
        "full": Size(
            conditions=combined(step=[0, 20_000, 100_000, 500_000, 1_000_000, 2_000_000]),
            seeds=5,
            set={"grid.count": 41, "hessian.trace_products": 60},
            variants=LAYERS[:1],
            data="a folder with text.txt and seed_0/step_0 to seed_4/step_2000000, models of Hugging Face's such as "
            "MultiBERTs",
        ),
    },
    claims=[
        Claim(
            "The largest eigenvalue rises over training",
            PAPER,
            "lambda_max",
            Groups(FIRST, LAST, "larger"),
            NOTE,
            where=WHOLE,
        ),
        Claim(
            "The trace of the Hessian rises over training",
            PAPER,
            "hessian_trace",
            Groups(FIRST, LAST, "larger"),
            NOTE,
            where=WHOLE,
        ),
        Claim("SMAD falls over training", PAPER, "smad", Groups(FIRST, LAST, "smaller"), NOTE, where=WHOLE),
    ],
    remarks=[
        "`only = *` are landscapes of all parameters, of which the claims are. In the others one layer moves, along "
        "eigenvectors of its own, up to half of its own length; no claim is tested of them.",
    ],
)
