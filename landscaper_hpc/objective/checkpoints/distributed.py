"""Folders of torch.distributed.checkpoint, by any number of ranks: what FSDP, Lightning, Fabric and Accelerate save."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING, Any

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.checkpoints import everything_in, first_line

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import Metadata

READABLE = "folders of torch.distributed.checkpoint"
_METADATA = ".metadata"
_OPTIMISERS = {"optim", "opt", "optimizer", "optimizers", "optimizer_states", "optimizer_state_dict", "optimizer_state"}


def recognises(path: Path) -> bool:
    return (path / _METADATA).is_file()


def files(path: Path) -> list[Path]:
    """All: the ids of studies have been made so."""
    return everything_in(path)


def read(path: Path) -> Mapping[str, Any]:
    """Its tensors in the mappings that they were saved in; entries that are no tensors are not read."""
    import torch
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = _reader(path)
    metadata = reader.read_metadata()
    places = {name: _place(metadata, name) for name in metadata.state_dict_metadata}
    tensors: dict[str, Any] = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in metadata.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata) and not _of_optimiser(places[name])
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about running without a process group, which is meant
            load(tensors, storage_reader=reader, no_dist=True)
    except CheckpointException as error:  # no Exception: it would pass all who wait for one
        causes = [first_line(cause) for cause, _ in error.failures.values()]
        raise InputError(
            f"checkpoint {path} cannot be read: it is damaged ({causes[0] if causes else 'no reason given'})"
        ) from error
    content: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *parents, last = places[name]
        inside = content
        for parent in parents:
            inside = inside.setdefault(parent, {})
        inside[last] = tensor
    return content


def _place(metadata: Metadata, name: str) -> list[str]:
    """The keys of the mappings that an entry was saved in, outermost first, and its own."""
    place = (metadata.planner_data or {}).get(name, (name,))
    return [str(key) for key in place] if isinstance(place, tuple) and place else [name]


def _of_optimiser(place: list[str]) -> bool:
    return any(key.partition(".")[0] in _OPTIMISERS or key.startswith("optimizer_") for key in place[:2])


def _reader(path: Path) -> Any:
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import StorageMeta

    class Reader(FileSystemReader):
        def read_metadata(self, *_: Any, **__: Any) -> Metadata:
            with Path(self.path, _METADATA).open("rb") as stream:
                metadata: Metadata = MetadataUnpickler(stream).load()
            metadata.storage_meta = metadata.storage_meta or StorageMeta()
            metadata.storage_meta.load_id = self.load_id
            return metadata

    return Reader(path)


class MetadataUnpickler(pickle.Unpickler):
    """The metadata of a distributed checkpoint is a pickle: only classes that describe tensors are allowed in it."""

    def find_class(self, module: str, name: str) -> Any:
        import torch

        plain = (module, name) in {
            ("torch", "Size"),
            ("torch", "device"),
            ("collections", "OrderedDict"),
            ("builtins", "set"),
            ("torch.serialization", "_get_layout"),
        }
        if (module, name) in {("pathlib", "PosixPath"), ("pathlib._local", "PosixPath")}:
            return PosixPath  # whose home is another one in Python 3.13
        if plain or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype | torch.layout)):
            return super().find_class(module, name)
        if module.startswith(("torch.distributed.checkpoint.", "torch.distributed._shard.")) and "." not in name:
            found = super().find_class(module, name)
            # not what such a module merely imports, nor its functions: records and enumerations of its own
            own = isinstance(found, type) and found.__module__ == module
            if own and (is_dataclass(found) or issubclass(found, Enum)):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not a description of tensors")
