"""Data batches on the device: all at once where they fit, else streamed from pinned memory, one batch ahead."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import time
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from landscaper_hpc.errors import InputError
from landscaper_hpc.objective.device import free_bytes
from landscaper_hpc.objective.precision import dtype_in

log = logging.getLogger(__name__)

_UNFIT: tuple[tuple[str, Callable[[Tensor], bool], str], ...] = (
    ("nested", lambda tensor: tensor.is_nested, "give a padded tensor with its lengths or a mask"),
    (
        "sparse",
        lambda tensor: tensor.layout is not torch.strided,
        "give it whole, with to_dense(), or its indices and values",
    ),
    ("on the meta device, which holds no numbers", lambda tensor: tensor.is_meta, "make it on the CPU"),
)

MOST_BATCHES = 10**6
"""Of one loss: nobody evaluates a landscape of more."""

_LONG = 60.0
"""Seconds of reading after which it is told that data have not ended."""

_PARTS = 4
"""A list of so many tensors may be meant as one batch; longer ones are of batches."""


def is_batch(data: Any) -> bool:
    """Whether Task.data is one batch, and not several."""
    return isinstance(data, Tensor | tuple | Mapping) or _is_record(data)


def understood(batch: Any) -> Any:
    """The batch itself; types of mappings and dataclasses in it that torch does not know (Hugging Face's BatchEncoding,
    say) are made known to it, so that tensors in them are found, and moved into objects of the same type."""
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, Mapping) or _is_record(leaf):
            pytree.register_pytree_node(
                type(leaf), _taken_apart, _put_together, serialized_type_name=f"{type(leaf).__module__}.{type(leaf)}"
            )
            understood(leaf)
    return batch


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


class _Like:
    """A copy without values of what was taken apart. All of one type and names are equal: torch compares contexts."""

    def __init__(self, whole: Any, names: tuple[Any, ...]) -> None:
        self.whole, self.names = whole, names

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Like) and (type(self.whole), self.names) == (type(other.whole), other.names)

    def __hash__(self) -> int:
        return hash((type(self.whole), self.names))


def _taken_apart(whole: Any) -> tuple[list[Any], _Like]:
    names = whole if isinstance(whole, Mapping) else [field.name for field in dataclasses.fields(whole)]
    items = {name: whole[name] if isinstance(whole, Mapping) else getattr(whole, name) for name in names}
    return list(items.values()), _Like(whole, tuple(items))


def _put_together(values: Any, like: _Like) -> Any:
    items = dict(zip(like.names, values, strict=True))
    if isinstance(like.whole, Mapping) and not isinstance(like.whole, MutableMapping):
        return type(like.whole)(items)  # type: ignore[call-arg]
    whole = copy.copy(like.whole)
    if isinstance(whole, UserDict):
        whole.data = items
    elif isinstance(whole, MutableMapping):
        whole.update(items)
    else:
        for name, value in items.items():
            object.__setattr__(whole, name, value)  # of a frozen one too
    return whole


def placed(
    batches: Sequence[Any], place: Callable[[Any], Any], device: torch.device, dtype: torch.dtype
) -> Sequence[Any]:
    """The batches as `place` puts them on the device, in `dtype`. They are streamed where they would take more than
    half of a GPU's free memory."""
    several = device.type == "cuda" and len(batches) > 1
    if several and bytes_in(batches, dtype) > torch.cuda.mem_get_info(device)[0] // 2:
        return Streamed([pytree.tree_map_only(Tensor, _pinned, batch) for batch in batches], place, device)
    try:
        return [place(batch) for batch in batches]
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"Task.data take {bytes_in(batches, dtype) / 1e9:.3g} GB, which {device} has no room for; give a list of "
            "smaller batches, or a DataLoader: batches are streamed where they do not all fit"
        ) from error


def batches_of(data: Any, source: str) -> list[Any]:
    """The data as a list of batches."""
    if is_batch(data):
        return [understood(data)]
    if not isinstance(data, Iterable) or isinstance(data, str | bytes):
        raise InputError(
            f"{source}: Task.data is a {type(data).__name__}; "
            "expected a batch of tensors, a list of batches, or a DataLoader"
        )
    batches = all_of(data, f"{source}: Task.data")
    if not batches:
        raise InputError(f"{source}: Task.data has no batches")
    return batches


def all_of(data: Iterable[Any], what: str) -> list[Any]:
    """All batches that an iterable gives, which must come to an end: `InputError` where there are more than anybody
    evaluates, or more than memory is free."""
    found: list[Any] = []
    room = math.inf if isinstance(data, Sequence) else free_bytes(torch.device("cpu"))
    held: dict[int, int] = {}  # the same tensor again takes nothing
    total, began, told = 0, time.monotonic(), False
    for batch in data:
        found.append(understood(batch))
        for leaf in pytree.tree_leaves(batch) if room < math.inf else ():
            if isinstance(leaf, Tensor) and not any(unfit(leaf) for _, unfit, _ in _UNFIT) and leaf.is_cpu:
                storage = leaf.untyped_storage()
                total += storage.nbytes() - held.get(storage.data_ptr(), 0)
                held[storage.data_ptr()] = storage.nbytes()
        if len(found) > MOST_BATCHES or total > room:
            much = f"{MOST_BATCHES:,} batches" if total <= room else f"the {room / 1e9:.3g} GB of memory that are free"
            raise InputError(
                f"{what} come to no end within {much}; give an iterable that ends, such as "
                "list(itertools.islice(data, 100)), or fewer and larger batches"
            )
        if not told and time.monotonic() - began > _LONG:
            told = True
            log.warning("%s have given %s batches so far and not ended yet", what, f"{len(found):,}")
    return found


