"""The merge tree of a grid that is larger than the memory it may take: 64^5 float32 in Zarr, 4.3 GB, with 2 GB.

    python benchmarks/out_of_core.py --folder /scratch      in a folder with room for the field
    python benchmarks/out_of_core.py --points 32 --max-memory 250MB

The peak of the process, as the system counts it, is compared with the limit and with what was planned; the values read
are counted by the cut, ghost layers included.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import zarr
from fields import ripples
from topology import RESULTS, processor

from landscaper_hpc.topology.blocks.boxes import Boxes

PROGRAM = "import sys; sys.argv[0] = 'landscaper-hpc'; from landscaper_hpc.cli import main; main()"


def write_field(path: Path, k: int) -> None:
    """The smooth field of `topology.py` in five dimensions, chunk by chunk."""
    along = [ripples(k, d, "f4") for d in range(5)]
    chunk = (min(8, k), min(16, k), k, k, k)
    array = zarr.create_array(
        path, shape=(k,) * 5, chunks=chunk, dtype="f4", compressors=None, config={"write_empty_chunks": True}
    )
    inner = sum(along[d].reshape([k if axis == d else 1 for axis in range(5)]) for d in (2, 3, 4))
    for i, j in itertools.product(range(0, k, chunk[0]), range(0, k, chunk[1])):
        a, b = along[0][i : i + chunk[0]], along[1][j : j + chunk[1]]
        array[i : i + chunk[0], j : j + chunk[1]] = inner + a[:, None, None, None, None] + b[:, None, None, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=64, help="per axis, in five dimensions")
    parser.add_argument("--max-memory", default="2GB")
    parser.add_argument("--folder", type=Path, help="where the field is written, for the time of the run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "field.zarr"
        write_field(path, options.points)
        command = ["topology", str(path), "--max-memory", options.max_memory, "--json"]
        done = subprocess.run([sys.executable, "-c", PROGRAM, *command], check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    boxes = Boxes(tuple(found["shape"]), tuple(found["block_shape"]))
    read = sum(math.prod(s.stop - s.start for s in boxes.ghosted(b)) for b in range(boxes.size))
    row = {
        "shape": found["shape"],
        "max_memory": options.max_memory,
        **{name: found[name] for name in ("n_minima", "smad", "seconds", "peak_rss_mb", "planned_mb", "block_shape")},
        "blocks": boxes.size,
        "values_read": read / math.prod(boxes.shape),
        "phases": found["ranks"][0]["phases"],
        "field": "smooth, float32, Zarr without compression",
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "topology-out-of-core.json").write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
