"""Started by `up --owner PID`: takes the cluster down when that process has ended, even by kill -9."""

import sys
from pathlib import Path

from cluster import keep

keep(Path(sys.argv[1]), int(sys.argv[2]))
