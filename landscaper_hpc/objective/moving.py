"""Which parameters of a model move."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy

from landscaper_hpc.errors import InputError, list_some


def refuse_unreplaceable(model: nn.Module) -> None:
    """`InputError` for a part of a model whose parameters torch cannot replace for the time of a call."""
    modules, known = [("", model)], {id(model)}
    for name, module in modules:  # without `named_modules`, which needs them to be hashable
        what = f"its part {name}, of class {type(module).__name__}," if name else type(module).__name__
        if type(module).__hash__ is None:
            raise InputError(
                f"Task.model: {what} compares by value and cannot be hashed, as modules must be; write "
                "@dataclass(eq=False), or leave __eq__ out"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"Task.model: {what} is a TorchScript program, whose parameters cannot be displaced; give the module "
                "that it was made of"
            )
        for part, inner in module._modules.items():
            if inner is not None and id(inner) not in known:
                known.add(id(inner))
                modules.append((f"{name}.{part}".strip("."), inner))


def refuse_shared_memory(model: nn.Module) -> None:
    """`InputError` for parameters that are two and lie in one memory: training moves them together, and a landscape
    would move them apart."""
    by_memory: dict[int, list[tuple[int, int, str, Tensor]]] = {}
    for name, p in model.named_parameters():
        if _is_plain(p) and p.requires_grad:
            length = 1 + sum((n - 1) * s for n, s in zip(p.shape, p.stride(), strict=True))
            start = int(p.storage_offset()) * p.element_size()
            there = by_memory.setdefault(p.untyped_storage()._cdata, [])
            there.append((start, start + int(length) * p.element_size(), name, p.detach()))
    for within in by_memory.values():
        within.sort(key=lambda each: each[:2])
        for i, (_, end, name, one) in enumerate(within):
            for start, _, other, another in within[i + 1 :]:
                if start >= end:
                    break
                if _overlap(one, another):
                    raise InputError(
                        f"Task.model: {name} and {other} are two parameters in one memory, which a landscape would "
                        "move apart; make them one parameter under both names (b.weight = a.weight), or compute the "
                        "one from the other in forward()"
                    )


class Memory:
    """Where parameters lay when a task gave its model: what else lies there is a view of one, and does not move with
    what later stands for it."""

    def __init__(self, model: nn.Module) -> None:
        self._places = {name: _place(p) for name, p in model.named_parameters() if _is_plain(p)}
        names = {place.cdata: name for name, place in self._places.items()}
        self._buffers = {
            buffer: names[_place(b).cdata]
            for buffer, b in model.named_buffers()
            if _is_plain(b) and _place(b).cdata in names
        }

    def views(self, model: nn.Module, moving: Collection[str]) -> list[tuple[StorageWeakRef, str]]:
        """Storages where views of parameters that move lie now, with the names of these."""
        found = [(place, name) for name, place in self._places.items() if not place.expired()]  # type: ignore[no-untyped-call]
        found += [(_place(b), self._buffers[name]) for name, b in model.named_buffers() if name in self._buffers]
        staying = {_place(p).cdata for name, p in model.named_parameters() if name not in moving and _is_plain(p)}
        return [(place, name) for place, name in found if name in moving and place.cdata not in staying]


def _is_plain(tensor: Tensor) -> bool:
    return not is_lazy(tensor) and type(tensor.data) is Tensor and tensor.layout is torch.strided and tensor.numel() > 0


def _place(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _overlap(p: Tensor, q: Tensor) -> bool:
    """Whether they have an element in common; between those of one there may be room for the other."""
    if p.dtype != q.dtype:
        return True
    marks = torch.zeros(p.untyped_storage().nbytes() // p.element_size(), dtype=torch.bool)
    marks.as_strided(p.shape, p.stride(), p.storage_offset()).fill_(True)
    return bool(marks.as_strided(q.shape, q.stride(), q.storage_offset()).any())


def refuse_unmovable(model: nn.Module, moving: set[str], source: str) -> None:
    for name, p in model.named_parameters():
        if name not in moving:
            continue
        if not (p.is_floating_point() or p.is_complex()):
            kind = str(p.dtype).removeprefix("torch.")
            raise InputError(f"{source}: {name} holds {kind}, which cannot move; leave it out with frozen or only")
        if p.layout is not torch.strided:
            raise InputError(f"{source}: {name} is a sparse tensor, which cannot move; make it dense with to_dense()")


def modules_like(pattern: str, names: Sequence[str]) -> list[str]:
    """Names of modules that a pattern names, in their order; as in a shell, but `*` stands for one part of a name: the
    blocks, not what is in them."""
    parts = pattern.split(".")
    return [
        name for name in names if len(of := name.split(".")) == len(parts) and all(map(fnmatch.fnmatchcase, of, parts))
    ]


def matching(patterns: Sequence[str], names: set[str], source: str) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            raise InputError(
                f"{source}: no parameter that moves matches {pattern!r}; there are {list_some(sorted(names))}"
            )
        found.update(matches)
    return found
