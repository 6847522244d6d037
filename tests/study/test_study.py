"""Study and Site: what is read, what is refused and how, and what the study id depends on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from landscaper_hpc import Grid, InputError, Site, Study
from landscaper_hpc.study.schema import read_yaml

YAML = """
name: example
task: task.py
checkpoints:
  - {name: a, file: a.pt, options: {beta: 1}}
  - {name: b, file: b.pt}
directions: {n: 3, tolerance: 1e-4}
grid: {range: 0.1, count: 5, scale: curvature}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(YAML)
    for name in ("task.py", "a.pt", "b.pt"):
        (tmp_path / name).write_text(name)
    return tmp_path / "study.yaml"


def test_values_and_defaults(file: Path) -> None:
    study = Study.load(file)
    assert study.directions.tolerance == 1e-4  # YAML 1.1 would read a string
    assert (study.connectivity, study.precision, study.directions.normalization) == ("axis", "float64", "model")
    grid = study.make_grid()
    assert isinstance(grid, Grid)
    assert grid.shape == (5, 5, 5)
    assert grid.checkpoint_index() == (2, 2, 2)
    assert study.path("a.pt") == file.parent / "a.pt"


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("grid.count=11", lambda s: s.grid.count == 11),
        ("grid.range=[-0.1, 1e-1]", lambda s: s.make_grid().axes[0].lower == -0.1),
        ("checkpoints.1.options={beta: 2.5}", lambda s: s.checkpoints[1].options == {"beta": 2.5}),
        (
            "grid.axes=[{range: 1, count: 3}, {range: 2, count: 5}, {range: [0, 1], count: 3}]",
            lambda s: s.make_grid().shape == (3, 5, 3),
        ),
        ("directions.seed=7", lambda s: s.directions.seed == 7),
    ],
)
def test_overrides(file: Path, override: str, read: object) -> None:
    assert read(Study.load(file, [override]))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("grid.count=10", ["grid.count", "even", "9 or 11", "found 10"]),
        ("grid.count=1", ["grid.count", "greater than or equal to 3"]),
        ("grid.count=5.0", ["grid.count", "5.0"]),
        ("grid.cuont=5", ["unknown key grid.cuont", "range, count, axes, scale"]),
        ("grid.range=0", ["grid.range", "empty", "found 0"]),
        ("grid.range=-1", ["grid.range", "empty"]),
        ("grid.range=[1, 1]", ["grid.range", "empty", "[1, 1]"]),
        ("grid.range=[1]", ["grid.range", "[lower, upper]"]),
        ("grid.range=.inf", ["grid.range", "finite"]),
        ("grid.axes=[{range: 1, count: 3}]", ["grid.axes has 1 entries", "directions.n is 3"]),
        ("grid.axes=[{rnge: 1}]", ["unknown key grid.axes.0.rnge", "range, count"]),
        ("directions.kind=hesian", ["directions.kind", "hessian, random, gradient", "'hesian'"]),
        ("directions.kind=file", ["directions", "'file'"]),
        ("directions.tolerance=0", ["directions.tolerance", "greater than 0"]),
        ("directions={kind: random, n: 3}", ["grid.scale", "eigenvalues"]),
        ("directions.which={largest: 1, negative: 1}", ["directions", "must be n, which is 3"]),
        ("directions={kind: random, n: 3, which: negative}", ["which is of the Hessian's", "with kind: random"]),
        ("hessian.density_steps=80", ["hessian", "density_steps is for density_probes, which is 0"]),
        ("hessian.density_probes=9999999", ["hessian.density_probes", "less than or equal to 1000000"]),
        ("directions.kind=gradient", ["directions", "n: 1", "found 3"]),
        ("directions.kind=trajectory", ["directions", "'trajectory'"]),
        ("directions.kind=plane", ["directions", "'through'"]),
        ("directions={kind: plane, n: 3, through: [a.pt, b.pt]}", ["directions", "there are 2 directions; found n: 3"]),
        ("directions.which=smallest", ["directions.which", "'magnitude'"]),
        ("hessian.trace_products=3", ["hessian.trace_products", "at least 4"]),
        ("connectivity=diagonal", ["connectivity", "axis, freudenthal, full", "'diagonal'"]),
        ("precision=float16", ["precision", "'float64'", "'float16'"]),
        ("batch=0", ["batch", "found 0"]),
        ("name=a/b", ["name", "'a/b'"]),
        ("checkpoints=[]", ["checkpoints", "at least 1"]),
        ("checkpoints.1.name=a", ["'a' is used more than once"]),
        ("checkpoints.5.name=x", ["checkpoints.5.name=x", "no entry '5'"]),
        ("taks=x", ["unknown key taks", "task"]),
        ("grid.count", ["key.path=value"]),
        ("grid.count=[", ["not valid YAML"]),
        ("name.x=1", ["name is 'example'", "no keys"]),
    ],
)
def test_bad_values_are_named_in_one_sentence(file: Path, override: str, words: list[str]) -> None:
    with pytest.raises(InputError) as raised:
        Study.load(file, [override])
    message = str(raised.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["name", "missing"]),
        ("- a\n- b\n", ["mapping", "list"]),
        ("a: [", ["not valid YAML"]),
        ("\x00", ["not valid YAML"]),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as raised:
        Study.load(file)
    for word in [*words, str(file)]:
        assert word in str(raised.value)


