"""Parameters by name out of a checkpoint, without executing anything that is in it.

Read: `.pt`, `.pth`, `.bin`, `.ckpt` (torch.save of a state dict, bare or under `state_dict`, `model_state_dict`,
`model` or `module`), `.safetensors` (single, or sharded with its `.index.json`), and Hugging Face folders with one of
these inside, and folders of torch.distributed.checkpoint.
"""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.fsdp import is_sharded, reshard, write

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
_FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """All tensors of the checkpoint by name, on the CPU. Raises InputError for anything that cannot be used."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"checkpoint {path} does not exist")
    if path.is_dir():
        return _read_folder(path)
    if path.name.endswith(".index.json"):
        return _read_index(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in _TORCH_SUFFIXES:
        return _read_torch(path)
    raise InputError(
        f"checkpoint {path} ends in {path.suffix!r}; readable are {', '.join(_TORCH_SUFFIXES)}, .safetensors, "
        "an .index.json of shards, and folders of them"
    )


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy a checkpoint's tensors into the model, as `matched` to it."""
    if is_sharded(model):
        reshard(model)
    target = model.state_dict(keep_vars=True)
    for name, tensor in matched(model, tensors, path).items():
        write(target[name], tensor)


def matched(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors under all names that the model has for them, matched by name and shape.

    A key may carry the prefixes that DistributedDataParallel, torch.compile and Lightning add. Of tied weights one
    name is enough. Anything missing, left over, or of another shape is listed in the InputError.
    """
    target = model.state_dict(keep_vars=True)
    tensors = _match_prefix(tensors, target)
    alias = _aliases(target)
    given = {alias[name] for name in tensors if name in target}
    missing = [name for name in target if alias[name] not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in target]
    shapes = [
        f"{name} {tuple(tensor.shape)} for the model's {tuple(target[name].shape)}"
        for name, tensor in tensors.items()
        if name in target and tensor.shape != target[name].shape
    ]
    problems = [
        f"{what}: {list_some(names)}"
        for what, names in (
            ("missing in the checkpoint", missing),
            ("not in the model", unexpected),
            ("of another shape", shapes),
        )
        if names
    ]
    if problems:
        raise InputError(f"checkpoint {path} does not fit the model; {'; '.join(problems)}")
    bad = [name for name, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise InputError(
            f"checkpoint {path} holds NaN or infinite numbers in {list_some(bad)}; use a finite checkpoint"
        )
    first: dict[str, str] = {}
    for name, tensor in tensors.items():
        other = first.setdefault(alias[name], name)
        if other != name and not torch.equal(tensors[other], tensor):
            raise InputError(
                f"checkpoint {path} gives different values for {other} and {name}, which the model ties together"
            )
    return {name: tensors[first[alias[name]]] for name in target if alias[name] in first}


def _aliases(target: Mapping[str, Tensor]) -> dict[str, str]:
    """For each name, the first name under which the same tensor appears."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in target.items()}


def _match_prefix(tensors: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that fit the model best, wrapper prefixes stripped one after the other."""

    def hits(names: Mapping[str, Tensor]) -> int:
        return sum(name in target for name in names)

    best = current = dict(tensors)
    while hits(best) < len(target):
        prefix = next((p for p in _PREFIXES if current and all(k.startswith(p) for k in current)), None)
        if prefix is None:
            break
        current = {name.removeprefix(prefix): tensor for name, tensor in current.items()}
        if hits(current) > hits(best):
            best = current
    return best


def list_some(names: list[str], limit: int = 8) -> str:
    """The first few of a list of names, for an error message."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols of other programs: what loads, loads
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()
        unsafe = next((line.strip() for line in reason if "Unsupported" in line or "GLOBAL" in line), reason[0])
        raise InputError(
            f"checkpoint {path} is corrupt or holds more than tensors, and loading that could execute code "
            f"({unsafe.rstrip('.')}); save the bare weights with torch.save(model.state_dict(), ...) or as .safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        raise InputError(f"checkpoint {path} cannot be read: {_first_line(error)}") from error
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside the usual wrappers."""
    if isinstance(content, Mapping):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        if tensors and all(isinstance(v, Tensor) for v in content.values()):
            return tensors
        for key in _WRAPPERS:
            if isinstance(content.get(key), Mapping):
                return _state_dict(content[key], path)
        if tensors:
            return tensors
        keys = list_some([str(k) for k in content])
        raise InputError(
            f"checkpoint {path} has no state dict: its keys are {keys or 'none'}; "
            f"expected tensors by name, or one of {', '.join(_WRAPPERS)}"
        )
    raise InputError(f"checkpoint {path} holds a {type(content).__name__}; expected a state dict of tensors by name")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint {path} cannot be read: {_first_line(error)}") from error


def _shards(index: Path) -> list[str]:
    try:
        files = json.loads(index.read_text())["weight_map"].values()
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"checkpoint index {index} has no valid weight_map") from error
    return sorted({str(file) for file in files})


def _read_index(path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for shard in _shards(path):
        if Path(shard).name != shard:
            raise InputError(f"checkpoint index {path} points outside its own folder: {shard}")
        tensors |= read_checkpoint(path.parent / shard)
    return tensors


def _read_folder(path: Path) -> dict[str, Tensor]:
    if (path / ".metadata").is_file():
        return _read_distributed(path)
    for name in _FOLDER_FILES:
        if (path / name).is_file():
            return read_checkpoint(path / name)
    raise InputError(
        f"checkpoint folder {path} has none of {', '.join(_FOLDER_FILES)}, "
        "nor the .metadata of a distributed checkpoint"
    )


def _read_distributed(path: Path) -> dict[str, Tensor]:
    from landscaper_hpc.objective.distributed_checkpoint import read_distributed  # imports much; few need it

    try:
        tensors = read_distributed(path)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"distributed checkpoint {path} cannot be read: {_first_line(error)}") from error
    for wrapper in _WRAPPERS:
        inside = {k.removeprefix(f"{wrapper}."): t for k, t in tensors.items() if k.startswith(f"{wrapper}.")}
        if wrapper.endswith("state_dict") and inside:
            return inside
    return tensors


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
