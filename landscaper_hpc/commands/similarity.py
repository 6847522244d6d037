"""`landscaper-hpc similarity`."""

from __future__ import annotations

import math
from pathlib import Path
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
    load_site,
    load_study,
)


def similarity(
    study: StudyFile,
    set_: Set = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", metavar="PATTERN", help="only layers with such names, e.g. 'blocks.*'; repeatable"),
    ] = None,
    examples: Annotated[int, typer.Option(min=3, help="how many examples of the task's data are compared")] = 256,
    as_json: Json = False,
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE", help="also draw it, as .svg or .png")
    ] = None,
    site: SiteFile = None,
    set_site: SetSite = None,
    device: Device = None,
    traceback: Traceback = False,
) -> None:
    """How alike the checkpoints of a study represent the same data: linear CKA between them, layer by layer.

    1 means equal up to rotation and scale, 0 unrelated. Data and loss are those of the first checkpoint's options. Of
    tokens each is an example, and layers that cannot be compared are told with why.

    \b
    Examples:
      landscaper-hpc similarity study.yaml
      landscaper-hpc similarity study.yaml --layers 'blocks.*' --figure cka.svg
    """
    from landscaper_hpc.comparison.representations import layer_grams
    from landscaper_hpc.comparison.similarity import cka_errors, cka_matrices
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.progress import Bars
    from landscaper_hpc.work.campaign import Plan
    from landscaper_hpc.work.loaded import load

    if figure is not None and figure.suffix not in (".svg", ".png"):
        raise InputError(f"--figure {figure}: give a name that ends in .svg or .png")
    landscapes = Plan.of(load_study(study, set_), load_site(site, device=device, overrides=set_site), Path()).landscapes
    if len(landscapes) < 2:
        raise InputError(f"{study} has one checkpoint; list two or more under checkpoints to compare them")
    names = [item.name for item in landscapes]
    grams, first, left_out = [], None, dict[str, str]()
    with Bars() as bars:
        for i, item in enumerate(landscapes):
            objective = load(item)
            first = first or objective
            grams.append(layer_grams(objective, first, layers=layers or (), examples=examples, left_out=left_out))
            bars.update("checkpoints", i + 1, len(landscapes))
    matrices, errors = cka_matrices(grams), cka_errors(grams)
    if not matrices:
        raise InputError(f"the checkpoints of {study} have no layer in common that the loss calls")
    if figure is not None:
        from landscaper_hpc.files import publish
        from landscaper_hpc.report.figures import draw_similarities, png, style, svg

        with style():
            drawn = draw_similarities(matrices, names, "linear CKA")
            publish(figure, svg(drawn).encode() if figure.suffix == ".svg" else png(drawn))
    if as_json:
        rows, off = (
            {layer: [[None if math.isnan(x) else x for x in row] for row in m.tolist()] for layer, m in one.items()}
            for one in (matrices, errors)
        )
        count = len(next(iter(grams[0].values())))
        told = {"checkpoints": names, "examples": count, "cka": rows, "standard_errors": off, "left_out": left_out}
        print(strict_json.dumps(told))
        return
    width = max(7, *map(len, names))
    for layer, matrix in matrices.items():
        print(f"{layer:<{width}} " + " ".join(f"{name:>{width}}" for name in names))
        for name, row in zip(names, matrix, strict=True):
            print(f"{name:<{width}} " + " ".join(f"{x:{width}.4f}" for x in row))
        if known := [x for x in errors[layer].ravel().tolist() if not math.isnan(x)]:
            print(f"standard errors up to {max(known):.2g}, from other choices of examples")
        print()
    for layer, why in left_out.items():
        print(f"left out: {layer}, {why}")
