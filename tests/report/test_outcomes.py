"""`landscaper-hpc outcomes`: which numbers of a sweep go with outcomes of its runs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import scipy
from painting import nothing_painted
from studies import command, wells

pytestmark = pytest.mark.thorough  # a sweep of ten studies

TILTS = (0.0, 0.1, 0.2, 0.3, 0.5)
KEY = "checkpoints.0.options.tilt"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over the tilt of the wells, on two grids."""
    folder = tmp_path_factory.mktemp("outcomes")
    file = wells(folder / "study", count=7)
    values = ",".join(map(str, TILTS))
    options = ("--set", f"{KEY}={values}", "--set", "grid.count=7,9", "--out", folder / "sweep", "--executor", "serial")
    with nothing_painted():
        done = command("sweep", file, *options)
    assert done.returncode == 0, done.stderr
    return folder / "sweep"


def errors(folder: Path, text: str) -> Path:
    (folder / "errors.csv").write_text(text)
    return folder / "errors.csv"


def of_tilts(folder: Path) -> Path:
    return errors(folder, f"{KEY},error,kind\n" + "".join(f"{t},{1 - t},{'ab'[t > 0.15]}\n" for t in TILTS))


def test_means_of_settings_go_with_what_they_go_with(swept: Path, tmp_path: Path) -> None:
    done = command("outcomes", swept, of_tilts(tmp_path), "--by", KEY, "--quantity", "mean_climb", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((swept / "outcomes.json").read_text())
    runs = pd.read_csv(swept / "sweep.csv")
    means = runs.groupby(KEY)["mean_climb"].mean()
    (one,) = found["correlations"]
    assert one["rho"] == pytest.approx(scipy.stats.spearmanr(means, [1 - t for t in TILTS]).statistic)
    assert (one["n"], one["against"], one["exact"]) == (5, "error", True)
    assert one["least_p"] == pytest.approx(2 / 120)
    assert one["p_of_all_tests"] == one["p"]
    assert found["settings_of_one_run"] == 0


def test_the_table_says_what_is_counted(swept: Path, tmp_path: Path) -> None:
    done = command("outcomes", swept, of_tilts(tmp_path), "--groups", "kind")
    assert done.returncode == 0, done.stderr
    assert "correlations with error" in done.stdout
    assert "differences with kind = a against b" in done.stdout
    assert "every run counts by itself" in done.stdout
    found = json.loads((swept / "outcomes.json").read_text())
    assert {one["n"] for one in found["correlations"] if "rho" in one} == {10}
    after = [(one["p"], one["p_of_all_tests"]) for one in found["correlations"] if one.get("p") is not None]
    assert all(corrected >= p for p, corrected in after)
    (error,) = (one for one in found["differences"] if one["quantity"] == "error")
    assert error["n"] == [4, 6]
    assert error["delta"] == -1


def test_too_few_runs_decide_nothing(swept: Path, tmp_path: Path) -> None:
    file = errors(tmp_path, f"{KEY},error\n0.0,1\n0.1,2\n0.2,3\n0.3,4\n0.7,5\n")
    done = command("outcomes", swept, file, "--by", KEY)
    assert done.returncode == 0, done.stderr
    assert "undecided, as so few runs must be" in done.stdout
    assert "2 of the sweep's landscapes have no outcome" in done.stdout
    assert "1 outcomes have no finished landscape" in done.stdout
    one_each = command("outcomes", swept, file, "--by", KEY, "--by", "grid.count")
    assert "8 settings have one run each" in one_each.stdout


REFUSED = {
    "nothing in common": ("a,b\n1,2\n", (), "none of its columns (a, b) tells which run"),
    "twice": (f"{KEY},error\n0.1,1\n0.10,2\n", (), f"two rows are of {KEY} = 0.1; keep one"),
    "no row met": (f"{KEY},error\n0.7,1\n", (), "no row is of a finished run"),
    "no number": (f"{KEY},error\n0.1,good\n0.2,bad\n", (), "no column of the outcomes is a number: error"),
    "empty": ("", (), "is no table in CSV"),
    "unknown by": (f"{KEY},error\n0.1,1\n", ("--by", "sead"), "sead: neither the sweep nor "),
    "three groups": (f"{KEY},kind\n0.1,1\n0.2,2\n0.3,3\n", ("--groups", "kind"), "--groups kind: has 3 values"),
    "rows longer than the head": (f"{KEY},error\n0.1,1,\n0.2,2,\n", (), "Expected 2 fields in line 2, saw 3"),
    "a column of numbers and a word": (f"{KEY},error\n0.1,1\n0.2,2 %\n", (), "error has numbers, and '2 %'"),
    "values without a name": (f"{KEY},error,\n0.1,1,7\n0.2,2,9\n", (), "a column has values and no name"),
    "two of one name": (f"{KEY},error,error \n0.1,1,2\n", (), "has two columns 'error'"),
    "a number of the sweep": (f"{KEY},loss\n0.1,1\n", (), "has the column loss, as the sweep's own table has"),
    "semicolons": (f"{KEY};error\n0.1;1\n", (), "separate columns by commas"),
    "a setting without value": (f"{KEY},error,seed\n0.1,1,\n0.2,2,3\n", ("--by", "seed"), "2 of 4 runs have no value"),
    "quantity": (f"{KEY},error\n0.1,1\n", ("--quantity", "smoothness"), "--quantity smoothness: is no number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(swept: Path, tmp_path: Path, name: str) -> None:
    text, options, told = REFUSED[name]
    done = command("outcomes", swept, errors(tmp_path, text), *options)
    assert done.returncode == 2, done.stdout
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def with_rows_counted(text: str) -> str:
    return "".join(f"{i - 1 if i else ''},{line}\n" for i, line in enumerate(text.splitlines()))


@pytest.mark.parametrize(
    ("text", "twice"),
    [("\ufeff{}", ()), (" {}", ()), ("counted", ()), ("{}", ("--quantity", "mean_climb")), ("{}", ("--by", KEY))],
    ids=["a byte order mark", "blanks", "rows counted", "a quantity twice", "a setting twice"],
)
def test_what_changes_nothing(swept: Path, tmp_path: Path, text: str, twice: tuple[str, ...]) -> None:
    plain = f"{KEY},error\n" + "".join(f"{t},{1 - t}\n" for t in TILTS)
    given = with_rows_counted(plain) if text == "counted" else text.format(plain)
    options = ("--quantity", "mean_climb", "--by", KEY, "--json")
    expected = command("outcomes", swept, errors(tmp_path, plain), *options)
    assert command("outcomes", swept, errors(tmp_path, given), *options, *twice).stdout == expected.stdout
    assert json.loads(expected.stdout)["correlations"][0]["n"] == 5


def test_names_are_printed_as_they_are_and_words_are_told(swept: Path, tmp_path: Path) -> None:
    file = errors(tmp_path, f"{KEY},[red]error[/red],[/x],kind\n" + "".join(f"{t},{1 - t},{t}e308,a\n" for t in TILTS))
    done = command("outcomes", swept, file, "--quantity", "mean_climb")
    assert (done.returncode, done.stderr) == (0, "")
    assert "[red]error[/red]" in done.stdout
    assert "no numbers, and not looked at: kind" in done.stdout


def test_a_file_that_is_not_there_and_a_folder_that_is_no_sweep(swept: Path, tmp_path: Path) -> None:
    done = command("outcomes", swept, tmp_path / "gone.csv")
    assert (done.returncode, "does not exist" in done.stderr) == (2, True)
    done = command("outcomes", tmp_path, of_tilts(tmp_path))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
