"""One injection: a fault happens to a study, which must come through it with the right bytes."""

from __future__ import annotations

import random
import shutil
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from tests.slurm.cluster import SlurmCluster
from tests.slurm.faults.faults import FAULTS
from tests.slurm.faults.scene import Missed, Scene, Undisturbed

_TRIES = 6  # at a random moment a study may be over already


@dataclass
class Outcome:
    recovered: bool
    bytes_equal: bool
    seconds: float


def inject(cluster: SlurmCluster, undisturbed: Undisturbed, name: str, seed: int, folder: Path) -> Outcome:
    """Let a fault happen once. What it left is in `folder` where the outcome is not good."""
    generator = random.Random(seed)
    for attempt in range(_TRIES):
        cluster.restore()
        scene = Scene(cluster, undisturbed, folder / f"{name}.{seed}.{attempt}", generator)
        scene.folder.mkdir()
        begin = time.monotonic()
        recovered = False
        try:
            FAULTS[name](scene)
            recovered = True
        except Missed:
            continue
        except Exception:
            traceback.print_exc()
        finally:
            scene.close()
            cluster.restore()  # orphans end here: what they might still write counts
        outcome = Outcome(recovered, scene.bytes_equal(), time.monotonic() - begin)
        if recovered and outcome.bytes_equal:
            shutil.rmtree(scene.folder)
        else:
            print(f"{name}, seed {seed}: see {scene.folder}\n{scene.words()}", file=sys.stderr, flush=True)
        return outcome
    raise AssertionError(f"{name}, seed {seed}: the study was over {_TRIES} times before the fault")
