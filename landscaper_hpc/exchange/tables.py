"""Landscapes as tables of pandas: a row for each point, and a row for each minimum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.formats import Field
from landscaper_hpc.exchange.subject import Subject
from landscaper_hpc.store.landscape import LandscapeStore
from landscaper_hpc.store.layout import BASIN
from landscaper_hpc.topology.basins import per_basin

if TYPE_CHECKING:
    import pandas as pd

_AXIS, _LOSS = "alpha_", "loss"


def points_table(store: LandscapeStore) -> pd.DataFrame:
    """Every evaluated point of a landscape.

    Parameters
    ----------
    store
        Whole, or of which only the lowest part, or scattered points, were evaluated.

    Returns
    -------
    pandas.DataFrame
        In C order, with `alpha_0`, …, `loss`, each metric of the task, and `basin`, the row of its minimum in
        `minima_table` (-1: none); without `basin` where only the lowest part was evaluated.
        Scattered points as they were drawn, without it.
    """
    import pandas as pd

    scattered = store.scattered_points()
    if scattered is not None:
        alphas, losses = scattered
        axes = {f"{_AXIS}{d}": column for d, column in enumerate(alphas.T)}
        return pd.DataFrame({**axes, _LOSS: losses, **store.scattered_metrics()})
    subject = Subject(store)
    lowest, losses = store.lowest_points()
    whole = not (lowest.size and store.n_done() < store.n_shards())
    points = np.arange(store.grid.size) if whole else lowest
    columns = {f"{_AXIS}{d}": column for d, column in enumerate(subject.alphas(points).T)}
    if not whole:
        return pd.DataFrame({**columns, _LOSS: losses, **store.lowest_metrics()})
    columns |= {_LOSS: subject.values.reshape(-1), **{name: v.reshape(-1) for name, v in subject.metrics.items()}}
    return pd.DataFrame({**columns, BASIN: subject.basins.reshape(-1)})


def minima_table(store: LandscapeStore) -> pd.DataFrame:
    """The minima of a landscape, the lowest first.

    Parameters
    ----------
    store
        With its merge tree.

    Returns
    -------
    pandas.DataFrame
        `point` (flat id), `alpha_0`, …, `loss`, `basin_size`, `first_saddle` and `death` (flat ids, -1: none) with
        `first_saddle_loss` and `death_loss`, `parent` (the row that takes it in, -1: none), `persistence`,
        and `mean_<metric>` of the basin for each metric of the task.
    """
    import pandas as pd

    subject, tree = Subject(store), store.tree()
    return pd.DataFrame(
        {
            "point": tree.minima,
            **{f"{_AXIS}{d}": column for d, column in enumerate(subject.alphas(tree.minima).T)},
            _LOSS: tree.values,
            "basin_size": tree.basin_size,
            "first_saddle": tree.first_saddle,
            "first_saddle_loss": tree.first_saddle_value,
            "death": tree.death,
            "death_loss": tree.death_value,
            "parent": tree.parent,
            "persistence": tree.lifetimes,
            **{
                f"mean_{name}": per_basin(subject.basins, values, tree.n_minima)
                for name, values in subject.metrics.items()
            },
        }
    )


def tables(subject: Subject) -> dict[str, pd.DataFrame]:
    """What is written of a landscape, by what comes after its name."""
    found = {"": points_table(subject.store)}
    return found | ({".minima": minima_table(subject.store)} if subject.store.has_tree() else {})


def field(table: pd.DataFrame, path: Path) -> Field:
    """The losses on the grid that a table's points make, in whatever order they come."""
    names = sorted(
        (name for name in map(str, table.columns) if name.startswith(_AXIS) and name[len(_AXIS) :].isdigit()),
        key=lambda name: int(name[len(_AXIS) :]),
    )
    if not names or _LOSS not in table:
        held = ", ".join(map(str, table.columns)) or "nothing"
        raise InputError(f"{path}: has the columns {held}; it needs alpha_0, alpha_1, … and loss")
    if missing := sorted({f"{_AXIS}{i}" for i in range(len(names))} - {*names}):
        raise InputError(f"{path}: has the axes {', '.join(names)}, and none that is {missing[0]}; number them from 0")
    if twice := [name for name in (*names, _LOSS) if list(table.columns).count(name) > 1]:
        raise InputError(f"{path}: has more than one column {twice[0]}; keep one")
    if not len(table):
        raise InputError(f"{path}: has columns and no rows; give a row for each point")
    for name in (*names, _LOSS):
        if table[name].dtype.kind not in "fiu":
            raise InputError(f"{path}: the column {name} holds other things than numbers; correct it")
    axes, places = zip(*(np.unique(table[name].to_numpy(), return_inverse=True) for name in names), strict=True)
    shape = tuple(map(len, axes))
    flat = np.ravel_multi_index(tuple(place.reshape(-1) for place in places), shape)
    if len(table) != np.prod(shape) or len(np.unique(flat)) != len(table):
        raise InputError(
            f"{path}: has {len(table)} points, which is no grid of {' × '.join(map(str, shape))}; give each point of "
            "a grid once"
        )
    values = np.empty(len(table), table[_LOSS].to_numpy().dtype)
    values[flat] = table[_LOSS].to_numpy()
    return Field(values.reshape(shape), list(axes))
