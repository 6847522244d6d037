"""Trains the network of task.py with L-BFGS: about 12 seconds per checkpoint on one core."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from landscaper_hpc.objective import load_task

ITERATIONS, REPORT_EVERY = 1000, 20


def train(
    path: Path,
    progress: Callable[[int, int], None],
    beta: float,
    seed: int = 0,
    lr: float = 1.0,
    iterations: int | None = None,
    **network: int,
) -> None:
    """Write the parameters at `path` (a state dict); they are there complete or not at all."""
    model = _fit({"beta": beta, **network}, seed, lr, ITERATIONS if iterations is None else iterations, progress)
    aside = path.with_name(path.name + ".partial")
    torch.save(model.state_dict(), aside)
    aside.replace(path)


def _fit(
    options: dict[str, float], seed: int, lr: float, iterations: int, progress: Callable[[int, int], None]
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        problem = load_task(Path(__file__).with_name("task.py"), options)
    model: nn.Module = problem.model
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        lr=lr,
        max_iter=REPORT_EVERY,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_grad=0,
        tolerance_change=0,
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = problem.loss(model, problem.data)
        loss.backward()
        return loss

    for done in range(0, iterations, REPORT_EVERY):
        progress(done, iterations)
        optimizer.step(closure)
    progress(iterations, iterations)
    return model
