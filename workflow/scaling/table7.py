"""The three times of the paper's Table 7, of a study of yours: python workflow/scaling/table7.py STUDY --device cuda

Leaves them in workflow/scaling/table7.json with what the device is; `python workflow/run.py scaling` then tells them
beside the paper's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer

sys.path.insert(0, str(Path(__file__).parent))

from timing import of_stages

from landscaper_hpc.exit_codes import guarded
from landscaper_hpc.objective.device import usable_device

HERE = Path(__file__).parent


def measure(
    study: Annotated[Path, typer.Argument(help="with the paper's network and data")] = HERE / "study.yaml",
    device: Annotated[str, typer.Option(help="cuda, or cuda:<number>; cpu for a trial")] = "cuda",
    runs: Annotated[int, typer.Option(help="how many times each")] = 5,
    out: Annotated[Path, typer.Option(help="where the times are left")] = HERE / "table7.json",
) -> None:
    """Time the eigenvectors, the points in two and those in three directions."""
    used = usable_device(device)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(of_stages(Path(folder), study, device, runs))
    name = torch.cuda.get_device_name(used) if used.type == "cuda" else "cpu"
    out.write_text(json.dumps({"study": study.stem, "device": name, "rows": rows}, indent=1) + "\n")
    print(f"times: {out}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(guarded(measure))
    app()
