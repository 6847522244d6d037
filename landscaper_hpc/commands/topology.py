"""`landscaper-hpc topology`, alone or under mpiexec or srun."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landscaper_hpc.commands.options import Json
from landscaper_hpc.registry import CONNECTIVITIES

if TYPE_CHECKING:
    from landscaper_hpc.parallel.comm import Comm
    from landscaper_hpc.report.quantity import Origin
    from landscaper_hpc.topology.blocks.distributed import Result
    from landscaper_hpc.topology.readers import Reader


def topology(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="a study's folder, a Landscaper .npz, a Zarr array or a .npy", show_default=False
        ),
    ],
    landscape: Annotated[
        str | None, typer.Option("--landscape", metavar="NAME", help="which one, where a study holds several")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME", help="of a study, a metric of the task in place of the loss"),
    ] = None,
    connectivity: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"one of {', '.join(CONNECTIVITIES.own)}; default: the study's, or axis"),
    ] = None,
    direction: Annotated[
        str, typer.Option(metavar="NAME", help="sublevel for minima, superlevel for maxima")
    ] = "sublevel",
    labels: Annotated[
        Path | None, typer.Option(metavar="PATH", help="also write every point's basin to a new Zarr array")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="at most this much memory per process, e.g. 2GB; works in blocks")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="threads per process; default: the cores of the node over its ranks")
    ] = None,
    contour: Annotated[
        bool,
        typer.Option("--contour", help="also maxima, and SMAD as Landscaper 1.3.1 computes it, from the contour tree"),
    ] = False,
    as_json: Json = False,
) -> None:
    """Exact merge tree, basins, persistence and SMAD of a landscape.

    \b
    Examples:
      landscaper-hpc topology runs/my_study --json
      landscaper-hpc topology runs/my_study --metric accuracy --direction superlevel
      landscaper-hpc topology loss.npy --connectivity full
      landscaper-hpc topology landscape.npz --contour --json
      landscaper-hpc topology loss.zarr --max-memory 2GB
      mpiexec -n 4 landscaper-hpc topology runs/my_study
      srun --mpi=pmi2 landscaper-hpc topology runs/my_study
    """
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.parallel.comm import RankError, world

    comm = world()
    try:
        _topology(comm, path, landscape, metric, connectivity, direction, labels, max_memory, threads, contour, as_json)
    except (InputError, RankError) as error:
        # all ranks are here: one of them says so
        if comm.rank == 0:
            raise
        raise SystemExit(2 if isinstance(error, InputError) else 1) from None
    except (Exception, KeyboardInterrupt) as error:
        comm.abort(error)


def _topology(
    comm: Comm,
    path: Path,
    landscape: str | None,
    metric: str | None,
    connectivity: str | None,
    direction: str,
    labels: Path | None,
    max_memory: str | None,
    threads: int | None,
    contour: bool,
    as_json: bool,
) -> None:
    import time
    from contextlib import nullcontext

    from landscaper_hpc.commands.fields import open_field, parse_size
    from landscaper_hpc.parallel.comm import agree
    from landscaper_hpc.progress import Bars
    from landscaper_hpc.report.quantities import measure, nested
    from landscaper_hpc.report.quantity import Measured
    from landscaper_hpc.topology import contour_tree
    from landscaper_hpc.topology.blocks.distributed import merge_tree_blocks
    from landscaper_hpc.topology.blocks.labels import ZarrLabels
    from landscaper_hpc.topology.compiling import compiled_beside

    start = time.perf_counter()
    error: Exception | None = None
    try:
        reader, default = open_field(path, landscape, metric)
        memory = None if max_memory is None else parse_size(max_memory, "--max-memory")
        if contour:
            _check_contour(reader, memory)
        writer = None if labels is None else ZarrLabels(labels)
    except Exception as caught:
        error = caught
    agree(comm, error)
    with Bars() as bars, compiled_beside(bars.tell) if comm.size == 1 else nullcontext():

        def show(done: int, total: int) -> None:
            if comm.rank == 0 and (done < total or shown):
                shown.append(done)
                bars.update("topology", done, total)

        shown: list[int] = []
        result = merge_tree_blocks(
            reader,
            connectivity or default,
            direction,  # type: ignore[arg-type]
            writer,
            max_memory=memory,
            threads=threads,
            comm=comm,
            progress=show,
        )
    if result.tree is not None:
        origins: list[Origin] = ["tree"]
        found = None
        if contour:
            origins.append("contour")
            field = reader.read(tuple(slice(0, k) for k in reader.shape))
            found = contour_tree(field, result.tree.connectivity, threads=threads)
        numbers = nested(measure(Measured(result.tree, _computed_in(reader), contour=found), origins))
        _print(result, numbers, origins, time.perf_counter() - start, as_json)


def _check_contour(reader: Reader, memory: int | None) -> None:
    """InputError where the whole field, which a contour tree needs in one process, is more than the user allows."""
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.topology.contour import BYTES

    needed = BYTES * math.prod(reader.shape)
    if memory is not None and needed > memory:
        raise InputError(
            f"--contour needs the whole field in one process, up to {needed / 1e9:.3g} GB, and --max-memory is "
            f"{memory / 1e9:.3g} GB; leave one of them out"
        )


def _print(
    result: Result, numbers: Mapping[str, Any], origins: Sequence[Origin], seconds: float, as_json: bool
) -> None:
    import dataclasses

    from landscaper_hpc import strict_json
    from landscaper_hpc.report.quantities import shown

    tree = result.tree
    assert tree is not None
    peak = max(phase["peak_rss_mb"] for rank in result.stats for phase in rank.phases.values())
    if as_json:
        found: dict[str, Any] = {
            "shape": tree.shape,
            "connectivity": tree.connectivity,
            "direction": tree.direction,
            **numbers["topology"],
            "seconds": seconds,
            "peak_rss_mb": peak,
            "planned_mb": result.planned_bytes / 1e6,
            "blocks": result.boxes.size,
            "block_shape": result.boxes.block,
            "ranks": [dataclasses.asdict(rank) for rank in result.stats],
        }
        print(strict_json.dumps(found))
        return
    rows = [row for row in shown("topology") if row.origin in origins]
    lines = {
        "grid": f"{' × '.join(map(str, tree.shape))}, {tree.connectivity} connectivity, {tree.direction}",
        **{row.label: row.said(numbers) or row.text(None) for row in rows},
        "took": f"{seconds:.2f} s, {peak:.0f} MB, {result.boxes.size} blocks on {len(result.stats)} ranks",
    }
    width = max(map(len, lines))
    for label, value in lines.items():
        print(f"{label:<{width}}  {value}")


def _computed_in(reader: Reader) -> Any:
    """The precision that a field was computed in: that of the study whose losses, or metric, it is, or else its own
    type."""
    from landscaper_hpc.errors import InputError
    from landscaper_hpc.store.landscape import LandscapeStore
    from landscaper_hpc.store.layout import LOSS

    place = getattr(reader, "path", None)
    if place is not None:
        try:
            store = LandscapeStore(place.parent.parent, place.parent.name)
            if place.name in (LOSS, *store.metrics):
                return store.precision
        except (InputError, KeyError):
            pass  # of nobody's, or an array that only has the name
    return reader.dtype if reader.dtype.kind == "f" else "float64"
