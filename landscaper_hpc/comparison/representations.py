"""What the layers of a model put out for the same examples, as Gram matrices: what CKA compares."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from landscaper_hpc.comparison.similarity import as_rows, centred
from landscaper_hpc.errors import InputError, list_some
from landscaper_hpc.objective.data import examples_in, slabs
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import one_thread


def layer_grams(
    objective: Objective,
    data: Objective | None = None,
    *,
    layers: Sequence[str] = (),
    examples: int = 256,
    left_out: dict[str, str] | None = None,
) -> dict[str, Tensor]:
    """The centred Gram matrix, (m, m) float64 on the CPU, of what each layer puts out for the first `examples` examples
    of the task's data (all calls one after the other, where the loss calls a layer more than once).

    Where the data are tokens (a batch's first tensor is of integers, sequence by sequence), an example is a token, of
    layers that put out something for each of them. Layers are the submodules without children that have parameters, or
    those whose names match one of the patterns `layers` (as in a shell). Data and loss are those of `data`, if given:
    an objective with another checkpoint. Layers without a matrix are added to `left_out`, with why.
    """
    model, source = objective.model, data or objective
    known = {name: module for name, module in model.named_modules() if name}
    if layers:
        names = [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in layers)]
    else:
        names = [
            n for n, m in known.items() if next(m.children(), None) is None and next(m.parameters(), None) is not None
        ]
    if not names:
        raise InputError(f"no layer matches {', '.join(layers) or 'the default'}; there are {list_some(list(known))}")
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    why = dict.fromkeys(names, "the loss does not call it")
    tokens = torch.Size()

    def keep(name: str, output: Any) -> None:
        tensors = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
        if not tensors or not tensors[0].ndim:  # of several the first, as a block puts out states and a cache
            why[name] = f"it puts out a {type(output).__name__} without a tensor of examples"
            return
        put_out = tensors[0]
        while torch._C._functorch.is_functorch_wrapped_tensor(put_out):  # inside jvp
            put_out = torch._C._functorch.get_unwrapped(put_out)
        rows = as_rows(put_out)
        if tokens:
            sequences, length = tokens
            of_tokens = [(sequences, n) for n in (length, length - 1)]  # the last predicts nothing
            if put_out.ndim > 2 and put_out.shape[:2] in of_tokens:
                rows = as_rows(put_out.flatten(0, 1))
            elif len(rows) not in (sequences, *(a * b for a, b in of_tokens)):
                why[name] = f"it puts out {len(rows)} rows for {sequences} sequences of {length} tokens"
                return
            rows = rows[: max(0, examples - sum(map(len, seen[name])))]
        seen[name].append(rows.cpu())

    hooks = [known[n].register_forward_hook(lambda _m, _i, output, n=n: keep(n, output)) for n in names]
    try:
        with one_thread(objective.device):
            for batch, _ in _first(source, examples):
                tokens = _tokens(batch)
                source.run(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    grams = {}
    for name, parts in seen.items():
        if len({part.shape[1] for part in parts}) > 1:
            why[name] = "what it puts out for an example differs in size from batch to batch"
        elif parts and not all(bool(torch.isfinite(part).all()) for part in parts):
            why[name] = "it puts out NaN or infinite numbers"
        elif parts:
            x = centred(torch.cat(parts))
            grams[name] = x @ x.T
    if left_out is not None:
        left_out |= {name: reason for name, reason in why.items() if name not in grams}
    if not grams:
        reasons = "; ".join(f"{name}: {why[name]}" for name in names[:3])
        raise InputError(f"none of the layers {list_some(names)} of the model can be compared ({reasons})")
    return grams


def _tokens(batch: Any) -> torch.Size:
    """The shape, (sequences, length), of a batch of tokens; empty for other data."""
    first = next(leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor))
    whole = not first.is_floating_point() and not first.is_complex()
    return first.shape if whole and first.ndim == 2 else torch.Size()


def _first(objective: Objective, examples: int) -> list[tuple[Any, int]]:
    """The first `examples` examples of the data, or a few more where a batch cannot be divided."""
    taken: list[tuple[Any, int]] = []
    for batch, count in zip(objective.batches, objective.examples, strict=True):
        missing = examples - sum(n for _, n in taken)
        if missing <= 0:
            break
        if count > missing and examples_in(batch) == count:
            batch, count = slabs(batch, missing)[0], missing
        taken.append((batch, count))
    return taken
