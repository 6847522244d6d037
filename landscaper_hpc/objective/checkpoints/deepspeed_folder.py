"""Folders of DeepSpeed's ZeRO stages 0 to 3, the float32 weights put together again.

The layout is that of DeepSpeed's own `utils/zero_to_fp32.py`: `latest` names a folder with one file of model states and
one of optimiser states a rank. The weights are in the latter, flat and cut in as many parts as there are ranks: stages
1 and 2 cut a whole group of parameters, stage 3 every parameter. What Adam remembers is not read.
"""

from __future__ import annotations

import itertools
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError

READABLE = "folders of DeepSpeed with `latest`"
_MODEL = re.compile(r"(?:zero_pp_rank_(\d+)_)?mp_rank_(\d+)_model_states\.pt")
_OPTIMISER = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)_optim_states\.pt")


def recognises(path: Path) -> bool:
    return path.is_dir() and ((path / "latest").is_file() or any(_MODEL.fullmatch(p.name) for p in path.iterdir()))


def files(path: Path) -> list[Path]:
    folder = _folder(path)
    latest = [] if folder == path else [path / "latest"]
    return [*latest, *_ranks(folder, _MODEL), *_ranks(folder, _OPTIMISER)]


def read(path: Path) -> Mapping[str, Any]:
    folder = _folder(path)
    models = [_load(file) for file in _ranks(folder, _MODEL)]
    optimisers = [_load(file)["optimizer_state_dict"] for file in _ranks(folder, _OPTIMISER)]
    first = models[0]
    if not optimisers:  # stage 0: nothing is cut
        return dict(first["module"])
    stage = _number(optimisers[0]["zero_stage"])
    ranks = _number(optimisers[0]["partition_count"])
    if len(optimisers) != ranks or (stage == 3 and len(models) != ranks):
        raise InputError(
            f"checkpoint {path} was written by {ranks} ranks, of which the files of {len(optimisers)} (optimiser "
            f"states) and {len(models)} (model states) are in {folder}; bring the others there"
        )
    weights = {name: first["module"][name] for name in first["buffer_names"]}
    if stage == 3:
        weights |= _cut_each(first, [each["fp32_flat_groups"] for each in optimisers])
        frozen = [each.get("frozen_param_fragments") or {} for each in models]
        for name, shape in (first.get("frozen_param_shapes") or {}).items():
            weights[name] = _joined([parts[name] for parts in frozen], shape)
    else:
        weights |= _cut_groups(first, [each["single_partition_of_fp32_groups"] for each in optimisers])
        weights |= first.get("frozen_param_fragments") or {}
    shared = first.get("shared_params") or {}
    for name, other in shared.items() if isinstance(shared, Mapping) else shared:
        if other in weights:
            weights[name] = weights[other]
    return weights


def _cut_groups(model: Mapping[str, Any], parts: Sequence[Sequence[Any]]) -> Iterator[tuple[str, Any]]:
    """Stages 1 and 2: the parameters of a group one after the other, cut where the ranks' parts end."""
    import torch

    for i, shapes in enumerate(model["param_shapes"]):
        flat, start = torch.cat([groups[i].flatten() for groups in parts]), 0
        for name, shape in shapes.items():
            stop = start + math.prod(shape)
            yield name, flat[start:stop].view(tuple(shape)).clone()
            start = stop


def _cut_each(model: Mapping[str, Any], parts: Sequence[Sequence[Any]]) -> Iterator[tuple[str, Any]]:
    """Stage 3: every rank has its part of every parameter, all as long as the longest."""
    import torch

    flats = [torch.cat([group.flatten() for group in groups]) for groups in parts]
    start = 0
    for name, shape in itertools.chain.from_iterable(shapes.items() for shapes in model["param_shapes"]):
        stop = start - (-math.prod(shape) // len(flats))
        yield name, _joined([flat[start:stop] for flat in flats], shape)
        start = stop


def _joined(parts: Sequence[Any], shape: Sequence[int]) -> Any:
    import torch

    return torch.cat([part.flatten() for part in parts])[: math.prod(shape)].view(tuple(shape)).clone()


def _folder(path: Path) -> Path:
    """Where the files are."""
    if not (path / "latest").is_file():
        return path
    tag = (path / "latest").read_text().strip()
    if Path(tag).name != tag or not _ranks(path / tag, _MODEL):
        raise InputError(f"checkpoint {path}: its file `latest` names {tag!r}, which is no folder of DeepSpeed in it")
    return path / tag


def _ranks(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """The files of all ranks in the order of the ranks."""
    found = [(m, p) for p in folder.glob("*_states.pt") if (m := pattern.fullmatch(p.name))]
    if any(int(m[2]) for m, _ in found):
        raise InputError(
            f"checkpoint {folder} is cut by tensors too (mp_rank_01); save the whole weights with DeepSpeed"
        )
    return [p for _, p in sorted(found, key=lambda each: int(each[0][1] or 0))]


def _number(value: Any) -> int:
    """A number, one of an enumeration of DeepSpeed's, or the largest of a list."""
    if isinstance(value, list):
        return max(map(_number, value))
    return int(value.arguments[0] if hasattr(value, "arguments") else value)


def _load(file: Path) -> Any:
    """Mapped into memory, objects of DeepSpeed's as inert records: nothing is executed."""
    from landscaper_hpc.objective.checkpoints import inert_pickle
    from landscaper_hpc.objective.checkpoints.torch_file import loaded, refuse_damaged

    if not zipfile.is_zipfile(file):
        raise InputError(f"checkpoint {file} is damaged, or no file of torch.save")
    refuse_damaged(file)
    return loaded(file, map_location="cpu", weights_only=False, mmap=True, pickle_module=inert_pickle)
