"""Where the weights are inside what a training program saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscaper_hpc.errors import InputError, list_some

# the first that is there is opened: weights as they were trained before averages of them
CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "app",
    "net",
    "network",
    "params",
    "weights",
    "state_dict_ema",
    "ema_state_dict",
    "model_ema",
    "ema",
)


def is_entry(name: str, value: Any) -> bool:
    """Whether it belongs to a state dict: a tensor, or what `get_extra_state` of a module made."""
    return isinstance(value, Tensor) or name.rpartition(".")[2] == "_extra_state"


def state_dict_in(content: Mapping[str, Any], path: Path, containers: Sequence[str] = ()) -> dict[str, Tensor]:
    """The tensors by name that are in the usual containers, or in those that are named."""
    return state_dict_and_notice(content, path, containers)[0]


def state_dict_and_notice(
    content: Mapping[str, Any], path: Path, containers: Sequence[str] = (), inside: str = ""
) -> tuple[dict[str, Tensor], str]:
    """The same, and in words which were taken where others might have been meant; `inside` so much of the names."""
    content = {str(name): value for name, value in content.items()}
    chosen = [name for name in containers if isinstance(content.get(name), Mapping)]
    if chosen:
        taken = {f"{name}.{k}": v for name in chosen for k, v in _flat(content[name]) if is_entry(k, v)}
        return _copied(taken), ""
    entries = {name: value for name, value in content.items() if is_entry(name, value)}
    if len(entries) == len(content) and entries:
        return _copied(entries), ""
    for name in CONTAINERS:
        if isinstance(content.get(name), Mapping):
            found, notice = state_dict_and_notice(content[name], path, containers, f"{inside}{name}.")
            beside = [other for other in content if other != name and _as_many(content[other], found)]
            if beside and not notice:
                notice = f"the weights are those under {inside + name!r} of {path.name}; it holds others under "
                notice += f"{list_some(beside)}, which a rename: {{'{beside[0]}.': ''}} in the study would take"
            return found, notice
    if any(isinstance(value, Tensor) for value in entries.values()):
        return _copied(entries), ""
    keys = list_some(list(content))
    raise InputError(
        f"checkpoint {path} has no state dict: its keys are {keys or 'none'}; "
        f"expected tensors by name, or one of {', '.join(CONTAINERS)}"
    )


def _as_many(value: Any, found: Mapping[str, Any]) -> bool:
    """Whether it holds weights of the same kind: of a teacher, an average, another network of the same class."""
    return isinstance(value, Mapping) and len(kinds := _kinds(found.items())) > 0 and kinds <= _kinds(_flat(value))


def _kinds(entries: Iterable[tuple[str, Any]]) -> set[tuple[str, tuple[int, ...]]]:
    """The last parts of the names of tensors, with their shapes: moments of an optimiser have other names."""
    return {(name.rpartition(".")[2], tuple(v.shape)) for name, v in entries if isinstance(v, Tensor) and v.ndim}


def _flat(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping) and not is_entry(str(name), value):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _copied(entries: Mapping[str, Any]) -> dict[str, Any]:
    """What is mapped from a file in memory of its own: the file may be written again later."""
    return {name: value.detach().clone() if _is_mapped(value) else value for name, value in entries.items()}


def _is_mapped(value: Any) -> bool:
    plain = type(value) in (Tensor, nn.Parameter) and value.layout is torch.strided and not value.is_quantized
    return plain and value.untyped_storage().filename is not None
