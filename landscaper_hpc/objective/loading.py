"""From a task file and a checkpoint to an objective."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from landscaper_hpc.errors import InputError, ends_work
from landscaper_hpc.objective.beginning import from_the_beginning
from landscaper_hpc.objective.checkpoints import read_with_notice
from landscaper_hpc.objective.checkpoints.fit import load_into, refuse_nonfinite
from landscaper_hpc.objective.checkpoints.names import PLAIN, Naming
from landscaper_hpc.objective.device import usable_device
from landscaper_hpc.objective.fsdp import apply
from landscaper_hpc.objective.objective import Objective, Task
from landscaper_hpc.objective.precision import dtype_of
from landscaper_hpc.objective.usercode import line_in, mistake, one_line, user_module, watched


@from_the_beginning()
def load_objective(
    task_file: Path,
    checkpoint: Path,
    *,
    options: Mapping[str, Any] | None = None,
    precision: str = "float64",
    device: str = "cpu",
    frozen: bool = False,
    only: Sequence[str] = (),
    few: int | None = None,
    one_channel_last: bool = True,
    folders: Sequence[Path] = (),
    naming: Naming = PLAIN,
    divided: bool = False,
    elsewhere: bool = False,
) -> Objective:
    """The objective of a task file at a checkpoint.

    Parameters
    ----------
    task_file
        A Python file with a function `task(**options)` that returns a `Task`.
    checkpoint
        A file or folder of any format that is registered.
    options
        Arguments of `task`.
    precision
        `float64`, `float32`, `tf32` or `bf16`.
    device
        `cpu`, `cuda` or `cuda:<number>`.
    frozen
        Also move parameters with `requires_grad=False`.
    only
        Move only the parameters that match these names or patterns.
    few
        Take the mean over so many batches of the data, instead of all.
    one_channel_last
        Let images of one channel lie as those of several do; False for losses with the bits of earlier versions.
    folders
        Whose files, besides those of the task's own folder, are noted where the task reads them.
    naming
        What the study says of the checkpoint's names (`rename`, `ignore`).
    divided
        Shard the model as the task says over all ranks of torch.distributed, each of which does the same.
    elsewhere
        Have the first call of the loss be beside the checkpoint, for a proof that it keeps nothing.

    Returns
    -------
    Objective
        A deterministic loss of named parameters.

    Raises
    ------
    InputError
        For every problem with either file, which it names.
    """
    dtype_of(precision)
    where = usable_device(device)
    if where.index is not None and where.type == "cuda":
        torch.cuda.set_device(where)  # for what the task itself puts on "cuda", and for pinned memory
    task_file, checkpoint = Path(task_file), Path(checkpoint)
    with watched([task_file.resolve().parent, *folders]) as files:
        task = load_task(task_file, options or {})
    source = f"task file {task_file}"
    dealt = apply(task.model, task.shard, where, source) if divided else False
    tensors, notice = read_with_notice(checkpoint, naming.containers)
    left = load_into(task.model, tensors, checkpoint, naming=naming, dtype=dtype_of(precision))
    del tensors  # a large model has no room for them beside itself
    objective = Objective(
        task,
        precision=precision,
        device=device,
        frozen=frozen,
        only=only,
        few=few,
        one_channel_last=one_channel_last,
        dealt=dealt,
        elsewhere=elsewhere,
        source=source,
    )
    refuse_nonfinite(objective.parameters, f"checkpoint {checkpoint}")
    objective.files = files.local
    objective.files_elsewhere = files.elsewhere
    objective.notices += [said for said in (notice, left) if said]
    return objective


def load_task(task_file: Path, options: Mapping[str, Any]) -> Task:
    """Call `task(**options)` of a task file; its folder is importable meanwhile, so it may import its neighbours."""
    task_file = Path(task_file).resolve()
    if not task_file.is_file():
        raise InputError(f"task file {task_file} does not exist")
    if task_file.suffix != ".py":
        raise InputError(f"task file {task_file} is not a Python file (.py)")
    try:
        with user_module(task_file) as module:
            function = getattr(module, "task", None)
            if not callable(function):
                raise InputError(f"task file {task_file} has no function task(); define task() -> Task")
            _check_options(function, options, task_file)
            task = function(**options)
    except InputError:
        raise
    except BaseException as error:
        if ends_work(error):
            raise
        where = line_in(error, str(task_file))
        message = f"task file {task_file} failed{where} with {type(error).__name__}: {one_line(error)}"
        raise mistake(message, error) from error
    if not isinstance(task, Task):
        raise InputError(
            f"task file {task_file}: task() returned a {type(task).__name__}; expected landscaper_hpc.Task"
        )
    return task


def _check_options(function: Callable[..., Any], options: Mapping[str, Any], task_file: Path) -> None:
    try:
        inspect.signature(function).bind(**options)
    except TypeError as error:
        valid = ", ".join(inspect.signature(function).parameters) or "none"
        raise InputError(
            f"task file {task_file}: task() does not take these options ({error}); it takes: {valid}"
        ) from error
