"""`landscaper-hpc export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_FORMATS = "npz, h5, csv, parquet, vti, vtp, vtu, graphml, gudhi, persim, figures; repeatable"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a finished study's folder", show_default=False)],
    to: Annotated[list[str], typer.Option("--to", metavar="FORMAT", help=_FORMATS, show_default=False)],
    landscape: Annotated[
        str | None, typer.Option("--landscape", metavar="NAME", help="only this one, where a study holds several")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="where to; default: exports, or figures, in the study's folder"),
    ] = None,
) -> None:
    """Write a study's losses, basins, merge tree or persistence as files of other programs; print their names.

    npz: Landscaper. h5: loss-landscape. csv, parquet: a table of the points, and one of the minima. vti, vtp: losses
    and basins for ParaView and TTK. vtu: persistence diagram as TTK's, and merge tree. graphml: merge tree for
    networkx. gudhi, persim: persistence.

    \b
    Examples:
      landscaper-hpc export runs/my_study --to npz
      landscaper-hpc export runs/my_study --to vti --to vtu --out paraview
      landscaper-hpc export runs/my_study --to parquet --landscape seed_1
      landscaper-hpc export runs/my_study --to figures
    """
    from landscaper_hpc.exchange import export as write

    for file in write(run, to, landscape, out):
        print(file)
