"""Files of `torch.save`: a state dict, bare or inside what a training program saves (Lightning's `.ckpt` too)."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscaper_hpc.errors import InputError, list_some

_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
READABLE = ", ".join(_SUFFIXES)


def recognises(path: Path) -> bool:
    return path.suffix in _SUFFIXES and not path.is_dir()


def files(path: Path) -> list[Path]:
    return [path]


def read(path: Path) -> Mapping[str, Any]:
    # mapped into memory, so that an optimiser's tensors are not read
    archive = zipfile.is_zipfile(path)
    if archive and _is_torchscript(path):
        raise InputError(
            f"checkpoint {path} is a TorchScript program, and loading one could execute code; save its weights with "
            "torch.save(torch.jit.load(...).state_dict(), ...)"
        )
    if archive:
        refuse_damaged(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols of other programs: what loads, loads
            content = loaded(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()
        unsafe = next((line.strip() for line in reason if "Unsupported" in line or "GLOBAL" in line), reason[0])
        if "Uninitialized" in unsafe:
            raise InputError(
                f"checkpoint {path} holds no weights but lazy parameters, whose shapes the first batch decides; give "
                "the model a batch before its state dict is saved"
            ) from error
        unsafe = unsafe.partition(" Please use ")[0].partition(" was not an allowed global")[0]
        raise InputError(
            f"checkpoint {path} is corrupt or holds more than tensors, and loading that could execute code "
            f"({unsafe.rstrip('.')}); save the bare weights with torch.save(model.state_dict(), ...) or as .safetensors"
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(
            f"checkpoint {path} holds a {type(content).__name__}; expected a state dict of tensors by name"
        )
    return content


def loaded(path: Path, *, mmap: bool, **options: Any) -> Any:
    """`torch.load`, which maps only files whose names UTF-8 has: others are read whole."""
    import torch

    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as stream:
            return torch.load(stream, **options)
    return torch.load(path, mmap=mmap, **options)


def refuse_damaged(path: Path) -> None:
    """`InputError` for an archive that is not as torch made it: torch itself compares no checksum of what it maps.

    One that is compressed would have its bytes taken for values, and unpacked may be of any size.
    """
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
        packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        twice = [name for name, times in Counter(entry.filename for entry in entries).items() if times > 1]
        altered = [entry.filename for entry in entries if not packed and not twice and not _is_sound(file, entry)]
    if twice or altered:
        what = f"it holds {list_some(twice)} twice" if twice else f"{list_some(altered)} has another checksum (CRC-32)"
        raise InputError(f"checkpoint {path} was damaged after it was saved: {what}; copy or save it again")
    if packed:
        raise InputError(
            f"checkpoint {path} was compressed after it was saved ({packed[0]} in it is); unpack it and pack it again "
            "without compression (zip -0), or save it again with torch.save"
        )


def _is_sound(file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Whether an entry has the checksum that it was saved with; torch can be told to save none, which is 0."""
    if not entry.CRC:
        return True
    try:
        with file.open(entry) as stream:
            while stream.read(1 << 20):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as file:
        return any(name.endswith("/constants.pkl") for name in file.namelist())
