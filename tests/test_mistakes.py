"""Mistakes in the user's code: one line, never exit code 0; the way to them in the log, and on demand."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
from studies import wells
from typer.testing import CliRunner, Result

import landscaper_hpc
from landscaper_hpc.cli import app
from landscaper_hpc.errors import TaskFailed, is_users
from tests.kinds import kinds, thorough

MORE = """

good = task

def task(**options):
    made = good(**options)
    def deeper(model):
        {deeper}
        return 0.0
    def loss(model, data):
        return made.loss(model, data) + deeper(model)
    {building}
    return Task(made.model, loss, made.data)
"""


def study(folder: Path, deeper: str = "pass", building: str = "pass") -> Path:
    file = wells(folder, count=5)
    text = (folder / "task.py").read_text()
    (folder / "task.py").write_text(text + MORE.format(deeper=deeper, building=building))
    return file


def test_what_is_beside_the_package_is_the_users_and_the_program_of_an_environment_is_not() -> None:
    package = Path(landscaper_hpc.__file__).parent
    assert is_users(f"{package}_studies/task.py")
    assert not is_users(f"{package}/cli.py")
    assert not is_users(str(Path(sysconfig.get_path("scripts")) / "landscaper-hpc"))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


ENDINGS = ("sys.exit(0)", "os._exit(0)", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "BaseExc", "Cancelled")
LEAVING = [
    {"deeper": "raise SystemExit(0)"},
    {"deeper": "__import__('sys').exit(0)"},
    {"deeper": "float(model.x[0]) > 0.9 and __import__('sys').exit(0)"},
    {"deeper": "__import__('os')._exit(0)"},
    {"deeper": "float(model.x[0]) > 0.9 and __import__('os')._exit(0)"},
    {"deeper": "raise KeyboardInterrupt"},
    {"deeper": "raise GeneratorExit"},
    {"deeper": "float(model.x[0]) > 0.9 and exec('raise BaseException')"},
    {"building": "raise __import__('asyncio').CancelledError"},
    {"deeper": "float(model.x[0]) > 0.9 and exec('raise KeyboardInterrupt')"},
    {"building": "__import__('sys').exit(0)"},
    {"building": "raise KeyboardInterrupt"},
    {"building": "__import__('os')._exit(0)"},
    {"building": "__import__('argparse').ArgumentParser().parse_args(['--no-such-option'])"},
]


@pytest.mark.parametrize("code", kinds(LEAVING, *LEAVING[:10:3]))
@pytest.mark.parametrize("name", [thorough("run"), "check"])
def test_a_task_that_ends_the_process_is_an_error(tmp_path: Path, code: dict[str, str], name: str) -> None:
    file = study(tmp_path / "study", **code)
    more = ["--out", tmp_path / "run", "--executor", "serial"] if name == "run" else []
    done = call(name, file, *more)
    assert done.exit_code == 2, done.output
    assert any(word in done.stderr for word in ENDINGS)
    assert done.stderr.splitlines()[-1].startswith("landscaper-hpc: task file")
    assert not (tmp_path / "run/results.json").exists()


@pytest.mark.parametrize(
    ("ends", "said"), [("sys.exit(0)", "called sys.exit(0)"), ("raise KeyboardInterrupt", "raised KeyboardInterrupt")]
)
def test_a_trainer_that_ends_the_process_is_an_error(tmp_path: Path, ends: str, said: str) -> None:
    file = wells(tmp_path / "study", count=5)
    (tmp_path / "study/train.py").write_text(f"import sys\ndef train(path, progress, **options):\n    {ends}\n")
    (tmp_path / "study/origin.pt").unlink()
    done = call("run", file, "--set", "train=train.py", "--out", tmp_path / "run", "--executor", "serial")
    assert done.exit_code == 2
    assert f"train.py {said}" in done.stderr


@pytest.mark.parametrize(
    ("code", "last"),
    [({"deeper": "model.y"}, "in deeper"), ({"building": "import torch; torch.ones(2) @ 3"}, "in task")],
)
def test_the_way_to_a_mistake(tmp_path: Path, code: dict[str, str], last: str) -> None:
    """One line; the frames of the task alone in the log, and on the terminal with --traceback."""
    file = study(tmp_path / "study", **code)
    done = call("run", file, "--out", tmp_path / "run", "--executor", "serial")
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1
    logged = (tmp_path / "run/logs/run.log").read_text()
    shown = call("check", file, "--traceback")
    assert shown.exit_code == 2
    for text in (logged, shown.stderr):
        way = text[text.index("Traceback (most recent call last)") :]
        assert last in way
        assert {line.split('"')[1] for line in way.splitlines() if line.startswith("  File ")} == {
            str(tmp_path / "study/task.py")
        }


SOME_POINTS = {"deeper": "float(model.x[0]) > 0.9 and 1 / 0"}


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["run", "sweep"])
@pytest.mark.parametrize("code", [SOME_POINTS, {"building": "1 / 0"}])
def test_what_some_points_or_studies_fail_with_is_one_line(tmp_path: Path, name: str, code: dict[str, str]) -> None:
    file = study(tmp_path / "study", **code)
    more = ["--checkpoint", tmp_path / "study/origin.pt"] if name == "sweep" else []
    more += ["--out", tmp_path / "run", "--executor", "serial"]
    done, shown = call(name, file, *more), call(name, file, *more, "--traceback")
    assert done.exit_code == shown.exit_code == (1 if name == "sweep" or code == SOME_POINTS else 2)
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("landscaper-hpc: "))
    assert done.stderr.endswith(f"{said}\n")
    assert "ZeroDivisionError: " in said
    assert "Traceback" not in done.stderr
    logged = (tmp_path / "run/logs/run.log").read_text()
    for text in (logged, shown.stderr):
        way = text[text.rindex("Traceback (most recent call last)") :]
        assert {line.split('"')[1] for line in way.splitlines() if line.startswith("  File ")} == {
            str(tmp_path / "study/task.py")
        }


@pytest.mark.processes
@pytest.mark.parametrize("leaves", ["__import__('os')._exit(0)", "exec('raise KeyboardInterrupt')"])
def test_a_loss_that_ends_the_process_in_a_pool(tmp_path: Path, leaves: str) -> None:
    file = study(tmp_path / "study", deeper=f"float(model.x[0]) > 0.9 and {leaves}")
    done = call("run", file, "--out", tmp_path / "run", "--workers", 2)
    assert done.exit_code == 2, done.output
    assert "the loss called sys.exit(" in done.stderr or "the loss raised KeyboardInterrupt" in done.stderr
    assert not (tmp_path / "run/results.json").exists()


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            "2 shards failed. The last error of a.0:\na.0 on n1\nTraceback (most recent call last):\n  File x\nE: no",
            "E: no",
        ),
        (
            "2 shards failed. The last error of a.0:\na.0 on n1\nkey: is wrong\nTraceback (most recent call last):",
            "key: is wrong",
        ),
        ("shard a.0\nTraceback (most recent call last):\n  File x\nE: a\n\nDuring\n\nTraceback (m\n  F\nE: b", "E: b"),
        ("shard a.0\nKeyError: x", "KeyError: x"),
        ("shard a.0\n", "shard a.0"),
    ],
)
def test_a_failures_sentence(message: str, sentence: str) -> None:
    assert TaskFailed(message).sentence.endswith(sentence)
    assert "\n" not in TaskFailed(message).sentence


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["run", "check", "plan", "sweep", "connect", "similarity"])
def test_commands_that_run_the_users_code_can_show_the_way(tmp_path: Path, name: str) -> None:
    file = study(tmp_path / "study", building="1 / 0")
    text = file.read_text()
    if name in ("connect", "similarity"):
        first = text.split("checkpoints: [")[1].split("]")[0]
        file.write_text(text.replace(first, f"{first}, {first.replace('name: origin', 'name: other')}"))
    more = {"connect": ["origin", "other"], "run": ["--out", tmp_path / "run", "--executor", "serial"]}
    if name == "sweep":
        more["sweep"] = ["--checkpoint", str(tmp_path / "study/origin.pt"), *more["run"]]
    plain, shown = (call(name, file, *more.get(name, []), *way) for way in ([], ["--traceback"]))
    assert "ZeroDivisionError" in plain.stderr + shown.stderr
    assert "Traceback" not in plain.stderr
    assert plain.stderr.endswith(" (--traceback shows the way to it)\n")
    if name != "sweep":  # which sets the study aside, with its failure
        assert 'task.py", line' in shown.stderr
