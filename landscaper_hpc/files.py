"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from landscaper_hpc.errors import InputError

PARTIAL = ".partial"


def name_on_disk(name: str) -> str:
    """A file's name from a text in UTF-8, as this process's locale spells the same bytes."""
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


def name_in_utf8(path: str | Path) -> str:
    """The other way: what the same name is in every locale."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def beside(path: Path) -> Path:
    """A name beside `path` to write to, which nobody else has: an orphan and its copy may write the same at once."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}{PARTIAL}")


def publish(
    path: Path, content: bytes | Iterator[bytes | memoryview], sync: Literal["all", "content", "nothing"] = "all"
) -> None:
    """Write `content`, or its parts, to `path` atomically and durably: write aside, fsync, rename, fsync the folder.

    Readers see the old file, or the new one, never a part; two writers of the same bytes do no harm. What is not synced
    reaches the disk when the file system sees fit: after a power cut the file may be gone, and without its content
    synced, empty.
    """
    aside = beside(path)
    try:
        with full_disk_refused(path):
            with aside.open("wb") as stream:
                for part in (content,) if isinstance(content, bytes) else content:
                    stream.write(part)
                if sync != "nothing":
                    stream.flush()
                    os.fsync(stream.fileno())
            aside.rename(path)
            if sync == "all":
                sync_folder(path.parent)
    except BaseException as error:
        if isinstance(error, OSError) and str(error.filename) == str(aside):
            error.filename = str(path)  # which the caller has named
        with suppress(OSError):
            aside.unlink()
        raise


@contextmanager
def full_disk_refused(path: Path) -> Iterator[None]:
    """Turn 'no space left', and a place where nothing may be written, into the sentence a user can act on."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES):
            raise InputError(f"{path}: cannot be written ({error.strerror}); everything else is as it was") from None
        if error.errno == errno.EFBIG:
            raise InputError(
                f"{path}: would be larger than a file may be here; raise the limit (ulimit -f) and run the same "
                "command again, everything finished so far is kept"
            ) from None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"{path}: no space left to write it; free some and run the same command again, "
            "everything finished so far is kept"
        ) from None


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private_folder(folder: Path) -> Path:
    """The folder, made where it is not there, closed to all but its owner; `InputError` where that is somebody else."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
            raise InputError(
                f"{folder}: is not a folder of yours, so that others could change what is read there; "
                "choose another folder with --out"
            )
        if found.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another folder with --out") from None
    return folder


@contextmanager
def folder_aside(path: Path, replace: bool = False) -> Iterator[Path]:
    """A name beside `path` to build a folder at, which takes the name `path` when it is complete and on disk."""
    aside, old = beside(path), beside(path)
    try:
        with full_disk_refused(path):
            yield aside
            _sync_tree(aside)
        if replace:
            with suppress(FileNotFoundError):
                path.rename(old)
        try:
            aside.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # someone else made it in the meantime; the bytes are the same
        sync_folder(path.parent)
    finally:
        for folder in (aside, old):
            shutil.rmtree(folder, ignore_errors=True)


def _sync_tree(root: Path) -> None:
    for folder, _, files in os.walk(root):
        for file in files:
            descriptor = os.open(Path(folder) / file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(folder))


def stamps(folder: Path) -> dict[str, int]:
    """The files that are whole in a folder, and when each was written: it tells whether one was since."""
    found = {}
    for file in folder.glob("*"):
        if not file.name.endswith(PARTIAL):
            with suppress(FileNotFoundError):  # whoever works with it removes it
                found[file.name] = file.stat().st_mtime_ns
    return found


def remove_partials(folder: Path) -> None:
    """Remove what killed writers left aside in `folder`."""
    for leftover in folder.glob(f".*{PARTIAL}"):
        if _of_living_neighbour(leftover):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _of_living_neighbour(aside: Path) -> bool:
    """Whether another process of this host is writing there; of other hosts nothing is known."""
    import psutil

    found = re.search(rf"\.{re.escape(socket.gethostname())}\.(\d+)\.\w+{re.escape(PARTIAL)}$", aside.name)
    if found is None or int(found[1]) == os.getpid():
        return False
    try:
        return bool(psutil.Process(int(found[1])).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
