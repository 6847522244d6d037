"""Every checkpoint format gives the same parameters, and what cannot be used says so in one sentence."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.checkpoints import read_checkpoint
from landscaper_hpc.objective.checkpoints.fit import load_into, matched


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.fixture
def trained() -> nn.Sequential:
    torch.manual_seed(1)
    model = network()
    model(torch.randn(9, 3))
    return model


def _sharded(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    names = list(state)
    files = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, some in files.items():
        save_file({name: state[name] for name in some}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, some in files.items() for name in some}}))
    return index


def _torch(wrap: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path, dict[str, torch.Tensor]], Path]:
    def write(folder: Path, state: dict[str, torch.Tensor]) -> Path:
        torch.save(wrap(state), folder / "x.pt")
        return folder / "x.pt"

    return write


def _safetensors(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


def _bin(folder: Path, files: dict[str, list[str]], state: dict[str, torch.Tensor]) -> Path:
    """As Hugging Face wrote them before safetensors."""
    for file, names in files.items():
        torch.save({name: state[name] for name in names}, folder / file)
    if len(files) > 1:
        index = {"weight_map": {name: file for file, names in files.items() for name in names}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def _distributed(wrap: Callable[[dict[str, torch.Tensor]], dict[str, object]]) -> Callable[..., Path]:
    def write(folder: Path, state: dict[str, torch.Tensor]) -> Path:
        import torch.distributed.checkpoint as dcp  # takes a second

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save(wrap(state), checkpoint_id=folder / "dcp", no_dist=True)
        return folder / "dcp"

    return write


WRITERS: dict[str, Callable[[Path, dict[str, torch.Tensor]], Path]] = {
    "bare": _torch(lambda s: s),
    "state_dict": _torch(lambda s: {"state_dict": s, "epoch": 3}),
    "model": _torch(lambda s: {"model": s, "optimizer": {"lr": 0.1}}),
    "ddp": _torch(lambda s: {f"module.{k}": v for k, v in s.items()}),
    "compiled ddp": _torch(lambda s: {"model": {f"_orig_mod.module.{k}": v for k, v in s.items()}}),
    "lightning": _torch(lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "global_step": 1}),
    "safetensors": _safetensors,
    "distributed": _distributed(lambda s: dict(s)),
    "distributed, with optimiser": _distributed(lambda s: {"model": s, "optim": {"a": torch.ones(3)}, "epoch": 3}),
    "sharded": _sharded,
    "folder": lambda folder, state: _safetensors(folder, state).parent,
    "bin folder": lambda folder, state: _bin(folder, {"pytorch_model.bin": list(state)}, state),
    "sharded bin folder": lambda folder, state: _bin(folder, {"a.bin": ["0.weight"], "b.bin": list(state)[1:]}, state),
    "sharded folder": lambda folder, state: _sharded(folder, state).parent,
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_gives_the_same_parameters(form: str, tmp_path: Path, trained: nn.Sequential) -> None:
    path = WRITERS[form](tmp_path, trained.state_dict())
    model = network()
    load_into(model, read_checkpoint(path), path)
    for name, tensor in trained.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_model_with_a_part_called_model_keeps_its_names(tmp_path: Path) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

    source, target = Outer(), Outer()
    torch.save(source.state_dict(), tmp_path / "x.pt")
    load_into(target, read_checkpoint(tmp_path / "x.pt"), tmp_path / "x.pt")
    assert torch.equal(target.model[0].weight, source.model[0].weight)


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def test_of_tied_weights_one_name_is_enough(tmp_path: Path) -> None:
    weight = torch.randn(5, 3)
    model = _Tied()
    load_into(model, {"head.weight": weight}, tmp_path)
    assert torch.equal(model.embed.weight, weight)
    with pytest.raises(InputError, match=r"different values for embed.weight and head.weight"):
        load_into(model, {"embed.weight": weight, "head.weight": weight + 1}, tmp_path)


def test_tied_weights_and_prefixes_are_matched_for_trajectories_and_paths_too(tmp_path: Path) -> None:
    weight = torch.randn(5, 3)
    found = matched(_Tied(), {"module.head.weight": weight}, tmp_path)
    assert list(found) == ["embed.weight", "head.weight"]
    assert all(torch.equal(tensor, weight) for tensor in found.values())


class _Adapted(nn.Module):
    """With names as PEFT gives them: two adapters on a layer, and another head."""

    def __init__(self) -> None:
        super().__init__()
        self.peft_config = {"default": None, "second": None}
        layer, head = nn.Module(), nn.Module()
        layer.base_layer = nn.Linear(3, 4)
        for name, shape in (("lora_A", (3, 2)), ("lora_B", (2, 4))):
            setattr(layer, name, nn.ModuleDict({each: nn.Linear(*shape, bias=False) for each in self.peft_config}))
        head.original_module, head.modules_to_save = nn.Linear(4, 2), nn.ModuleDict({"default": nn.Linear(4, 2)})
        inner = nn.ModuleDict({"layer": layer, "head": head})
        self.base_model = nn.ModuleDict({"model": inner})


def _adapter(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """As `save_pretrained` of a `PeftModel` writes it."""
    state = {
        "base_model.model.layer.lora_A.weight": torch.ones(2, 3),
        "base_model.model.layer.lora_B.weight": torch.full((4, 2), 2.0),
        "base_model.model.head.weight": torch.full((2, 4), 3.0),
        "base_model.model.head.bias": torch.full((2,), 4.0),
    }
    save_file(state, folder / "adapter_model.safetensors")
    return folder, state


def test_an_adapter_is_taken_without_its_base_model(tmp_path: Path) -> None:
    path, state = _adapter(tmp_path)
    model = _Adapted()
    base = model.base_model["model"].layer.base_layer.weight.clone()
    said = load_into(model, read_checkpoint(path), path)
    assert said.startswith("6 parameters are as task() makes them, since the checkpoint is an adapter: base_model")
    assert torch.equal(model.base_model["model"].layer.base_layer.weight, base)
    found = model.state_dict()
    inside = {"layer.lora_A": "default", "layer.lora_B": "default", "head": "modules_to_save.default"}
    for name, places in inside.items():
        expected = state[f"base_model.model.{name}.weight"]
        assert torch.equal(found[f"base_model.model.{name}.{places}.weight"], expected)


def test_what_an_adapter_itself_lacks_is_missed(tmp_path: Path) -> None:
    path, state = _adapter(tmp_path)
    save_file({name: state[name] for name in state if "lora_B" not in name}, path / "adapter_model.safetensors")
    with pytest.raises(
        InputError, match=r"missing in the checkpoint: base_model.model.layer.lora_B.default.weight; names"
    ):
        load_into(_Adapted(), read_checkpoint(path), path)


@pytest.mark.parametrize("place", ["", "adapter_model.safetensors"])
def test_an_adapter_whose_base_model_has_none_put_on_it(place: str, tmp_path: Path) -> None:
    path = _adapter(tmp_path)[0] / place
    with pytest.raises(InputError) as refused:
        load_into(nn.ModuleDict({"layer": nn.Linear(3, 4)}), read_checkpoint(path), path)
    assert "is an adapter without its base model (adapter_model.safetensors)" in str(refused.value)
    assert f"PeftModel.from_pretrained(base, {str(tmp_path)!r}, is_trainable=True)" in str(refused.value)


def test_everything_that_does_not_match_is_listed(trained: nn.Sequential) -> None:
    state = dict(trained.state_dict())
    del state["0.bias"]
    state["extra"] = torch.zeros(1)
    state["2.weight"] = torch.zeros(7, 7)
    with pytest.raises(InputError) as caught:
        load_into(network(), state, Path("x.pt"))
    for part in (
        "x.pt",
        "missing in the checkpoint: 0.bias",
        "not in the model: extra",
        r"2.weight (7, 7) for",
        "(2, 4)",
    ):
        assert part in str(caught.value)


class _Evil:
    """Executes code where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("executed"),))  # type: ignore[return-value]


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "callback": _Evil()}, "evil.pt")
    Path("evil.bin").write_bytes(pickle.dumps(_Evil()))
    for name in ("evil.pt", "evil.bin"):
        with pytest.raises(InputError, match=r"could execute code.*save the bare weights"):
            read_checkpoint(Path(name))
    assert not Path("executed").exists()


