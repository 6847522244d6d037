"""The gradient of an embedding is that of its values.

torch leaves the row `padding_idx` out of the gradient, so that training never moves it. The loss depends on it all the
same, and a landscape displaces it like every other number: with the row left out, the loss and its gradient would be of
two functions. The values do not change.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def whole_gradients(model: nn.Module) -> AbstractContextManager[Any]:
    """What the loss of this model is to be called in. A mode costs some time at every operation, so it is there for
    models with padding alone."""
    padded = any(isinstance(m, nn.Embedding) and m.padding_idx is not None for m in model.modules())
    return _Whole() if padded else nullcontext()


class _Whole(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is nn.functional.embedding:
            return _embedding(*args, **kwargs)
        return function(*args, **kwargs)


def _embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    result: Tensor = nn.functional.embedding(input, weight, None, max_norm, norm_type)
    return result


def plain_gradients(model: nn.Module) -> None:
    """Have embeddings give gradients that are neither sparse, which cannot be differentiated again, nor divided by how
    often a row is used, which is the gradient of no loss. The values are the same."""
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = module.scale_grad_by_freq = False
