"""A loss that writes into parameters or buffers of its model, or into its data, is given copies of them.

`Embedding(max_norm=1)` rescales its weight where it is used, BatchNorm in training mode moves its statistics, a loss
scales its batch in place: theta*, or the data, would change with every evaluation. What is written is found by running
the loss once on copies of everything. So is what a call leaves with the modules for the next one: training mode, and
attributes, which may be computed from the parameters of the first call. (For other places see `keeping`.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from landscaper_hpc.errors import ends_work
from landscaper_hpc.objective.first_call import Call, elsewhere


class Writes:
    """What a loss of `model` writes into. `run` evaluates it with tensors, by name, in place of the model's, and a
    batch in place of `batch`; those that are `moving` are followed. With `displaced` it is evaluated elsewhere.

    Attributes
    ----------
    first
        This call, the first of all, as it was listened to; None where it could not be.
    failed
        What the loss raised, if it did.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        run: Callable[[dict[str, Tensor], Any], object],
        moving: Collection[str] = (),
        displaced: bool = False,
    ) -> None:
        self._model, self._left = model, list[tuple[nn.Module, str, Any]]()
        self.first: Call | None = None
        self.failed: BaseException | None = None
        held, data = _tensors(model), _leaves(batch)
        if displaced:
            held |= elsewhere({name: held[name] for name in moving})
        attributes = [(module, _attributes(module)) for module in model.modules()]
        for listening in (True, False):  # what cannot be listened to runs without
            copies, copied = copies_of(held), pytree.tree_map_only(Tensor, torch.clone, batch)
            before = {name: copy._version for name, copy in copies.items()}
            call = Call({name: copies[name] for name in moving})
            try:
                if listening:
                    call.listened(partial(run, copies, copied))
                    self.first = call
                else:
                    run(copies, copied)
            except BaseException as error:  # it will be met again, and told better
                if ends_work(error):
                    raise
                self.failed = error.with_traceback(None)
            self._left = [
                (module, name, began.get(name, _NOTHING))
                for module, began in attributes
                for name, value in _attributes(module).items()
                if value is not began.get(name, _NOTHING)
            ]
            if self.first is not None:
                break
            self.begin()
        # BatchNorm does not count its writes, and a rescaled weight may not have changed yet; requires_grad_() is a
        # write too, into what later calls are given
        self.names = frozenset(
            name
            for name, t in copies.items()
            if t._version != before[name] or t.requires_grad or not _same(t, held[name])
        )
        self.data = any(copy._version or not _same(copy, of) for copy, of in zip(_leaves(copied), data, strict=True))

    def protected(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters, with copies of what is written into."""
        if not self.names:
            return dict(params)
        held = _tensors(self._model) | dict(params)
        return dict(params) | {name: held[name].clone() for name in sorted(self.names)}

    @property
    def differentiates(self) -> bool:
        """Whether the loss failed since it asks for gradients in parameters, which nobody told to have any."""
        return isinstance(self.failed, RuntimeError) and "does not require grad" in str(self.failed)

    def begin(self) -> None:
        """Have every call find the modules as the first one did: what one leaves in training mode would be another
        function in the next, and what it keeps (a `cached_property`, a hidden state) of other parameters. All of it: of
        an LSTM's list of weights and what that list was made of the one must not be put back without the other."""
        for module, name, value in self._left:
            if value is _NOTHING:
                module.__dict__.pop(name, None)
            else:
                module.__dict__[name] = value

    def as_first(self, batch: Any) -> tuple[dict[str, Tensor], Any]:
        """What the first call was given, where it was not elsewhere: copies of everything."""
        return copies_of(_tensors(self._model)), pytree.tree_map_only(Tensor, torch.clone, batch)

    def protected_data(self, batch: Any) -> Any:
        """The batch, or a copy where batches are written into."""
        return pytree.tree_map_only(Tensor, torch.clone, batch) if self.data else batch


_NOTHING = object()
_MODULES_OWN = frozenset(nn.Module().__dict__) - {"training"}


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What it holds beside parameters, buffers, modules and hooks."""
    return {name: value for name, value in module.__dict__.items() if name not in _MODULES_OWN}


def copies_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers, in memory of their own."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _leaves(batch: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]


def _same(a: Tensor, b: Tensor) -> bool:
    try:
        return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())
    except (RuntimeError, NotImplementedError):  # some types have no comparison
        return True
