"""For Hugging Face's Trainer: `Trainer(…, callbacks=[SaveForSweep("weights", every=500)])`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError
from landscaper_hpc.training.weights import Schedule

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as missing:
    raise InputError(f"SaveForSweep needs {missing.name}, which is not installed; pip install transformers") from None


class SaveForSweep(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Saves weights before the first step, every so many steps, and after the last; of several processes, the first.

    `landscaper-hpc sweep study.yaml --checkpoint 'weights/step_*.safetensors'` takes them up.

    Parameters
    ----------
    folder
        Where to.
    every
        How many optimizer steps lie between.
    """

    def __init__(self, folder: str | Path, every: int) -> None:
        self._schedule = Schedule(folder, every)

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Before the first step."""
        self._save(state, given["model"], due=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """After each step."""
        self._save(state, given["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """After the last step."""
        self._save(state, given["model"], due=True)

    def _save(self, state: Any, model: Any, due: bool = False) -> None:
        if state.is_world_process_zero:
            self._schedule.save(model, int(state.global_step), due)
