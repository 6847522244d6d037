"""What a study is: changed code, data and files are refused by name, and nothing they give is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from studies import contents, wells

from landscaper_hpc import InputError, Site, Study, open_landscape
from landscaper_hpc.executors.local import SerialMapper
from landscaper_hpc.progress import Bars
from landscaper_hpc.work.campaign import Plan
from landscaper_hpc.work.landscape import Landscape
from landscaper_hpc.work.preparation import prepare_all
from landscaper_hpc.work.stages import topology
from landscaper_hpc.work.worker import work

SITE = Site(executor="serial", shard_points=3)
SLOPE = "def loss(model, batch):\n    return (model.x.square().sum() + 0 * batch.sum()).clamp(max=9.0)\n"
TASK = """
import torch
from torch import nn
from pathlib import Path
from landscaper_hpc import Task
HERE = Path(__file__).parent

class Point(nn.Module):
    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(torch.zeros(2, dtype=torch.float64))

def task(**options):
    {preparation}
    return Task(Point(), {loss}, {data})
"""
PLAIN = "torch.ones(3, dtype=torch.float64)"


def study(folder: Path, preparation: str = "pass", loss: str = "loss", data: str = PLAIN, head: str = SLOPE) -> Path:
    file = wells(folder, count=9, tilt=0.0)
    (folder / "task.py").write_text(head + TASK.format(preparation=preparation, loss=loss, data=data))
    return file


def plan(file: Path, folder: Path) -> Plan:
    return Plan.of(Study.load(file), SITE, folder)


def prepare(file: Path, folder: Path) -> None:
    with Bars() as bars:
        prepare_all(plan(file, folder).landscapes, SerialMapper(), bars)


def begun(file: Path, folder: Path, shards: int = 4) -> Landscape:
    """A landscape with some of its shards."""
    prepare(file, folder)
    done: list[object] = []

    class Enough(Exception):
        pass

    def on_done(item: object) -> None:
        done.append(item)
        if len(done) == shards:
            raise Enough

    with pytest.raises(Enough):
        work(plan(file, folder).landscapes, on_done=on_done)
    return plan(file, folder).landscapes[0]


def _clamped(folder: Path) -> None:
    text = (folder / "task.py").read_text()
    (folder / "task.py").write_text(text.replace("max=9.0", "max=3.0"))


def _helper_clamped(folder: Path) -> None:
    (file,) = folder.rglob("helper.py")
    file.write_text(file.read_text().replace("max=9.0", "max=3.0"))


def _written(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def _other_data(folder: Path) -> None:
    torch.save(2 * torch.ones(3, dtype=torch.float64), folder / "data.pt")


RELATIVE = "from . import helper\nloss = helper.loss\n"
LOADED = "torch.load(HERE / 'data.pt')"
BY_PATH = """import runpy, pickle, importlib, yaml, numpy
    name = "hel" + "per"
    loss = runpy.run_path(str(HERE / (name + ".py")))["loss"]"""
BY_NAME = """import importlib
    loss = importlib.import_module("hel" + "per").loss"""
BY_SPEC = """import importlib.util
    spec = importlib.util.spec_from_file_location("other", HERE / ("hel" + "per.py"))
    module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); loss = module.loss"""
YAML = """import yaml
    most = yaml.safe_load((HERE / "settings.yaml").read_text())["most"]"""
PICKLE = """import pickle
    most = pickle.loads((HERE / "most.pkl").read_bytes())"""
NUMPY = """import numpy
    most = float(numpy.load(HERE / "most.npy"))"""
MOST = "lambda m, b: (m.x.square().sum() + 0 * b.sum()).clamp(max=most)"

CHANGES: dict[str, tuple[dict[str, str], Sequence[tuple[str, str]], Callable[[Path], None], str]] = {
    "the task itself": ({}, (), _clamped, "task_sha256"),
    "a module beside it": (
        {"head": "from helper import loss\n"}, [("helper.py", SLOPE)], _helper_clamped, "task_sha256",
    ),
    "a module imported in a function": (
        {"head": "", "preparation": "from helper import loss"}, [("helper.py", SLOPE)], _helper_clamped, "task_sha256",
    ),
    "a module of a package, relatively": (
        {"head": "from pkg.inner import loss\n"},
        [("pkg/__init__.py", ""), ("pkg/inner.py", RELATIVE), ("pkg/helper.py", SLOPE)],
        _helper_clamped,
        "task_sha256",
    ),
    "what the package imports": (
        {"head": "import pkg\nloss = pkg.loss\n"},
        [("pkg/__init__.py", "from .helper import loss"), ("pkg/helper.py", SLOPE)],
        _helper_clamped,
        "task_sha256",
    ),
    "by importlib": ({"head": "", "preparation": BY_NAME}, [("helper.py", SLOPE)], _helper_clamped, "helper.py"),
    "by runpy": ({"head": "", "preparation": BY_PATH}, [("helper.py", SLOPE)], _helper_clamped, "helper.py"),
    "by its path": ({"head": "", "preparation": BY_SPEC}, [("helper.py", SLOPE)], _helper_clamped, "helper.py"),
    "a YAML file": (
        {"preparation": YAML, "loss": MOST}, [("settings.yaml", "most: 9.0")], _written("settings.yaml", "most: 3.0"),
        "settings.yaml",
    ),
    "a pickle": (
        {"preparation": PICKLE, "loss": MOST}, [("most.pkl", "F9.0\n.")], _written("most.pkl", "F3.0\n."), "most.pkl",
    ),
    "data by torch.load": ({"data": LOADED}, [], _other_data, "data.pt"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(CHANGES))
@pytest.mark.thorough
def test_a_change_with_shards_missing_is_refused_and_nothing_is_written(tmp_path: Path, what: str) -> None:
    """Both by whoever goes on with the study and by a worker that was not started by them."""
    keys, files, change, name = CHANGES[what]
    file = study(tmp_path / "study", **keys)
    torch.save(torch.ones(3, dtype=torch.float64), tmp_path / "study/data.pt")
    for place, text in files:
        (tmp_path / "study" / place).parent.mkdir(exist_ok=True)
        (tmp_path / "study" / place).write_text(text)
    landscape = begun(file, tmp_path / "run")
    before = contents(tmp_path / "run")
    change(tmp_path / "study")
    with pytest.raises(InputError, match=name) as caught:
        prepare(file, tmp_path / "run")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=name):
        work(plan(file, tmp_path / "run").landscapes)
    assert contents(tmp_path / "run") == before
    assert landscape.open().n_done() == 4


@pytest.mark.thorough
def test_data_from_anywhere_are_proved_by_workers(tmp_path: Path) -> None:
    """The same loss everywhere, since it does not look at them; and yet they are others."""
    torch.save(torch.ones(3, dtype=torch.float64), tmp_path / "data.pt")
    file = study(tmp_path / "study", data=f"torch.load({str(tmp_path / 'data.pt')!r})")
    landscape = begun(file, tmp_path / "run")
    _other_data(tmp_path)
    with pytest.raises(InputError, match="the data that the task gives are others than when the study began"):
        work(plan(file, tmp_path / "run").landscapes)
    assert landscape.open().n_done() == 4


@pytest.mark.thorough
def test_what_no_hash_covers_is_noticed_by_the_losses_far_out(tmp_path: Path) -> None:
    most = tmp_path / "most.txt"
    most.write_text("9.0")
    file = study(tmp_path / "study", preparation=f"most = float(Path({str(most)!r}).read_text())", loss=MOST)
    landscape = begun(file, tmp_path / "run")
    most.write_text("3.0")
    with pytest.raises(InputError, match=r"the loss at coordinates \[-1\.5, -1\.5\] is 3\.0 .* 4\.5 was recorded"):
        work(plan(file, tmp_path / "run").landscapes)
    assert landscape.open().n_done() == 4
    most.write_text("9.0")
    assert work(plan(file, tmp_path / "run").landscapes)


def test_the_store_says_what_it_was_made_of(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study/settings.yaml").write_text("most: 9.0")
    data = "(torch.ones(3), {'labels': torch.arange(3), 'made by': object()})"
    loss = "lambda m, b: (m.x.square().sum() + 0 * b[0].sum()).clamp(max=most)"
    file = study(tmp_path / "study", preparation=YAML, loss=loss, data=data)
    prepare(file, tmp_path / "run")
    found = open_landscape(tmp_path / "run").attributes["identity"]
    assert list(found["files"]) == ["settings.yaml", "task.py"]
    assert found["not_covered"] == ["batch 0[1]['made by'] (a object)"]
    assert found["losses"][0] == [[0.0, 0.0], 0.0]
    assert [4.5 for _ in range(4)] == [value for _, value in found["losses"][1:5]]
    moved = tmp_path / "moved"
    (tmp_path / "study").rename(moved)
    prepare(moved / "study.yaml", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "run")


def test_modules_of_installed_packages_and_other_studies_are_no_part_of_a_task(tmp_path: Path) -> None:
    file = study(tmp_path / "study", head="import helper\nimport numpy, yaml\nloss = helper.loss\n")
    (tmp_path / "study/helper.py").write_text(SLOPE)
    (tmp_path / "study/unused.py").write_text("x = 1")
    first = Study.load(file).study_id()
    (tmp_path / "study/unused.py").write_text("x = 2")
    assert Study.load(file).study_id() == first
    (tmp_path / "study/helper.py").write_text(SLOPE + "\n")
    assert Study.load(file).study_id() != first


FAR = """
def loss(model, batch):
    v = model.x
    if float(v.detach().mean()) > 0.8:
        v = v + {made_up}
    return v.square().sum() + 0 * batch.sum()
