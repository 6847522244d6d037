"""Persistence as GUDHI reads it (`read_persistence_intervals_in_dimension`): lines of dimension, birth, death."""

from __future__ import annotations

from landscaper_hpc.exchange.diagrams import diagram
from landscaper_hpc.exchange.subject import Subject


def write(subject: Subject) -> dict[str, bytes]:
    """One file; what never dies dies at inf."""
    return {".pers": "".join(f"0 {birth!r} {death!r}\n" for birth, death in diagram(subject.tree).tolist()).encode()}
