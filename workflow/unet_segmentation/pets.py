"""The Oxford-IIIT Pet data from a folder that is there: O. Parkhi et al., https://www.robots.ox.ac.uk/~vgg/data/pets/.

images.tar.gz and annotations.tar.gz, unpacked: images/NAME.jpg, annotations/trimaps/NAME.png, and lists of names in
annotations/trainval.txt and test.txt.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from landscaper_hpc.errors import InputError

PARTS = ("trainval", "test")


def check(folder: Path, most: int) -> None:
    """Whether the first pictures of both lists are there with their trimaps. `InputError` where not."""
    for part in PARTS:
        for name in names(folder, part, most):
            for file in files(folder, name):
                if not file.is_file():
                    raise InputError(
                        f"data: {file} does not exist, which annotations/{part}.txt lists; unpack images.tar.gz and "
                        "annotations.tar.gz once more"
                    )
        pictures(folder, part, 1, 8)


def names(folder: Path, part: str, most: int) -> list[str]:
    """The first of a list of the data set."""
    listed = folder / "annotations" / f"{part}.txt"
    if not listed.is_file():
        raise InputError(
            f"data: {listed} does not exist; give the folder that images.tar.gz and annotations.tar.gz of "
            "https://www.robots.ox.ac.uk/~vgg/data/pets/ were unpacked in. Nothing is downloaded here"
        )
    lines = listed.read_text(encoding="utf-8").splitlines()
    found = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")][:most]
    if not found:
        raise InputError(f"data: {listed} lists no pictures")
    return found


def files(folder: Path, name: str) -> tuple[Path, Path]:
    """A picture and its trimap."""
    return folder / "images" / f"{name}.jpg", folder / "annotations" / "trimaps" / f"{name}.png"


def pictures(folder: Path, part: str, most: int, side: int) -> tuple[Tensor, Tensor]:
    """The first pictures of a list (n, 3, side, side) from 0 to 1, and for each pixel pet, background or edge: 0, 1, 2,
    (n, side, side)."""
    seen, told = [], []
    for name in names(folder, part, most):
        picture, trimap = files(folder, name)
        seen.append(np.asarray(_opened(picture).convert("RGB").resize((side, side)), np.float32) / 255)
        labels = np.asarray(_opened(trimap).convert("L").resize((side, side), Image.Resampling.NEAREST), np.int64)
        if labels.min() < 1 or labels.max() > 3:
            raise InputError(f"data: {trimap} has values from {labels.min()} to {labels.max()}; a trimap's are 1, 2, 3")
        told.append(labels - 1)
    return torch.from_numpy(np.stack(seen).transpose(0, 3, 1, 2).copy()), torch.from_numpy(np.stack(told))


def _opened(file: Path) -> Image.Image:
    try:
        return Image.open(file)
    except (FileNotFoundError, UnidentifiedImageError) as error:
        raise InputError(f"data: {file} is not there, or no picture ({error})") from error
