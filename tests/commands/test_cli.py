"""The command line as a user meets it: exit codes, one-line errors, help, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from forked import forked_python
from studies import Gate, command, contents, network, on_a_small_disk, wells
from typer.testing import CliRunner

import landscaper_hpc
from landscaper_hpc import Study, open_landscape, strict_json
from landscaper_hpc.cli import app
from landscaper_hpc.commands.run import finer_grid
from landscaper_hpc.exit_codes import guarded
from landscaper_hpc.store.lock import restarts

COMMANDS = ["init", "check", "plan", "run", "sweep", "status", "topology", "report", "sensitivity", "connect"]
COMMANDS += ["similarity", "outcomes", "import", "export", "doctor"]


@pytest.mark.processes
def test_help_has_every_command_and_imports_nothing_heavy() -> None:
    script = """
import sys
from importlib.metadata import version
from landscaper_hpc.cli import app
try:
    app(["--help"])
finally:
    heavy = {"torch", "numpy", "zarr", "numba", "matplotlib", "mpi4py", "dask", "pydantic", "pandas"} & set(sys.modules)
    assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    told = CliRunner().invoke(app, [name, "--help"], prog_name="landscaper-hpc", terminal_width=120)
    assert told.exit_code == 0
    text, _, examples = re.split("^(Arguments|Options):", told.stdout, flags=re.MULTILINE)[0].partition("Example")
    assert examples, "no examples"
    lines = [line.strip() for line in examples.splitlines()[1:] if line.strip()]
    assert all(line.startswith(("landscaper-hpc ", "mpiexec ", "srun ")) for line in lines), lines  # one on each line
    assert any(f"landscaper-hpc {name}" in line for line in lines)
    assert "\\" not in text + examples  # what was meant for the formatter, and not for a reader


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {"grid.count": 41}),
        (["grid.axes=[{count: 5}, {count: 7}]"], {"grid.axes.0.count": 9, "grid.axes.1.count": 13}),
    ],
)
def test_the_finer_grid_that_run_offers_is_one(tmp_path: Path, overrides: list[str], expected: dict[str, int]) -> None:
    file = wells(tmp_path)
    found = finer_grid(Study.load(file, overrides))
    assert found == expected
    finer = Study.load(file, [*overrides, *(f"{key}={count}" for key, count in found.items())])
    assert max(found.values()) == max(finer.make_grid().shape)


@pytest.mark.thorough
def test_the_command_that_run_offers_next_keeps_what_was_asked_for(tmp_path: Path) -> None:
    file = wells(tmp_path / "a study", count=5)
    given = ["--set", "grid.range=[-1, 2]"]
    coarse = [*given, "--set", "grid.count=3", "--executor", "serial", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["run", str(file), *coarse])
    assert done.exit_code == 0, done.output
    (offered,) = [line.partition("next: a finer grid")[2] for line in done.stdout.splitlines() if "next: " in line]
    assert shlex.split(offered) == [
        *("landscaper-hpc", "run", str(file), *given, "--set", "grid.count=5"),
        *("--executor", "serial", "--out", f"{tmp_path / 'out'}_5"),
    ]


