"""Odd checkpoints: what can be read gives the right numbers, what cannot gives one sentence. A row is one input."""

from __future__ import annotations

import copy
import dataclasses
import html
import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from studies import wells
from torch import Tensor, nn
from typer.testing import CliRunner

from landscaper_hpc import InputError, Study, Task
from landscaper_hpc.cli import app
from landscaper_hpc.objective.checkpoints import read_checkpoint, read_with_notice
from landscaper_hpc.objective.checkpoints.distributed import MetadataUnpickler
from landscaper_hpc.objective.checkpoints.fit import load_into
from landscaper_hpc.objective.checkpoints.names import Naming
from landscaper_hpc.objective.loading import load_objective
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.study.choices import CHECKPOINT_FORMATS, checkpoint_format
from landscaper_hpc.training.weights import Schedule, save_weights

State = dict[str, Any]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.fixture
def state() -> State:
    torch.manual_seed(1)
    model = network()
    model(torch.randn(9, 3))
    return model.state_dict()


def _save(content: object, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def _distributed(content: dict[str, Any], folder: Path) -> Path:
    import torch.distributed.checkpoint as dcp  # takes a second

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(content, checkpoint_id=folder, no_dist=True)
    return folder


def _with_optimiser(state: State) -> State:
    return {"state": {k: {"exp_avg": torch.full((10**6,), 7.0)} for k in state}}


# ---- names: what others put before and beside them -------------------------------------------------------------------


def _prefixed(prefix: str, **beside: object) -> Callable[[State], object]:
    return lambda state: {f"{prefix}{k}": v for k, v in state.items()} | beside


def _averaged(state: State) -> object:
    model = network()
    model.load_state_dict(state)
    return torch.optim.swa_utils.AveragedModel(model).state_dict()


NAMES: dict[str, tuple[Callable[[State], object], Naming]] = {
    "AveragedModel": (_averaged, Naming()),
    "AveragedModel of a compiled model": (_prefixed("module._orig_mod.", n_averaged=torch.tensor(3)), Naming()),
    "Fabric": (lambda s: {"model": {f"_forward_module.{k}": v for k, v in s.items()}, "step": 3}, Naming()),
    "an average's own prefix": (_prefixed("ema.module."), Naming()),
    "ema_pytorch": (_prefixed("ema_model.", initted=torch.tensor(True), step=torch.tensor(9)), Naming()),
    "only an average is there": (lambda s: {"ema_state_dict": s, "epoch": 3}, Naming()),
    "a part that was compiled": (lambda s: {k.replace("0.", "0._orig_mod.", 1): v for k, v in s.items()}, Naming()),
    "activation checkpointing": (
        lambda s: {k.replace("2.", "2._checkpoint_wrapped_module."): v for k, v in s.items()},
        Naming(),
    ),
    "Lightning, with a loss that has weights": (
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()} | {"criterion.weight": torch.ones(2)}},
        Naming(ignore=["criterion.*"]),
    ),
    "another name for the model": (_prefixed("backbone.net."), Naming({"backbone.net.": ""})),
    "a beginning, and a whole name": (
        lambda s: {("x." + k if k[0] == "0" else "bias" if k == "2.bias" else k): v for k, v in s.items()},
        Naming({"x.": "", "bias": "2.bias"}),
    ),
    "an end": (
        lambda s: {k.replace("1.weight", "1.gamma").replace("1.bias", "1.beta"): v for k, v in s.items()},
        Naming({"*.gamma": "*.weight", "*.beta": "*.bias"}),
    ),
    "the average instead of the model": (
        lambda s: {"model": {k: torch.zeros_like(v) for k, v in s.items()}, "ema": s},
        Naming({"ema.": ""}),
    ),
    "two sets of weights in one": (
        lambda s: {f"net.{k}": torch.zeros_like(v) for k, v in s.items()} | {f"ema.{k}": v for k, v in s.items()},
        Naming({"ema.": ""}, ["net.*"]),
    ),
    "a buffer that it lacks": (lambda s: {k: v for k, v in s.items() if k != "1.running_var"}, Naming({}, ["*_var"])),
}


@pytest.mark.parametrize("what", NAMES)
def test_names(what: str, state: State, tmp_path: Path) -> None:
    write, naming = NAMES[what]
    path = _save(write(state), tmp_path / "x.pt")
    model = network()
    load_into(model, read_checkpoint(path, naming.containers), path, naming=naming)
    for name, tensor in state.items():
        if not naming.ignores(name):
            assert torch.equal(model.state_dict()[name], tensor), name


def _twice(state: State) -> State:
    return {k: 2 * v for k, v in state.items()}


