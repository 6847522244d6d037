"""For Lightning: `Trainer(…, callbacks=[SaveForSweep("weights", every=500)])`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError
from landscaper_hpc.training.weights import Schedule

try:
    from lightning.pytorch.callbacks import Callback
except ModuleNotFoundError as missing:
    raise InputError(f"SaveForSweep needs {missing.name}, which is not installed; pip install lightning") from None


class SaveForSweep(Callback):  # type: ignore[misc, unused-ignore]
    """Saves weights before the first step, every so many steps, and after the last; of several processes, the first.

    `landscaper-hpc sweep study.yaml --checkpoint 'weights/step_*.safetensors'` takes them up. Names are those of the
    LightningModule; `rename` in the study brings them to a model that is a part of it.

    Parameters
    ----------
    folder
        Where to.
    every
        How many optimizer steps lie between.
    """

    def __init__(self, folder: str | Path, every: int) -> None:
        self._schedule = Schedule(folder, every)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Before the first step."""
        self._save(trainer, pl_module, due=True)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """After each batch, which need not be a step."""
        self._save(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """After the last step."""
        self._save(trainer, pl_module, due=True)

    def _save(self, trainer: Any, module: Any, due: bool = False) -> None:
        if trainer.is_global_zero:
            self._schedule.save(module, int(trainer.global_step), due)
