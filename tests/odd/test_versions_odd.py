"""Studies that were begun with other versions: whatever evaluates the loss for them refuses, until it is accepted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies import command, network, wells

from landscaper_hpc.store import layout
from landscaper_hpc.store.landscape import LandscapeStore, landscape_names

ELSEWHERE: dict[str, tuple[tuple[str, ...], str, str]] = {
    # what is other: (its place in what is recorded, its value there, what is said of it)
    "torch": (("versions", "torch"), "2.0.1", "begun with torch 2.0.1, and here is torch "),
    "package": (("versions", "landscaper-hpc"), "0.0.1", "landscaper-hpc 0.0.1, and here is landscaper-hpc "),
    "python": (("versions", "python"), "3.8.1", "begun with Python 3.8, and here is Python "),
    "device": (("device",), "NVIDIA H100 80GB HBM3", "begun with device NVIDIA H100 80GB HBM3, and here is device "),
}


def begun_elsewhere(folder: Path, what: str) -> None:
    """As if every landscape in the folder had been begun there: what is recorded of it is sealed as it was."""
    for place in folder.rglob("study.zarr"):
        for name in landscape_names(place):
            file = place / name / "zarr.json"
            document = json.loads(file.read_text())
            own = document["attributes"]
            recorded = json.loads(own["provenance"])
            *path, last = ELSEWHERE[what][0]
            at = recorded
            for key in path:
                at = at[key]
            at[last] = ELSEWHERE[what][1]
            own["provenance"] = json.dumps(recorded)
            nodes = document["consolidated_metadata"]["metadata"]
            own["sha256"] = layout.seal(own, {key: node for key, node in nodes.items() if layout.decides(key)})
            file.write_text(json.dumps(document))


def without_some(folder: Path) -> None:
    """As if it had been killed before its last shards."""
    for place in folder.rglob("done/sha256"):
        sorted(place.glob("c.*"))[-1].unlink()
    for page in folder.rglob("report.html"):
        page.unlink()


def as_it_is(folder: Path) -> None:
    pass


SMALL = ("--set", "directions={kind: random, n: 2}", "--set", "checkpoints=[{name: untrained, file: untrained.pt}]")
GOES_ON: dict[str, tuple[Any, list[Any], Callable[[Path], None], list[Any]]] = {
    # what is begun: (a study, how, what is left to do, what more is asked for)
    "shards": (wells, ["run"], without_some, []),
    "a sweep": (wells, ["sweep", "--set", "grid.range=1.5,1.2"], without_some, []),
    "minima": (wells, ["run"], as_it_is, ["--set", "confirm.minima=2"]),
    "more minima": (wells, ["run", "--set", "confirm.minima=1"], as_it_is, ["--set", "confirm.minima=2"]),
    "error bars": (network, ["run", *SMALL, "--set", "grid.count=5"], as_it_is, ["--set", "error_bars.pairs=2"]),
    "a higher scope": (wells, ["run", "--set", "scope.share=0.1"], as_it_is, ["--set", "scope.share=0.3"]),
}


@pytest.fixture(scope="module")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[Any]]]:
    """Begins a study here: its folder, and the command that goes on."""
    begun: dict[str, tuple[Path, list[Any]]] = {}

    def once(what: str) -> tuple[Path, list[Any]]:
        if what not in begun:
            make, (name, *how), _, more = GOES_ON[what]
            folder = tmp_path_factory.mktemp("begun")
            site = ["--executor", "serial", "--set-site", "shard_points=25"]
            study = make(folder / "study", **({"count": 9} if make is wells else {}))
            done = command(name, study, *how, *site, "--out", folder / "run")
            assert done.returncode == 0, done.stderr
            begun[what] = folder, [name, study, *how, *more, *site]
        return begun[what]

    return once


@pytest.mark.parametrize(
    ("what", "elsewhere"), [*((what, "torch") for what in GOES_ON), *(("shards", other) for other in ELSEWHERE)]
)
@pytest.mark.thorough
def test_what_was_begun_elsewhere_goes_on_when_that_is_accepted(
    what: str, elsewhere: str, begin: Callable[[str], tuple[Path, list[Any]]], tmp_path: Path
) -> None:
    folder, words = begin(what)
    shutil.copytree(folder / "run", tmp_path / "run")
    GOES_ON[what][2](tmp_path / "run")
    begun_elsewhere(tmp_path / "run", elsewhere)
    refused = command(*words, "-q", "--out", tmp_path / "run")
    assert refused.returncode == 2, refused.stdout
    (line,) = refused.stderr.splitlines()
    assert ELSEWHERE[elsewhere][2] in line
    assert "--accept-versions" in line
    accepted = command(*words, "--accept-versions", "-q", "--out", tmp_path / "run")
    assert accepted.returncode == 0, accepted.stderr
    stores = [
        LandscapeStore(place, name)
        for place in (tmp_path / "run").rglob("study.zarr")
        for name in landscape_names(place)
    ]
    assert all(store.accepted() for store in stores)
    for results in (tmp_path / "run").rglob("results.json"):
        assert json.loads(results.read_text())["provenance"]["accepted"]


@pytest.mark.processes
def test_every_process_asks(begin: Callable[[str], tuple[Path, list[Any]]], tmp_path: Path) -> None:
    folder, words = begin("shards")
    shutil.copytree(folder / "run", tmp_path / "run")
    without_some(tmp_path / "run")
    begun_elsewhere(tmp_path / "run", "torch")
    by_two = ("local" if word == "serial" else word for word in words)
    refused = command(*by_two, "--workers", "2", "-q", "--out", tmp_path / "run")
    assert refused.returncode == 2, refused.stderr
    assert ELSEWHERE["torch"][2] in refused.stderr.splitlines()[-1]
