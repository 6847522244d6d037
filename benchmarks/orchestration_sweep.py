"""What a sweep of many studies costs besides evaluating: status, finding what is missing, opening it again.

    python benchmarks/orchestration_sweep.py --studies 1000 --shards 1000 --folder /tmp/made_up_sweep

Makes the tree of a sweep with hand-written metadata and empty `done` entries (half of each study's shards; every fourth
study finished), which is what listings see; no loss is evaluated and none is read. Prints one line for each size.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

SIDE = 10  # points of a shard


def make(folder: Path, studies: int, shards: int) -> Path:
    """A sweep of `studies` studies with `shards` shards each; returns the study file."""
    from landscaper_hpc.executors.local import SerialMapper
    from landscaper_hpc.progress import Bars
    from landscaper_hpc.study.site import Site
    from landscaper_hpc.study.sweep_file import SweepConfig
    from landscaper_hpc.work.campaign import Plan
    from landscaper_hpc.work.preparation import prepare_all
    from landscaper_hpc.work.sweep import Studies, Sweep

    folder.mkdir(parents=True)
    (folder / "task.py").write_text(
        "import torch\nfrom landscaper_hpc import Task\n\n\ndef task():\n"
        "    model = torch.nn.Linear(1, 1).double()\n"
        "    return Task(model=model, loss=lambda m, d: m(d).square(), data=torch.ones(1, 1).double())\n"
    )
    torch.save(torch.nn.Linear(1, 1).double().state_dict(), folder / "model.pt")
    count = shards + 1 - shards % 2
    (folder / "study.yaml").write_text(
        "name: made_up\ntask: task.py\ncheckpoints: [{name: model, file: model.pt}]\nbatch: 1\n"
        f"directions: {{kind: random, n: 2}}\ngrid: {{axes: [{{count: {count}}}, {{count: {SIDE + 1}}}]}}\n"
    )
    values = ",".join(map(str, range(studies)))
    config = SweepConfig.load(folder / "study.yaml", [f"directions.seed={values}"])
    site = Site(executor="serial", shard_points=SIDE + 1)
    Sweep.open(config, site, folder / "sweep")
    made = Studies(config, site, folder / "sweep").studies
    first = Plan.of(made[0], site, folder / "sweep/studies" / made[0].name)
    with Bars() as bars:
        prepare_all(first.landscapes, SerialMapper(), bars)
    pattern = first.folder / "study.zarr"
    names = [".".join(["c", *map(str, i), "0"]) for i in itertools.product(range(count), range(1))]
    for number, study in enumerate(made):
        own = folder / "sweep/studies" / study.name
        if number:
            shutil.copytree(pattern, own / "study.zarr")  # no shard is done yet
        done = own / "study.zarr/model/done/sha256"
        finished = number % 4 == 3
        for name in names if finished else names[: len(names) // 2]:
            os.mknod(done / name)  # one call of the system each: there may be a million
        if finished:
            (own / "report.html").touch()
            (own / "results.json").write_text("{}")
    return folder / "study.yaml"


def measure(folder: Path) -> dict[tuple[str, str], float]:
    """Seconds and peak memory of each, in a process of its own."""
    script = r"""
import json, re, sys, time
from pathlib import Path
folder = Path(sys.argv[1]) / "sweep"
start = time.perf_counter()
{body}
seconds = time.perf_counter() - start
processor = time.process_time()
# not ru_maxrss, which begins with that of the process that started this one
peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps([processor, seconds, peak]))
"""
    bodies = {
        "status": "from landscaper_hpc.status import status\nstatus(folder)",
        "missing": """
from landscaper_hpc.work.campaign import Plan
from landscaper_hpc.work.deal import Pool
from landscaper_hpc.study.schema import read_yaml
from landscaper_hpc.study.site import Site
from landscaper_hpc.study.study import Study
from landscaper_hpc.store.sweep_record import read_sweep
file = folder.parent / "study.yaml"
data = read_yaml(file)
plans = [
    Plan.of(Study.of(data, file, entry.overrides), Site(executor="serial"), folder / "studies" / entry.name)
    for entry in read_sweep(folder).entries
]
pool = Pool([plan for plan in plans if not plan.finished()], True, lambda done, total: None)
for _ in pool.missing():
    pass
""",
    }
    found = {}
    for name, body in bodies.items():
        best = min(
            json.loads(subprocess.run([sys.executable, "-c", script.replace("{body}", body), str(folder)],
                                      capture_output=True, check=True, text=True).stdout.splitlines()[-1])
            for _ in range(3)
        )  # fmt: skip
        found[name, "CPU s"], found[name, "s"], found[name, "MB"] = best
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    load = Path("/proc/loadavg").read_text().split()[0]
    print(f"{given.shards} shards each; load {load}; best of 3; with imports, CPU seconds also with Python's start")
    for studies in given.studies:
        shutil.rmtree(given.folder, ignore_errors=True)
        start = time.perf_counter()
        make(given.folder, studies, given.shards)
        made = time.perf_counter() - start
        found = measure(given.folder)
        texts = (f"{name} {value:.2f} {unit}" for (name, unit), value in found.items())
        print(f"{studies:>6} studies:", ", ".join(texts), f"(made in {made:.0f} s)", flush=True)
    shutil.rmtree(given.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