def notices_of_batches(data: Any, source: str) -> list[str]:
    """What is to be said of a list of a few tensors, which may be meant as the parts of one batch: where they are alike
    nobody can tell. `InputError` where they are not."""
    if not isinstance(data, list) or not 2 <= len(data) <= _PARTS or not all(isinstance(x, Tensor) for x in data):
        return []
    if len({(x.dtype, x.ndim) for x in data}) > 1:
        raise InputError(
            f"{source}: Task.data is a list of {len(data)} tensors that are not alike, and a list is one of batches; "
            "give the parts of one batch as a tuple, (x, y)"
        )
    return [
        f"Task.data is a list of {len(data)} tensors, each of which is taken for a batch of its own; parts of one "
        "batch are a tuple, (x, y)"
    ]


def few_of(batches: list[Any], few: int | None, source: str) -> list[Any]:
    """So many of the batches, drawn at random and always the same, in their order; all for None."""
    if few is None:
        return batches
    if few >= len(batches):
        raise InputError(
            f"data.batches: {few} are no few of the batches of {source}, whose Task.data has {len(batches)}; ask for "
            "fewer, give the data as a list of smaller batches, or leave `data` out"
        )
    drawn = np.random.default_rng(0).choice(len(batches), few, replace=False)
    return [batches[i] for i in np.sort(drawn).tolist()]


def same_batches(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether two readings have the same tensors in the same order; NaN are the same."""
    if len(some) != len(others):
        return False
    for batch, other in zip(some, others, strict=True):
        leaves, more = pytree.tree_leaves(batch), pytree.tree_leaves(other)
        if len(leaves) != len(more) or not all(map(_same, leaves, more)):
            return False
    return True


def _same(leaf: Any, other: Any) -> bool:
    if not isinstance(leaf, Tensor) or not isinstance(other, Tensor):
        return isinstance(leaf, Tensor) is isinstance(other, Tensor)
    if leaf.shape != other.shape or leaf.dtype != other.dtype:
        return False
    return bool(((leaf == other) | ((leaf != leaf) & (other != other))).all())


def examples_of(batch: Any, source: str) -> int:
    """Number of examples in a batch: the leading length of its first tensor. `InputError` for what cannot be moved."""
    tensors = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]
    for i, tensor in enumerate(tensors, 1):
        for what, is_such, advice in _UNFIT:
            if is_such(tensor):
                raise InputError(f"{source}: tensor {i} of a batch of Task.data is {what}; {advice}")
    if not tensors:
        raise InputError(
            f"{source}: a batch of Task.data is a {type(batch).__name__} that holds no tensor; give tensors, "
            "or tuples, mappings or dataclasses of them, not arrays"
        )
    return len(tensors[0]) if tensors[0].ndim else 1


def examples_in(batch: Any) -> int | None:
    """The leading length that all tensors of a batch share; None where there is none."""
    lengths = {len(leaf) if leaf.ndim else None for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)}
    return lengths.pop() if len(lengths) == 1 else None


def slabs(batch: Any, rows: int) -> list[Any]:
    """A batch whose tensors share their leading length as views of at most `rows` examples each."""
    leaves, spec = pytree.tree_flatten(batch)
    length = examples_in(batch)
    assert length is not None
    return [
        pytree.tree_unflatten([x[i : i + rows] if isinstance(x, Tensor) else x for x in leaves], spec)
        for i in range(0, length, rows)
    ]


class Streamed(Sequence[Any]):
    """Batches that stay on the host. Taking one starts the copy of the next on a stream of its own, so that going
    round and round over the data waits for no copy but the first."""

    def __init__(self, batches: Sequence[Any], place: Callable[[Any], Any], device: torch.device) -> None:
        self._batches, self._place = batches, place
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._ahead: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, i: int) -> Any: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Any]: ...
    def __getitem__(self, i: int | slice) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        batch = self._ahead[1] if self._ahead is not None and self._ahead[0] == i else self._copy(i)
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        following = (i + 1) % len(self)
        self._ahead = following, self._copy(following)
        return batch

    def _copy(self, i: int) -> Any:
        if self._stream is None:
            return self._place(self._batches[i])
        # The memory that the copy gets may have held an earlier batch, which work that is queued already still reads.
        # So at most three batches are on the device, however far the host is ahead.
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            return self._place(self._batches[i])


def bytes_in(batches: Sequence[Any], dtype: torch.dtype) -> int:
    """What batches take once their floating-point tensors are in `dtype`."""
    tensors = [leaf for leaf in pytree.tree_leaves(list(batches)) if isinstance(leaf, Tensor)]
    return sum(tensor.numel() * dtype_in(tensor, dtype).itemsize for tensor in tensors)


def _pinned(tensor: Tensor) -> Tensor:
    return tensor.detach().pin_memory() if tensor.device.type == "cpu" else tensor


def has_convolution(model: torch.nn.Module) -> bool:
    return any(isinstance(module, torch.nn.Conv2d) for module in model.modules())


def channels_together(t: Tensor, one_channel_last: bool) -> Tensor:
    """Images as convolutions want them, the same numbers: on a CPU those are up to twice as fast where an image's
    channels lie together, and tensor cores want them so."""
    if not t.is_floating_point():
        return t
    if t.shape[1] == 1 and one_channel_last and t.is_contiguous():
        # the same numbers at the same places: only the strides say how images with more channels would lie
        return t.as_strided(t.shape, (t.stride(0), 1, *t.stride()[2:]))
    return t.contiguous(memory_format=torch.channels_last)
