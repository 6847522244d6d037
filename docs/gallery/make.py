"""Make the pictures of the gallery from a finished study: python docs/gallery/make.py runs/pinn_convection beta_30"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from landscaper_hpc.exchange import export

HERE = Path(__file__).parent


def main(study: str, landscape: str) -> None:
    """Write every picture that docs/gallery.md shows beside this file, from what is stored in the study."""
    shown = set(re.findall(r"\]\(gallery/(\w[\w-]*)\.png\)", (HERE.parent / "gallery.md").read_text()))
    files = {file.name: file for file in export(study, ["figures"], landscape, Path(study) / "exports")}
    for name in sorted(shown):
        content = files[f"{landscape}.{name}.png"].read_bytes()
        (HERE / f"{name}.png").write_bytes(content)
        print(HERE / f"{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
