"""Sweeps: what they consist of, the bytes of each study run alone, whoever evaluates, and after any end."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from forked import CLI, Forked, ranks
from studies import command, contents, wells

from landscaper_hpc import InputError, Site, Study, digests, open_landscape, run
from landscaper_hpc.errors import TaskFailed
from landscaper_hpc.executors.local import SerialMapper
from landscaper_hpc.orchestrate import run_campaign
from landscaper_hpc.study import study as study_files
from landscaper_hpc.study.sweep_file import SweepConfig, found_checkpoints
from landscaper_hpc.topology.distances import bottleneck, wasserstein
from landscaper_hpc.work import answering
from landscaper_hpc.work.handover import hand_over, taken_over
from landscaper_hpc.work.sweep import Studies, Sweep
from tests.report.test_page import Page

pytestmark = pytest.mark.timeout(900)  # some run a sweep twice, beside whatever else the machine has to do

SITE = Site(executor="serial", shard_points=5)
LARGE = Site(executor="serial", shard_points=900)


def checkpoint(folder: Path, name: str, place: float) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    torch.save({"x": torch.full((2,), place, dtype=torch.float64)}, folder / name)


def sweep(file: Path, folder: Path, *, site: Site = SITE, **options: Any) -> Sweep:
    campaign = Sweep.open(SweepConfig.load(file, **options), site, folder)
    assert run_campaign(campaign, site)
    return campaign


def of_sweep(left: Path | dict[str, str]) -> dict[str, str]:
    """What a sweep leaves, but for its own record, which says where the study file is."""
    return {
        file: digest
        for file, digest in (contents(left) if isinstance(left, Path) else left).items()
        if file != "sweep.json"
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A sweep of two checkpoints and two counts, run in one process; its YAML file, and what it leaves."""
    folder = tmp_path_factory.mktemp("sweep")
    study = wells(folder / "study", count=5)
    checkpoint(folder, "runs/a/step_20.pt", 0.02)
    checkpoint(folder, "runs/a/step_100.pt", 0.1)
    file = study.with_name("sweep.yaml")
    file.write_text("study: study.yaml\ncheckpoints: ../runs/*/step_*.pt\nproduct: {grid.count: [5, 9]}\n")
    (study.parent / "site.yaml").write_text("{executor: local, workers: 2, shard_points: 5}")
    campaign = sweep(file, folder / "sweep")
    assert [plan.study.name for plan in campaign.plans] == [
        f"a.step_{step}+grid.count={count}" for step in ("00000020", "00000100") for count in (5, 9)
    ]
    return file, contents(folder / "sweep")


