"""The loss at a point, apart for groups of the data: what tells how far another sample of data would move it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from landscaper_hpc.directions.directions import Directions
from landscaper_hpc.errors import InputError
from landscaper_hpc.losses.displacement import Walk
from landscaper_hpc.objective.objective import Objective, Parameters
from landscaper_hpc.objective.precision import one_thread
from landscaper_hpc.progress import Progress, silent

Kind = Literal["examples", "batches"]

GROUPS = 64
"""At most so many: a standard error from 64 groups is itself known to 9 %."""


@dataclass(frozen=True)
class GroupLosses:
    """The mean loss of each group of the data at each point, `values` (p, g), and the groups' `weights` (g,): their
    weighted mean over the groups is the loss. A group is a random share of all `units` ("examples", or "batches" where
    the loss returns their means), the same at all points."""

    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    units: int
    kind: Kind


def group_losses(
    objective: Objective,
    directions: Directions,
    points: NDArray[np.float64],
    groups: int = GROUPS,
    seed: int = 0,
    progress: Progress = silent,
) -> GroupLosses:
    """The loss at each point as means over the same random groups of examples, so that differences are paired.

    Parameters
    ----------
    objective
        The loss. Where it returns per-example losses, groups are of examples; where it returns means, of batches.
    directions
        The n directions.
    points
        Shape (p, n): the α_i, in units of the directions' lengths.
    groups
        At most how many.
    seed
        Of the assignment to groups.
    progress
        Called with how many points are done, and of how many.

    Returns
    -------
    GroupLosses

    Raises
    ------
    InputError
        Where the data are a single batch of which the loss returns the mean: nothing tells how far it is from the mean
        of other data.
    """
    walk = Walk(objective, directions)
    rows: list[NDArray[np.float64]] = []
    weights = np.empty(0)
    kind: Kind = "examples"
    with one_thread(objective.device):
        for done, alpha in enumerate(points):
            values, weights, kind = units(objective, walk.one(alpha))
            rows.append(_summed(values * weights, groups, seed))
            progress(done + 1, len(points))
    totals = _summed(weights, groups, seed)
    found = np.array(rows).reshape(len(points), len(totals)) / totals
    return GroupLosses(found, totals, len(weights), kind)


def without_each_group(
    objective: Objective, at: Iterable[Parameters], groups: int = GROUPS, seed: int = 0
) -> NDArray[np.float64]:
    """The loss at p points without one group of the data after the other, (g, p): what a jackknife is made of. No rows
    where the data are a single batch of which the loss returns the mean."""
    sums, weights = [], np.empty(0)
    with one_thread(objective.device):
        for params in at:
            try:
                values, weights, _ = units(objective, params)
            except InputError:
                return np.empty((0, 0))
            sums.append(_summed(values * weights, groups, seed))
    each, totals = np.array(sums), _summed(weights, groups, seed)
    without: NDArray[np.float64] = (each.sum(axis=1) - each.T) / (totals.sum() - totals)[:, None]
    return without


def units(objective: Objective, params: Parameters) -> tuple[NDArray[np.float64], NDArray[np.float64], Kind]:
    """The mean losses of the smallest parts that the loss tells apart, with their weights, and what these parts are.

    `InputError` where there is one part only.
    """
    data = zip(objective.batches, objective.examples, strict=True)
    parts = [rows for given in data for rows in objective.apart(params, *given)]
    if all(len(rows) > 1 for rows in parts):
        values, weights = torch.cat([rows[1:] for rows in parts]).T.cpu().numpy()
        if len(values) > 1:
            return values, weights, "examples"
    if len(parts) < 2:
        raise InputError(
            f"error_bars: {objective.source}: the loss returns the mean of the one batch that there is, which says "
            "nothing of other data; return per-example losses, or give the data as several batches"
        )
    means, weights = torch.stack([rows[0] for rows in parts]).T.cpu().numpy()
    return means, weights, "batches"


def _summed(values: NDArray[np.float64], groups: int, seed: int) -> NDArray[np.float64]:
    """Sums over the groups, (g,)."""
    return np.bincount(_assigned(len(values), groups, seed), values).astype(np.float64)


def _assigned(units: int, groups: int, seed: int) -> NDArray[np.int64]:
    """The group of each unit: as many in each as can be."""
    return np.random.default_rng(seed).permutation(np.arange(units) % min(groups, max(units, 1)))
