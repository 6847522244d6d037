"""Chen et al., Table 7: what a landscape costs; and what more processes and ranks change on this machine."""

import importlib.util
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pandas as pd
from experiments import Claim, Done, Experiment, Groups, Size

HERE = Path(__file__).parent
PAPER = "Chen et al., Landscaper (2026), Table 7"
SECONDS = {"eigenvectors": 110.0, "2-D": 73.0, "3-D": 927.0}  # on an A100
RUNS = {"smallest": 2, "small": 6, "full": 10}
POINTS = {"smallest": 5, "small": 15, "full": 41}  # per axis of five, for the merge tree
COUNT = {"smallest": 11, "small": 21, "full": 101}  # per axis of two, for the evaluation
WORKERS = {"smallest": (1,), "small": (1, 2), "full": (1, 2, 4, 8)}


def merge_trees(done: Done) -> pd.DataFrame:
    """The merge tree of one grid by 1, 2, … ranks, and of a grid that grows with them."""
    with _scratch() as (timing, folder):
        most = max(WORKERS[done.size])
        return pd.DataFrame(
            {"scaling": scaling, **row}
            for workers in WORKERS[done.size]
            for scaling, share in (("strong", 1.0), ("weak", workers / most))
            for row in timing.of_ranks(folder, POINTS[done.size], workers, RUNS[done.size], share)
        )


def evaluation(done: Done) -> pd.DataFrame:
    """The points of one grid by 1, 2, … processes, and of a grid that grows with them."""
    with _scratch() as (timing, folder):
        most = max(WORKERS[done.size])
        return pd.DataFrame(
            {"scaling": scaling, **row}
            for workers in WORKERS[done.size]
            for scaling, share in (("strong", 1.0), ("weak", workers / most))
            for row in timing.of_workers(
                folder, HERE / "study.yaml", round(COUNT[done.size] * share**0.5), workers, RUNS[done.size]
            )
        )


def table_7(done: Done) -> pd.DataFrame:
    """The paper's times, and those that table7.py found on a GPU: none until it ran on one."""
    rows = [{"by": "the paper", "stage": stage, "seconds": seconds} for stage, seconds in SECONDS.items()]
    file = HERE / "table7.json"
    found = json.loads(file.read_text()) if file.exists() else {"device": "cpu"}
    if found["device"] != "cpu":
        rows += [{"by": "here", "stage": row["stage"], "seconds": row["seconds"]} for row in found["rows"]]
    return pd.DataFrame(rows)


@contextmanager
def _scratch() -> Iterator[tuple[ModuleType, Path]]:
    spec = importlib.util.spec_from_file_location("scaling_timing", HERE / "timing.py")
    assert spec is not None
    assert spec.loader is not None
    timing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(timing)
    with tempfile.TemporaryDirectory() as folder:
        yield timing, Path(folder)


def _compared(table: str, quantity: str, expected: str, scaling: str, sentence: str) -> Claim:
    return Claim(
        sentence,
        "asked of any scaling",
        quantity,
        Groups({"workers": 1}, {"workers": 2}, expected),
        where={"scaling": scaling},
        table=table,
    )


EXPERIMENT = Experiment(
    title="Scaling",
    tables={"merge_trees": merge_trees, "evaluation": evaluation, "table_7": table_7},
    sizes={size: Size(conditions=[], seeds=runs) for size, runs in RUNS.items()},
    claims=[
        _compared(
            "evaluation",
            "points_per_second",
            "larger",
            "strong",
            "Two processes evaluate more points a second",
        ),
        _compared("evaluation", "points_per_second", "larger", "weak", "They do on a grid of twice the points as well"),
        _compared("merge_trees", "seconds", "smaller", "strong", "Two ranks make a merge tree in less time than one"),
        _compared(
            "merge_trees", "seconds", "larger", "weak", "Two ranks take longer for twice the points than one for half"
        ),
        *(
            Claim(
                f"The paper's time for {stage} is beaten on a GPU",
                PAPER,
                "seconds",
                Groups({"by": "the paper"}, {"by": "here"}, "smaller"),
                f"{seconds:.0f} s on an A100",
                where={"stage": stage},
                table="table_7",
            )
            for stage, seconds in SECONDS.items()
        ),
    ],
    remarks=[
        "Where no GPU ran `workflow/scaling/table7.py`, Table 7's times are *not measured* here: no number of a "
        "processor stands in for one of an A100."
    ],
)
