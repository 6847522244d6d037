"""Fields in .npz archives: checked against the archive's checksum, never unpacked into memory."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from landscaper_hpc.errors import InputError, refuse_lacking
from landscaper_hpc.files import full_disk_refused
from landscaper_hpc.topology.readers.npy import HEAD, NpyReader, npy_header
from landscaper_hpc.topology.readers.raw import beginning, open_regular

_PIECE = 1 << 20


def open_npz(path: Path) -> NpyReader:
    """The array `loss` of an archive, or its only one. What is stored is read in place; what is compressed is unpacked
    to a temporary file without a name, which ends with the reader."""
    beginning(path)
    try:
        with zipfile.ZipFile(path) as archive:
            member = _member(archive, path)
            with archive.open(member) as stream:
                return _open_member(stream, member, path)
    except InputError:
        raise
    except Exception as error:  # zipfile and its decompressors raise whatever they stumble on
        refuse_lacking(error)
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: not a readable .npz file ({reason}); restore it") from None


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    if not names:
        held = ", ".join(archive.namelist()[:10]) or "nothing"
        raise InputError(f"{path}: holds no .npy but {held}; save the field with numpy.savez(path, loss=values)")
    name = "loss.npy" if "loss.npy" in names else names[0]
    if len(names) > 1 and name != "loss.npy":
        held = ", ".join(n.removesuffix(".npy") for n in names)
        raise InputError(f"{path}: has the arrays {held} but no 'loss'; save it under that name")
    if names.count(name) > 1:
        raise InputError(f"{path}: holds {name} {names.count(name)} times; save the archive with one of them")
    return archive.getinfo(name)


def _open_member(stream: IO[bytes], member: zipfile.ZipInfo, path: Path) -> NpyReader:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others are unpacked as a whole
        kind = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}.get(member.compress_type, "another method")
        raise InputError(
            f"{path}: {member.filename} is compressed by {kind}; save the field with numpy.savez_compressed, or as .npy"
        )
    head = stream.read(HEAD)
    header = npy_header(head, path)
    if header.size != member.file_size:
        raise InputError(
            f"{path}: {member.filename} has {member.file_size:,} bytes, but an array of shape {header.shape} and type "
            f"{header.dtype} takes {header.size:,}; restore it"
        )
    if member.compress_type == zipfile.ZIP_STORED:
        while stream.read(_PIECE):  # to its end, where zipfile compares the checksum
            pass
        file = open_regular(path)
        return NpyReader(path, file, _data_offset(file, member), member.file_size)
    folder = tempfile.gettempdir()
    if shutil.disk_usage(folder).free < member.file_size:
        raise InputError(
            f"{path}: {member.filename} takes {member.file_size:,} bytes unpacked, more than {folder} has room for; "
            "set TMPDIR to a larger disk, or save the field as .npy"
        )
    file, name = tempfile.mkstemp(prefix="landscaper-hpc-")
    os.unlink(name)  # noqa: PTH108
    try:
        with full_disk_refused(Path(folder)), os.fdopen(os.dup(file), "wb") as unpacked:
            unpacked.write(head)
            shutil.copyfileobj(stream, unpacked, _PIECE)
    except BaseException:
        os.close(file)
        raise
    return NpyReader(path, file)


def _data_offset(file: int, member: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind its local header, whose name and extra field have lengths of their own."""
    local = os.pread(file, 30, member.header_offset)
    return member.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
