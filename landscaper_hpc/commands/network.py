"""`landscaper-hpc network`."""

from __future__ import annotations

from typing import Annotated, Literal

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


def network(
    study: StudyFile,
    checkpoint: Annotated[str, typer.Option(help="its name; the study's first one by default")] = "",
    set_: Set = None,
    points: Annotated[
        int, typer.Option(min=8, max=10**6, help="losses that are evaluated to find out where to begin")
    ] = 1024,
    sampling: Annotated[
        Literal["sobol", "random", "latin"], typer.Option(help="how they are spread in the box")
    ] = "sobol",
    minima: Annotated[int, typer.Option(min=0, help="follow so many of the sample's minima at most; 0: none")] = 100,
    as_json: Json = False,
    site: SiteFile = None,
    set_site: SetSite = None,
    device: Device = None,
    traceback: Traceback = False,
) -> None:
    """Minima and saddles of the loss without a grid, in 1 to 16 directions, and numbers of the scattered points.

    The grid's ranges are the box, its steps the lengths of the method: --set grid.count=5 in many directions. Losses
    are evaluated at scattered points, whose nearest-neighbour graph has the numbers of a landscape, and its minima are
    followed by gradients, then random starts, until those find nothing new. One process; nothing is stored.

    \b
    Examples:
      landscaper-hpc network study.yaml --points 4096
      landscaper-hpc network study.yaml --set directions.n=16 --set grid.count=5 --minima 0 --sampling latin
    """
    from landscaper_hpc.confirm.network import network_of_sample
    from landscaper_hpc.sampling.scattered import scattered, unit_points
    from landscaper_hpc.work.sampled import losses_at, prepared

    loaded = load_study(study, set_)
    where = load_site(site, device=device, overrides=set_site)
    (item,) = load_landscapes(study, loaded, where, (checkpoint,) if checkpoint else ())
    name, ready, seed = item.name, prepared(item), loaded.directions.seed
    unit = unit_points(sampling, points, loaded.directions.n, seed)
    values = losses_at(ready, unit)
    sample = scattered(unit, values, seed)
    found = {
        "checkpoint": name,
        "points": points,
        "sampling": sampling,
        "sample": {
            "n_minima": sample.tree.n_minima,
            "components": sample.components,
            "spacing": sample.spacing,
            "mean_climb": sample.mean_climb,
            "smad": sample.smad,
            "n_minima_of_halves": sample.minima_of_halves,
            "mean_climb_of_halves": sample.mean_climb_of_halves,
            "smad_of_halves": sample.smad_of_halves,
        },
    }
    said = [sample.sentence()]
    if minima:
        made = network_of_sample(ready.surface(), ready.grid, unit, sample.tree, minima, seed)
        found |= {"network": made.told()}
        said.append(made.sentence())
    if as_json:
        print(strict_json.dumps(found))
        return
    print("\n".join(f"{name}: {one}." for one in said))
    if minima:
        print(f"{'loss':>12} {'dies at':>12}  kind")
        for one in made.told()["minima"]:
            dies = "-" if one["death"] is None else f"{one['death']:.5g}"
            print(f"{one['loss']:12.5g} {dies:>12}  {one['kind']}")
