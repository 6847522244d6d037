"""Adapters as PEFT saves them: a few tensors, without the base model that they were put on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.checkpoints.hugging_face_folder import inside

_BESIDE = frozenset({"modules_to_save", "base_layer"})  # in the names of what an adapter has of the base model


def is_adapter(path: Path) -> bool:
    """Whether what is read of a checkpoint is an adapter alone."""
    return _file(path).startswith("adapter_model.")


def adapters_in(model: nn.Module) -> list[str]:
    """The names of the adapters that are put on a model, which its parameters' names have inside."""
    configs = (getattr(module, "peft_config", None) for module in model.modules())
    return [str(name) for config in configs if isinstance(config, Mapping) for name in config]


def put_inside(model: nn.Module, path: Path) -> frozenset[str]:
    """What a model's names have inside that a checkpoint's lack: nothing where that is no adapter. Of several adapters
    it is the first."""
    adapters = adapters_in(model) if is_adapter(path) else []
    return frozenset({adapters[0], *_BESIDE}) if adapters else frozenset()


def is_of_base(name: str, inside: frozenset[str]) -> bool:
    """Whether a parameter of a model with so much `put_inside` is one of its base model's, which adapters lack."""
    return bool(inside) and (inside - _BESIDE).isdisjoint(name.split("."))


def refuse_without_base(model: nn.Module, path: Path) -> None:
    """`InputError` for an adapter where the model has none put on it."""
    if is_adapter(path) and not adapters_in(model):
        folder = path if path.is_dir() else path.parent
        raise InputError(
            f"checkpoint {path} is an adapter without its base model ({_file(path)}), and the model that task() makes "
            "has none put on it; make the base model in task(), and put the adapter on it: "
            f"peft.PeftModel.from_pretrained(base, {str(folder)!r}, is_trainable=True)"
        )


def _file(path: Path) -> str:
    return (inside(path) or [path.name])[0]