def test_init_sbatch_writes_the_scripts(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", "--sbatch", str(tmp_path / "jobs")])
    assert done.exit_code == 0, done.output
    here = Path(__file__).parents[2] / "slurm"
    assert {f.name: f.read_text() for f in (tmp_path / "jobs").iterdir()} == {
        f.name: f.read_text() for f in here.glob("*.sbatch")
    }
    again = CliRunner().invoke(app, ["init", "--sbatch", str(tmp_path / "jobs")])
    assert again.exit_code == 2
    assert "is there already" in again.stderr


@pytest.mark.processes
def test_import_is_light() -> None:
    script = "import sys, landscaper_hpc; assert not {'torch', 'mpi4py', 'dask', 'matplotlib'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.processes
def test_the_whole_way(tmp_path: Path) -> None:
    file = network(tmp_path / "study")
    folder = tmp_path / "run"
    checked = command("check", file)
    assert checked.returncode == 0, checked.stderr
    assert "the same twice" in checked.stdout
    assert "`landscaper-hpc run` trains it" in checked.stdout
    planned = command("plan", file, "--out", folder)
    assert planned.returncode == 0, planned.stderr
    for words in ("98 (2 × 7 × 7)", "33, 2 hessian", "shards", "points/s", "core-hours", "free"):
        assert words in planned.stdout
    assert not folder.exists()
    ran = command("run", file, "--out", folder, "--workers", "1")
    assert ran.returncode == 0, ran.stderr
    for words in ("untrained", "SMAD", "report.html", "next:"):
        assert words in ran.stdout
    stated = int(planned.stdout.partition("files       about ")[2].partition(",")[0])
    assert stated / 2 < len(list(folder.rglob("*"))) <= stated
    assert "training trained: 100/100" in ran.stderr
    assert "points: 98/98 (100 %)" in ran.stderr
    said = json.loads(command("status", folder, "--json").stdout)
    assert [(i["name"], i["shards_done"] == i["shards"], i["topology"]) for i in said["landscapes"]] == [
        ("trained", True, True),
        ("untrained", True, True),
    ]
    assert "100 %" in command("status", folder).stdout
    before = contents(folder)
    (folder / "report.html").unlink()
    assert command("report", folder).returncode == 0
    assert contents(folder) == before
    found = json.loads(command("topology", folder, "--landscape", "trained", "--json").stdout)
    results = json.loads((folder / "results.json").read_text())
    assert found["smad"] == results["landscapes"][1]["topology"]["smad"]


@pytest.mark.processes
def test_init_writes_a_study_that_runs(tmp_path: Path) -> None:
    assert command("init", tmp_path / "mine").returncode == 0
    done = command("run", tmp_path / "mine/study.yaml", "--out", tmp_path / "run", "--set", "grid.count=5")
    assert done.returncode == 0, done.stderr
    again = command("init", tmp_path / "mine")
    assert again.returncode == 2
    assert "is there already" in again.stderr


@pytest.mark.thorough
def test_connect_two_checkpoints(tmp_path: Path) -> None:
    """Two of the four wells at (±1, ±1): the straight line crosses a barrier, from height 0 to 3 at the origin."""
    file = wells(tmp_path, tilt=0.0)
    for name, sign in (("a", -1.0), ("b", 1.0)):
        torch.save({"x": torch.full((2,), sign, dtype=torch.float64)}, tmp_path / f"{name}.pt")
    checkpoints = "[{name: a, file: a.pt, options: {tilt: 0.0}}, {name: b, file: b.pt, options: {tilt: 0.0}}]"
    done = command("connect", file, "a", "b", "--set", f"checkpoints={checkpoints}", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["line"]["barrier"] == pytest.approx(3)
    assert found["line"]["losses"][0] == found["line"]["losses"][-1] == 0
    assert command("connect", file, "origin", "c").stderr.count("choose from origin") == 1
    torch.save({"x": torch.full((2,), 1.0)}, tmp_path / "a.pt")  # the weights of b in another file
    for ends in (("a", "b"), ("a", "a")):
        same = command("connect", file, *ends, "--set", f"checkpoints={checkpoints}", "--json")
        assert (same.returncode, same.stdout) == (2, "")
        assert "no path lies between them" in same.stderr


@pytest.mark.thorough
def test_similarity_of_the_checkpoints_of_a_study(tmp_path: Path) -> None:
    file = network(tmp_path)
    state = torch.load(tmp_path / "untrained.pt", weights_only=True)
    torch.save({k: 2 * v if k.startswith("2.") else v for k, v in state.items()}, tmp_path / "scaled.pt")
    checkpoints = "[{name: one, file: untrained.pt}, {name: two, file: scaled.pt}]"
    options = ["similarity", file, "--set", f"checkpoints={checkpoints}", "--examples", 40]
    done = command(*options, "--json", "--figure", tmp_path / "cka.svg")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["checkpoints"], found["examples"]) == (["one", "two"], 40)
    assert set(found["cka"]) == {"0", "2"}
    for matrix in found["cka"].values():  # CKA does not see a scale
        assert matrix == [pytest.approx([1, 1]), pytest.approx([1, 1])]
    assert (tmp_path / "cka.svg").read_text().count("1.00") >= 8
    table = command(*options, "--layers", "2")
    assert table.stdout.splitlines()[0].split() == ["2", "one", "two"]
    assert table.stdout.count("1.0000") == 4
    refused = command(*options, "--layers", "head*")
    assert refused.returncode == 2
    assert "no layer matches head*; there are 0, 1, 2" in refused.stderr
    assert command(*options, "--figure", "cka.tiff").stderr.count("ends in .svg or .png") == 1


def test_doctor(tmp_path: Path) -> None:
    done = command("doctor", tmp_path)
    assert done.returncode == 0, done.stdout
    assert "atomic rename and fsync work" in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert command("doctor", tmp_path / "nowhere").returncode == 1


def test_doctor_goes_on_after_what_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("the driver\nis gone")

    whole = json.loads(command("doctor", tmp_path, "--json").stdout)
    monkeypatch.setattr(torch.cuda, "device_count", fails)
    monkeypatch.setattr("landscaper_hpc.commands.doctor._compiler", fails)
    done = command("doctor", tmp_path, "--json")
    assert done.returncode == 1
    found = {item["name"]: item for item in json.loads(done.stdout)["findings"]}
    assert list(found) == [item["name"] for item in whole["findings"]]
    for name in ("gpu", "merge tree"):
        assert found[name]["finding"] == "could not be looked at: RuntimeError: the driver is gone"
        assert found[name]["ok"] is False
    asked = command("doctor", "--site", "perlmutter")  # $SCRATCH is not set
    assert "$SCRATCH/landscapes names a variable that is not set" in asked.stdout
    assert "merge tree" in asked.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["run", "{study}", "--set", "grid.count=10"], "grid.count: an even count"),
        (["run", "{study}", "--set", "checkpoints.0.file=gone.pt"], "checkpoints.origin.file: cannot read"),
        (["check", "{study}", "--set", "task=gone.py"], "gone.py"),
        (["plan", "{study}", "--device", "tpu"], "device"),
        (["run", "{study}", "--site", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["status", "nowhere"], "nowhere: is not a study's folder"),
        (["report", "nowhere"], "nowhere"),
        (["run", "{study}", "--out", "/proc/nothing"], "/proc/nothing: cannot be written"),
        (["init", "/proc/nothing"], "/proc/nothing: cannot be written"),
        (["check", "{study}", "--set", f"checkpoints.0.file={'a' * 300}.pt"], "a.pt: file name too long; correct"),
        (["run", "{study}", "--out", "a" * 300], "cannot be written .File name too long"),
        (["topology", "a/" * 3000], "give a study.s folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    file = wells(tmp_path / "study")
    done = command(*(a.replace("{study}", str(file)) for a in arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert re.search(words, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.processes
def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    file = network(tmp_path / "study", slow=0.1)
    gate = Gate(file)
    arguments = ["run", file, "--out", tmp_path / "run", "--site", file.parent / "site.yaml"]
    process = subprocess.Popen(
        [sys.executable, "-m", "landscaper_hpc.cli", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    store = tmp_path / "run/study.zarr"
    gate.until("a shard", lambda: list(store.glob("*/done/*/c.*")) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    gate.close()
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130, errors
    assert "everything finished so far is kept" in errors
    assert "Traceback" not in errors
    said = json.loads(command("status", tmp_path / "run", "--json").stdout)
    finished = sum(item["shards_done"] for item in said["landscapes"])
    assert 0 < finished < sum(item["shards"] for item in said["landscapes"])


@pytest.mark.processes
@pytest.mark.parametrize("module", ["typer", "landscaper_hpc.commands.sweep", "pydantic", "landscaper_hpc.study.study"])
def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path: Path, module: str) -> None:
    script = f"""
import os, signal, sys
class Pressed:
    def find_spec(name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Pressed)
sys.argv = ["landscaper-hpc", "plan", {str(wells(tmp_path))!r}]
from landscaper_hpc.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert re.fullmatch("landscaper-hpc: stopped.*\n", done.stderr)


@pytest.mark.parametrize("ours", [True, False])
def test_the_console_script_answers_ctrl_c_where_nobody_else_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ours: bool
) -> None:
    from landscaper_hpc import __main__ as script
    from landscaper_hpc import errors

    monkeypatch.setattr(errors, "REPLACEABLE", [*errors.REPLACEABLE])
    monkeypatch.setattr(sys, "argv", ["landscaper-hpc", "--version"])
    before = signal.signal(signal.SIGINT, signal.default_int_handler if ours else signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit) as ended:
            script.main()
        assert (signal.getsignal(signal.SIGINT) is signal.SIG_IGN) != ours
    finally:
        signal.signal(signal.SIGINT, before)
    assert not ended.value.code
    assert landscaper_hpc.__version__ in capsys.readouterr().out


def test_what_python_makes_of_ctrl_c_is_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    def makes_a_class() -> None:
        class Field:
            def __set_name__(self, owner: type, name: str) -> None:
                os.kill(os.getpid(), signal.SIGINT)  # Python 3.11 makes a RuntimeError of it

        type("Made", (), {"field": Field()})

    with pytest.raises(SystemExit) as ended:
        guarded(makes_a_class)()
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("landscaper-hpc: stopped; everything")


def test_a_link_that_leads_to_itself_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SystemExit) as ended:
        guarded(lambda: (tmp_path / "loop").resolve(strict=True) and None)()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "loop" in said
    assert said.endswith(": is a link that leads to itself; remove it\n")


def test_a_count_of_restarts_that_is_none_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "x")
    assert restarts() == 0


@pytest.mark.processes
@pytest.mark.parametrize("kilobytes", [4, *(pytest.param(kb, marks=pytest.mark.slow) for kb in (40, 80)), 240])
def test_a_full_disk_at_any_point_is_one_line(tmp_path: Path, kilobytes: int) -> None:
    file = wells(tmp_path / "study", n=3)
    run = [forked_python(), "-m", "landscaper_hpc.cli", "run", file, "--out", tmp_path / "disk/run", "--workers", "1"]
    done = on_a_small_disk(tmp_path / "disk", kilobytes, *run)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "no space left" in last
    assert "Traceback" not in done.stderr
    assert ".partial" not in done.stdout  # the list of what is left


@pytest.mark.thorough
def test_a_command_that_is_asked_for_json_prints_one_object(tmp_path: Path) -> None:
    file = wells(tmp_path / "study", count=5)
    out = ("--out", str(tmp_path / "run"))
    asked = [("check", file), ("plan", file, *out), ("run", file, *out, "--executor", "serial", "--quiet")]
    found = {}
    for words in asked:
        done = command(*words, "--json")
        assert done.returncode == 0, done.stderr
        found[words[0]] = strict_json.loads(done.stdout)
    assert found["check"]["points"] == found["plan"]["points"]
    assert found["run"] == strict_json.loads((tmp_path / "run/results.json").read_text())
    (checked,) = found["check"]["checkpoints"].values()
    assert checked["parameters"] == 2
    assert checked["rounding"]["error"] == 0.0  # float64
    assert done.stderr == ""


@pytest.mark.thorough
def test_what_is_told_grows_from_quiet_to_verbose(tmp_path: Path) -> None:
    file = wells(tmp_path / "study", count=5)
    told = [
        command("run", file, "--out", tmp_path / f"run{i}", "--executor", "serial", *options).stderr
        for i, options in enumerate(([], ["-q"], ["-v"]))
    ]
    assert "points: " in told[0]
    assert told[1] == ""
    assert "points: " in told[2]
    assert "orchestrate: done" in told[2]


@pytest.mark.parametrize("words", [["-h"], ["--version"], ["-V"], ["run", "-h"]])
def test_what_every_command_line_has(words: list[str]) -> None:
    done = command(*words)
    assert done.returncode == 0
    expected = f"landscaper-hpc {version('landscaper_hpc')}\n" if "V" in words[0] or "v" in words[0] else "Usage: "
    assert done.stdout.startswith(expected)


@pytest.mark.thorough
def test_a_sweep_of_each_layer(tmp_path: Path) -> None:
    """Each moves alone, and figures are over the layers."""
    assert command("init", tmp_path / "mine").returncode == 0
    study = tmp_path / "mine/study.yaml"
    options = ("--out", tmp_path / "sweep", "--executor", "serial")
    done = command("sweep", study, "--each-layer", "[24]", "--set", "grid.count=5", *options)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "sweep/sweep.html").read_text()
    assert "over the values of only" in page
    for name, tensors in (("2", ["2.bias", "2.weight"]), ("4", ["4.bias", "4.weight"])):
        vectors = open_landscape(tmp_path / f"sweep/studies/only={name}.").directions().vectors
        assert [key for key in sorted(vectors) if vectors[key].any()] == tensors
    both = command("sweep", study, "--each-layer", "2", "--set", "only=[['2.*'],['4.*']]", *options)
    assert both.returncode == 2
    assert "--each-layer and values of only exclude each other" in both.stderr


@pytest.mark.parametrize(
    ("shell", "words", "completed"),
    [
        ("bash", ["s"], {"status", "sweep", "sensitivity", "similarity"}),
        ("bash", ["run", "--exec"], {"--executor"}),
        ("zsh", ["topo"], {"topology"}),
        ("fish", ["sim"], {"similarity"}),
    ],
)
def test_the_shell_completes_commands_and_options(
    monkeypatch: pytest.MonkeyPatch, shell: str, words: list[str], completed: set[str]
) -> None:
    line = " ".join(["landscaper-hpc", *words])
    asked = {"_LANDSCAPER_HPC_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    asked |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    done = command()
    found = set(re.findall(r"^[\w-]+" if shell != "zsh" else r'"([\w-]+)":', done.stdout, flags=re.MULTILINE))
    assert found == completed, done.stdout
