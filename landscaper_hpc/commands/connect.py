"""`landscaper-hpc connect`."""

from __future__ import annotations

from typing import Annotated

import typer

from landscaper_hpc import strict_json
from landscaper_hpc.commands.options import (
    Device,
    Json,
    Set,
    SetSite,
    SiteFile,
    StudyFile,
    Traceback,
    load_landscapes,
    load_site,
    load_study,
)


def connect(
    study: StudyFile,
    first: Annotated[str, typer.Argument(help="name of a checkpoint of the study", show_default=False)],
    second: Annotated[str, typer.Argument(help="name of another one", show_default=False)],
    set_: Set = None,
    points: Annotated[int, typer.Option(min=3, help="points along each path")] = 25,
    steps: Annotated[int, typer.Option(min=1, help="training steps of the curve")] = 200,
    as_json: Json = False,
    site: SiteFile = None,
    set_site: SetSite = None,
    device: Device = None,
    traceback: Traceback = False,
) -> None:
    """Loss along the straight line and along a trained quadratic Bézier curve between two checkpoints.

    The loss is that of the first checkpoint's options. The barrier is the largest excess of the loss over the line
    between the losses at the ends.

    \b
    Example:
      landscaper-hpc connect study.yaml seed_1 seed_2
    """
    from landscaper_hpc.comparison.similarity import bezier, line
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.objective.checkpoints import read_checkpoint
    from landscaper_hpc.objective.checkpoints.fit import matched
    from landscaper_hpc.objective.checkpoints.names import Naming
    from landscaper_hpc.progress import Bars
    from landscaper_hpc.work.loaded import load

    if first == second:
        raise InputError(f"both ends are the checkpoint {first!r}, and no path lies between them; name another one")
    loaded = load_study(study, set_)
    where = load_site(site, device=device, overrides=set_site)
    own, others = load_landscapes(study, loaded, where, (first, second))
    objective = load(own)
    file = others.file
    naming = Naming(**loaded.naming(others.checkpoint))
    other = matched(objective.model, read_checkpoint(file, naming.containers), file, naming=naming)
    with Bars() as bars:
        straight = line(objective, other, points, lambda done, total: bars.update("line", done, total))
        curve = bezier(
            objective, other, points=points, steps=steps, progress=lambda done, total: bars.update("curve", done, total)
        )
    found = {
        name: {
            "barrier": path.barrier,
            "barrier_error": path.barrier_error,
            "barrier_data_error": path.barrier_data_error,
            "t": path.t.tolist(),
            "losses": path.losses.tolist(),
        }
        for name, path in (("line", straight), ("bezier", curve))
    }
    if as_json:
        print(strict_json.dumps(found))
        return
    print(f"{'t':>6} {'line':>12} {'curve':>12}")
    for t, a, b in zip(straight.t, straight.losses, curve.losses, strict=True):
        print(f"{t:6.3f} {a:12.5g} {b:12.5g}")
    print(f"barrier {straight.barrier:11.5g} {curve.barrier:12.5g}")
    print(
        f"±       {straight.barrier_error:11.5g} {curve.barrier_error:12.5g}   from the barrier of every second point"
    )
    if len(straight.less_data):
        print(
            f"±       {straight.barrier_data_error:11.5g} {curve.barrier_data_error:12.5g}   from other data (standard "
            "error over groups of them)"
        )
    else:
        print("how far other data would move it is not known: the loss returns the mean of the one batch that there is")
