"""Files of a study or a sweep that were edited, damaged or removed: a sentence, or made again; never other numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies import command, contents, wells

Change = Callable[[Path], object]


def edited(key: str, value: Any) -> Change:
    """JSON in which one value, by its path, is another."""

    def change(file: Path) -> None:
        document = json.loads(file.read_text())
        *path, last = key.split("/")
        at = document
        for name in path:
            at = at[int(name)] if isinstance(at, list) else at[name]
        assert at[last] != value
        at[last] = value
        file.write_text(json.dumps(document))

    return change


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def halved(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def nested(file: Path) -> None:
    file.write_bytes(b'{"a":' * 100_000)


def written(text: str) -> Change:
    return lambda file: file.write_text(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in `study`, finished in `run`."""
    folder = tmp_path_factory.mktemp("made")
    study = wells(folder / "study", count=7)
    (folder / "site.yaml").write_text("{executor: serial, shard_points: 21}")
    done = command("run", study, "--site", folder / "site.yaml", "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def more_made(made: Path) -> Path:
    """And with its minima confirmed in `sure`, and a sweep of it in `sweep`."""
    folder, study = made, made / "study/study.yaml"
    for name, out, *more in (
        ("run", "sure", "--set", "confirm.minima=1"),
        ("sweep", "sweep", "--set", "grid.range=1.5,1.2"),
    ):
        done = command(name, study, *more, "--site", folder / "site.yaml", "--out", folder / out)
        assert done.returncode == 0, done.stderr
    return folder


LOSS, DONE = "run/study.zarr/origin/loss", "run/study.zarr/origin/done/sha256"
SWEPT = "sweep/studies/grid.range=1.2/results.json"
ALTERED, NO_RESULTS = "was altered after it was written; restore it", "is not a study's results"
REFUSED: dict[str, tuple[str, Change, str]] = {
    # what: (file, its change, the command, what it says)
    "a number": ("run/results.json", edited("landscapes/0/topology/smad", 0.5), "report", ALTERED),
    "a name": ("run/results.json", edited("study", "another"), "report", ALTERED),
    "an option": ("run/results.json", edited("landscapes/0/options/tilt", 3), "report", ALTERED),
    "no landscape": ("run/results.json", edited("landscapes", []), "report", ALTERED),
    "a former format": ("run/results.json", edited("schema", 2), "report", "format 2, this version reads 4; remove it"),
    "half a file": ("run/results.json", halved, "report", NO_RESULTS),
    "a list": ("run/results.json", written("[]"), "report", NO_RESULTS),
    "too deep": ("run/results.json", nested, "report", NO_RESULTS),
    "a number of a sweep": (SWEPT, edited("landscapes/0/topology/smad", 0.5), "report sweep", ALTERED),
    "a value of a sweep": ("sweep/sweep.json", edited("studies/0/values/grid.range", 9.0), "report sweep", ALTERED),
    "too deep a sweep": ("sweep/sweep.json", nested, "status sweep", "is not the record of a sweep"),
    "confirmed minima": ("sure/study.zarr/origin/confirmed/ends/c.0", flipped, "report sure", "missing or damaged"),
    "losses compared": (f"{LOSS}/c.0.0", flipped, "sensitivity", "the chunk is altered"),
    "losses read": (f"{LOSS}/c.0.0", flipped, "topology", "the chunk is altered"),
    "metadata in a folder": (f"{LOSS}/zarr.json", a_folder, "status", "the metadata cannot be read"),
    "metadata too deep": ("run/study.zarr/origin/zarr.json", nested, "status", "nested too deeply"),
    "no losses": (LOSS, shutil.rmtree, "status", "the metadata were altered"),
    "no hashes": (DONE, shutil.rmtree, "status", "is gone; restore it, or remove"),
    "a hash in a folder": (f"{DONE}/c.0.0.0", a_folder, "topology", "cannot be read; restore it, or remove"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.thorough
def test_what_was_altered_is_refused_in_one_sentence(what: str, more_made: Path, tmp_path: Path) -> None:
    file, change, words, said = REFUSED[what]
    name, folder = [*words.split(), "run"][:2]
    shutil.copytree(more_made / folder, tmp_path / folder)
    change(tmp_path / file)
    of = (more_made / "study/study.yaml", "--out") if name == "sensitivity" else ()
    done = command(name, *of, tmp_path / folder)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert said in line


@pytest.mark.thorough
def test_status_says_that_it_lists_and_reads_nothing(made: Path, tmp_path: Path) -> None:
    """A finished study with an altered loss is finished to it: only a run reads what is there."""
    shutil.copytree(made / "run", tmp_path / "run")
    flipped(tmp_path / f"{LOSS}/c.1.0")
    said = command("status", tmp_path / "run").stdout
    assert "(100 %)" in said
    assert said.splitlines()[-1].startswith("listed, and not read: what proves every hash, and mends, is ")


@pytest.mark.thorough
def test_a_merge_tree_of_losses_that_are_gone_is_not_done(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / f"{DONE}/c.1.0.0").unlink()
    said = command("status", tmp_path / "run").stdout
    assert "2/3 shards (66 %), 7 × 7 points, merge tree pending" in said
    assert "nobody works on it; go on with: " in said


MADE_AGAIN: dict[str, tuple[str, Change]] = {
    "a number": ("run/results.json", edited("landscapes/0/topology/smad", 0.5)),
    "too deep": ("run/results.json", nested),
    "half a page": ("run/report.html", halved),
    "a loss": (f"{LOSS}/c.1.0", flipped),
    "half a shard": (f"{LOSS}/c.1.0", halved),
    "a hash": (f"{DONE}/c.1.0.0", flipped),
    "no hash": (f"{DONE}/c.1.0.0", Path.unlink),
    "the list of trees": ("run/study.zarr/origin/topology/zarr.json", nested),
    "no list of trees": ("run/study.zarr/origin/topology/zarr.json", Path.unlink),
    "a tree": ("run/study.zarr/origin/topology/axis.sublevel/parent/c.0", flipped),
}


@pytest.mark.parametrize("what", MADE_AGAIN)
@pytest.mark.thorough
def test_what_follows_from_the_rest_is_made_again(what: str, made: Path, tmp_path: Path) -> None:
    file, change = MADE_AGAIN[what]
    shutil.copytree(made / "run", tmp_path / "run")
    change(tmp_path / file)
    done = command("run", made / "study/study.yaml", "--site", made / "site.yaml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "run") == contents(made / "run")


ODD_BEATS = [
    {"marks": "x"},
    {"marks": [[1.0]]},
    {"marks": [["a", 1, 1]]},
    {"began": "x"},
    {"points": None},
    {"host": 7},
    {"job": 7},
    {"device": "other:0"},
    {"more": 1},
]


@pytest.mark.thorough
@pytest.mark.parametrize("odd", ODD_BEATS)
def test_a_workers_word_that_is_torn_is_not_counted(odd: dict[str, Any], made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    (beat,) = (tmp_path / "run/logs/workers").glob("*.json")
    beat.write_text(json.dumps(json.loads(beat.read_text()) | odd))
    done = command("status", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "3/3 shards" in done.stdout


ODD_NOTES = {
    "a lease": ("leases/origin.0.0", b"\xff\xfe\0"),
    "a failed attempt": ("failed/origin.0.0.1", b"\xff\xfe\0"),
    "a quarantined shard": ("failed/origin.0.0.3", b"\xff\xfe\0"),
    "the command": ("logs/command.json", b"[" * 100_000),
    "how far a search is": ("points/origin/so_far.json", b'{"evaluated": "x"}'),
}


@pytest.mark.thorough
@pytest.mark.parametrize("what", ODD_NOTES)
def test_notes_that_are_torn_do_not_stop_status(what: str, made: Path, tmp_path: Path) -> None:
    name, content = ODD_NOTES[what]
    shutil.copytree(made / "run", tmp_path / "run")
    if what == "how far a search is":  # of which only those whose points are looked for have a note
        shutil.rmtree(tmp_path / "run" / Path(DONE).relative_to("run"))
        (tmp_path / "run" / Path(DONE).relative_to("run")).mkdir()
        shutil.copy(made / DONE / "zarr.json", tmp_path / DONE / "zarr.json")
    (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "run" / name).write_bytes(content)
    for more in ([], ["--json"], ["--failed"]):
        done = command("status", tmp_path / "run", *more)
        assert done.returncode == 0, done.stderr


@pytest.mark.thorough
def test_jobs_that_were_altered_are_not_taken_for_what_was_submitted(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "run/jobs").mkdir()
    (tmp_path / "run/jobs/jobs.json").write_text('{"submissions": [], "sha256": "0"}')
    done = command("status", tmp_path / "run")
    assert done.returncode == 2
    assert "jobs.json: is torn or altered; restore it, or remove it when none of the jobs" in done.stderr
