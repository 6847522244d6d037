"""Progress with rate and time left: bars on a terminal, one bar in a notebook, plain lines elsewhere, on stderr."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Progress = Callable[[int, int], None]
"""`progress(done, total)`: what a long computation calls; `done` counts from the start of the work."""

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_LOOKS = 0.2


_quiet = False


@contextmanager
def heard(quiet: bool, verbose: bool) -> Iterator[None]:
    """How much is told on standard error inside: without progress where `quiet`, with the log's lines where `verbose`.

    Results, warnings and errors are told in any case.
    """
    global _quiet
    before, _quiet = _quiet, quiet
    logger = logging.getLogger("landscaper_hpc")
    level, handler = logger.level, _Told()
    if verbose:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        _quiet = before


class _Told(logging.Handler):
    """Looks for standard error at every line, which bars take over while they are drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"{record.name.removeprefix('landscaper_hpc.')}: {record.getMessage()}", file=sys.stderr)


def silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


class Bars:
    """Several bars at once, one for each label. Use as a context manager; may be updated from any thread."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._bars: dict[str, _Line] = {}
        self._notebook: _OfNotebook | None = None

    def __enter__(self) -> Self:
        if _in_notebook() and not _quiet:
            self._notebook = _OfNotebook()
        elif sys.stderr.isatty() and not _quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._rich = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rich is not None:
            self._rich.stop()

    def update(self, label: str, done: int, total: int) -> None:
        if _quiet:
            return
        if label not in self._bars:
            # work found finished already (a resumed run) says nothing about the rate
            task = None if self._rich is None else self._rich.add_task(label, total=total, completed=done, rate="")
            self._bars[label] = _Line(label, done, task)
        line = self._bars[label]
        rate = line.rate(done)
        if self._rich is not None and line.task is not None:
            self._rich.update(line.task, completed=done, total=total, rate=f"{rate:.3g}/s" if rate else "")
        elif line.due(done, total, _SECONDS_BETWEEN_LINES if self._notebook is None else _SECONDS_BETWEEN_LOOKS):
            left = f", {_clock((total - done) / rate)} left" if rate and done < total else ""
            said = f"{label}: {done:,}/{total:,} ({100 * done // max(total, 1)} %)"
            said += f", {rate:.3g}/s{left}" if rate else ""
            if self._notebook is not None:
                self._notebook.show(said, done, total)
            else:
                print(said, file=sys.stderr, flush=True)

    def tell(self, sentence: str) -> None:
        """Say something above the bars, unless nothing is to be told but results, warnings and errors."""
        if _quiet:
            return
        if self._rich is not None:
            self._rich.console.print(sentence, markup=False, highlight=False)
        else:
            print(sentence, file=sys.stderr, flush=True)

    def finish(self, label: str) -> None:
        """The work of this label is complete, also where it took fewer steps than it might have."""
        line = self._bars.get(label)
        if line is not None:
            self.update(label, line.done, line.done)


class _Line:
    def __init__(self, label: str, first: int, task: object) -> None:
        from rich.progress import TaskID

        self.task = TaskID(task) if isinstance(task, int) else None
        self._first = self.done = first
        self._start = time.monotonic()
        self._last = -float("inf")
        self._finished = False

    def rate(self, done: int) -> float | None:
        self.done = done
        elapsed = time.monotonic() - self._start
        return (done - self._first) / elapsed if done > self._first and elapsed > 0 else None

    def due(self, done: int, total: int, seconds: float) -> bool:
        now = time.monotonic()
        if self._finished or (done < total and now - self._last < seconds):
            return False
        self._last, self._finished = now, done >= total
        return True


class _OfNotebook:
    """One bar below a notebook's cell: of what is done now, in the place of what was done before."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, said: str, done: int, total: int) -> None:
        from IPython.display import HTML, display

        shown = HTML(f"<progress value='{done}' max='{max(total, 1)}'></progress> {escape(said)}")
        if self._handle is None:
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)


def _in_notebook() -> bool:
    """Whether this process is a notebook's, which shows HTML."""
    found = sys.modules.get("IPython")  # it is there already, where it is
    shell = None if found is None else found.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
