"""`landscaper-hpc import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from landscaper_hpc.registry import CONNECTIVITIES


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Landscaper's .npz, loss-landscape's .h5, a .csv, .parquet or .vti",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="one that is not there yet", show_default=False)],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="of the study; default: the folder's")] = None,
    connectivity: Annotated[str, typer.Option(metavar="NAME", help=f"one of {', '.join(CONNECTIVITIES.own)}")] = "axis",
) -> None:
    """Make a study's folder of losses that another program computed, one landscape for each file.

    There is no model behind it, and it says so; topology, report, export and open_landscape read it like any other.
    Tables need the columns alpha_0, alpha_1, … and loss, and the points of a grid.

    \b
    Examples:
      landscaper-hpc import landscape.npz --out runs/peer
      landscaper-hpc import seed_1.h5 seed_2.h5 --out runs/resnet --connectivity full
    """
    from landscaper_hpc.commands.run import print_table
    from landscaper_hpc.exchange import import_landscapes
    from landscaper_hpc.store.folder import StudyFolder

    print_table(import_landscapes(files, out, name, connectivity))
    print(f"\nreport:  {StudyFolder(out).report}")