SEVERAL: dict[str, tuple[Callable[[State], object], str]] = {
    "an average beside": (lambda s: {"model": s, "ema": _twice(s), "epoch": 3}, "under 'model' of x.pt; .* under ema"),
    "a teacher beside": (lambda s: {"model": s, "teacher": _twice(s)}, "under 'model' of x.pt; .* under teacher"),
    "in an application": (lambda s: {"app": {"model": s, "ema": _twice(s)}}, "under 'app.model' of x.pt; .* under ema"),
    "an optimiser beside": (
        lambda s: {"model": s, "optimizer": {"state": {i: {"exp_avg": v} for i, v in enumerate(s.values())}}},
        "",
    ),
    "one alone": (lambda s: {"ema": s, "epoch": 3}, ""),
    "another network beside": (lambda s: {"model": s, "head": {"weight": torch.ones(7, 3)}}, ""),
}


@pytest.mark.parametrize("what", SEVERAL)
def test_which_of_several_weights_were_taken_is_said(what: str, state: State, tmp_path: Path) -> None:
    write, words = SEVERAL[what]
    tensors, notice = read_with_notice(_save(write(state), tmp_path / "x.pt"))
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state.items())
    assert bool(notice) == bool(words)
    assert re.search(words, notice)


@pytest.mark.thorough
def test_a_notice_is_in_check_in_the_results_and_on_the_page(tmp_path: Path) -> None:
    file = wells(tmp_path / "study", count=5)
    weights = torch.load(tmp_path / "study/origin.pt")
    torch.save({"model": weights, "ema": {"x": weights["x"] + 1}}, tmp_path / "study/origin.pt")
    (tmp_path / "settings.txt").write_text("0.0")
    with (tmp_path / "study/task.py").open("a") as task:
        task.write(f"\nfrom pathlib import Path\nSHIFT = float(Path({str(tmp_path / 'settings.txt')!r}).read_text())\n")
    said = "the weights are those under 'model' of origin.pt; it holds others under ema"
    checked = CliRunner().invoke(app, ["check", str(file)])
    assert f"notice: {said}" in checked.stdout
    assert f"outside the task's and the study's folders: {tmp_path / 'settings.txt'}; of these" in checked.stdout
    ran = CliRunner().invoke(app, ["run", str(file), "--executor", "serial", "--out", str(tmp_path / "run")])
    assert f"notice: origin: {said}" in ran.stdout
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["provenance"]["notices"]["origin"][0].startswith(said)
    page = html.unescape((tmp_path / "run/report.html").read_text())
    assert said in page
    assert "Not covered are packages and files elsewhere" in page


def test_what_is_left_as_the_task_makes_it_is_said(state: State, tmp_path: Path) -> None:
    said = load_into(network(), state, tmp_path, naming=Naming(ignore=["2.*", "*var"]))
    assert said == "2 parameters are as task() makes them, since ignore: leaves them out: 2.weight, 2.bias"
    assert load_into(network(), state, tmp_path, naming=Naming(ignore=["*var"])) == ""
    with pytest.raises(InputError, match="gives nothing to the model: ignore: leaves out all of it"):
        load_into(network(), state, tmp_path, naming=Naming(ignore=["*"]))


@pytest.mark.thorough
def test_a_wrapped_part_of_the_model_itself(state: State, tmp_path: Path) -> None:
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        model[0] = torch.compile(model[0])  # type: ignore[assignment]
    load_into(model, state, tmp_path)
    assert torch.equal(model.state_dict()["0._orig_mod.weight"], state["0.weight"])


def test_names_that_do_not_fit_come_with_advice(state: State, tmp_path: Path) -> None:
    two = {f"net.{k}": v for k, v in state.items()} | {f"ema2.{k}": v for k, v in state.items()}
    with pytest.raises(InputError, match=r"perhaps rename: \{'net\.': ''\}, and ignore: \['ema2\*'\]"):
        load_into(network(), two, tmp_path)
    with pytest.raises(InputError, match=r"rename: no tensor of checkpoint .* is called lost\.; there are 0.weight"):
        load_into(network(), state, tmp_path, naming=Naming({"lost.": "2."}))
    with pytest.raises(InputError, match=r"0\.weight would be the name of two tensors"):
        load_into(network(), state, tmp_path, naming=Naming({"2.weight": "0.weight"}))


def test_names_that_cannot_be_seen_are_in_quotes(state: State, tmp_path: Path) -> None:
    odd = {"": 0, " a": 0, "b\nc": 0, "\0": 0, "é": 0}
    with pytest.raises(InputError, match=re.escape(r"not in the model: '', ' a', 'b\nc', '\x00', é;")):
        load_into(network(), state | dict.fromkeys(odd, torch.ones(1)), tmp_path)


