"""What a loss is besides its code and its checkpoint: the SHA-256 of the data that the objective holds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from landscaper_hpc.digests import content_sha256
from landscaper_hpc.files import name_in_utf8
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.surroundings import closed_over

_LARGEST_FILE = 1 << 30
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def data_sha256(objective: Objective) -> tuple[str, list[str]]:
    """SHA-256 of the data, and what of them it cannot cover, in words.

    Covered are all batches, in the precision of the study and whatever the device; buffers that no checkpoint holds;
    tensors and arrays that the loss closes over, has as defaults, or refers to among its file's globals. To be called
    before the loss is: what it keeps for itself from call to call is no data.
    """
    digest, uncovered = hashlib.sha256(), list[str]()
    for name, value in _held(objective):
        content = _content(value)
        if content is None:
            uncovered.append(f"{name} (a {type(value).__name__})")
        else:
            for part in (name.encode(), *content):
                digest.update(len(part).to_bytes(8, "little"))
                digest.update(part)
    return digest.hexdigest(), uncovered


def files_sha256(objective: Objective, folder: Path) -> tuple[dict[str, str], list[str]]:
    """The SHA-256 of every local file that the task read as it was built, by its place as seen from `folder`; and, in
    words, those that are too large."""
    found, uncovered = dict[str, str](), list[str]()
    for file in objective.files:
        name = name_in_utf8(Path(os.path.relpath(file, folder)).as_posix())
        if file.stat().st_size > _LARGEST_FILE:
            uncovered.append(f"{name} (more than a gigabyte)")
        else:
            found[name] = content_sha256(file)
    return found, uncovered


def _held(objective: Objective) -> Iterator[tuple[str, Any]]:
    for i, batch in enumerate(objective.all_batches()):
        for path, leaf in pytree.tree_flatten_with_path(batch)[0]:
            yield f"batch {i}{pytree.keystr(path)}", leaf
    for prefix, module in objective.model.named_modules():
        for name in sorted(module._non_persistent_buffers_set):
            if (buffer := module._buffers.get(name)) is not None:
                yield f"buffer {prefix}.{name}".replace(" .", " "), buffer
    for name, value in closed_over(objective.loss_function):
        if isinstance(value, Tensor | np.ndarray):
            yield f"{name} of the loss", value


def _content(value: Any) -> list[bytes | memoryview] | None:
    """What a value is, in bytes; None where that cannot be told."""
    if isinstance(value, _PLAIN):
        return [repr(value).encode()]
    if isinstance(value, Tensor):
        if value.layout == torch.sparse_coo:
            value = value.coalesce()
            parts = [_content(value.indices()), _content(value.values())]
            return [repr(tuple(value.shape)).encode(), *(x for part in parts if part is not None for x in part)]
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            return None
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return [f"{value.dtype} {tuple(value.shape)}".encode(), flat.data]
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        return [f"{value.dtype.str} {value.shape}".encode(), flat.data]
    return None