def test_missing_files(file: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        Study.load(file.parent / "nowhere.yaml")
    (file.parent / "b.pt").unlink()
    with pytest.raises(InputError, match=r"checkpoints\.b\.file: cannot read .*b\.pt"):
        Study.load(file).study_id()


def test_study_id_is_of_the_science_only(file: Path, tmp_path: Path) -> None:
    first = Study.load(file).study_id()
    assert Study.load(file, ["name=renamed"]).study_id() == first
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("study.yaml", "task.py", "a.pt", "b.pt"):
        (elsewhere / name).write_bytes((tmp_path / name).read_bytes())
    assert Study.load(elsewhere / "study.yaml").study_id() == first
    (elsewhere / "train.py").write_text("")
    assert Study.load(elsewhere / "study.yaml", ["train=train.py"]).study_id() == first


@pytest.mark.parametrize(
    "override",
    [
        "grid.count=7",
        "grid.range=0.2",
        "directions.n=2",
        "grid.scale=uniform",
        "directions.normalization=unit",
        "directions.seed=1",
        "directions.tolerance=1e-5",
        "connectivity=full",
        "precision=float32",
        "batch=16",
        "checkpoints.0.options.beta=2",
        "checkpoints.0.name=c",
        "frozen=true",
        "only=[net.*]",
        "directions.which=negative",
        "hessian.trace_products=20",
    ],
)
def test_study_id_changes_with_every_part_of_the_science(file: Path, override: str) -> None:
    assert Study.load(file, [override]).study_id() != Study.load(file).study_id()


@pytest.mark.parametrize("name", ["task.py", "a.pt", "b.pt"])
def test_study_id_changes_with_the_content_of_files(file: Path, name: str) -> None:
    first = Study.load(file).study_id()
    (file.parent / name).write_text("changed")
    assert Study.load(file).study_id() != first


def test_curvature_scales_the_ranges(file: Path) -> None:
    grid = Study.load(file, ["grid.range=[-0.1, 0.2]"]).make_grid(np.array([-16.0, 4.0, 1.0]))
    assert [(a.lower, a.upper) for a in grid.axes] == [(-0.1, 0.2), (-0.2, 0.4), (-0.4, 0.8)]
    uniform = Study.load(file, ["grid.scale=uniform"]).make_grid(np.array([-16.0, 4.0, 1.0]))
    assert [a.upper for a in uniform.axes] == [0.1] * 3


def test_refine_asks_for_nested_grids_and_is_no_science(file: Path) -> None:
    plain, refined = (Study.load(file, ["grid.count=41", f"grid.refine={n}"]) for n in ("null", "3"))
    assert refined.study_id() == plain.study_id()
    assert refined.make_grid() == plain.make_grid()
    for count, instead in ((21, "use counts such as 17 or 25"), (5, "use counts such as 17"), (37, "33 or 41")):
        with pytest.raises(InputError, match=instead):
            Study.load(file, [f"grid.count={count}", "grid.refine=3"])
    with pytest.raises(InputError, match=r"grid\.refine"):
        Study.load(file, ["grid.refine=1"])


def test_the_preset_takes_landscapers_points(file: Path) -> None:
    overrides = ["grid.scale=uniform", "directions.normalization=landscaper"]
    grid = Study.load(file, overrides).make_grid()
    np.testing.assert_allclose(grid.axes[0].coordinates(), (np.arange(5) - 2) * 0.1 / 2.5, rtol=1e-15)
    assert grid.checkpoint_index() == (2, 2, 2)
    with pytest.raises(InputError, match=r"grid\.range.*the distance"):
        Study.load(file, [*overrides, "grid.range=[0, 1]"]).make_grid()


def test_site(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("executor: serial\n")
    assert Site.load(tmp_path / "site.yaml").worker_count() == 1
    assert Site.load(None, ["workers=3"]).worker_count() == 3
    with pytest.raises(InputError, match="device"):
        Site.load(None, ["device=tpu"])
    with pytest.raises(InputError, match=r"unknown key wokers .*executor, workers"):
        Site.load(None, ["wokers=3"])


AXES = "grid.axes=[{count: 3}, {count: 5}, {count: 7}]"
TWICE = [("grid.count=41", "count"), ("grid.range=0.05", "range")]


@pytest.mark.parametrize(("override", "key"), TWICE)
def test_what_is_of_all_axes_is_not_said_beside_axes(file: Path, override: str, key: str) -> None:
    """In place of it the axes would be taken without a word."""
    assert Study.load(file, [AXES]).make_grid().shape == (3, 5, 7)  # said later than the file
    for overrides in ([AXES, override], [override, AXES]):
        with pytest.raises(InputError, match=f"{key} is for grids whose axes are alike, .*set axes.0.{key}"):
            Study.load(file, overrides)


def test_a_preset_says_nothing_of_axes_that_are_given(file: Path) -> None:
    data = {key: value for key, value in read_yaml(file).items() if key not in ("grid", "directions")}
    axes = [{"count": 3, "range": 0.1}] * 3
    study = Study.of({**data, "preset": "landscaper", "grid": {"axes": axes}}, file)
    assert study.make_grid().shape == (3, 3, 3)


def test_the_graph_of_scattered_points_is_not_that_of_a_grid(file: Path) -> None:
    with pytest.raises(InputError, match="sampling: connectivity needs the grid"):
        Study.load(file, ["sampling=true", "connectivity=full"])
