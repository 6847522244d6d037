"""Whether a loss follows its parameters: LoRA layers that `eval()` has merged give one constant loss.

A parameter *reaches* the loss where the loss is computed from it, operation by operation, or where displacing it (at
the checkpoint, and where all are displaced) changes the loss.

A loss that reads parameters from elsewhere than the model it is called with, where they would stay as they were, is
refused. A parameter that does not reach the loss while its module does (its output, or another tensor of its own) takes
part in the forward pass and moves nothing: it is refused, by name. So is a model none of whose parameters reaches the
loss. Where the module does not reach the loss either, it is an unused layer: a notice. What reaches the loss and
changes it by no more than rounding, in both places, gets a notice too: a bias before a normalisation, the keys' bias of
attention, a ReLU that is off. The A of a LoRA whose B is zero moves where all are displaced, and is left alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from landscaper_hpc.errors import InputError, list_some
from landscaper_hpc.objective.flat_layout import Layout
from landscaper_hpc.objective.following import Follower
from landscaper_hpc.objective.objective import Objective
from landscaper_hpc.objective.precision import epsilon, one_thread

log = logging.getLogger(__name__)

_STEP = 0.1
_ROUNDINGS = 100
_LARGE = 5_000_000  # parameters


def prove_dependence(objective: Objective) -> list[str]:
    """What is worth a notice, in words; `InputError` that names the parameters which take part and move nothing.

    Costs the loss and its gradient once, and the loss a few times more where parameters do not reach it.
    """
    with one_thread(objective.device):
        if objective.sharded:
            _refuse_kept_by_ranks(objective)
        displaced = _Displaced(objective)
        try:
            reached, parts = _differentiated(displaced) if objective.sharded else _reached(objective)
        except InputError:
            raise
        except Exception as error:  # what cannot be followed is displaced
            log.info("the loss cannot be followed: %s: %s", type(error).__name__, error)
            reached, parts = set(), set()
        still = displaced.unmoved([name for name in objective.parameters if name not in reached])
        idle = displaced.unmoved([name for name in _hardly(displaced) if name not in still], by_rounding=True)
    taking_part = [name for name in still if name in parts]
    if taking_part or len(still) == len(objective.parameters):
        raise InputError(
            f"{objective.source}: parameters that move nothing, though their layers take part in the loss: "
            f"{list_some(taking_part or still)}; are they merged into other weights (LoRA in eval())? Give the model "
            "unmerged, or name the parameters to move under `only`"
        )
    notices = []
    if still:
        notices.append(f"{len(still)} tensors are not used by the loss and move nothing: {list_some(still)}")
    if idle:
        notices.append(
            f"{len(idle)} tensors take part, but displacing them changes the loss by rounding alone (a bias before a "
            f"normalisation or softmax, a unit that is off): {list_some(idle)}"
        )
    return notices


class _Displaced:
    """The objective where parameters are displaced at random: at theta*, and where all others are displaced too."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.noise = {
            name: _noise(p, i, name, objective.layout) for i, (name, p) in enumerate(objective.parameters.items())
        }

    def all_moved(self, but: Collection[str] = ()) -> dict[str, Tensor]:
        return {n: p if n in but else p + self.noise[n] for n, p in self.objective.parameters.items()}

    def unmoved(self, names: Sequence[str], *, by_rounding: bool = False) -> list[str]:
        """Those of `names` whose displacement changes the loss nowhere, or only `by_rounding`; many at once where none
        does."""
        if not names:
            return []
        tolerance = _ROUNDINGS * epsilon(self.objective.precision, self.objective.device) if by_rounding else 0.0
        moved = self.all_moved(but=names)
        places = [(place, _value(self.objective, place)) for place in (self.objective.parameters, moved)]
        found: list[str] = []
        waiting = [list(names)]
        while waiting:
            group = waiting.pop()
            still = all(
                _same(
                    value,
                    _value(self.objective, {**place, **{n: place[n] + self.noise[n] for n in group}}),
                    tolerance,
                )
                for place, value in places
            )
            if still:
                found += group
            elif len(group) > 1:
                waiting += [group[: len(group) // 2], group[len(group) // 2 :]]
        return [name for name in self.objective.parameters if name in found]


def _noise(parameter: Tensor, seed: int, name: str, layout: Layout) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    wide = torch.complex128 if parameter.is_complex() else torch.float64
    drawn = torch.randn(layout.whole_shapes[name], dtype=wide, generator=generator)
    squares = parameter.abs().square()
    if layout.parts is None:
        drawn = drawn.to(parameter)
        size = squares.mean().sqrt().item() if parameter.numel() else 0.0
    else:
        drawn = layout.parts.part(name, drawn).to(parameter)
        size = (float(layout.total(squares.sum())) / max(math.prod(layout.whole_shapes[name]), 1)) ** 0.5
    return drawn * (_STEP * size or _STEP)


def _value(objective: Objective, params: Mapping[str, Tensor]) -> float | str:
    """The loss, or which error it raises."""
    try:
        return float(objective.loss(params).detach())
    except InputError:
        raise
    except Exception as error:
        return type(error).__name__


def _same(a: float | str, b: float | str, tolerance: float) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= tolerance * abs(a)


# ---- differentiating ------------------------------------------------------------------------------------------------


def _gradients(displaced: _Displaced, place: Mapping[str, Tensor], batches: int) -> dict[str, Tensor]:
    """The gradient of the loss of so many batches."""
    objective = displaced.objective
    params = {name: p.detach().requires_grad_() for name, p in place.items()}
    total = {name: torch.zeros_like(p) for name, p in place.items()}
    for i in range(batches):
        value, _ = objective.part(params, objective.batches[i], objective.examples[i])
        found = torch.autograd.grad(value, list(params.values()), materialize_grads=True)
        total = {name: total[name] + g.abs() for name, g in zip(params, found, strict=True)}
    return total


def _differentiated(displaced: _Displaced) -> tuple[set[str], set[str]]:
    """What reaches the loss of a model whose own operations are not followed: FSDP's."""
    objective, reached = displaced.objective, set[str]()
    for place in (objective.parameters, displaced.all_moved()):
        gradients = _gradients(displaced, place, len(objective.batches))
        reached |= {name for name, g in gradients.items() if bool(objective.layout.total((g != 0).any().double()))}
    alive = {name.rpartition(".")[0] for name in reached}
    return reached, {name for name in objective.parameters if name.rpartition(".")[0] in alive}


def _refuse_kept_by_ranks(objective: Objective) -> None:
    """`InputError` where a rank's loss of its first batch is computed from what was kept of the model before it was
    divided, as far as operations can be followed there."""
    views = objective.views()
    if not objective.by_any([name for _, name in views]):
        return
    follower = _OfModel({}, views)
    for place, _ in views:
        follower.mark_memory(place, 1)
    try:
        value = objective.heard(follower)
    except InputError:
        raise
    except Exception as error:
        log.info("the loss cannot be followed: %s: %s", type(error).__name__, error)
        return
    if read := objective.by_any(follower.read if follower.marks(value) else []):
        raise _reads_kept(objective, read)


def _reads_kept(objective: Objective, names: Sequence[str]) -> InputError:
    return InputError(
        f"{objective.source}: the loss reads {list_some(names)} not from the model that it is called with, but from "
        "what was kept of it before (a list of parameters, a view, an optimiser, a closure), which does not move; ask "
        "the model for them in every call, as model.parameters() does"
    )


def _hardly(displaced: _Displaced) -> list[str]:
    """Parameters in which the loss is nearly flat where all are displaced; none where that costs a large model's
    gradient, or there is no gradient."""
    objective = displaced.objective
    if objective.sharded or sum(p.numel() for p in objective.parameters.values()) > _LARGE:
        return []
    place = displaced.all_moved()
    try:
        gradients = _gradients(displaced, place, 1)
        size = abs(float(objective.part(place, objective.batches[0], objective.examples[0])[0].detach()))
    except Exception as error:
        log.info("the loss cannot be differentiated: %s: %s", type(error).__name__, error)
        return []
    flat = _ROUNDINGS * epsilon(objective.precision, objective.device) * size
    return [name for name, g in gradients.items() if float(g.norm() * displaced.noise[name].norm()) <= flat]


# ---- following ------------------------------------------------------------------------------------------------------


def _reached(objective: Objective) -> tuple[set[str], set[str]]:
    """The parameters that the loss is computed from, and those whose module's output or other tensors it is."""
    names = list(objective.parameters)
    owners = {name: name.rpartition(".")[0] for name in names}
    modules = {prefix: objective.model.get_submodule(prefix) for prefix in dict.fromkeys(owners.values())}
    bits = {name: 1 << i for i, name in enumerate([*names, *(f"module {prefix}" for prefix in modules)])}
    met, kept, views = 0, 1 << len(bits), objective.views()
    for batch, examples in zip(objective.batches, objective.examples, strict=True):
        follower = _OfModel(objective.parameters, views)
        # parameters may be parts of one storage, and are told apart by it
        params = {name: p.clone() for name, p in objective.parameters.items()}
        for prefix, module in modules.items():
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                follower.mark(tensor, bits[f"module {prefix}"])
        for name, p in params.items():
            follower.mark(p, bits[name])
            follower.mark(objective.parameters[name], kept)
        for place, _ in views:
            follower.mark_memory(place, kept)
        with _marking_outputs(modules, bits, follower), follower:
            value, _ = objective.part(params, batch, examples)
        met |= follower.marks(value)
        if met & kept:
            raise _reads_kept(objective, follower.read or names)
        if all(met & bits[name] for name in names):
            break
    reached = {name for name in names if met & bits[name]}
    alive = {owners[name] for name in reached}
    return reached, {name for name in names if met & bits[f"module {owners[name]}"] or owners[name] in alive}


@contextmanager
def _marking_outputs(modules: Mapping[str, nn.Module], bits: Mapping[str, int], follower: Follower) -> Iterator[None]:
    def marking(bit: int) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for leaf in pytree.tree_leaves(output):
                if isinstance(leaf, Tensor):
                    follower.mark(leaf, bit)

        return hook

    hooks = [module.register_forward_hook(marking(bits[f"module {prefix}"])) for prefix, module in modules.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _OfModel(Follower):
    """Notes which of the model's own parameters are read, in whose place there are others."""

    def __init__(self, parameters: Mapping[str, Tensor], views: Sequence[tuple[StorageWeakRef, str]]) -> None:
        super().__init__()
        self._places = {p.data_ptr(): name for name, p in parameters.items() if p.numel()}
        self._views = {place.cdata: name for place, name in views}
        self.read: list[str] = []

    def made(self, result: Any, inputs: list[Tensor], bits: int) -> int:
        for leaf in inputs:
            if type(leaf) in (Tensor, nn.Parameter) and leaf.layout is torch.strided:
                name = self._places.get(leaf.data_ptr()) or self._views.get(leaf.untyped_storage()._cdata)
                self.read += [name] if name is not None and name not in self.read else []
        return bits
