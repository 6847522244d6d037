"""A copy of a model as its user left it in memory."""

from __future__ import annotations

import copy

from torch import Tensor, nn


def copied(model: nn.Module) -> nn.Module:
    """What was computed and is kept in a module (a weight by `weight_norm` or pruning, an activation) is copied as a
    number: with its history torch refuses to."""
    kept = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in kept if not tensor.is_leaf})
