"""A loss that writes into parameters or buffers of its model is given copies of them.

`Embedding(max_norm=1)` rescales its weight where it is used, BatchNorm in training mode moves its statistics: theta*
would change with every evaluation. What is written is found by running the loss once on copies of everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from landscaper_hpc.errors import ends_work


class Writes:
    """What a loss of `model` writes into. `run` evaluates it with tensors, by name, in place of the model's."""

    def __init__(self, model: nn.Module, run: Callable[[dict[str, Tensor]], object]) -> None:
        self._model = model
        held = _tensors(model)
        copies = {name: tensor.detach().clone() for name, tensor in held.items()}
        before = {name: copy._version for name, copy in copies.items()}
        try:
            run(copies)
        except BaseException as error:  # it will be met again, and told better
            if ends_work(error):
                raise
        # BatchNorm does not count its writes, and a rescaled weight may not have changed yet
        self.names = frozenset(
            name for name, t in copies.items() if t._version != before[name] or not torch.equal(t, held[name])
        )

    def protected(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters, with copies of what is written into."""
        if not self.names:
            return dict(params)
        held = _tensors(self._model) | dict(params)
        return dict(params) | {name: held[name].clone() for name in sorted(self.names)}


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())
