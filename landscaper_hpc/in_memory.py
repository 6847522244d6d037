"""landscape(model, loss, data): a landscape of what is in memory, as from a study, in a few lines.

What was given is written as a study in a temporary folder and run there in this process, so that it is the same
landscape as from files, and can be kept as an ordinary study's folder. (Longer than most modules by its docstrings.)
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscaper_hpc.errors import InputError, TaskFailed
from landscaper_hpc.objective.data import all_of
from landscaper_hpc.objective.held import as_they_were
from landscaper_hpc.objective.objective import Task
from landscaper_hpc.objective.own_state import again_and_again
from landscaper_hpc.orchestrate import run
from landscaper_hpc.progress import heard
from landscaper_hpc.store.folder import StudyFolder
from landscaper_hpc.store.landscape import LandscapeStore, open_landscape
from landscaper_hpc.study.named_files import with_files_from_here
from landscaper_hpc.study.schema import validated
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Study

if TYPE_CHECKING:
    import torch
    import xarray as xr
    from matplotlib.axes import Axes
    from torch import Tensor, nn

    from landscaper_hpc.topology import MergeTree

_TASK = '''"""Stands for a model, a loss and data that were in memory: {what}."""

from landscaper_hpc.in_memory import given


def task():
    return given("{token}")
'''

_given: dict[str, Callable[[], Task]] = {}
_one_at_a_time = threading.RLock()
"""Calls from several threads wait for each other: those of one loss stand for each other by its name, and torch's
settings are those of the process."""
_OWN = {"task", "train", "checkpoints"}


def landscape(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    data: Any,
    *,
    metrics: Mapping[str, Callable[[Any, Any], Tensor]] | None = None,
    directions: Mapping[str, Any] | None = None,
    grid: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
    **keys: Any,
) -> LandscapeInMemory:
    """The loss landscape around a model, in this process.

    Parameters
    ----------
    model
        The trained model. It stays as it is: a copy is worked on, in evaluation mode.
    loss
        `loss(model, batch)`, which returns the losses of the batch's examples, or their mean; or a criterion of torch
        (`nn.CrossEntropyLoss()`), which is then called with the model's outputs and the second part of each batch.
    data
        One batch (a tensor, or a tuple or dict of tensors), a list of batches, or a finite iterable of them such as a
        DataLoader in fixed order.
    metrics
        More numbers to be known at each point, by name: `metric(model, batch)` or a criterion as `loss`, in no need of
        a gradient.
    directions, grid
        As in a study: `{"kind": "hessian", "n": 2, …}`, `{"count": 41, "range": 0.05, …}`. Names of files start at
        the current folder.
    device
        Where it is evaluated: `cpu`, `cuda` or `cuda:<number>`.
    progress
        Whether progress is told on standard error.
    **keys
        More keys of a study: `precision`, `connectivity`, `only`, `confirm`, `hessian`, `name`, …

    Returns
    -------
    LandscapeInMemory

    Raises
    ------
    InputError
        For what the user can mend: one sentence.
    TaskFailed
        For what the loss raised.

    Examples
    --------
    >>> made = landscape(model, nn.CrossEntropyLoss(), (images, labels), grid={"count": 31})  # doctest: +SKIP
    >>> made.results["topology"]["mean_climb"]  # doctest: +SKIP
    """
    import torch

    if own := _OWN & keys.keys():
        raise InputError(f"landscape() says {min(own)} itself; leave it out, or write a study (`landscaper-hpc init`)")
    site = validated(Site, {"executor": "serial", "device": str(device)}, "landscape()", ())
    if isinstance(data, Iterator):  # which more than one of those who work on it would find exhausted
        data = all_of(data, "landscape(): data")
    named = {name: _of_outputs(each) for name, each in metrics.items()} if isinstance(metrics, Mapping) else metrics
    task = Task(model, _of_outputs(loss), data, named or {})
    _refuse_nothing(model)
    token = _token(task)
    inside = Path(tempfile.mkdtemp(prefix="landscaper-hpc-"))
    made = LandscapeInMemory(StudyFolder(inside / "run"))
    remove = weakref.finalize(made, shutil.rmtree, inside, ignore_errors=True)
    hearing: AbstractContextManager[None] = nullcontext() if progress else heard(quiet=True, verbose=False)
    _one_at_a_time.acquire()
    around = _given.get(token)  # of a loss that calls this itself
    try:
        _given[token] = again_and_again(task)
        what = f"{type(model).__name__}, {getattr(loss, '__qualname__', type(loss).__name__)}"
        (inside / "task.py").write_text(_TASK.format(what=what, token=token))
        torch.save(model.state_dict(), inside / "model.pt")
        asked = {"directions": directions, "grid": grid}
        science = {
            "name": "landscape",
            "task": "task.py",
            "checkpoints": [{"name": "model", "file": "model.pt"}],
            **{k: dict(v) if isinstance(v, Mapping) else v for k, v in asked.items() if v is not None},
            **keys,
        }
        study = Study.of(with_files_from_here(science), Path("landscape()"), folder=inside)
        with hearing, as_they_were((task.loss, *task.metrics.values())):
            run(study, site, made.inside.path)
    except BaseException as error:
        if isinstance(error, (InputError, TaskFailed)):  # the file that stands for what was given is not the caller's
            error.args = (str(error).replace(f"task file {inside / 'task.py'}", "landscape()"),)
        remove()
        raise
    finally:
        _given.pop(token, None)
        if around is not None:
            _given[token] = around
        _one_at_a_time.release()
    return made


def _refuse_nothing(model: nn.Module) -> None:
    """Refuse, by what it is, a model without numbers: its file has no name that the caller knows."""
    import torch

    if not isinstance(model, torch.nn.Module):
        return  # which a task says
    parameters = dict(model.named_parameters())
    if not parameters:
        raise InputError(f"landscape(): {type(model).__name__} has no parameters, and so its loss has no landscape")
    if meta := [name for name, parameter in parameters.items() if parameter.is_meta]:
        raise InputError(
            f"landscape(): {meta[0]} is on the meta device, which holds no numbers; make the model on the CPU"
        )


def given(token: str) -> Task:
    """What `landscape()` was called with, for the task file that stands for it."""
    if token not in _given:
        raise InputError(
            "this landscape is of a model, a loss and data that were in memory, and can be evaluated no further; write "
            "a task file (`landscaper-hpc init`) for a study that can"
        )
    return _given[token]()


@dataclass(frozen=True, eq=False)
class LandscapeInMemory:
    """What `landscape()` made. Its files are removed with the object; `save` keeps them.

    Attributes
    ----------
    inside
        The folder that it is in until then.
    """

    inside: StudyFolder

    @cached_property
    def store(self) -> LandscapeStore:
        """All that was stored: directions, losses, trees."""
        return open_landscape(self.inside.path)

    @cached_property
    def loss(self) -> xr.DataArray:
        """The losses, one for each grid point, with the axes' coordinates, names and units."""
        return self._arrays(("loss",))["loss"]

    @cached_property
    def metrics(self) -> dict[str, xr.DataArray]:
        """The metrics by name, each like `loss`."""
        return self._arrays(self.store.metrics)

    def _arrays(self, names: Iterable[str]) -> dict[str, xr.DataArray]:
        import xarray as xr

        self.store.refuse_lowest()
        with xr.open_zarr(self.inside.store, group=self.store.name) as dataset:
            return {name: dataset[name].load() for name in names}

    @cached_property
    def tree(self) -> MergeTree:
        """The merge tree of the sublevel sets."""
        return self.store.tree()

    @property
    def eigenvalues(self) -> NDArray[np.float64] | None:
        """Of the Hessian, shape (n,), in the order of the directions; None for directions that are none of its."""
        found = self.store.directions().hessian.get("eigenvalues")
        return None if found is None else np.asarray(found)

    @cached_property
    def results(self) -> dict[str, Any]:
        """The numbers of the landscape: its part of `results.json`."""
        from landscaper_hpc.report.results import read_results

        return dict(read_results(self.inside.results)["landscapes"][0])

    def plot(self, ax: Axes | None = None, quantity: str = "loss") -> Axes:
        """Draw the loss, or a metric, over the first two axes (or the only one), through the checkpoint.

        Parameters
        ----------
        ax
            Where to draw, of matplotlib; by default in a new figure.
        quantity
            A metric in place of the loss.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        InputError
            Where there is no such metric.
        """
        from landscaper_hpc.report.figures import plot_line, plot_slice
        from landscaper_hpc.report.figures.slices import cut

        ndim = self.loss.ndim
        shown = self.store if quantity == "loss" else cut(self.store, tuple(range(min(ndim, 2))), quantity)
        return plot_line(shown, ax) if ndim == 1 else plot_slice(shown, ax)

    def report(self, path: str | Path) -> None:
        """Write the page, one self-contained HTML file.

        Parameters
        ----------
        path
            The file.
        """
        shutil.copyfile(self.inside.report, path)

    def save(self, folder: str | Path) -> None:
        """Keep it as a study's folder, for every command that reads one.

        Parameters
        ----------
        folder
            One that is not there yet.

        Raises
        ------
        InputError
            Where there is something.
        """
        if Path(folder).exists():
            raise InputError(f"{folder}: there is something already; give a folder that is not there yet")
        shutil.copytree(self.inside.path, folder)

    def _repr_html_(self) -> str:
        """For notebooks: the numbers of the report's table, and the page's picture of the loss."""
        from landscaper_hpc.report.figures import new_figure, style, svg
        from landscaper_hpc.report.quantities import shown

        with style():
            figure, ax = new_figure(4.2, 3.2)
            self.plot(ax)
            picture = svg(figure)
        rows = [("grid", " × ".join(map(str, self.loss.shape)))]
        rows += [(row.label, row.text(value)) for row in shown("run") if (value := row.value(self.results)) is not None]
        table = "".join(f"<tr><td>{escape(label)}</td><td>{escape(text)}</td></tr>" for label, text in rows)
        return f"<div>{picture}<table>{table}</table></div>"


