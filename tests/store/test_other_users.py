"""What this user may not read is called so: never damaged, and nobody is told to remove it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from studies import command, wells

from landscaper_hpc import InputError, Site, Study, open_landscape, run
from landscaper_hpc.store.landscape import LandscapeStore

NOBODY = 65534


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """The folder of a finished study that everybody may read."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        run(Study.load(wells(folder / "study", count=5)), Site(executor="serial", shard_points=5), folder / "run")
        yield folder / "run"
    finally:
        shutil.rmtree(folder)


@contextmanager
def closed(file: Path) -> Iterator[None]:
    """To everybody but root, who is somebody else inside."""
    before, user = file.stat().st_mode, os.geteuid()
    file.chmod(0)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        file.chmod(before)


CLOSED: dict[str, tuple[str, Callable[[LandscapeStore], object]]] = {
    "the folder": ("", lambda store: open_landscape(store.path.parent)),
    "the store": ("study.zarr", lambda store: open_landscape(store.path.parent)),
    "a landscape": ("study.zarr/origin", lambda store: open_landscape(store.path, "origin")),
    "metadata": ("study.zarr/origin/zarr.json", lambda store: open_landscape(store.path.parent)),
    "directions": ("study.zarr/origin/directions/x/c.0.0", LandscapeStore.directions),
    "a shard": ("study.zarr/origin/loss/c.1.0", lambda store: store.read((slice(None), slice(None)))),
    "a hash": ("study.zarr/origin/done/sha256/c.1.0.0", lambda store: store.read((slice(None), slice(None)))),
    "hashes": ("study.zarr/origin/done/sha256", LandscapeStore.n_done),
    "a merge tree": ("study.zarr/origin/topology/axis.sublevel/values/c.0", LandscapeStore.tree),
    "its metadata": ("study.zarr/origin/topology/axis.sublevel/zarr.json", LandscapeStore.numbers),
}


@pytest.mark.thorough
@pytest.mark.parametrize("what", CLOSED)
def test_what_is_closed_is_called_so(made: Path, what: str) -> None:
    name, read = CLOSED[what]
    store = open_landscape(made)
    with closed(made / name), pytest.raises(InputError, match=r"may not be read \(Permission denied\); ask its owner"):
        read(store)
    np.testing.assert_array_equal(open_landscape(made).read((slice(None), slice(None))).shape, (5, 5))


@pytest.mark.thorough
@pytest.mark.parametrize("words", [("status",), ("report",), ("topology", "--json")])
@pytest.mark.parametrize("name", ["study.zarr", "study.zarr/origin/zarr.json"])
def test_a_command_says_so_in_one_line(made: Path, words: tuple[str, ...], name: str) -> None:
    with closed(made / name):
        done = command(words[0], made, *words[1:])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "ermission denied" in line
    assert "remove" not in line
