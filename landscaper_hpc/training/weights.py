"""A model's weights at a step of its training, as a file that `landscaper-hpc sweep` finds and reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from landscaper_hpc.errors import InputError
from landscaper_hpc.files import publish

if TYPE_CHECKING:
    from torch import nn


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
        For a model that is sharded over processes.
    """
    from safetensors.torch import save
    from torch import Tensor
    from torch.distributed.tensor import DTensor

    tensors = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
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


class Schedule:
    """The steps at which weights are saved: the first, every so many, and the last; each once."""

    def __init__(self, folder: str | Path, every: int) -> None:
        if every < 1:
            raise InputError(f"every is {every!r}; give a number of steps, 1 or more")
        self.folder = Path(folder)
        self.every = every
        self._saved: int | None = None

    def save(self, model: nn.Module, step: int, due: bool = False) -> None:
        """Save at this step if it is one of them, or `due` in any case."""
        if step != self._saved and (due or step % self.every == 0):
            save_weights(model, self.folder, step)
            self._saved = step
