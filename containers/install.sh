#!/bin/sh
# Installs landscaper-hpc and all it needs into an image of Debian 12. Both recipes run it, as root, while they build:
#
#   install.sh cuda     torch as PyPI has it, with its CUDA libraries; the driver comes from the host (--nv, --gpu)
#   install.sh cpu      a CPU build of torch, where pip is set up to find one
#   install.sh cpu URL  the same, from one more index
#
# Versions come from constraints.txt and from nowhere else.
set -eu

prefix=/opt/landscaper-hpc
source=$prefix/source
pinned() { sed -n "s/^$1==//p" "$source/constraints.txt"; }

case ${1:-} in
cuda) torch="torch===$(pinned torch)" ;; # ===: not the +cpu build, even where pip finds that as well
cpu) torch="torch===$(pinned torch)+cpu" ;;
*)
    echo "install.sh: say cuda or cpu; found '${1:-}'" >&2
    exit 2
    ;;
esac
if [ "${2:-none}" != none ]; then export PIP_EXTRA_INDEX_URL="$2"; fi

export DEBIAN_FRONTEND=noninteractive
apt-get update
# verbs: with them, the image's own MPICH uses InfiniBand where a cluster has it
apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv ibverbs-providers libibverbs1 librdmacm1
rm -rf /var/lib/apt/lists/*

python3 -m venv "$prefix"
pip() { "$prefix/bin/pip" --no-cache-dir --disable-pip-version-check "$@"; }
pip install --constraint "$source/constraints.txt" "$torch" "${source}[mpi,slurm,dask]"

# MPICH lives outside the virtual environment, where mpi4py would load it by its path. Here the loader looks it up by its
# name, libmpi.so.12: in LD_LIBRARY_PATH first, so that a site can put its own library of the same ABI before it.
pip install --prefix "$prefix/mpich" "mpich==$(pinned mpich)"
rm "$prefix"/mpich/lib/libmpi.so "$prefix"/mpich/lib/libmpi_abi.so* # names that a site's library may lack
echo "$prefix/mpich/lib" >/etc/ld.so.conf.d/zz-landscaper-hpc.conf  # zz: after what a site adds there
ldconfig

rm -rf "$source/build" "$source"/*.egg-info
chmod -R a+rX "$prefix" # for every user, and written by none: programs keep their caches elsewhere
