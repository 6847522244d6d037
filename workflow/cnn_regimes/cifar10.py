"""CIFAR-10 from a folder that is there: A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html.

Its binary version (data_batch_1.bin, …) or its Python version (data_batch_1, …). The same file lies beside every study
that reads these data, as a study is a folder of its own.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscaper_hpc.errors import InputError

TRAINING, TEST = tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",)
ROW, SIDE = 3 * 32 * 32, 32
_PLAIN = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}


def check(folder: Path) -> None:
    """Whether all of it is there. `InputError` where not."""
    for name in TRAINING + TEST:
        _raw(folder, name)


def images(folder: str | Path, names: tuple[str, ...] = TRAINING, most: int | None = None) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 32, 32) from −1 to 1, float32, and labels (n,), at most so many."""
    pixels, labels = zip(*(_raw(Path(folder), name) for name in names), strict=True)
    seen = torch.from_numpy(np.concatenate(pixels)[:most].reshape(-1, 3, SIDE, SIDE)).float() / 127.5 - 1
    return seen, torch.from_numpy(np.concatenate(labels)[:most].astype(np.int64))


def _raw(folder: Path, name: str) -> tuple[Any, Any]:
    """Pixels (n, 3072) and labels (n,) of one file, bytes."""
    places = [folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"]
    found = [place / each for place in places for each in (f"{name}.bin", name) if (place / each).is_file()]
    if not found:
        raise InputError(
            f"data: {folder} has neither {name}.bin nor {name}; give the folder in which CIFAR-10's binary version or "
            "its Python version was unpacked, from https://www.cs.toronto.edu/~kriz/cifar.html. Nothing is downloaded "
            "here"
        )
    file = found[0]
    content = file.read_bytes()
    if file.suffix == ".bin":
        if not content or len(content) % (1 + ROW):
            raise InputError(
                f"data: {file} has {len(content):,} bytes, which are no images of {1 + ROW:,}: it is incomplete, or "
                "not of CIFAR-10"
            )
        rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + ROW)
        pixels, labels = rows[:, 1:], rows[:, 0]
    else:
        pixels, labels = _unpickled(content, file)
    if labels.min() < 0 or labels.max() > 9:
        raise InputError(f"data: {file} has labels up to {labels.max()}, and CIFAR-10 those from 0 to 9")
    return pixels, labels


def _unpickled(content: bytes, file: Path) -> tuple[Any, Any]:
    import io

    try:
        found = _Arrays(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = np.asarray(found[b"data"], np.uint8).reshape(-1, ROW), np.asarray(found[b"labels"], np.int64)
        if not 0 < len(labels) == len(pixels):
            raise ValueError(f"{len(pixels)} images and {len(labels)} labels")
    except Exception as error:  # whatever a broken pickle raises
        raise InputError(
            f"data: {file} is no batch of CIFAR-10's Python version ({type(error).__name__}: {error}); unpack "
            "cifar-10-python.tar.gz once more"
        ) from error
    return pixels, labels


class _Arrays(pickle.Unpickler):
    """Reads what such a file holds, lists, bytes and arrays, and runs nothing else that a pickle may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in _PLAIN:
            return _PLAIN[name]
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"asks for {module}.{name}")
