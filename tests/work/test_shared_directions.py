"""Directions that studies share: what their file holds is proved before a study begins with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from studies import wells

from landscaper_hpc import InputError, Site, Study
from landscaper_hpc.progress import silent
from landscaper_hpc.work.shared_directions import SharedDirections


def test_a_file_that_was_altered_is_refused(tmp_path: Path) -> None:
    asked = ["directions={kind: random, n: 2, normalization: unit}"]
    study = Study.load(wells(tmp_path / "study", count=5), asked)

    def shared(name: str) -> SharedDirections:
        return SharedDirections.of(study, tmp_path / name, Site(), None)

    made, again = shared("a.safetensors"), shared("b.safetensors")
    for each in made, again:
        each.make(each.landscape, silent)
        each.refuse_other()
    content = made.file.read_bytes()
    assert again.file.read_bytes() == content
    for place in (-1, -len(load_file(made.file)["x"]) * 8, content.index(b'"x"') + 1):
        altered = bytearray(content)
        altered[place] ^= 1
        made.file.write_bytes(altered)
        with pytest.raises(InputError, match=r"a\.safetensors: was altered .*; remove it, it is made again"):
            made.refuse_other()
    save_file(load_file(again.file), made.file, {"science": made.science()})  # as an earlier version wrote it
    made.refuse_other()
