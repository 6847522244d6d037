"""The names in a folder of a study or a sweep have one owner: `store/folder.py`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import landscaper_hpc
from landscaper_hpc.store.folder import JobsFolder, RunFolder, StudyFolder, SweepFolder

PACKAGE = Path(landscaper_hpc.__file__).parent
WORD = "a_word"


def all_paths(owner: object) -> Iterator[Path]:
    """What its properties and methods return; hashes and names of jobs and studies are a word."""
    for name, value in vars(type(owner)).items():
        found = value.fget(owner) if isinstance(value, property) else None
        if callable(value) and getattr(value, "__annotations__", {}).get("return") in ("Path", "StudyFolder"):
            found = value(owner, WORD)
        if found is not None and not name.startswith("_"):
            yield getattr(found, "path", found)


def owned() -> set[str]:
    root = Path("/folder")
    owners = RunFolder(root), JobsFolder(root / "jobs"), StudyFolder(root), SweepFolder(root)
    return {part for owner in owners for path in all_paths(owner) for part in path.parts[2:] if WORD not in part}


NAMES = owned()


def names_of_files(file: Path) -> Iterator[tuple[int, str]]:
    """Names that a module gives to files: a literal that is a file's name, and what is joined to a path."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    texts = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and id(node) not in texts and "." in template(node) and node.value in NAMES:
            yield node.lineno, template(node)
        joined: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            joined = [node.left, node.right]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in JOINS:
            joined = node.args
        elif isinstance(node, ast.JoinedStr):
            joined = [node]
        for part in joined:
            text = template(part)
            if not set(text) & set(" \n"):  # or else a sentence for people
                yield from ((node.lineno, name) for name in text.split("/")[joined == [node] :] if name in NAMES)


JOINS = {"Path", "joinpath", "with_name", "glob", "rglob", "join"}


def template(node: ast.expr) -> str:
    """A literal, or an f-string with its values left out."""
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_the_owner_names_everything_in_a_folder() -> None:
    assert {"study.zarr", "results.json", "report.html", "failed", "leases", "resume", ".lock", "dask"} <= NAMES
    assert {"logs", "run.log", "workers", "jobs", "jobs.json"} <= NAMES
    assert {"sweep.json", "sweep.html", "sweep.csv", "sweep.parquet", "studies", "directions"} <= NAMES


@pytest.mark.thorough
def test_no_other_module_knows_these_names() -> None:
    others = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "store/folder.py")
    found = [f"{file.relative_to(PACKAGE)}:{line}: {name}" for file in others for line, name in names_of_files(file)]
    assert not found, "ask store/folder.py: " + ", ".join(found)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ('folder / "failed"', "failed"),
        ('folder / "logs/other"', "logs"),
        ('f"{folder}/studies/{name}"', "studies"),
        ('folder / f"leases/{key}"', "leases"),
        ('folder.joinpath("jobs", name)', "jobs"),
        ('os.path.join(folder, "resume")', "resume"),
        ('FILE = "results.json"', "results.json"),
    ],
)
def test_the_search_finds(tmp_path: Path, source: str, name: str) -> None:
    file = tmp_path / "module.py"
    file.write_text(source)
    assert (1, name) in list(names_of_files(file))


@pytest.mark.parametrize(
    "source",
    ['"""In `results.json`."""', 'said["failed"]', 'f"see {folder}/logs for more"', 'print("written to results.json")'],
)
def test_the_search_lets_people_be_told(tmp_path: Path, source: str) -> None:
    file = tmp_path / "module.py"
    file.write_text(source)
    assert not list(names_of_files(file))


def test_a_study_in_a_sweep_is_an_ordinary_one(tmp_path: Path) -> None:
    own = SweepFolder(tmp_path).study("lr=0.1")
    assert own == StudyFolder(tmp_path / "studies" / "lr=0.1")
    assert not own.finished()
    own.path.mkdir(parents=True)
    own.report.touch()
    assert not own.finished()
    own.results.touch()
    assert own.finished()
