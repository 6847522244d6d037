"""One of the papers' experiments, from training to verdicts: python workflow/run.py NAME --size small

Leaves everything in runs/NAME_SIZE; a second run goes on from there. What came out is written there, and of the small
size to workflow/NAME as results.json and RESULTS.md, of others as results.SIZE.json and RESULTS.SIZE.md beside; not of
the smallest, which is for tests. With --plan it only says what it would cost.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parent))

from experiments.performed import WORKFLOW, load, perform, plan
from experiments.written import results, write

from landscaper_hpc.commands.options import SetSite, SiteFile, load_site
from landscaper_hpc.exit_codes import guarded


def run(
    name: Annotated[str, typer.Argument(help="a folder of workflow/, such as resnet_skip")],
    size: Annotated[str, typer.Option(help="smallest, small, full, or another that the study has")] = "small",
    jobs: Annotated[int, typer.Option(help="processes, on this machine")] = 1,
    data: Annotated[Path | None, typer.Option(help="where the data of the full size are")] = None,
    site: SiteFile = None,
    set_site: SetSite = None,
    out: Annotated[Path | None, typer.Option(help="default: runs/NAME_SIZE")] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="say what would be trained and what it costs, and do nothing")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(min=1e-9, help="with --plan: points per second of one process of the site")
    ] = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="show the way to an error")] = False,
) -> None:
    """Train what is missing, make the landscapes, judge the paper's claims."""
    where = load_site(site, overrides=set_site) if site or set_site else None
    folder = (out or Path("runs") / f"{name}_{size}").resolve()
    if plan_only:
        plan(name, size, folder, jobs, data, where, rate)
        return
    found = results(name, size, load(name), perform(name, size, folder, jobs, data, where))
    write(found, folder)
    if size != "smallest":
        write(found, WORKFLOW / name, size)
    for claim in found["claims"]:
        print(f"{claim['verdict']}: {claim['sentence']} ({claim['why']})")
    print(f"results: {folder / 'RESULTS.md'}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(guarded(run))
    app()