def test_a_file_that_was_saved_without_checksums_is_read(state: State, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = _save(state, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_checkpoint(path)["0.weight"], state["0.weight"])


def test_names_are_science_only_where_they_are_given(tmp_path: Path, state: State) -> None:
    _save(state, tmp_path / "a.pt")
    (tmp_path / "task.py").write_text("")
    (tmp_path / "study.yaml").write_text("{name: s, task: task.py, checkpoints: [{name: a, file: a.pt, ignore: [c*]}]}")
    study = Study.load(tmp_path / "study.yaml")
    assert study.science(study.checkpoints[0])["ignore"] == ["c*"]
    plain = Study.load(tmp_path / "study.yaml", ["checkpoints.0.ignore=[]"])
    assert not {"rename", "ignore"} & plain.science(plain.checkpoints[0]).keys()
    both = Study.load(tmp_path / "study.yaml", ["rename={a: b}", "ignore=[d]", "checkpoints.0.rename={c: d}"])
    assert both.naming(both.checkpoints[0]) == {"rename": {"a": "b", "c": "d"}, "ignore": ["d", "c*"]}


# ---- folders ---------------------------------------------------------------------------------------------------------


class ZeroStageEnum(int, Enum):
    """Stands for an object of DeepSpeed's: must not be needed to read the file."""

    optimizer_states = 1
    gradients = 2
    weights = 3


class LossScaler:
    def __init__(self) -> None:
        self.cur_scale = 1.0


@dataclasses.dataclass
class _Zero:
    """A checkpoint as DeepSpeed writes it, of a model with one frozen and one shared parameter."""

    stage: int
    ranks: int

    def write(self, state: State, folder: Path) -> Path:
        buffers = [k for k in state if "running" in k or "num" in k]
        frozen = ["0.bias"]
        shapes = {k: v.shape for k, v in state.items() if k not in (*buffers, *frozen)}
        groups = [dict(list(shapes.items())[:2]), dict(list(shapes.items())[2:])]
        tag = folder / "global_step7"
        tag.mkdir(parents=True)
        (folder / "latest").write_text("global_step7")
        (folder / "zero_to_fp32.py").write_text("raise SystemExit")
        model = {
            "module": {k: v.half() if v.is_floating_point() and k not in buffers else v for k, v in state.items()},
            "buffer_names": buffers,
            "param_shapes": groups,
            "frozen_param_shapes": {k: state[k].shape for k in frozen},
            "shared_params": {},
            "ds_version": "0.15.4",
        }
        for rank in range(self.ranks if self.stage == 3 else 1):
            parts = {k: self._part(state[k], rank) if self.stage == 3 else state[k] for k in frozen}
            name = f"zero_pp_rank_{rank}_mp_rank_00" if self.stage == 3 else "mp_rank_00"
            _save(model | {"frozen_param_fragments": parts}, tag / f"{name}_model_states.pt")
        for rank in range(self.ranks if self.stage else 0):
            content: dict[str, Any] = {
                "zero_stage": ZeroStageEnum(self.stage),
                "partition_count": [self.ranks] * 2 if self.stage < 3 else self.ranks,
                "loss_scaler": LossScaler(),
                "base_optimizer_state": {"state": {0: {"exp_avg": torch.full((10**6,), 7.0)}}},
            }
            if self.stage == 3:
                flat = [torch.cat([self._part(state[k], rank) for k in group]) for group in groups]
                content["fp32_flat_groups"] = flat
            else:
                content["single_partition_of_fp32_groups"] = [
                    self._part(torch.cat([state[k].flatten() for k in group]), rank, 2) for group in groups
                ]
            file = tag / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
            _save({"optimizer_state_dict": content, "ds_config": {}}, file)
        return folder

    def _part(self, tensor: Tensor, rank: int, multiple: int = 1) -> Tensor:
        flat, unit = tensor.flatten(), multiple * self.ranks
        flat = nn.functional.pad(flat, (0, -len(flat) % unit))
        return flat.chunk(self.ranks)[rank].clone()


def _hugging_face(state: State, folder: Path) -> Path:
    (folder / "checkpoint-500").mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "checkpoint-500" / "model.safetensors")
    _save(_with_optimiser(state), folder / "checkpoint-500" / "optimizer.pt")
    return folder / "checkpoint-500"


FOLDERS: dict[str, Callable[[State, Path], Path]] = {
    "torch's recipe": lambda s, f: _distributed({"app": {"model": s, "optim": _with_optimiser(s)}}, f),
    "Lightning's FSDP": lambda s, f: _distributed(
        {"model": {f"model.{k}": v for k, v in s.items()}, "optimizer_0": _with_optimiser(s), "epoch": 3}, f
    ),
    "Trainer": _hugging_face,
    "Trainer with FSDP": lambda s, f: _distributed({"model": s}, f / "pytorch_model_fsdp_0").parent,
    "Accelerate with FSDP": lambda s, f: _save(s, f / "pytorch_model_fsdp.bin").parent,
    "ZeRO 1": _Zero(1, 2).write,
    "ZeRO 2": _Zero(2, 3).write,
    "ZeRO 3": _Zero(3, 4).write,
    "ZeRO 3, the step itself": lambda s, f: _Zero(3, 2).write(s, f) / "global_step7",
}


