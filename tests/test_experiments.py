"""The papers' experiments: verdicts of made-up numbers, what is refused, and every study at its smallest size."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy
from experiments import Claim, Groups, Trend, combined
from experiments.judged import NOT_REPRODUCED, REPRODUCED, UNDECIDED, Judged, cliff_interval, judged
from experiments.performed import WORKFLOW, load, perform
from experiments.written import collected, markdown, page, picture, results, write

from landscaper_hpc import InputError, strict_json

STUDIES = sorted(file.parent.name for file in WORKFLOW.glob("*/experiment.py"))


def rows(**columns: Any) -> pd.DataFrame:
    """Six runs of each of two groups: `skip` False, then True."""
    skip, seed = zip(*product([False, True], range(6)), strict=True)
    return pd.DataFrame({"skip": skip, "seed": seed, **columns})


def judge(found: pd.DataFrame, *claims: Claim) -> list[Judged]:
    return judged(claims, {"landscapes": found}, ["skip", "seed"])


def claim(quantity: str = "smad", expected: Any = "smaller", **more: Any) -> Claim:
    return Claim("lower with skips", "made up", quantity, Groups({"skip": False}, {"skip": True}, expected), **more)


APART = [6.0, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]
MIXED = [0.0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize(
    ("values", "expected", "verdict", "why"),
    [
        (APART, "smaller", REPRODUCED, "as claimed"),
        (APART, "larger", NOT_REPRODUCED, "the opposite of the claim"),
        (MIXED, "larger", UNDECIDED, "chance may have made it"),
        ([1.0] * 12, "larger", UNDECIDED, "not tested: all the same"),
    ],
)
def test_each_verdict_of_two_groups(values: list[float], expected: str, verdict: str, why: str) -> None:
    (found,) = judge(rows(smad=values), claim(expected=expected))
    assert (found.verdict, found.why) == (verdict, why)


def test_groups_that_do_not_overlap_have_the_smallest_p_and_an_interval() -> None:
    (found,) = judge(rows(smad=APART), claim())
    assert found.effect.size == -1
    assert found.effect.p == pytest.approx(2 / math.comb(12, 6))
    # Newcombe's equation for a share of 1: 1 − θ = z √(θ(1 − θ)(1 + n*(…))/nm)
    theta = (1 - found.effect.high) / 2
    shape = 1 + 5 * ((1 - theta) / (2 - theta) + theta / (1 + theta))
    z = scipy.stats.norm.ppf(0.975)
    assert (1 - theta) ** 2 == pytest.approx(z**2 * theta * (1 - theta) * shape / 36)
    assert found.effect.low == pytest.approx(-1)


@pytest.mark.parametrize("delta", [-1.0, -0.5, 0.0, 0.3, 1.0])
def test_the_interval_of_cliffs_delta_holds_it_and_mirrors(delta: float) -> None:
    low, high = cliff_interval(delta, 5, 7)
    assert -1 <= low <= delta + 1e-9
    assert delta - 1e-9 <= high <= 1
    assert cliff_interval(-delta, 5, 7) == pytest.approx((-high, -low))


def test_one_run_of_another_order_of_magnitude_does_not_decide() -> None:
    values = [6.0, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 1e9]
    (found,) = judge(rows(smad=values), claim())
    assert found.effect.size == pytest.approx(-(30 - 6) / 36)


def test_an_effect_that_is_another_on_a_coarser_grid_is_undecided() -> None:
    (found,) = judge(rows(smad=APART, **{"smad@2": APART, "smad@4": APART[::-1]}), claim())
    assert found.elsewhere == (("on every 4th point", 1.0), ("on every second point", -1.0))
    assert (found.verdict, found.why) == (UNDECIDED, "not half as large, or of the other sign, on every 4th point")
    less = [6.0, 7, 8, 9, 4, 5, 0, 1, 2, 3, 10, 11]
    (found,) = judge(rows(smad=APART, **{"smad@2": less}), claim())
    ((_, size),) = found.elsewhere
    assert size * found.effect.size > 0
    assert found.verdict == UNDECIDED


def test_a_trend_with_a_number_of_the_grid_is_looked_at_with_both_of_the_nested_one() -> None:
    found = rows(smad=APART, climb=APART, **{"smad@2": APART[::-1], "climb@2": APART[::-1]})
    (one,) = judge(found, Claim("alike", "made up", "smad", Trend("climb", "rises")))
    assert one.elsewhere[0] == ("on every second point", pytest.approx(1))
    assert scipy.stats.spearmanr(APART, APART[::-1]).statistic < 0


def test_a_trend_with_a_number_of_another_landscape_is_looked_at_with_its_confirmed_minima() -> None:
    found = rows(n_minima=APART, n_minima_of_three=APART, confirmed_minima=APART, confirmed_minima_of_three=APART[::-1])
    (one,) = judge(found, Claim("alike", "made up", "n_minima", Trend("n_minima_of_three", "rises")))
    assert one.effect.size == pytest.approx(1)
    ((where, size),) = one.elsewhere
    assert (where, size) == ("for confirmed minima", pytest.approx(scipy.stats.spearmanr(APART, APART[::-1]).statistic))


def test_confirmed_minima_and_for_smad_the_mean_climb_must_agree() -> None:
    found = rows(smad=APART, mean_climb=APART, confirmed_smad=[1.0] * 12)
    (one,) = judge(found, claim())
    assert one.elsewhere == (("for confirmed minima", 0.0), ("for mean climb", -1.0))
    assert one.why == "not half as large, or of the other sign, for confirmed minima"


def test_p_values_are_of_all_claims_of_the_study() -> None:
    found = judge(rows(smad=APART, loss=MIXED, same=[0.0] * 12), claim(), claim("loss"), claim("same"))
    assert [each.tests for each in found] == [2, 2, 2]
    assert found[0].p_of_all == pytest.approx(2 * found[0].effect.p)
    assert math.isnan(found[2].p_of_all)


def test_numbers_that_are_not_finite_are_left_out_and_told() -> None:
    (found,) = judge(rows(smad=[math.nan, *APART[1:]]), claim())
    assert (found.effect.n, found.effect.left_out) == ((5, 6), 1)


def test_trends_count_settings_once_where_the_outcome_was_not_set() -> None:
    beta = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    found = rows(smad=APART, beta=beta, error=APART)
    runs, settings = judge(
        found,
        Claim("a", "made up", "smad", Trend("beta", "falls")),
        Claim("b", "made up", "smad", Trend("error", "rises", by=["beta"])),
    )
    assert runs.effect.n == (12,)
    assert runs.effect.size == pytest.approx(scipy.stats.spearmanr(beta, APART).statistic)
    assert runs.verdict == REPRODUCED
    assert (settings.effect.n, settings.verdict) == ((2,), UNDECIDED)
    assert settings.why == "not tested: fewer than 4 settings"


def test_spread_is_of_runs_that_differ_by_their_seed() -> None:
    values = [9.9, 9.95, 10, 10.05, 10.1, 10, -5, -3, -1, 2, 4, 6]
    test = Groups({"skip": False}, {"skip": True}, "larger", spread=True)
    (found,) = judge(rows(smad=values), Claim("varies", "made up", "smad", test))
    assert found.verdict == REPRODUCED
    assert found.effect.numbers[1]["low"] == pytest.approx(1.5)  # from the median, 0.5


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (claim("smadd"), "there is no column 'smadd'"),
        (claim(where={"n": 2}), "there is no column 'n'"),
        (claim(table="theirs"), "there is no table 'theirs'"),
    ],
)
def test_a_claim_about_nothing_is_refused(wrong: Claim, words: str) -> None:
    with pytest.raises(InputError, match=words):
        judge(rows(smad=APART), wrong)


def test_several_landscapes_of_one_training_are_not_several_runs() -> None:
    twice = pd.concat([rows(smad=APART, n=2), rows(smad=APART, n=3)])
    with pytest.raises(InputError, match="several landscapes of the same training"):
        judge(twice, claim())
    assert judge(twice, claim(where={"n": 3}))[0].effect.n == (6, 6)


def test_combinations_of_levels() -> None:
    assert combined(a=[1, 2], b=["x"]) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_says_what_it_is(name: str) -> None:
    experiment = load(name)
    assert {"smallest", "small", "full"} <= experiment.sizes.keys()
    assert experiment.claims
    assert (WORKFLOW / name / "README.md").exists()
    for size in experiment.sizes.values():
        assert len({frozenset(variant) for variant in size.variants}) == 1
    if experiment.sizes["small"].conditions:
        assert experiment.sizes["small"].seeds >= 5


@pytest.mark.parametrize("name", STUDIES)
def test_claims_are_of_levels_that_a_size_has(name: str) -> None:
    experiment = load(name)
    for size, asked in experiment.sizes.items():
        levels = {key: {each[key] for each in asked.conditions} for key in (asked.conditions or [{}])[0]}
        for claim in experiment.claims_at(size) if size != "smallest" else ():
            groups = (claim.test.first, claim.test.second) if isinstance(claim.test, Groups) else ()
            for group in groups:
                assert all(value in levels[key] for key, value in group.items() if key in levels), (size, group)


@pytest.mark.parametrize("name", STUDIES)
def test_data_that_are_absent_are_one_sentence(name: str, tmp_path: Path) -> None:
    asked = load(name).sizes["full"].data
    if asked is None:
        with pytest.raises(InputError, match="reads no data at its size full; leave it out"):
            perform(name, "full", tmp_path, data=tmp_path)
        return
    with pytest.raises(InputError, match="--data was not given; nothing is downloaded by itself") as refused:
        perform(name, "full", tmp_path)
    assert asked in str(refused.value)
    with pytest.raises(InputError, match="nowhere does not exist"):
        perform(name, "full", tmp_path, data=tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"data: .* (has no|has neither|does not exist)") as refused:
        perform(name, "full", tmp_path / "out", data=tmp_path)
    assert "Nothing is downloaded here" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_studies_and_sizes_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no study of this folder; there are .*pinn_convection"):
        load("nothing")
    with pytest.raises(InputError, match="--size huge: pinn_convection has smallest, small, full"):
        perform("pinn_convection", "huge", tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.processes) if each == "scaling" else each for each in STUDIES]
)
@pytest.mark.usefixtures("words_only")
def test_the_smallest_size_runs_and_a_second_run_makes_nothing_new(name: str, tmp_path: Path) -> None:
    experiment = load(name)
    first = results(name, "smallest", experiment, perform(name, "smallest", tmp_path))
    assert [each["sentence"] for each in first["claims"]] == [each.sentence for each in experiment.claims]
    assert first["claims"][0]["n"]
    text = markdown(first)
    assert all(each.sentence in text for each in experiment.claims)
    if experiment.sizes["smallest"].conditions:
        made = {file: file.stat().st_mtime_ns for file in (tmp_path / "checkpoints").iterdir()}
        again = results(name, "smallest", experiment, perform(name, "smallest", tmp_path))
        assert strict_json.dumps(again) == strict_json.dumps(first)
        assert made == {file: file.stat().st_mtime_ns for file in (tmp_path / "checkpoints").iterdir()}


@pytest.mark.thorough
def test_the_page_of_verdicts_is_the_one_of_the_results() -> None:
    docs = Path(__file__).parents[1] / "docs"
    found = collected()
    assert (docs / "verdicts.md").read_text() == page(found)
    claims = [each for study in found for each in study["claims"]]
    assert picture(found).startswith(b"\x89PNG")
    for study in found:
        of = "" if study["size"] == "small" else f".{study['size']}"
        assert (WORKFLOW / study["study"] / f"RESULTS{of}.md").read_text() == markdown(study)
        assert [each["sentence"] for each in study["claims"]] == [each.sentence for each in load(study["study"]).claims]
    assert all(each["verdict"] in (REPRODUCED, NOT_REPRODUCED, UNDECIDED) for each in claims)


def test_a_full_size_stands_beside_the_small_one(tmp_path: Path) -> None:
    small = collected()[0]
    full = {**small, "size": "full", "claims": [{**each, "verdict": REPRODUCED} for each in small["claims"]]}
    for each in (full, small):
        write(each, tmp_path / small["study"], each["size"])
    assert sorted(file.name for file in (tmp_path / small["study"]).iterdir()) == [
        *("RESULTS.full.md", "RESULTS.md", "results.full.json", "results.json")
    ]
    assert [each["size"] for each in collected(tmp_path)] == ["small", "full"]
    said, n = page(collected(tmp_path)), len(small["claims"])
    assert f"At the full size, {n} are *reproduced*, 0 are *not reproduced*, 0 are *undecided at this size*, of" in said
    assert "--size full`" in said
    assert "RESULTS.full.md" in said


@pytest.mark.processes
def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(WORKFLOW / "run.py"), "nothing"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ))
    assert ended.returncode == 2
    assert ended.stderr.startswith("landscaper-hpc: nothing: is no study of this folder")
    assert ended.stderr.count("\n") == 1


def test_numbers_of_ties_are_mean_ranks() -> None:
    values = [1.0] * 3 + [2.0] * 3 + [2.0] * 3 + [3.0] * 3
    (found,) = judge(rows(smad=values), claim(expected="larger"))
    pairs = np.sign(np.subtract.outer(values[6:], values[:6]))
    assert found.effect.size == pytest.approx(pairs.mean())
