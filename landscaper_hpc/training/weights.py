"""A model's weights at a step of its training, as a file that `landscaper-hpc sweep` finds and reads."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscaper_hpc.errors import InputError
from landscaper_hpc.files import publish

if TYPE_CHECKING:
    from torch import Tensor, nn


def save_weights(model: nn.Module, folder: str | Path, step: int) -> Path:
    """Write a model's parameters and buffers to `<folder>/step_<step>.safetensors`, whole or not at all.

    No state of an optimizer, no code. The model stays as it is, and needs the memory of one copy of its weights.

    Parameters
    ----------
    model
        In whole in this process; on any device.
    folder
        Is made where it is not there.
    step
        Has eight digits in the name, so that names sort as steps do.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        For a model that is sharded over processes, for tensors that such files do not hold, and for no step.
    """
    from safetensors.torch import save
    from torch import Tensor, nn
    from torch.distributed.tensor import DTensor

    step = _whole("step", step, least=0)
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; give a torch.nn.Module")
    tensors = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    for name, tensor in tensors.items():
        if why := _not_held(tensor):
            raise InputError(f"{name} {why}")
    in_parts = [t for t in model.parameters() if getattr(t, "ds_shape", t.shape) != t.shape]  # of DeepSpeed
    if in_parts or any(isinstance(tensor, DTensor) for tensor in tensors.values()):
        raise InputError(
            "the model is sharded over processes; use the checkpoints that the trainer itself writes, which sweep reads"
        )
    file = Path(folder) / f"step_{step:08d}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    # tied weights are written under each of their names
    publish(file, save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}))
    return file


def _whole(what: str, number: Any, least: int) -> int:
    try:
        found = operator.index(number)
    except TypeError:
        found = least - 1
    if found < least or isinstance(number, bool):
        raise InputError(f"{what} is {number!r}; give a whole number of steps, {least} or more")
    return found


def _not_held(tensor: Tensor) -> str:
    """Why a .safetensors file cannot hold a tensor; nothing where it can."""
    import torch
    from torch.nn.parameter import is_lazy

    if is_lazy(tensor):
        return "has no shape yet; run the model on a batch first"
    if tensor.is_meta:
        return "is on the meta device, which holds no numbers; make the model on the CPU"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return "is sparse or quantised, which .safetensors files do not hold; save what it stands for"
    if tensor.dtype == torch.complex128:
        return "is of complex128, which .safetensors files do not hold; save the model's state_dict with torch.save"
    return ""


class Schedule:
    """The steps at which weights are saved: the first, every so many, and the last; each once."""

    def __init__(self, folder: str | Path, every: int) -> None:
        self.folder = Path(folder)
        self.every = _whole("every", every, least=1)
        self._saved: int | None = None

    def save(self, model: nn.Module, step: int, due: bool = False) -> None:
        """Save at this step if it is one of them, or `due` in any case."""
        if step != self._saved and (due or step % self.every == 0):
            save_weights(model, self.folder, step)
            self._saved = step