def _of_outputs(criterion: Any) -> Any:
    """A criterion of torch as a loss; anything else as it is."""
    import torch

    if not isinstance(criterion, torch.nn.Module):
        return criterion

    def loss(model: nn.Module, batch: Any) -> Any:
        if not isinstance(batch, tuple | list) or len(batch) != 2:  # the two rows of a tensor would do, too
            raise InputError(
                f"landscape(): {type(criterion).__name__} compares the model's outputs with targets, so each batch "
                f"must be (inputs, targets); found {_shown(batch)}; give such pairs, or a function loss(model, batch)"
            )
        inputs, targets = batch
        return criterion(model(inputs), targets)

    loss.__qualname__ = type(criterion).__name__
    return loss


def _shown(batch: Any) -> str:
    kind = type(batch).__name__
    return f"a {kind} of {len(batch)}" if isinstance(batch, tuple | list) else f"a {kind}"


def _token(task: Task) -> str:
    """Of the code of the loss and the metrics, so that a call that is repeated gives the same study."""
    parts: list[Any] = _code_of(task.loss)
    if task.metrics:
        parts.append([(name, *_code_of(metric)) for name, metric in task.metrics.items()])
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _code_of(function: Callable[[Any, Any], Tensor]) -> list[Any]:
    code = getattr(function, "__code__", None)
    return [
        getattr(function, "__qualname__", type(function).__name__),
        getattr(code, "co_code", b""),
        getattr(code, "co_consts", ()),
    ]
