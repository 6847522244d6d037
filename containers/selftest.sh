#!/bin/sh
# The image's %test: versions, a tiny study alone and by two MPI ranks, and a merge tree by two ranks. Everything is
# written to a temporary folder that is removed; neither a home directory nor a writable image is needed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME=/nonexistent TMPDIR="$folder" OMP_NUM_THREADS=1
unset NUMBA_CACHE_DIR XDG_CACHE_HOME XDG_CONFIG_HOME # as bare as a job's environment can be
cd "$folder"

python - <<'PYTHON'
import platform
from importlib.metadata import version

import torch
from mpi4py import MPI

print("python", platform.python_version(), "torch", torch.__version__, "CUDA", torch.version.cuda)
print("mpi4py", version("mpi4py"), "with", MPI.Get_library_version().splitlines()[0])
PYTHON

landscaper-hpc init study
run() { "$@" --set grid.count=7 --set batch=8; }
run landscaper-hpc run study/study.yaml --out alone
run mpiexec -n 2 landscaper-hpc run study/study.yaml --executor mpi --out ranks
rm -rf alone/logs ranks/logs
diff -r alone ranks
mpiexec -n 2 landscaper-hpc topology alone --json >tree.json
python - <<'PYTHON'
import json

tree, study = json.load(open("tree.json")), json.load(open("alone/results.json"))
assert len(tree["ranks"]) == 2, "mpiexec started two ranks, but not one world"
found, wanted = tree["n_minima"], study["landscapes"][0]["topology"]["n_minima"]
assert found == wanted >= 1, f"{found} minima by two ranks, {wanted} by one"
PYTHON

if python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    run landscaper-hpc run study/study.yaml --device cuda --out gpu
    echo "a GPU was there and was used"
else
    echo "no GPU was there: only the CPU was used"
fi
echo "selftest passed"
