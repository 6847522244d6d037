"""Standard output and error that never fail: what cannot be written there costs nobody a result.

A full disk or a closed pipe behind them, no stream at all, a terminal that cannot show a character: what is said is
lost or said in other letters, and the program goes on. Whether standard output lost something is known at the end.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import Any, cast

_OTHER_LETTERS = {"×": "x", "–": "-", "—": "-", "…": "...", "é": "e", "²": "^2", "α": "alpha", "θ": "theta", "≤": "<="}


class _Forgiving(io.RawIOBase):
    """A descriptor whose writes succeed; `lost` is the first error of one that did not."""

    def __init__(self, descriptor: int, lost: OSError | None) -> None:
        self._descriptor = descriptor
        self.lost = lost

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while len(left) and self.lost is None:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.lost = error
        return size

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def steady() -> None:
    """Let this process's standard streams be such; to be called before anything is written."""
    codecs.register_error("other-letters", _in_other_letters)
    if sys.stdin is None:
        _take(0)
    sys.stdout = _stream(sys.stdout, 1)
    sys.stderr = _stream(sys.stderr, 2)


def lost_output() -> str | None:
    """Why something of standard output was not written, if so."""
    if isinstance(raw := _raw(sys.stdout), _Forgiving):
        sys.stdout.flush()
        if raw.lost is not None:
            return raw.lost.strerror or str(raw.lost)
    return None


def _raw(stream: Any) -> Any:
    return getattr(getattr(stream, "buffer", None), "raw", None)


def _stream(stream: Any, descriptor: int) -> io.TextIOWrapper:
    lost = None
    if stream is None:
        # closed by whoever started us: the next file to be opened would get its number, and what is said there
        lost = OSError(errno.EBADF, "it is closed")
        _take(descriptor)
    elif isinstance(_raw(stream), _Forgiving) or not _is(stream, descriptor):
        return cast(io.TextIOWrapper, stream)  # a test's, or a notebook's
    else:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Forgiving(descriptor, lost)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="other-letters",
        line_buffering=descriptor == 2 or os.isatty(descriptor),
    )


def _take(descriptor: int) -> None:
    """Have a number that is free stand for nothing."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    os.set_inheritable(descriptor, True)


def _is(stream: Any, descriptor: int) -> bool:
    try:
        return bool(stream.fileno() == descriptor)
    except (AttributeError, OSError, ValueError):
        return False


def _in_other_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_OTHER_LETTERS.get(letter, "?") for letter in text), error.end