@pytest.mark.thorough
def test_a_study_of_a_sweep_is_the_study_alone(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    file, _ = undisturbed
    folder = file.parent.parent / "sweep"
    for entry in json.loads((folder / "sweep.json").read_text())["studies"][::3]:
        run(Study.load(file.with_name("study.yaml"), entry["overrides"]), SITE, tmp_path / entry["name"])
        assert contents(tmp_path / entry["name"]) == contents(folder / "studies" / entry["name"])


@pytest.mark.processes  # so that its page is painted
def test_a_sweep_of_an_earlier_version_is_gone_on_with(
    undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, expected = undisturbed
    folder = tmp_path / "sweep"
    shutil.copytree(file.parent.parent, tmp_path, dirs_exist_ok=True)
    results = sorted(folder.glob("studies/*/results.json"))
    for former, schema in ((folder / "sweep.json", 1), *((one, 2) for one in results[:2])):
        content = json.loads(former.read_text())
        assert content.pop("sha256")
        former.write_text(json.dumps({**content, "schema": schema}))
    (one, *_) = results[0].parent.glob("study.zarr/[!.]*/zarr.json")
    whole = one.read_bytes()
    one.write_text("{}")
    kept = contents(folder)
    with pytest.raises(InputError, match="restore"):
        sweep(tmp_path / "study/sweep.yaml", folder)
    assert contents(folder) == kept
    one.write_bytes(whole)
    again = sweep(tmp_path / "study/sweep.yaml", folder)
    assert [plan.inside.results for plan in again.plans] == results[:2]
    assert contents(folder) == expected
    results[0].write_text(json.dumps({**json.loads(results[0].read_text()), "schema": 1000}))  # of a later one
    with pytest.raises(InputError, match="has format 1000"):
        sweep(tmp_path / "study/sweep.yaml", folder)


@pytest.mark.thorough
def test_the_table_holds_what_the_results_say(undisturbed: tuple[Path, dict[str, str]]) -> None:
    folder = undisturbed[0].parent.parent / "sweep"
    found, plain = pd.read_parquet(folder / "sweep.parquet"), pd.read_csv(folder / "sweep.csv")
    assert list(found) == list(plain)
    # an empty column has no type of its own: it is read as None here, and as NaN there
    pd.testing.assert_frame_equal(*(one.dropna(axis=1, how="all") for one in (found, plain)), check_dtype=False)
    assert found["smad_decided_by"].isna().all()
    assert list(found["step"]) == [20, 20, 100, 100]
    assert list(found["grid.count"]) == [5, 9, 5, 9]
    assert set(found["state"]) == {"done"}
    for row in found.to_dict("records"):
        (item,) = json.loads((folder / "studies" / row["study"] / "results.json").read_text())["landscapes"]
        assert row["smad"] == item["topology"]["smad"] > 0
        assert row["persistence_total"] == item["topology"]["persistence"]["total"]
        assert (row["loss"], row["n_minima"], row["nan"]) == (item["loss"], item["topology"]["n_minima"], 0)


@pytest.mark.thorough
def test_distances_between_its_landscapes_are_a_table(undisturbed: tuple[Path, dict[str, str]]) -> None:
    folder = undisturbed[0].parent.parent / "sweep"
    found = pd.read_csv(folder / "distances.csv")
    assert len(found) == 4 * 3 / 2
    for row in found.to_dict("records"):
        trees = [open_landscape(folder / "studies" / row[key]).tree() for key in ("landscape", "other")]
        assert row["bottleneck"] == pytest.approx(bottleneck(*trees), rel=1e-12)
        assert row["wasserstein"] == pytest.approx(wasserstein(*trees), rel=1e-8)
    assert "Wasserstein distance between any two landscapes" in (folder / "sweep.html").read_text()


@pytest.mark.thorough
def test_the_page_stands_alone(undisturbed: tuple[Path, dict[str, str]]) -> None:
    folder = undisturbed[0].parent.parent / "sweep"
    page = Page((folder / "sweep.html").read_text())
    assert "4 studies over the checkpoints ../runs/*/step_*.pt, with grid.count varied. All are finished." in page.text
    assert any(label.startswith("SMAD over") for label in page.labels)
    outside = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert len(outside) == 4
    for link in outside:
        assert (folder / link.replace("%2B", "+").replace("%3D", "=")).is_file()
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A sweep of two studies that ask for more than merge trees, run in one process; its file, and what it leaves."""
    folder = tmp_path_factory.mktemp("asking")
    study = wells(folder / "study", n=3, count=7)
    study.write_text(study.read_text() + "confirm: true\n")
    file = study.with_name("sweep.yaml")
    file.write_text("study: study.yaml\nproduct: {grid.range: [1.5, 1.4]}\n")
    done = Counter[str]()
    with pytest.MonkeyPatch.context() as patch:
        plain = SerialMapper.map_unordered

        def noting(mapper: SerialMapper, function: Any, items: Any, on_progress: Any = None) -> Iterator[Any]:
            for item in plain(mapper, function, items, on_progress):
                done[type(item).__name__] += 1
                yield item

        patch.setattr(SerialMapper, "map_unordered", noting)
        sweep(file, folder / "sweep", site=LARGE)
    assert done["Searches"] >= 2 * 2 * 3  # of either: two batches of descents, minima and saddles each
    return file, contents(folder / "sweep")


@pytest.mark.thorough
def test_what_the_studies_of_a_sweep_ask_for_is_dealt_out_and_the_same_as_of_each_alone(
    asking: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, _ = asking
    folder = file.parent.parent / "sweep"
    found = pd.read_csv(folder / "sweep.csv")
    assert list(found["state"]) == ["done", "done"]
    assert list(found["confirmed_minima"]) == [8, 8]
    entry = json.loads((folder / "sweep.json").read_text())["studies"][0]
    run(Study.load(file.with_name("study.yaml"), entry["overrides"]), LARGE, tmp_path / "alone")
    assert contents(tmp_path / "alone") == contents(folder / "studies" / entry["name"])
    assert not list(folder.rglob("resume"))


@pytest.mark.processes  # so that its pages are painted, as those of the fixture
def test_many_studies_of_a_sweep_are_answered_side_by_side(
    asking: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process takes a whole study then, and the bytes are the same; a run that is stopped between goes on."""
    file, expected = asking
    monkeypatch.setattr(answering, "_MANY", 1)
    monkeypatch.setattr(Site, "planned_workers", lambda site: 2)
    answered = []
    answer_one = answering._answer_one

    def stopping(questions: Any, item: Any, progress: Any) -> None:
        if len(answered) == 1:
            raise RuntimeError("stopped")
        answered.append(item.study.name)
        answer_one(questions, item, progress)

    monkeypatch.setattr(answering, "_answer_one", stopping)
    with pytest.raises(TaskFailed, match="stopped"):
        sweep(file, tmp_path / "sweep", site=LARGE)
    assert not list(tmp_path.glob("sweep/studies/*/results.json"))
    monkeypatch.setattr(answering, "_answer_one", answer_one)
    sweep(file, tmp_path / "sweep", site=LARGE)
    assert of_sweep(tmp_path / "sweep") == of_sweep(expected)


@pytest.mark.mpi
@pytest.mark.slow
def test_ranks_share_the_confirming_of_a_sweep_with_fewer_studies(
    asking: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, expected = asking
    file.with_name("site.yaml").write_text("{executor: mpi, shard_points: 900}")
    arguments = ["sweep", file, "--out", tmp_path / "sweep", "--site", file.with_name("site.yaml")]
    done = subprocess.run(
        ranks(3, CLI, *arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert of_sweep(tmp_path / "sweep") == of_sweep(expected)


@pytest.mark.mpi
def test_ranks_give_the_same_bytes(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    file, expected = undisturbed
    arguments = ["sweep", file, "--out", tmp_path / "sweep", "--executor", "mpi", "--site", file.with_name("site.yaml")]
    done = subprocess.run(
        ranks(3, CLI, *arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert of_sweep(tmp_path / "sweep") == of_sweep(expected)
    assert done.stdout.count("4 studies, 4 of them") == 1


@pytest.mark.processes
def test_killed_in_the_middle_it_tells_what_is_missing_and_goes_on(
    undisturbed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    file, expected = undisturbed
    arguments = ["sweep", file, "--out", tmp_path / "sweep", "--site", file.with_name("site.yaml")]
    with (tmp_path / "said").open("w") as said:
        process = Forked(arguments, stderr=said, start_new_session=True)
    deadline = time.monotonic() + 600
    # the first study's results are there, and the others are not all
    while not list((tmp_path / "sweep").glob("studies/*/report.html")):
        assert time.monotonic() < deadline, (tmp_path / "said").read_text()
        assert process.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert command("report", tmp_path / "sweep").returncode == 0
    states = list(pd.read_csv(tmp_path / "sweep/sweep.csv")["state"])
    assert "done" in states
    said = json.loads(command("status", tmp_path / "sweep", "--json").stdout)
    assert said["studies"]["done"] == states.count("done")
    assert said["studies"]["total"] == 4
    page = Page((tmp_path / "sweep/sweep.html").read_text())
    assert f"{states.count('done')} of 4 landscapes are finished" in page.text or states.count("done") == 4
    again = command(*arguments)
    assert again.returncode == 0, again.stderr
    assert of_sweep(tmp_path / "sweep") == of_sweep(expected)


@pytest.mark.processes  # so that its page is painted, as that of the fixture
def test_a_job_concludes_a_sweep_as_its_client_does(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """What it is handed over holds only the studies that are not finished."""
    file, expected = undisturbed
    folder = shutil.copytree(file.parents[1], tmp_path / "copy") / "sweep"
    for name in ("distances.csv", "sweep.csv", "sweep.parquet", "sweep.html"):
        (folder / name).unlink()
    config = SweepConfig.load(folder.parent / "study" / file.name)
    handed = hand_over(Sweep.open(config, SITE, folder), SITE, tmp_path / "jobs")
    taken_over(*handed).conclude()
    assert of_sweep(folder) == of_sweep(expected)


@pytest.mark.thorough
def test_added_checkpoints_are_all_that_is_run(undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    file, _ = undisturbed
    shutil.copytree(file.parent.parent, tmp_path / "all", copy_function=shutil.copy2)
    file, folder = tmp_path / "all/study/sweep.yaml", tmp_path / "all/sweep"
    checkpoint(tmp_path / "all", "runs/a/step_3.pt", 0.003)
    (tmp_path / "all/runs/a/step_20.pt").unlink()  # what is finished needs no checkpoint
    before = {p: p.stat().st_mtime_ns for p in folder.glob("studies/*/*.*")}
    campaign = sweep(file, folder)
    assert [plan.study.name for plan in campaign.plans] == [f"a.step_00000003+grid.count={n}" for n in (5, 9)]
    assert {p: p.stat().st_mtime_ns for p in before} == before
    found = pd.read_parquet(folder / "sweep.parquet")
    assert list(found["step"]) == [3, 3, 20, 20, 100, 100]
    assert set(found["state"]) == {"done"}


@pytest.mark.thorough
def test_a_checkpoint_is_read_again_only_where_it_may_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that led to another old file, and a folder that took another's name, passed for unchanged."""
    monkeypatch.setattr(digests, "SETTLED", 0)
    study = wells(tmp_path / "study", count=3)
    for name, place in (("a/last.pt", 0.02), ("b/last.pt", 0.1)):
        checkpoint(tmp_path, f"saved/{name}", place)
    (tmp_path / "runs").mkdir()
    link, file = tmp_path / "runs/last.pt", study.with_name("sweep.yaml")
    link.symlink_to(tmp_path / "saved/a/last.pt")
    file.write_text("study: study.yaml\ncheckpoints: ../runs/*.pt\n")
    sweep(file, tmp_path / "sweep")
    read = Mock(side_effect=study_files._sha256_for)
    monkeypatch.setattr(study_files, "_sha256_for", read)

    def checkpoints_read() -> int:
        found = sum("checkpoints" in str(call.args[1]) for call in read.mock_calls)
        read.reset_mock()
        return found

    sweep(file, tmp_path / "sweep")
    assert checkpoints_read() == 0
    for note in tmp_path.glob("sweep/logs/checkpoints/*"):
        note.write_text("[[1, 2")  # torn
    sweep(file, tmp_path / "sweep")
    assert checkpoints_read() > 0
    sweep(file, tmp_path / "sweep")
    assert checkpoints_read() == 0
    (tmp_path / "saved/a").rename(tmp_path / "saved/c")
    (tmp_path / "saved/b").rename(tmp_path / "saved/a")
    with pytest.raises(InputError, match=r"another study \(checkpoint_sha256 differ\)"):
        sweep(file, tmp_path / "sweep")
    link.unlink()
    link.symlink_to(tmp_path / "saved/c/last.pt")
    sweep(file, tmp_path / "sweep")
    link.unlink()
    link.symlink_to(tmp_path / "saved/a/last.pt")
    with pytest.raises(InputError, match=r"another study \(checkpoint_sha256 differ\)"):
        sweep(file, tmp_path / "sweep")


@pytest.mark.thorough
def test_another_sweep_and_a_second_at_once_are_refused(undisturbed: tuple[Path, dict[str, str]]) -> None:
    file, expected = undisturbed
    folder = file.parent.parent / "sweep"
    with pytest.raises(InputError, match=r"holds another sweep \(product differ\)"):
        sweep(file, folder, overrides=["grid.count=5,7"])
    with (folder / ".lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another run is at work there"):
            sweep(file, folder)
    changed = (file.parent / "task.py").read_text()
    (file.parent / "task.py").write_text(changed + "\n")
    try:
        with pytest.raises(InputError, match=r"another study \(task_sha256 differ\)"):
            sweep(file, folder)
    finally:
        (file.parent / "task.py").write_text(changed)
    assert contents(folder) == expected


@pytest.mark.thorough
def test_one_checkpoints_directions_for_all(tmp_path: Path) -> None:
    study = wells(tmp_path / "study", count=5)
    for step, place in ((1, 0.0), (2, 0.3)):
        checkpoint(tmp_path / "study", f"step_{step}.pt", place)
    asked = {
        "overrides": ["directions={kind: hessian, n: 2, normalization: unit}", "hessian.density_probes=1"],
        "checkpoints": str(tmp_path / "study/step_*.pt"),
        "directions_from": "step_00000001",
    }
    campaign = sweep(study, tmp_path / "sweep", **asked)
    one, two = (open_landscape(plan.folder).directions().vectors["x"] for plan in campaign.plans)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(np.abs(one), [[0, 1], [1, 0]], atol=1e-12)  # the steeper well comes first
    found = pd.read_parquet(tmp_path / "sweep/sweep.parquet")
    # d²/dx² of i (x² - 1)² is i (12 x² - 4)
    np.testing.assert_allclose(found["lambda_max"], [-4, 2 * (12 * 0.3**2 - 4) / 2], rtol=1e-6)
    assert "directions found at step_00000001" in Page((tmp_path / "sweep/sweep.html").read_text()).text
    checkpoint(tmp_path / "study", "step_1.pt", 0.1)
    checkpoint(tmp_path / "study", "step_3.pt", 0.1)
    with pytest.raises(InputError, match=r"checkpoint_sha256 differ|directions of another task"):
        sweep(study, tmp_path / "sweep", **asked)


@pytest.mark.processes
def test_a_bad_checkpoint_leaves_the_others_alone(tmp_path: Path) -> None:
    study = wells(tmp_path / "study", count=5)
    checkpoint(tmp_path / "study", "step_1.pt", 0.0)
    (tmp_path / "study/step_2.pt").write_bytes(b"torn")
    asked = {"checkpoints": str(tmp_path / "study/step_*.pt")}
    with pytest.raises(TaskFailed, match=r"(?s)1 tasks of 1 studies.*step_00000002.*--retry-failed.*step_2\.pt"):
        sweep(study, tmp_path / "sweep", **asked)
    assert list(pd.read_csv(tmp_path / "sweep/sweep.csv")["state"]) == ["done", "failed"]
    said = command("status", tmp_path / "sweep", "--failed", "step_00000002: step_00000002.directions")
    assert said.returncode == 0, said.stderr
    assert "step_2.pt" in said.stdout
    assert f"log: {tmp_path / 'sweep/logs/run.log'}" in said.stdout
    checkpoint(tmp_path / "study", "step_2.pt", 0.1)
    done = command("sweep", study, "--checkpoint", asked["checkpoints"], "--out", tmp_path / "sweep", "--retry-failed")
    assert done.returncode == 0, done.stderr
    assert list(pd.read_csv(tmp_path / "sweep/sweep.csv")["state"]) == ["done", "done"]


# ---- what it consists of ----------------------------------------------------------------------------------------


def made(file: Path, folder: Path, **options: Any) -> Studies:
    return Studies(SweepConfig.load(file, **options), SITE, folder)


@pytest.mark.thorough
def test_where_a_study_or_sweep_goes_is_said_once(tmp_path: Path) -> None:
    """run, plan and sweep, with a site's scratch and without."""
    file = wells(tmp_path / "study", count=5)
    several = file.with_name("sweep.yaml")
    several.write_text("study: study.yaml\nname: many\nproduct: {grid.count: [3, 5]}\n")
    scratch = tmp_path / "scratch"
    for site, place in ((["--set-site", f"scratch={scratch}"], scratch), ([], Path("runs"))):
        listed = command("sweep", several, "--dry-run", *site, cwd=tmp_path)
        assert f"folder      {place / 'many'}\n" in listed.stdout, listed.stderr
    (tmp_path / "site.yaml").write_text(f"{{executor: serial, scratch: {scratch}}}")
    ran = command("sweep", several, "--site", tmp_path / "site.yaml", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert f"table:   {scratch / 'many' / 'sweep.csv'}" in ran.stdout
    assert (scratch / "many/sweep.html").exists()
    for planned, name in ((several, "many"), (file, "wells")):
        said = command("plan", planned, "--site", tmp_path / "site.yaml", cwd=tmp_path)
        assert f"folder      {scratch / name}" in said.stdout, said.stderr
    assert not (tmp_path / "runs").exists()
    assert Site(scratch=str(scratch)).folder("wells", Path("here")) == Path("here")


def test_product_and_zip(tmp_path: Path) -> None:
    file = wells(tmp_path).with_name("sweep.yaml")
    file.write_text("""
study: study.yaml
product: {grid.count: [5, 101, 21], connectivity: [axis]}
zip: {batch: [4, 8], precision: [float64, float32]}
""")
    found = made(file, tmp_path / "sweep")
    names = [entry.name for entry in found.entries]
    assert len(names) == 6
    assert names[0] == "grid.count=005+batch=4+precision=float64"
    sizes = {s.name: (s.grid.count, s.batch, s.precision) for s in found.studies}
    assert sorted(sizes) == sorted(sizes, key=lambda name: sizes[name][:2])
    assert set(sizes.values()) == {(c, *z) for c in (5, 101, 21) for z in ((4, "float64"), (8, "float32"))}
    assert found.entries[0].values == {"grid.count": 5, "batch": 4, "precision": "float64"}
    planned = command("plan", file)
    assert planned.returncode == 0, planned.stderr
    assert "studies     6" in planned.stdout
    assert f"points      {sum(2 * c**2 for c in (5, 101, 21)):,}" in planned.stdout


@pytest.mark.parametrize(
    ("pattern", "names", "steps", "runs"),
    [
        ("runs/*/step_*.pt", ["a.step_00000003", "a.step_00000100", "b-1.step_00000020"], [3, 100, 20], "a.step"),
        ("runs/a/*.pt", ["step_00000003", "step_00000100"], [3, 100], "step"),
        ("hf/*/model.safetensors", ["checkpoint-00000500.model"], [500], "checkpoint.model"),
        ("lr/*.pt", ["lr0.1_final", "lr0.5_final"], [None, None], "lr0.1_final"),
    ],
)
def test_names_of_checkpoints_sort_as_steps_do_and_do_not_change(
    tmp_path: Path, pattern: str, names: list[str], steps: list[int | None], runs: str
) -> None:
    file = wells(tmp_path)
    files = ["runs/a/step_100.pt", "runs/a/step_3.pt", "runs/b 1/step_20.pt", "hf/checkpoint-500/model.safetensors"]
    for name in [*files, "lr/lr0.1_final.pt", "lr/lr0.5_final.pt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    config = SweepConfig.load(file, checkpoints=str(tmp_path / pattern))
    found = found_checkpoints(config)
    assert found is not None
    assert [(item.name, item.step) for item in found] == list(zip(names, steps, strict=True))
    assert found[0].run == runs
    (tmp_path / "runs/a/step_20000.pt").touch()
    again = {item.file: item.name for item in found_checkpoints(config) or ()}
    assert {item.file: item.name for item in found}.items() <= again.items()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{study: gone.yaml}", r"gone\.yaml: cannot be read"),
        ("{study: study.yaml, prodct: {}}", "unknown key prodct .*product"),
        ("{study: study.yaml, product: {grid.count: []}}", "grid.count has no values"),
        ("{study: study.yaml, product: {grid.count: [5, 6]}}", "grid.count: an even count"),
        ("{study: study.yaml, product: {grid.cont: [5, 7]}}", "unknown key grid.cont"),
        ("{study: study.yaml, product: {batch: [4]}, zip: {batch: [4]}}", "in both product and zip"),
        ("{study: study.yaml, zip: {batch: [4, 8], grid.count: [5]}}", "as many"),
        ("{study: study.yaml, checkpoints: 'nothing/*.pt'}", r"no file matches .*nothing/\*\.pt"),
        ("{study: study.yaml, checkpoints: '*.pt', product: {checkpoints.0.file: [a, b]}}", "exclude each other"),
        ("{study: study.yaml, directions_from: gone}", "'gone' is no checkpoint of the sweep .*origin"),
        ("{study: study.yaml, checkpoints: 'same/*'}", "would both be called"),
    ],
)
def test_bad_sweeps_end_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    wells(tmp_path)
    (tmp_path / "same").mkdir()
    for name in ("1.pt", "1.ckpt"):
        (tmp_path / "same" / name).touch()
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(InputError, match=words) as raised:
        made(tmp_path / "sweep.yaml", tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()