@pytest.mark.parametrize("what", FOLDERS)
def test_folders(what: str, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = FOLDERS[what](state, tmp_path / "x")
    found = read_checkpoint(path)
    assert not any(tensor.numel() >= 10**6 for tensor in found.values())
    model = network()
    load_into(model, found, path)
    for name, tensor in state.items():
        assert torch.equal(model.state_dict()[name], tensor), name


def _indexed(state: State, folder: Path, wrong: bool = False) -> Path:
    """Two shards, of which the second holds an older tensor that the index gives to the first."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(state)
    half = {name: state[name] for name in names[:4]}
    rest = {name: state[name] for name in names[4:]} | {names[0]: state[names[0]] + 7}
    save_file(half, folder / "model-00001-of-00002.safetensors")
    save_file(rest, folder / "model-00002-of-00002.safetensors")
    places = {name: f"model-0000{1 if name in half else 2}-of-00002.safetensors" for name in names}
    if wrong:
        places[names[1]] = "model-00002-of-00002.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def _beside(state: State, folder: Path, *names: str) -> Path:
    """Other weights, under other names, in the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name.endswith(".safetensors"):
            save_file(_twice(state), folder / name)
        else:
            _save(_twice(state), folder / name)
    return folder


TOGETHER: dict[str, tuple[Callable[[State, Path], Path], str]] = {
    "two formats": (
        lambda s, f: _beside(s, _hugging_face(s, f), "pytorch_model.bin"),
        "in model.safetensors of checkpoint-500; it also holds pytorch_model.bin, which "
        "file: checkpoint-500/pytorch_model.bin in",
    ),
    "another precision": (
        lambda s, f: _beside(s, _hugging_face(s, f), "model.fp16.safetensors"),
        "it also holds model.fp16.safetensors",
    ),
    "an adapter, and an average": (
        lambda s, f: _beside(s, _hugging_face(s, f), "adapter_model.safetensors", "ema.pt"),
        "it also holds adapter_model.safetensors, ema.pt",
    ),
    "an index of other shards": (
        lambda s, f: _indexed(_twice(s), _hugging_face(s, f)),
        "in model.safetensors of .* it also holds model.safetensors.index.json, which",
    ),
    "a single file of another format, beside shards": (
        lambda s, f: _beside(s, _indexed(s, f), "pytorch_model.bin"),
        "in model.safetensors.index.json of x; it also holds pytorch_model.bin, which",
    ),
    "DeepSpeed's, of Trainer": (
        lambda s, f: _hugging_face(s, _Zero(1, 2).write(_twice(s), f / "checkpoint-500").parent),
        "in model.safetensors of checkpoint-500; it also holds global_step7, which",
    ),
    "a distributed one": (
        lambda s, f: _beside(s, _distributed({"model": s}, f), "model.safetensors"),
        r"in the distributed checkpoint \(.metadata\) of x; it also holds model.safetensors, which",
    ),
    "what trainers save beside": (
        lambda s, f: _beside(s, _hugging_face(s, f), "training_args.bin", "scheduler.pt", "rng_state.pth"),
        "",
    ),
    "shards alone": (_indexed, ""),
}


@pytest.mark.parametrize("what", TOGETHER)
def test_which_of_several_files_of_a_folder_is_read_is_said(what: str, state: State, tmp_path: Path) -> None:
    make, words = TOGETHER[what]
    tensors, notice = read_with_notice(make(state, tmp_path / "x"))
    assert {name for name, tensor in state.items() if not torch.equal(tensors[name], tensor)} == set()
    assert bool(notice) == bool(words)
    assert re.search(words, notice)


def test_what_deepspeed_writes_without_zero(state: State, tmp_path: Path) -> None:
    path = _Zero(0, 1).write(state, tmp_path / "x")
    model = network().half()
    load_into(model, read_checkpoint(path), path)
    assert torch.equal(model[0].weight, state["0.weight"].half())


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
def test_a_checkpoint_may_have_been_written_under_another_python(module: str) -> None:
    """Which have moved the class of the folder's name to and fro."""
    metadata = f"c{module}\nPosixPath\n(Vsaved\ntR.".encode()
    assert MetadataUnpickler(io.BytesIO(metadata)).load() == Path("saved")


def test_a_part_of_the_model_may_be_called_optimal(tmp_path: Path) -> None:
    path = _distributed({"optimal.weight": torch.ones(3), "optim.state": torch.ones(3)}, tmp_path / "x")
    assert list(read_checkpoint(path)) == ["optimal.weight"]


# ---- damage ----------------------------------------------------------------------------------------------------------


def _cut(path: Path, size: int = 40) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def _damaged_folder(state: State, folder: Path) -> Path:
    _distributed({"model": state}, folder)
    for part in folder.glob("*.distcp"):
        _cut(part)
    return folder


def _without_part(state: State, folder: Path) -> Path:
    _distributed({"model": state}, folder)
    for part in folder.glob("*.distcp"):
        part.unlink()
    return folder


def _zero_without(pattern: str) -> Callable[[State, Path], Path]:
    def write(state: State, folder: Path) -> Path:
        _Zero(3, 2).write(state, folder)
        next((folder / "global_step7").glob(pattern)).unlink()
        return folder

    return write


def _bytes(content: bytes, name: str = "x.pt") -> Callable[[State, Path], Path]:
    def write(_: State, folder: Path) -> Path:
        folder.mkdir()
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _self_named(_: State, folder: Path) -> Path:
    folder.mkdir()
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": path.name}}))
    return path


def _lazy(_: State, folder: Path) -> Path:
    return _save(nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d()).state_dict(), folder / "x.pt")


