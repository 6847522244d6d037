"""Print the oldest version that pyproject.toml admits of every package that the product stands on, for pip.

Not of torch, whose builds for CPUs are not kept for long.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def main() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["mpi"], *extras["slurm"], *extras["dask"]]
    for name, version in sorted(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(wanted), re.MULTILINE)):
        if name != "torch":
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()
