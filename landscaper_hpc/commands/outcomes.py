"""`landscaper-hpc outcomes`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landscaper_hpc.commands.options import Json, Traceback
from landscaper_hpc.commands.tables import show

if TYPE_CHECKING:
    from landscaper_hpc.report.outcomes import Found, Joined


def outcomes(
    sweep: Annotated[Path, typer.Argument(metavar="SWEEP", help="the folder of a sweep", show_default=False)],
    file: Annotated[
        Path, typer.Argument(metavar="OUTCOMES", help="a CSV file: a row for each run", show_default=False)
    ],
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="runs with the same values are seeds of one setting, averaged; repeatable"),
    ] = None,
    groups: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="also compare the two groups of runs that its values make")
    ] = None,
    quantity: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="only this one of sweep.csv; repeatable. Fewer tests decide more"),
    ] = None,
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """Say which numbers of a sweep's landscapes go with outcomes of the same runs, such as test errors.

    OUTCOMES names runs as sweep.csv does, by any of its columns (study, checkpoint, step, grid.count, …); its other
    columns are outcomes. Rank correlations, with exact p-values by permutation, after as many tests as there are; how
    well a line predicts a run that was left out; what leaving out one run changes. Leaves outcomes.json in the sweep.

    \b
    Examples:
      landscaper-hpc outcomes runs/my_sweep errors.csv
      landscaper-hpc outcomes runs/my_sweep errors.csv --by beta --quantity mean_climb
      landscaper-hpc outcomes runs/my_sweep errors.csv --groups skip_connections
    """
    from landscaper_hpc import strict_json
    from landscaper_hpc.files import publish
    from landscaper_hpc.report import outcomes as compared
    from landscaper_hpc.store.folder import SweepFolder

    runs = compared.joined(sweep, file, by or ())
    found = {"correlations": compared.correlations(runs, quantity or ())}
    if groups is not None:
        found["differences"] = compared.differences(runs, groups, quantity or ())
    content = strict_json.dumps(compared.as_json(runs, found))
    publish(SweepFolder(sweep).outcomes, content.encode())
    if as_json:
        print(content)
        return
    for kind, each in found.items():
        _print(kind, each)
    print(_of_the_rows(runs, by or (), groups))
    print(f"numbers: {SweepFolder(sweep).outcomes}")


def _print(kind: str, found: Sequence[Found]) -> None:
    from rich.table import Table

    from landscaper_hpc.comparison.association import Association, Difference
    from landscaper_hpc.report.text import bounds, number, numbers

    correlated = kind == "correlations"
    last = ["without one run", "error left out", "of the mean"] if correlated else ["Cliff's δ", "means"]
    shown = Table(title=f"{kind} with {found[0].against}" if len({one.against for one in found}) == 1 else kind)
    heads = ["quantity", "against", "n", "ρ (95 %)" if correlated else "difference", "p", "p of all tests", *last]
    for head in (*heads, "verdict"):
        words = head in ("quantity", "against", "verdict")
        shown.add_column(head, justify="left" if words else "right", no_wrap=head == "verdict")
    for one in (one for one in found if one.n):
        told = ["–"] * (2 + len(last))
        match one.tested:
            case Association() as it:
                told = [f"{number(it.rho)} ({bounds([it.low, it.high])})", number(it.p), bounds(it.without_one)]
                told += [number(it.error), number(it.error_of_mean)]
            case Difference() as it:
                told = [number(it.difference), number(it.p), number(it.delta), numbers(it.means)]
        told.insert(2, "–" if one.tested is None else number(one.p_of_all))
        shown.add_row(one.label, one.against, str(one.n), *told, one.verdict)
    show(shown, 200)


def _of_the_rows(runs: Joined, by: Sequence[str], groups: str | None) -> str:
    told = [f"joined by {', '.join(runs.on)}"]
    if runs.without:
        told.append(f"{runs.without} of the sweep's landscapes have no outcome or are not finished")
    if runs.unmet:
        told.append(f"{runs.unmet} outcomes have no finished landscape")
    if words := [name for name in runs.words if name != groups]:
        told.append(f"no numbers, and not looked at: {', '.join(words)}")
    if runs.single:
        told.append(f"{runs.single} settings have one run each: nothing tells how much a seed changes them")
    elif not by:
        told.append(
            "every run counts by itself; name what tells settings apart with --by, if some differ by their seed"
        )
    return "; ".join(told)
