"""export: a study's landscapes as files that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from landscaper_hpc.errors import InputError
from landscaper_hpc.exchange.formats import FORMATS, Format
from landscaper_hpc.exchange.subject import Subject
from landscaper_hpc.files import publish
from landscaper_hpc.store.folder import StudyFolder, SweepFolder
from landscaper_hpc.store.landscape import LandscapeStore, landscape_names, open_landscape
from landscaper_hpc.store.sweep_record import is_sweep


def export(
    study: str | Path, formats: Sequence[str], landscape: str | None = None, folder: str | Path | None = None
) -> list[Path]:
    """Write landscapes of a finished study as files of other programs; the same study gives the same bytes.

    Parameters
    ----------
    study
        Its folder, its `study.zarr`, or one group in that.
    formats
        Names in `FORMATS`.
    landscape
        Of one checkpoint; by default all are written.
    folder
        Where to; by default figures to `figures` and all else to `exports`, in the study's folder.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        Where the study is not finished, where a format cannot hold the landscape, or needs what is not installed.
    """
    study = Path(study)
    writers: list[Format] = [FORMATS.load(name) for name in formats]
    stores = _stores(study, landscape)
    inside = StudyFolder(stores[0].path.parent)
    written = []
    for store in stores:
        subject = Subject(store)
        for name, writer in zip(formats, writers, strict=True):
            usual = inside.figures if name == "figures" else inside.exports
            into = usual if folder is None else Path(folder)
            try:
                made = writer.write(subject)
            except InputError as error:
                raise InputError(f"{store.name}: {error}") from None
            into.mkdir(parents=True, exist_ok=True)
            for suffix, content in made.items():
                publish(into / f"{store.name}{suffix}", content)
                written.append(into / f"{store.name}{suffix}")
    return written


def _stores(study: Path, landscape: str | None) -> list[LandscapeStore]:
    if is_sweep(study):
        raise InputError(f"{study}: is a sweep; export its studies one by one, {SweepFolder(study).studies / '<name>'}")
    inside = StudyFolder(study)
    if landscape is None and (names := landscape_names(inside.store)):
        return [LandscapeStore(inside.store, name) for name in names]
    return [open_landscape(study, landscape)]
