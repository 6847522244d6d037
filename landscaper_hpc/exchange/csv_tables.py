"""Tables as .csv, with numbers that read back as they were."""

from __future__ import annotations

from pathlib import Path

from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.formats import Field
from landscaper_hpc.exchange.subject import Subject
from landscaper_hpc.exchange.tables import field, tables


def write(subject: Subject) -> dict[str, bytes]:
    """The points, and the minima."""
    return {
        f"{suffix}.csv": table.to_csv(index=False, na_rep="NaN", lineterminator="\n").encode()
        for suffix, table in tables(subject).items()
    }


def read(path: Path) -> Field:
    """The losses at the points of a table."""
    import pyarrow
    from pyarrow import csv

    try:
        table = csv.read_csv(path)  # numbers as they are written, to the last bit
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: is no readable table ({' '.join(str(error).split())}); restore it") from None
    return field(table.to_pandas(), path)
