"""losses(objective, directions, points): the only hot loop.

`batch` points are evaluated at once, in one fixed shape (the last batch is padded), so a value does not depend on its
neighbours; where that cannot work, one point at a time. See `displacement` for theta(alpha) and `evaluator` for how.
Some of the points are evaluated by the loss as it is written as well: see `spotcheck`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from landscaper_hpc.directions.directions import Directions
from landscaper_hpc.errors import InputError
from landscaper_hpc.losses.displacement import Walk
from landscaper_hpc.losses.evaluator import as_written, evaluate_as_written, evaluator, forget, keep_only
from landscaper_hpc.losses.probes import widen
from landscaper_hpc.losses.spotcheck import refuse_changing, refuse_wrong
from landscaper_hpc.objective.device import Peak, free_bytes, out_of_memory
from landscaper_hpc.objective.metrics import values_shape
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import one_thread
from landscaper_hpc.progress import Progress, silent

log = logging.getLogger(__name__)

_MEASURE_SECONDS = 0.3
_SHARE, _MOST = 0.02, 5.0
_TRIAL = 16  # evaluations of a whole batch that a trial takes: proofs, and what is measured
_ROUNDS = 3, 10  # of turns in which the loss as it is written is compared with its recording, at least and at most
_SHAPES = (1, 4, 16, 32, 64, 128, 256, 512, 1024)


def losses(
    objective: Objective,
    directions: Directions,
    points: NDArray[np.float64],
    batch: int = 1,
    progress: Progress = silent,
) -> NDArray[np.float64]:
    """The loss at θ(α) for each point α, as it came: nothing is repaired.

    Where the points are part of a grid, `prove_for` comes first: how the loss is evaluated is decided for the range of
    points that it knows of.

    Parameters
    ----------
    objective
        The loss.
    directions
        The n directions.
    points
        Shape (m, n): the α_i, in units of the directions' lengths.
    batch
        How many points are evaluated at once, in one fixed shape (the last batch is padded).
    progress
        Called with how many points are done, and of how many.

    Returns
    -------
    ndarray of float64
        Shape (m,), of a loss with metrics (m, outputs). A value does not depend, bit for bit, on which other points are
        asked for, nor on the number of threads.

    Raises
    ------
    InputError
        Where the device runs out of memory, and where a point that is checked has another loss as it is written, or
        later.
    """
    points = np.ascontiguousarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != directions.n:
        raise ValueError(f"points have shape {points.shape}; expected (m, {directions.n})")
    if len(points) == 0:
        return np.empty((0, *values_shape(objective)))
    try:
        with one_thread(objective.device):
            prove_for(objective, directions, points)
            values = _losses(objective, directions, points, batch, progress)
            if evaluator(objective, batch).recorded:
                refuse_wrong(objective, directions, points, values)
            else:
                refuse_changing(
                    objective, points, values, lambda again: _losses(objective, directions, again, batch, silent)
                )
            return values
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            f"{objective.device} ran out of memory with batches of {batch} points "
            f"({' '.join(str(error).split())[:120]}); free it, or begin a new study with a smaller batch: "
            "the shape of a study that has begun never changes"
        ) from error


def prove_for(objective: Objective, directions: Directions, points: NDArray[np.float64]) -> None:
    """Let ways to evaluate be proved for the whole range of `points` (m, n): of a grid, two opposite corners are
    enough. Without it a shard would be evaluated in a way that is proved for that shard, and another in another."""
    if widen(objective, directions, points):
        forget(objective)


def _losses(
    objective: Objective, directions: Directions, points: NDArray[np.float64], batch: int, progress: Progress
) -> NDArray[np.float64]:
    evaluate = evaluator(objective, batch)
    least = evaluate.batch * sum(p.nbytes for p in objective.parameters.values())
    if evaluate.batch > 1 and least > free_bytes(objective.device):  # a CPU has no other way to say so but to kill
        raise MemoryError(f"their parameters alone take {least:,} bytes")
    walk = Walk(objective, directions)
    blocks = -(-len(points) // evaluate.batch)
    # on the device until the end: nothing waits for a transfer
    shape = values_shape(objective)
    values = torch.empty(blocks, evaluate.batch, *shape, dtype=torch.float64, device=objective.device)
    with evaluate.ready():
        for i, block in enumerate(_blocks(points, evaluate.batch)):
            values[i] = evaluate(walk.one(block[0]) if evaluate.batch == 1 else walk.many(block))
            progress(min((i + 1) * evaluate.batch, len(points)), len(points))
    result: NDArray[np.float64] = values.reshape(-1, *shape).cpu().numpy()[: len(points)]
    return result


def _blocks(points: NDArray[np.float64], batch: int) -> Iterator[NDArray[np.float64]]:
    """Blocks of exactly `batch` points; the last one is filled up with its own last point."""
    for start in range(0, len(points), batch):
        block = points[start : start + batch]
        yield block if len(block) == batch else np.pad(block, ((0, batch - len(block)), (0, 0)), mode="edge")


def evaluation_mode(objective: Objective, directions: Directions, batch: int = 2) -> str:
    """How `losses` evaluates with this batch shape: 'vmap', or 'one point at a time' and why."""
    with one_thread(objective.device):
        return evaluator(objective, batch).mode


def choose_batch(
    objective: Objective,
    directions: Directions,
    *,
    points: float = math.inf,
    memory: int | None = None,
    seconds: float = _MEASURE_SECONDS,
    rate_of: Callable[[Objective, Directions, int, float, float], float] | None = None,
) -> int:
    """The batch shape with the most points per second, by a short measurement: 1, 4, 16, 32, … while it pays.

    At the end the fastest takes turns with the loss as it is written, which the objective is evaluated as from then on
    where that is faster (`evaluator.is_evaluated_as_written`).

    A shape is not tried where the trials would take more than 2 % of what so many `points` cost, or 5 s; each is
    measured for `seconds` at most, or told by `rate_of`. `memory` is the most bytes a batch may take (default: half of
    what is free now). A shape that does not fit, or is predicted not to, is not taken. The choice is a measurement:
    record it, results differ in the last bits between shapes.
    """
    if objective.sharded:  # one point at a time; and clocks of several ranks do not agree
        return 1
    peak = Peak(objective.device)
    room = memory or peak.free() // 2
    best, best_rate, worse = 1, 0.0, 0
    clock = _clock(objective)
    with one_thread(objective.device):
        evaluator(objective, 1)  # which is needed in any case
    began, budget = clock(), math.inf
    for batch, following in zip(_SHAPES, (*_SHAPES[1:], 2 * _SHAPES[-1]), strict=True):
        if worse == 2 and batch > 16:  # small batches cost more than they save; larger ones may still pay
            break
        if batch > 1 and clock() - began + _TRIAL * batch / best_rate > budget:
            log.info("batches of %d points are not tried: %s points take %.2g s", batch, points, points / best_rate)
            break
        try:
            with one_thread(objective.device):
                if evaluator(objective, batch).batch != batch:
                    break
            rate = (rate_of or _rate)(objective, directions, batch, seconds, points)
        except (RuntimeError, MemoryError, InputError) as error:
            if not isinstance(error, InputError) and not out_of_memory(error):
                raise
            log.info("batches of %d points do not fit: %s", batch, " ".join(str(error).split())[:120])
            break
        if batch == 1:
            budget = min(_SHARE * points / rate, _MOST if math.isfinite(points) else math.inf)
        used = peak.bytes()
        if used > room and batch > 1:
            break
        if rate > best_rate * 1.03:
            best, best_rate, worse = batch, rate, 0
        else:
            worse = min(worse + 1, 2)
        if used * following > room * batch:
            log.info("larger batches would not fit: %d points took %d MB of %d MB", batch, used >> 20, room >> 20)
            break
    if best_rate and _slower_than_written(objective, directions, best, budget - (clock() - began)):
        best = 1
        evaluate_as_written(objective)
    keep_only(objective, best)
    log.info("batch shape %d: %.4g points/s", best, best_rate)
    return best


def _slower_than_written(objective: Objective, directions: Directions, batch: int, seconds: float) -> bool:
    """Whether the way that was chosen takes longer for a batch of points than calls of the loss as it is written: the
    best of some turns within so many seconds."""
    chosen, written = evaluator(objective, batch), as_written(objective)
    if not chosen.recorded:
        return False
    block = 1e-3 * np.random.default_rng(0).standard_normal((batch, directions.n))
    walk, clock = Walk(objective, directions), _clock(objective)

    def recorded() -> None:
        chosen(walk.one(block[0]) if batch == 1 else walk.many(block)).sum().item()

    def plain() -> None:
        with torch.enable_grad():
            for alpha in block:
                written(walk.one(alpha)).item()

    best, began = [math.inf, math.inf], clock()
    least, most = _ROUNDS
    with one_thread(objective.device), chosen.ready():
        for turn in range(most):
            for i, call in enumerate((recorded, plain)):
                start = clock()
                call()
                best[i] = min(best[i], clock() - start)
            if turn + 1 >= least and clock() - began > seconds:
                break
    log.info("as the loss is written: %.3g ms a point, as it was chosen %.3g", *(1e3 * b / batch for b in best[::-1]))
    return best[1] < 0.97 * best[0]


def _rate(objective: Objective, directions: Directions, batch: int, seconds: float, points: float) -> float:
    """Points per second at this batch shape: of the best call, and on a CPU of processor time, since others use the
    machine too. Takes little of what `points` cost."""
    alphas = 1e-3 * np.random.default_rng(0).standard_normal((4 * batch, directions.n))
    clock = _clock(objective)
    best, begin = math.inf, clock()
    with one_thread(objective.device):
        _losses(objective, directions, alphas[:batch], batch, silent)
    first = clock() - begin
    seconds = min(seconds, _SHARE / 10 * points / batch * first)
    if first > seconds / 4:
        alphas = alphas[:batch]
    calls, start = 0, time.perf_counter()
    while not calls or time.perf_counter() - start < (seconds if calls >= 5 else 10 * seconds):
        begin = clock()
        with one_thread(objective.device):
            _losses(objective, directions, alphas, batch, silent)
        best = min(best, clock() - begin)
        calls += 1
    return len(alphas) / max(best, 1e-9)


def _clock(objective: Objective) -> Callable[[], float]:
    return time.process_time if objective.device.type == "cpu" else time.perf_counter
