"""Odd YAML: each gets one sentence, within seconds. A row is a text, and what the sentence must say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from landscaper_hpc import InputError, Site, Study
from landscaper_hpc.study.schema import read_yaml, yaml_list
from landscaper_hpc.study.sweep_file import SweepConfig, found_checkpoints
from tests.kinds import slow, thorough

_BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)

TEXTS: dict[str, tuple[str, str]] = {
    "a key twice": ("name: a\ngrid: {count: 5}\n\ngrid: {count: 7}\n", "key grid is given twice, in lines 2 and 4"),
    "a key twice, further in": ("grid:\n  count: 5\n  count: 7\n", "key count is given twice, in lines 2 and 3"),
    "a key twice, in two spellings": ('grid: {"count": 5, count: 7}', "key count is given twice, in lines 1 and 1"),
    "aliases of aliases": (_BOMB, "its aliases stand for more than 100,000 values"),
    "an alias of itself": ("a: &a [*a]\n", "its aliases stand for more than 100,000 values"),
    "nested too deeply": ("[" * 5_000, "nested too deeply, in more than 100 levels"),
    "nested just too deeply": ("a: " + "[" * 100 + "]" * 100, "nested too deeply, in more than 100 levels"),
    "mappings in mappings": ("{a: " * 1_000_000, "bytes, which no file of ours has"),
    "lists in lists": ("- " * 100_000 + "1", "nested too deeply, in more than 100 levels"),
    "many values": ("a: [" + "1, " * 100_000 + "1]", "it holds more than 100,000 values, which no file of ours does"),
    "many lines": ("a:\n" * 100_000, "it holds more than 100,000 values, which no file of ours does"),
    "a number of 5,000 digits": (f"seed: {'1' * 5000}", "is not valid YAML: Exceeds the limit"),
    "no such day": ("name: 2026-13-45", "is not valid YAML: month must be"),
    "a tag of Python's": ("name: !!python/object/apply:os.system [true]", "could not determine a constructor"),
    "a key that is a list": ("[a, b]: 1", "unhashable key"),
    "two documents": ("a: 1\n---\na: 2\n", "expected a single document"),
    "a list": ("- a\n- b\n", "must be a YAML mapping of keys to values, found list"),
    "a number to the base of eight": ("seed: 0o17\nname: 010", "010 may be meant to any base"),
    "another of that kind": ("seed: -0_7", "0_7 may be meant to any base"),
    "control characters": ("name: \x07", "special characters are not allowed"),
}


@pytest.mark.parametrize(
    "what",
    # two take seconds, for the same reason
    [
        slow("many lines"),
        *(thorough(what) if what == "many values" else what for what in TEXTS if what != "many lines"),
    ],
)
@pytest.mark.timeout(100)
def test_a_file_of_odd_yaml_is_refused_in_one_sentence(what: str, tmp_path: Path) -> None:
    text, message = TEXTS[what]
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_yaml(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [" + "1, " * 1000 + "1]", "a:\n" * 1000])
def test_many_values_are_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landscaper_hpc.study.schema._MOST_VALUES", 1000)
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match="it holds more than 1,000 values, which no file of ours does"):
        read_yaml(file)
    file.write_text("a: [" + "1, " * 900 + "1]")
    assert len(read_yaml(file)["a"]) == 901


def test_what_is_no_file_of_ours_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with (tmp_path / "large.yaml").open("wb") as stream:
        stream.truncate(10**9)
    (tmp_path / "latin.yaml").write_bytes("name: Ä".encode("latin-1"))
    for name, message in (
        ("pipe.yaml", "is not a file"),
        (".", "is not a file"),
        ("large.yaml", "1,000,000,000 bytes"),
        ("latin.yaml", "can't decode"),
        ("gone.yaml", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            read_yaml(tmp_path / name)


def test_aliases_and_merged_keys_go_on_working(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("x: {y: &y {<<: &z {a: 1, b: 2}, a: 3}}\nu: {<<: *y, b: 4}\nv: *z\n")
    assert read_yaml(file) == {"x": {"y": {"a": 3, "b": 2}}, "u": {"a": 3, "b": 4}, "v": {"a": 1, "b": 2}}


VALUES = [("{count: 5, count: 7}", "given twice"), ("[[", "not valid YAML"), ("1" * 5000, "Exceeds the limit")]


@pytest.mark.parametrize(("text", "message"), VALUES)
def test_odd_values_on_the_command_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Site.load(None, [f"slurm={text}"])
    with pytest.raises(InputError, match="is not a list of values"):
        yaml_list(text)


def test_one_is_not_true_among_the_options_of_slurm() -> None:
    site = Site.load(None, ["slurm.options={threads-per-core: 1, nice: 2, exclusive: true, comment: a}"])
    assert [(k, type(v), v) for k, v in site.slurm.options.items()] == [
        ("threads-per-core", int, 1),
        ("nice", int, 2),
        ("exclusive", bool, True),
        ("comment", str, "a"),
    ]
    with pytest.raises(InputError, match="exclusive: false is no value of an option; leave the key out"):
        Site.load(None, ["slurm.options={exclusive: false}"])


OVERRIDES = {
    "a name with a zero byte": (r'checkpoints.0.file="a\0b"', "checkpoints.0.file: must be the name of a file"),
    "half a letter": (r'task="\uD800.py"', "task: must be the name of a file"),
    "no name": ("checkpoints.0.file=", "checkpoints.0.file: Input should be a valid string"),
    "an empty name": ("directions={kind: file, file: ''}", "directions.file: must be the name of a file"),
    "a range wider than numbers": ("grid.range=1e308", "grid.range: the range is wider than numbers go"),
    "points that coincide": ("grid.range=[1, 1.0000000000000002]", "too close together for 31 different points"),
    "points that nearly do": ("grid.range=[1e9, 1000000000.000001]", "too close together for 31 different points"),
    "an option that is no number": ("checkpoints.0.options.x=.nan", "must be a finite number, a text, true or false"),
    "an option that is a list": ("checkpoints.0.options.x=[1]", "must be a finite number, a text, true or false"),
    "a seed that no generator takes": ("directions.seed=9223372036854775808", "directions.seed: Input should be less"),
    "a checkpoint called as a file of the store": (
        "checkpoints.0.name=zarr.json",
        "zarr.json is the name of a store's own file; choose another",
    ),
    "a batch that no memory holds": ("batch=1000001", "batch: Input should be less than or equal to 1000000"),
}


@pytest.mark.parametrize("what", OVERRIDES)
def test_odd_values_are_refused_by_their_key(what: str, tmp_path: Path) -> None:
    override, message = OVERRIDES[what]
    file = tmp_path / "study.yaml"
    file.write_text("{name: a, task: t.py, checkpoints: [{name: a, file: a.pt}], grid: {count: 31}}")
    Study.load(file)
    with pytest.raises(InputError) as caught:
        Study.load(file, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["directions.n=16", "grid.count=10000001"])
def test_more_points_than_a_landscape_can_have(override: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "{name: a, task: t.py, checkpoints: [{name: a, file: a.pt}], directions: {n: 8}, grid: {count: 31}}"
    )
    Study.load(file)
    with pytest.raises(InputError, match=r"grid: \d\S+ points are more than a landscape can have"):
        Study.load(file, [override])
    with pytest.raises(InputError, match="less than or equal to 100000000"):
        Study.load(file, ["grid.count=1000000001"])


def test_checkpoints_in_a_folder_whose_name_reads_as_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a[x]*"
    folder.mkdir()
    (folder / "study.yaml").write_text("name: a\n")
    for step in (1, 2):
        (folder / f"step_{step}.pt").touch()
    monkeypatch.chdir(folder)
    file = folder / "study.yaml"
    (folder / "sweep.yaml").write_text("study: study.yaml\ncheckpoints: step_*.pt\n")
    for config in (SweepConfig.load(file, checkpoints="*.pt"), SweepConfig.load(folder / "sweep.yaml")):
        found = found_checkpoints(config)
        assert found is not None
        assert [(f.name, f.file) for f in found] == [
            ("step_00000001", "step_1.pt"),
            ("step_00000002", "step_2.pt"),
        ]
    with pytest.raises(InputError) as caught:
        found_checkpoints(SweepConfig.load(file, checkpoints="*.ckpt"))
    assert f"no file matches {folder}/*.ckpt" in str(caught.value)
