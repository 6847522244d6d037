"""How long a slow loss takes is told from a piece of its data, and never from all of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from landscaper_hpc import Task
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.work import pace

EXAMPLES = 1000


def objective(seen: list[int], least: int = 0, mean: bool = False) -> Objective:
    """A line's loss over batches of 400, 400 and 200 examples, which says of how many it was asked."""

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        seen.append(len(batch))
        if len(batch) < least:
            raise ValueError("too few")
        found = (model(batch) - 1).square().flatten()
        return found.mean() if mean else found

    data = torch.linspace(0, 1, EXAMPLES, dtype=torch.float64)[:, None]
    return Objective(Task(model=nn.Linear(1, 1).double(), loss=loss, data=list(data.split(400))))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A millisecond an example, of whatever is asked."""

    def seconds(do: object, piece: Tensor, few: int) -> float:
        do(piece, few)  # type: ignore[operator]
        return 1e-3 * few

    monkeypatch.setattr(pace, "_seconds", seconds)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("mean", [False, True])
def test_a_piece_grows_until_it_takes_long_enough_and_tells_of_all(mean: bool) -> None:
    seen: list[int] = []
    found = pace.pace_of_slow(objective(seen, mean=mean), gradients=True)
    assert found == (pytest.approx(1), pytest.approx(1), 58, EXAMPLES)  # 1 s each: 1000 examples
    assert seen[-2:] == [58, 58]  # a loss and its slopes
    assert max(seen[seen.index(1) :]) == 58  # what comes before is the objective's own look at it


@pytest.mark.usefixtures("slow")
def test_without_gradients_none_are_timed() -> None:
    found = pace.pace_of_slow(objective([]), gradients=False)
    assert found is not None
    assert (found.points, found.gradients) == (pytest.approx(1), 0)


@pytest.mark.usefixtures("slow")
def test_a_loss_that_takes_no_piece_is_measured_as_a_run_evaluates_it() -> None:
    assert pace.pace_of_slow(objective([], least=200), gradients=True) is None


def test_a_fast_one_too() -> None:
    assert pace.pace_of_slow(objective([]), gradients=True) is None