def test_nothing_in_distributed_metadata_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = _distributed(lambda s: dict(s))(tmp_path, network().state_dict())
    # also by way of what an allowed module happens to import
    imported = b"ctorch.distributed.checkpoint.filesystem\nos.system\n(S'touch executed'\ntR."
    for attack in (pickle.dumps(_Evil()), imported, imported.replace(b"os.system", b"os\nsystem")):
        (folder / ".metadata").write_bytes(attack)
        with pytest.raises(InputError, match="cannot be read"):
            read_checkpoint(folder)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.pt", None, "does not exist"),
        ("x.pt", b"not a checkpoint", "corrupt"),
        ("x.safetensors", b"\xff" * 64, "cannot be read"),
        ("x.onnx", b"", "ends in '.onnx'; readable are .pt"),
        ("model.safetensors.index.json", b"{}", "no valid weight_map"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../b.safetensors"}}', "outside its own folder"),
    ],
)
def test_unusable_files(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_checkpoint(tmp_path / name)
    assert str(tmp_path) in str(caught.value)


def test_a_truncated_file(tmp_path: Path, trained: nn.Sequential) -> None:
    path = tmp_path / "x.pt"
    torch.save(trained.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"x\.pt"):
        read_checkpoint(path)


def test_no_state_dict_inside(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="no state dict: its keys are epoch, lr"):
        read_checkpoint(tmp_path / "x.pt")
    torch.save([1, 2], tmp_path / "x.pt")
    with pytest.raises(InputError, match="holds a list"):
        read_checkpoint(tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"has none of the files of a checkpoint; readable are \.pt"):
        (tmp_path / "empty").mkdir()
        read_checkpoint(tmp_path / "empty")