def _packed(state: State, folder: Path) -> Path:
    _save(state, folder / "plain.pt")
    with (
        zipfile.ZipFile(folder / "plain.pt") as plain,
        zipfile.ZipFile(folder / "x.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    return folder / "x.pt"


def _flipped(state: State, folder: Path) -> Path:
    content = bytearray(_save(state, folder / "x.pt").read_bytes())
    content[content.index(state["0.weight"].numpy().tobytes())] ^= 1
    (folder / "x.pt").write_bytes(content)
    return folder / "x.pt"


def _an_entry_twice(state: State, folder: Path) -> Path:
    _save(state, folder / "x.pt")
    with warnings.catch_warnings(), zipfile.ZipFile(folder / "x.pt", "a") as file:
        warnings.simplefilter("ignore")
        file.writestr("x/data/0", bytes(48))
    return folder / "x.pt"


def _index_of(shard: str) -> Callable[[State, Path], Path]:
    return _bytes(json.dumps({"weight_map": {"a": shard}}).encode(), "x.index.json")


def _nested(_: State, folder: Path) -> Path:
    """An archive of torch whose pickle is {"model": {"model": …}}, deeper than can be followed."""
    _save({}, folder / "plain.pt")
    with zipfile.ZipFile(folder / "plain.pt") as plain, zipfile.ZipFile(folder / "x.pt", "w") as nested:
        for name in plain.namelist():
            deep = b"\x80\x02" + b"}X\x05\x00\x00\x00model" * 5000 + b"}" + b"s" * 5000 + b"."
            nested.writestr(name, deep if name.endswith("data.pkl") else plain.read(name))
    return folder / "x.pt"


def _says_too_much(_: State, folder: Path) -> Path:
    """A header for 4 TB of values that are not there."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}).encode()
    return _bytes(len(header).to_bytes(8, "little") + header, "x.safetensors")(_, folder)


def _torchscript(_: State, folder: Path) -> Path:
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), folder / "x.pt")
    return folder / "x.pt"


def _run_folder(state: State, folder: Path) -> Path:
    return _hugging_face(state, folder).parent


def _lost_latest(state: State, folder: Path) -> Path:
    _Zero(1, 1).write(state, folder)
    (folder / "latest").write_text("../elsewhere")
    return folder


DAMAGED: dict[str, tuple[Callable[[State, Path], Path], str]] = {
    "cut .distcp": (_damaged_folder, "cannot be read: it is damaged"),
    "no .distcp": (_without_part, "cannot be read: it is damaged (FileNotFoundError"),
    "a rank's optimiser states": (_zero_without("*_rank_1_*optim*"), "written by 2 ranks, of which the files of 1"),
    "a rank's model states": (_zero_without("*_rank_1_*model*"), "written by 2 ranks"),
    "latest names nothing": (_lost_latest, "its file `latest` names '../elsewhere'"),
    "text": (_bytes(b"aaaa" * 3000), "damaged, or not what its name says"),
    "a pickle of nothing": (_bytes(b"\x80\x02."), "damaged, or not what its name says"),
    "empty": (_bytes(b""), "is empty"),
    "git-lfs": (_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"), "git lfs pull"),
    "git-lfs for safetensors": (_bytes(b"version https://git-lfs.github.com/spec/v1\n", "x.safetensors"), "git lfs"),
    "an index of itself": (_self_named, "names an index as a shard"),
    "an index of other shards": (
        lambda s, f: _indexed(s, f, wrong=True),
        "says that 0.weight is in model-00002-of-00002",
    ),
    "an index that says a thing twice": (
        _bytes(b'{"weight_map": {"a": "b.bin", "a": "c.bin"}}', "x.index.json"),
        "no valid weight_map",
    ),
    "nested JSON": (_bytes(b"[" * 10**6, "x.index.json"), "no valid weight_map"),
    "lazy parameters": (_lazy, "holds no weights but lazy parameters"),
    "packed after it was saved": (_packed, "was compressed after it was saved"),
    "a bit of a weight": (_flipped, "was damaged after it was saved: x/data/0 has another checksum"),
    "two that could be a weight": (_an_entry_twice, "was damaged after it was saved: it holds x/data/0 twice"),
    "a shard without a name": (_index_of(""), "names a shard that no file can be called: ''"),
    "a shard with a zero in its name": (_index_of("a\0.bin"), "no file can be called: 'a\\x00.bin'"),
    "too deep": (_nested, "is nested deeper than weights are"),
    "a header for 4 TB": (_says_too_much, "damaged, or not what its name says"),
    "a header of 2**60 bytes": (_bytes(b"\0" * 7 + b"\x10" + b"{}", "x.safetensors"), "damaged, or not"),
    "a pickle that says it is long": (_bytes(b"\x80\x02X\xf0\xff\xff\xffabc"), "damaged, or not"),
    "TorchScript": (_torchscript, "is a TorchScript program"),
    "a run's folder": (_run_folder, "holds several checkpoints; name one of them: checkpoint-500"),
}


@pytest.mark.parametrize("what", DAMAGED)
@pytest.mark.timeout(100)
def test_damage_is_one_sentence(what: str, state: State, tmp_path: Path) -> None:
    write, message = DAMAGED[what]
    path = write(state, tmp_path / "x")
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "pop from empty list" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_hashed_is_one_sentence(state: State, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("")
    _self_named(state, tmp_path / "index")
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "empty").mkdir()
    (tmp_path / "study.yaml").write_text("{name: s, task: task.py, checkpoints: [{name: a, file: a.pt}]}")
    for file, message in (
        ("index/model.safetensors.index.json", "names an index as a shard"),
        ("pipe.pt", "checkpoints.a.file: .* is neither a file nor a folder"),
        ("empty", "holds no checkpoint of a known format .*DeepSpeed"),
        ("gone.pt", "cannot read .*gone.pt"),
    ):
        with pytest.raises(InputError, match=message):
            Study.load(tmp_path / "study.yaml", [f"checkpoints.0.file={file}"]).check_files()


def test_every_format_is_a_module_that_reads_what_it_recognises(state: State, tmp_path: Path) -> None:
    paths = [
        _save(state, tmp_path / "x.pt"),
        *(tmp_path / name for name in ("x.safetensors", "x.index.json")),
        _distributed(dict(state), tmp_path / "dcp"),
        _hugging_face(state, tmp_path / "hf"),
        _Zero(2, 2).write(state, tmp_path / "zero"),
    ]
    save_file(state, paths[1])
    paths[2].write_text(json.dumps({"weight_map": dict.fromkeys(state, "x.safetensors")}))
    assert [checkpoint_format(path) for path in paths] == list(map(CHECKPOINT_FORMATS.load, CHECKPOINT_FORMATS.names()))
    for path in paths:
        form = checkpoint_format(path)
        assert form is not None
        assert form.READABLE
        assert set(form.files(path)) <= {path, *path.parent.rglob("*")}
        read_checkpoint(path)


def test_a_format_is_one_file_and_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy_archive.py").write_text(
        "import numpy as np, torch\n"
        "READABLE = '.npz'\n"
        "recognises = lambda path: path.suffix == '.npz'\n"
        "files = lambda path: [path]\n"
        "read = lambda path: {k: torch.from_numpy(v) for k, v in np.load(path).items()}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(CHECKPOINT_FORMATS.own, "NumPy", "numpy_archive")
    import numpy as np

    np.savez(tmp_path / "x.npz", a=np.arange(3.0))
    assert read_checkpoint(tmp_path / "x.npz")["a"].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"readable are .*\.npz"):
        read_checkpoint(_bytes(b"1", "x.xyz")({}, tmp_path / "y"))


# ---- kinds of numbers ------------------------------------------------------------------------------------------------

TASK = """
import torch
from torch import nn
from landscaper_hpc import Task

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(2, dtype={dtype}), requires_grad={moves})
        self.b = nn.Parameter(torch.ones(()))
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    {more}

def task():
    return Task(Model(), lambda m, x: (m.w.abs().double() * x).sum() * m.b, torch.ones(3, 2))
"""


def _task(folder: Path, dtype: str = "torch.float32", moves: bool = True, more: str = "pass") -> Path:
    (folder / "task.py").write_text(TASK.format(dtype=dtype, moves=moves, more=more))
    return folder / "task.py"


def _weights(w: Tensor, **more: object) -> State:
    return {"w": w, "b": torch.tensor(1.5), "mask": torch.tensor([0.0, float("-inf")])} | more


def _loaded(folder: Path, weights: State, precision: str = "float64", **task: Any) -> Objective:
    return load_objective(_task(folder, **task), _save(weights, folder / "x.pt"), precision=precision)


def test_weights_are_loaded_in_the_precision_of_the_study(tmp_path: Path) -> None:
    fine = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
    assert torch.equal(_loaded(tmp_path, _weights(fine)).parameters["w"], fine)
    assert torch.equal(_loaded(tmp_path, _weights(fine), "float32").parameters["w"], fine.float())
    assert torch.equal(
        _loaded(tmp_path, _weights(fine.float()), dtype="torch.float16").parameters["w"], fine.float().double()
    )
    float8 = torch.tensor([0.5, -2.0]).to(torch.float8_e4m3fn)
    assert _loaded(tmp_path, _weights(float8)).parameters["w"].tolist() == [0.5, -2.0]


LOST: dict[str, tuple[Tensor, dict[str, Any], str]] = {
    "an imaginary part": (torch.tensor([1 + 1j, 2]), {}, "lose a part: w complex64 for the model's float32"),
    "NaN": (torch.tensor([1.0, float("nan")]), {}, r"x\.pt holds NaN or infinite numbers in w"),
    "too large for the precision": (
        torch.tensor([1.0, 1e300], dtype=torch.float64),
        {"precision": "float32"},
        "NaN or infinite numbers in w",
    ),
    "int8 codes for weights": (
        torch.tensor([1, -128], dtype=torch.int8),
        {},
        "whole numbers for weights, as quantised ones are: .*scales applied: w int8 for the model's float32",
    ),
    "truth values for weights": (torch.tensor([True, False]), {}, "whole numbers for weights, .*: w bool for"),
    "fractions for whole numbers": (
        torch.tensor([1.0, 1.5]),
        {"dtype": "torch.int64", "moves": False},
        "lose a part: w float32 for the model's int64",
    ),
}


@pytest.mark.parametrize("what", LOST)
def test_what_would_lose_a_part_is_refused(what: str, tmp_path: Path) -> None:
    w, options, message = LOST[what]
    with pytest.raises(InputError, match=message):
        _loaded(tmp_path, _weights(w), **options)


UNFIT: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "quantised": (
        lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
        r"holds quantised tensors, .*: w; .*dequantize",
    ),
    "meta": (lambda w: w.to("meta"), "holds tensors on the meta device, which hold no numbers: w; save it from"),
    "sparse": (lambda w: w.to_sparse(), r"holds sparse tensors: w; save them whole, with to_dense\(\)"),
    "nested": (lambda w: torch.nested.nested_tensor([w, w]), "holds nested tensors: w; save them padded"),
    "bits": (lambda w: w.byte().view(torch.bits8), "of a type that torch turns into no other: w; save them as float"),
    "sparse rows": (lambda w: w[None].to_sparse_csr(), r"holds sparse tensors: w; save them whole, with to_dense\(\)"),
}


@pytest.mark.filterwarnings("ignore:.*Sparse:UserWarning", "ignore:.*nested tensors is in prototype")
@pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning", "ignore:.*deprecated:UserWarning")
@pytest.mark.parametrize("what", UNFIT)
def test_weights_without_numbers_of_their_own_are_refused(what: str, tmp_path: Path) -> None:
    make, message = UNFIT[what]
    with pytest.raises(InputError, match=message):
        _loaded(tmp_path, _weights(make(torch.ones(2))))


def test_whole_numbers_in_a_buffer_are_real_ones_where_nothing_is_lost(tmp_path: Path) -> None:
    found = _loaded(tmp_path, _weights(torch.ones(2)) | {"mask": torch.tensor([0, 1])})
    assert found.model.mask.tolist() == [0.0, 1.0]
    with pytest.raises(InputError, match="would lose a part: mask int64 for the model's float32"):
        _loaded(tmp_path, _weights(torch.ones(2)) | {"mask": torch.tensor([0, 2**53 + 1])})


def test_complex_weights_without_an_imaginary_part_are_real(tmp_path: Path) -> None:
    assert _loaded(tmp_path, _weights(torch.tensor([1 + 0j, 2]))).parameters["w"].tolist() == [1.0, 2.0]


def test_what_does_not_move_may_be_infinite(tmp_path: Path) -> None:
    objective = _loaded(tmp_path, _weights(torch.tensor([1.0, float("inf")])), moves=False)
    assert list(objective.parameters) == ["b"]
    assert objective.model.mask.tolist() == [0.0, float("-inf")]


def test_extra_state_is_given_to_its_module(tmp_path: Path) -> None:
    more = "scale = 1\n    def get_extra_state(self): return {'scale': self.scale}\n"
    more += "    def set_extra_state(self, state): self.scale = state['scale']"
    without = _loaded(tmp_path, _weights(torch.ones(2)), more=more)
    assert without.model.scale == 1
    given = _loaded(
        tmp_path, {"module." + k: v for k, v in _weights(torch.ones(2), _extra_state={"scale": 3}).items()}, more=more
    )
    assert given.model.scale == 3


def test_an_integer_does_not_move(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="w holds int64, which cannot move; leave it out with frozen or only"):
        load_objective(
            _task(tmp_path, "torch.int64", False), _save(_weights(torch.ones(2)), tmp_path / "x.pt"), frozen=True
        )


def test_a_model_on_the_meta_device_is_filled_by_the_checkpoint(state: State, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = network()
        model.tied = model[0]
    load_into(model, state | {f"tied.{k[2:]}": v for k, v in state.items() if k[0] == "0"}, tmp_path)
    assert torch.equal(model[0].weight, state["0.weight"])
    assert model.tied.weight is model[0].weight
    model.register_buffer("rotary", torch.ones(3, device="meta"), persistent=False)
    with pytest.raises(InputError, match="on the meta device that no checkpoint fills: rotary; make them in task"):
        Objective(Task(model, lambda m, x: m(x).mean(), torch.ones(2, 3)))


def test_lazy_parameters_are_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.LazyLinear(2))
    with pytest.raises(InputError, match=r"lazy parameters, .*: 0\.weight, 0\.bias; run the model on a batch in task"):
        load_into(model, {}, tmp_path)
    with pytest.raises(InputError, match="lazy parameters"):
        Objective(Task(model, lambda m, x: m(x).mean(), torch.ones(2, 3)))


def test_sparse_gradients_are_made_dense() -> None:
    torch.manual_seed(0)
    data = torch.arange(5), torch.arange(5) % 3
    dense = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    sparse = copy.deepcopy(dense)
    sparse[0].sparse = True
    gradients = []
    for model in (dense, sparse):
        objective = Objective(Task(model, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]), data))
        params = {k: p.clone().requires_grad_() for k, p in objective.parameters.items()}
        gradients.append(torch.autograd.grad(objective.loss(params), list(params.values())))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


# ---- what is saved while a model is trained --------------------------------------------------------------------------


def _with_buffer(tensor: Tensor) -> nn.Module:
    layer = nn.Linear(2, 2)
    layer.register_buffer("held", tensor)
    return layer


NOT_SAVED: list[tuple[str, Any, Any, str]] = [
    ("half a step", nn.Linear(2, 2), 2.5, "step is 2.5; give a whole number of steps, 0 or more"),
    ("a step before the first", nn.Linear(2, 2), -1, "step is -1; give a whole number"),
    ("a step that is a bool", nn.Linear(2, 2), True, "step is True; give a whole number"),
    ("a state dict", nn.Linear(2, 2).state_dict(), 1, "model is a OrderedDict; give a torch.nn.Module"),
    ("no shape yet", nn.LazyLinear(2), 1, "weight has no shape yet"),
    ("no numbers", nn.Linear(2, 2, device="meta"), 1, "weight is on the meta device"),
    ("complex128", nn.Linear(2, 2, dtype=torch.complex128), 1, "weight is of complex128, which .safetensors"),
    ("sparse", _with_buffer(torch.eye(3).to_sparse()), 1, "held is sparse or quantised"),
]


@pytest.mark.parametrize(("model", "step", "told"), [row[1:] for row in NOT_SAVED], ids=[row[0] for row in NOT_SAVED])
def test_what_cannot_be_saved_is_one_sentence(model: Any, step: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        save_weights(model, tmp_path, step)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("every", [0, 2.5, True, "5", float("nan"), None])
def test_how_often_weights_are_saved_is_a_whole_number(every: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"every is .*; give a whole number of steps, 1 or more"):
        Schedule(tmp_path, every)


def test_numbers_of_numpy_and_torch_are_steps(tmp_path: Path) -> None:
    schedule = Schedule(tmp_path, np.int64(2))  # type: ignore[arg-type]
    for step in (np.int64(2), torch.tensor(3), 4):
        schedule.save(nn.Linear(2, 2), step)  # type: ignore[arg-type]
    assert [file.name for file in sorted(tmp_path.iterdir())] == [f"step_0000000{i}.safetensors" for i in (2, 4)]
