"""`python -m tests.slurm.faults --times 5`: every fault, at random moments, many times; the table is RESULTS.md."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

from tests.slurm.cluster import ROOT, SlurmCluster
from tests.slurm.faults.faults import FAULTS
from tests.slurm.faults.inject import Outcome, inject
from tests.slurm.faults.scene import Undisturbed

RESULTS = ROOT / "tests/slurm/RESULTS.md"


def table(outcomes: dict[str, list[Outcome]], seed: int, version: str) -> str:
    rows = [
        f"| {FAULTS[name].__doc__} | {len(found)} | {sum(o.recovered for o in found)} "
        f"| {sum(o.bytes_equal for o in found)} | {sorted(o.seconds for o in found)[len(found) // 2]:.0f} s |"
        for name in FAULTS
        if (found := outcomes[name])
    ]
    total = [o for found in outcomes.values() for o in found]
    return f"""# Faults on the test cluster

Made by `python -m tests.slurm.faults` on {date.today().isoformat()} with {version}; seed {seed}. Not edited by hand.

Each fault happened at a random moment, chosen by the number of finished shards, to a study of two landscapes with
54 shards. Recovered: the study came to its end with the same command again, or by itself. Bytes equal: what it left
(store, results, report) is byte for byte that of an undisturbed serial run. Time: the median, start and end included.

| fault | times injected | recovered | bytes equal | time |
|---|---|---|---|---|
{chr(10).join(rows)}
| all | {len(total)} | {sum(o.recovered for o in total)} | {sum(o.bytes_equal for o in total)} | |
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.slurm.faults", description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="how often each fault happens (default: 5)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of all moments")
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS), help="these faults only")
    parser.add_argument("--clusters", type=int, default=1, help="how many clusters work side by side (default: 1)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the table goes")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="faults."))
    undisturbed = Undisturbed.make(folder / "undisturbed")
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    generator = random.Random(options.seed)
    todo: SimpleQueue[tuple[str, int]] = SimpleQueue()
    for _ in range(options.times):
        for name in options.only:
            todo.put((name, generator.randrange(10**6)))
    lock = Lock()
    version = ""

    def work(number: int) -> None:
        nonlocal version
        cluster = SlurmCluster(
            Path(f"/tmp/landscaper-hpc-testbed-{os.getpid()}-{number}")
        )  # MUNGE wants it open to all
        try:
            cluster.up()
            version = cluster.run("sinfo", "--version").stdout.strip()
            while not todo.empty():
                name, seed = todo.get()
                outcome = inject(cluster, undisturbed, name, seed, folder)
                with lock:
                    print(f"{name}, seed {seed}: {outcome}", flush=True)
                    outcomes[name].append(outcome)
                    options.results.write_text(table(outcomes, options.seed, version))
        finally:
            cluster.down()

    SlurmCluster(folder).install()
    with ThreadPoolExecutor(options.clusters) as pool:
        for future in [pool.submit(work, number) for number in range(options.clusters)]:
            future.result()
    good = all(o.recovered and o.bytes_equal for found in outcomes.values() for o in found)
    if good:
        shutil.rmtree(folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
