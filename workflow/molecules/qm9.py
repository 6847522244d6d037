"""QM9 from a folder that is there: R. Ramakrishnan et al., Scientific Data 1 (2014), as torch-geometric and DeepChem
have it: gdb9.sdf, gdb9.sdf.csv and uncharacterized.txt, in the folder or in its folder raw.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from landscaper_hpc.errors import InputError

HARTREE, KCAL = 27.211386246, 0.043364106  # in eV
UNITS = {
    **dict.fromkeys(("mu", "alpha", "r2", "cv"), 1.0),
    **dict.fromkeys(("homo", "lumo", "gap", "zpve"), HARTREE),
    **dict.fromkeys(("u0_atom", "u298_atom", "h298_atom", "g298_atom"), KCAL),
}
"""The properties, and what makes eV of those that are energies, as all but the first four are."""
TRAINED, LOOKED_AT, BATCH = 110_000, 1_000, 100
STRUCTURES, TABLE, LEFT_OUT = "gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"
_NUMBERS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Atomic numbers (atoms,), places (atoms, 3) in Å, of which molecule each is (atoms,), the property (molecules,)."""


class Molecules(NamedTuple):
    """Batches, and what the property was shifted and scaled by: mean and standard deviation of those to train on."""

    batches: list[Batch]
    mean: float
    deviation: float


def check(folder: Path) -> None:
    """Whether the files are there, and are those. `InputError` where not."""
    of(folder, "gap", training=False)


def of(folder: Path, name: str, training: bool) -> Molecules:
    """Molecules in an order drawn once: the first 1,000 (of few, half of them) are looked at, the next 110,000 trained
    on. Property `name` has mean 0 and standard deviation 1 over the latter."""
    if name not in UNITS:
        raise InputError(f"options: potential {name!r}; of QM9 there are {', '.join(UNITS)}")
    inside = _inside(folder)
    values = _column(inside / TABLE, name)
    without = _left_out(inside)
    kept = [i for i in range(len(values)) if i + 1 not in without]
    order = [kept[i] for i in torch.randperm(len(kept), generator=torch.Generator().manual_seed(0)).tolist()]
    looked_at = min(LOOKED_AT, len(order) // 2)
    seen = order[looked_at : looked_at + TRAINED]
    wanted = UNITS[name] * torch.tensor(values, dtype=torch.float64)
    mean, deviation = float(wanted[seen].mean()), float(wanted[seen].std())
    chosen = seen if training else order[:looked_at]
    blocks = (inside / STRUCTURES).read_bytes().split(b"$$$$\n")[:-1]
    if len(blocks) != len(values):
        raise InputError(
            f"data: {inside / STRUCTURES} has {len(blocks):,} molecules and {TABLE} {len(values):,}; one of them is "
            "incomplete: unpack qm9.zip once more"
        )
    scaled = ((wanted - mean) / deviation).float()
    parts = [chosen[i : i + BATCH] for i in range(0, len(chosen), BATCH)]
    return Molecules([_batch([blocks[i] for i in part], scaled[part]) for part in parts], mean, deviation)


def _inside(folder: Path) -> Path:
    for place in (folder, folder / "raw"):
        if (place / STRUCTURES).is_file():
            break
    else:
        raise InputError(
            f"data: {folder} has no {STRUCTURES}, nor has its folder raw; give the folder in which qm9.zip of DeepChem "
            "(deepchemdata.s3-us-west-1.amazonaws.com/datasets/molnet_publish/qm9.zip) was unpacked, with "
            f"{LEFT_OUT} (ndownloader.figshare.com/files/3195404) beside it. Nothing is downloaded here"
        )
    for name in (TABLE, LEFT_OUT):
        if not (place / name).is_file():
            raise InputError(f"data: {place} has {STRUCTURES} and no {name}, which belongs beside it")
    return place


def _column(table: Path, name: str) -> list[float]:
    with table.open(newline="") as file:
        rows = csv.DictReader(file)
        if name not in (rows.fieldnames or ()):
            raise InputError(f"data: {table} has no column {name}; it is not the table of QM9")
        try:
            return [float(row[name]) for row in rows]
        except (TypeError, ValueError) as error:
            raise InputError(f"data: {table}, line {rows.line_num}: {name} is no number ({error})") from error


def _left_out(inside: Path) -> set[int]:
    """Molecules, counted from 1, whose structure is not what it was meant to be: the lines that begin with a number."""
    lines = (inside / LEFT_OUT).read_text(encoding="utf-8", errors="replace").splitlines()
    return {int(line.split()[0]) for line in lines if line.split() and line.split()[0].isdigit()}


def _batch(blocks: Sequence[bytes], wanted: Tensor) -> Batch:
    numbers, places, which = [], [], []
    for i, block in enumerate(blocks):
        lines = block.decode().splitlines()
        try:
            atoms = [line.split()[:4] for line in lines[4 : 4 + int(lines[3][:3])]]
            numbers += [_NUMBERS[element] for *_, element in atoms]
            places += [[float(each) for each in where] for *where, _ in atoms]
        except (IndexError, KeyError, ValueError) as error:
            raise InputError(
                f"data: {STRUCTURES}: {lines[0] if lines else 'a molecule'} is no V2000 record of H, C, N, O and F "
                f"({type(error).__name__}: {error})"
            ) from error
        which += [i] * len(atoms)
    return torch.tensor(numbers), torch.tensor(places), torch.tensor(which), wanted