"""


@pytest.mark.parametrize(
    ("made_up", "words"),
    [("0.1 * torch.rand(v.shape)", r"aten\.rand"), ("__import__('random').random()", r"\(random\)")],
)
def test_random_numbers_far_out_are_refused_before_anything_is_spent(tmp_path: Path, made_up: str, words: str) -> None:
    file = study(tmp_path / "study", head=FAR.format(made_up=made_up))
    with pytest.raises(InputError, match=f"away from the checkpoint is not deterministic: it draws .*{words}"):
        prepare(file, tmp_path / "run")
    assert not (tmp_path / "run/study.zarr").exists()


@pytest.mark.thorough
def test_a_loss_that_rounds_by_itself_sets_the_noise_floor(tmp_path: Path) -> None:
    head = "def loss(model, batch):\n    return (1 + model.x.float().square().sum()) + 0 * batch.sum()\n"
    file = study(tmp_path / "study", head=head)
    prepare(file, tmp_path / "run")
    (landscape,) = plan(file, tmp_path / "run").landscapes
    work([landscape])
    store = landscape.open()
    assert store.precision == "float32"
    assert "rounds what depends on the parameters to float32 (task.py, line 2)" in store.attributes["notices"][0]
    topology(landscape, None)
    numbers = store.numbers()
    assert numbers["topology.noise_floor"] == np.spacing(np.float32(numbers["topology.range"][1]))
