"""Tables as .parquet."""

from __future__ import annotations

import io
from pathlib import Path

from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.formats import Field
from landscaper_hpc.exchange.subject import Subject
from landscaper_hpc.exchange.tables import field, tables


def write(subject: Subject) -> dict[str, bytes]:
    """The points, and the minima."""
    files = {}
    for suffix, table in tables(subject).items():
        held = io.BytesIO()
        table.to_parquet(held, index=False)
        files[f"{suffix}.parquet"] = held.getvalue()
    return files


def read(path: Path) -> Field:
    """The losses at the points of a table."""
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: is no readable table ({' '.join(str(error).split())}); restore it") from None
    return field(table, path)
