"""Tensors out of a torch.distributed.checkpoint folder, without executing anything that is in it."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load


def read_distributed(path: Path) -> dict[str, Tensor]:
    """The tensors by name, on the CPU, whatever number of ranks wrote them. Optimiser states, and entries that are
    not tensors, are not read. Raises what pickle and torch raise for a folder that cannot be read."""
    reader = _Reader(path)
    entries = reader.read_metadata().state_dict_metadata
    tensors: dict[str, Any] = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in entries.items()
        if isinstance(entry, TensorStorageMetadata) and not name.startswith(("optim", "opt."))
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about running without a process group, which is meant
        load(tensors, storage_reader=reader, no_dist=True)
    return tensors


class _Reader(FileSystemReader):
    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        with Path(self.path, ".metadata").open("rb") as stream:
            metadata: Metadata = _MetadataUnpickler(stream).load()
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    """The metadata of a distributed checkpoint is a pickle: only classes that describe tensors are allowed in it."""

    def find_class(self, module: str, name: str) -> Any:
        plain = (module, name) in {
            ("torch", "Size"),
            ("torch", "device"),
            ("collections", "OrderedDict"),
            ("builtins", "set"),
            ("pathlib", "PosixPath"),
            ("torch.serialization", "_get_layout"),
        }
        if plain or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype | torch.layout)):
            return super().find_class(module, name)
        if module.startswith(("torch.distributed.checkpoint.", "torch.distributed._shard.")) and "." not in name:
            found = super().find_class(module, name)
            # not what such a module merely imports, nor its functions: records and enumerations of its own
            own = isinstance(found, type) and found.__module__ == module
            if own and (is_dataclass(found) or issubclass(found, Enum)):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not a description of tensors")
