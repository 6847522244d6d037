"""What `containers/check` does, step by step, and the page it leaves."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from building import (
    ROOT,
    Base,
    Buildah,
    Failed,
    Refused,
    by_charliecloud,
    command,
    dockerfile,
    environment,
    filled_in,
    install_programs,
    installed,
    parsed,
)

_NOBODY = "65534"
_TESTBED = ROOT / "slurm/testbed/testbed"
_TWO_NODES = ("srun", "-I20", "-N2", "-n2", "--mpi=pmi2")
_TCP = {"MPIR_CVAR_NOLOCAL": "1", "UCX_TLS": "tcp"}  # the test cluster's nodes share a kernel, but no memory
_SET = ("--set=grid.count=9", "--set=batch=8")
_WHO = """
import json
from landscaper_hpc.parallel.comm import world
ranks = world()  # which starts MPI, as every command does
from mpi4py import MPI
found = ranks.gather([ranks.size, MPI.Get_processor_name(), MPI.Get_library_version().split()[2]])
if ranks.rank == 0:
    print(json.dumps(found))
"""
_VERSIONS = """
import json, platform
from importlib.metadata import version
import torch
release = open("/etc/debian_version").read().strip()
print(json.dumps({"Debian": release, "Python": platform.python_version(), "torch": torch.__version__,
                  "mpi4py": version("mpi4py")}))
"""
_NOT_RUN = (
    "Apptainer itself was not run. The definition was read by spython instead, and built and run by Charliecloud.",
    "podman-hpc and Shifter were not run. The Containerfile was built by buildah, which is what `podman build` runs.",
    "The build with CUDA was not made, and nothing ran on a GPU: `torch=cpu` was built.",
    "No Cray MPICH was there. The swap was done with another library of the MPICH ABI, Debian's MPICH.",
)


class Check:
    """The steps share the work folder `work`; `rows` is what the page's table is made from."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.rows: list[tuple[str, str, float]] = []
        self.versions: dict[str, str] = {}
        self._base = Base(work)
        self._buildah = Buildah(work)
        self._text = filled_in(torch="cpu")
        self._cluster = [sys.executable, str(_TESTBED), f"--state={work / 'cluster'}"]

    def run(self) -> None:
        for what, step in (
            ("a bare Debian by debootstrap, in the base image's place", self.make_base),
            ("`landscaper-hpc.def` by spython and Charliecloud, torch=cpu", self.build_definition),
            ("`Containerfile` by buildah, torch=cpu", self.build_containerfile),
            ("%test, as a user who is not root, without HOME, the image read-only", self.test),
            ("%runscript", self.runscript),
            ("a study outside of the image, one process", self.study_outside),
            ("the study inside, on two nodes of the test cluster under srun", self.study_inside),
            ("the study inside, with another MPICH in the place of the image's", self.study_with_another_mpich),
        ):
            self._step(what, step)

    def clean(self) -> None:
        command(*self._cluster, "down", seconds=120)
        if (self.work / "buildah").exists():
            self._buildah.remove()
        if str(self.work) in (mounts := Path("/proc/mounts").read_text()):
            left = [line.split()[1] for line in mounts.splitlines() if str(self.work) in line]
            raise Failed(f"still mounted, so left where they are: {', '.join(left)}")
        command("rm", "-rf", "--one-file-system", self.work)

    # ---- the steps: each returns what was found ---------------------------------------------------------------------

    def make_base(self) -> str:
        self._base.make()
        return f"Debian {self._base.release}"

    def build_definition(self) -> str:
        recipe = dockerfile(self._text, self.work)
        self._image = by_charliecloud(self._base, recipe, self.work / "charliecloud")
        self.versions = json.loads(self._inside("python", "-c", _VERSIONS))
        return f"{_gigabytes(self._image)} GB"

    def build_containerfile(self) -> str:
        found, wanted = installed(self._buildah.build(self._base)), installed(self._image)
        if found != wanted:
            names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            raise Failed(f"the two recipes install different things: {', '.join(names[:10])}")
        configuration = self._buildah.configuration()
        recipe = parsed(self._text, self.work)
        made = dict(line.split("=", 1) for line in configuration["Env"])
        for line in recipe.environ:
            name, value = line.split("=", 1)
            if made.get(name, "").split(":")[:2] != value.split(":")[:2]:  # PATH goes on with the base's
                raise Failed(f"{name} is {made.get(name)!r} by the Containerfile, {value!r} by the definition")
        return f"the same {len(found)} files as from the definition"

    def test(self) -> str:
        user = [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        bare = ["env", "-i", "USER=nobody", f"PATH={os.defpath}"]
        test = parsed(self._text, self.work).test.split()
        said = command("setpriv", *user, *bare, "ch-run", "--set-env", self._image, "--", *test, cwd="/")
        if "selftest passed" not in said:
            raise Failed(f"%test ended well but did not say so:\n{said[-500:]}")
        self.versions["MPICH"] = re.findall(r"MPICH Version:\s*(\S+)", said)[0]
        return "passed"

    def runscript(self) -> str:
        script = parsed(self._text, self.work).cmd
        said = self._inside("/bin/sh", "-c", script, "runscript", "topology", "--help")
        if "Usage: landscaper-hpc topology" not in said:
            raise Failed(f"%runscript did not pass its arguments on:\n{said[-500:]}")
        return "passes its arguments on"

    def study_outside(self) -> str:
        program = (sys.executable, "-m", "landscaper_hpc.cli")
        run = ("run", "study/study.yaml", "--out=outside", "--executor=serial", *_SET)
        for arguments in ("init", "study"), run:
            command(*program, *arguments, env=environment(PYTHONPATH=str(ROOT)), cwd=self.work)
        return f"{len(_results(self.work / 'outside'))} files"

    def study_inside(self) -> str:
        command(*self._cluster, "up", "--nodes=2", f"--owner={os.getpid()}", seconds=240)
        return self._study("inside")

    def study_with_another_mpich(self) -> str:
        """Cray MPICH's case, played with Debian's: a folder with libmpi.so.12 and what that needs, found first."""
        library = self._debians_mpich()
        return self._study("swapped", f"--set-env=LD_LIBRARY_PATH={library}")

    # ---- how -------------------------------------------------------------------------------------------------------

    def _step(self, what: str, step: Callable[[], str]) -> None:
        print(f"{what} ...", end=" ", flush=True)
        start = time.monotonic()
        found = step()
        seconds = time.monotonic() - start
        print(f"{found}; {seconds:.0f} s")
        self.rows.append((what, found, seconds))

    def _inside(self, *argv: str) -> str:
        return command("ch-run", "--set-env", self._image, "--", *argv, cwd="/")

    def _study(self, name: str, *options: str) -> str:
        """Run the study by two ranks on two nodes and compare what it leaves with what the run outside left."""
        container = ["ch-run", "--set-env", *options, f"--cd={self.work}", str(self._image), "--"]
        launcher: list[str | Path] = [*self._cluster, "run", "--", *_TWO_NODES, *container]
        who = json.loads(command(*launcher, "python", "-c", _WHO, env=environment(**_TCP), seconds=300))
        (sizes, nodes, mpich) = map(set, zip(*who, strict=True))
        if sizes != {2} or len(nodes) != 2:
            raise Failed(f"two ranks on two nodes were wanted; found {who}")
        if bool(options) == (mpich == {self.versions["MPICH"]}):
            raise Failed(f"the wrong MPI library was loaded: {', '.join(mpich)}")
        run = ("landscaper-hpc", "run", "study/study.yaml", f"--out={name}", "--executor=mpi", *_SET)
        command(*launcher, *run, env=environment(**_TCP))
        return f"MPICH {mpich.pop()}; {self._compared(name)}"

    def _compared(self, name: str) -> str:
        ours, theirs = _results(self.work / "outside"), _results(self.work / name)
        outside, inside = (_python(files) for files in (ours, theirs))
        changed = {file: data.replace(outside, inside) for file, data in ours.items()}
        different = sorted(file for file in changed.keys() | theirs.keys() if changed.get(file) != theirs.get(file))
        if different:
            raise Failed(f"{name} and outside differ in {', '.join(different[:10])}")
        same = sum(ours[file] == theirs[file] for file in ours)
        rest = f", {len(ours) - same} but for the version of Python they record" if same < len(ours) else ""
        return f"{same} of {len(ours)} files equal byte for byte to those of the run outside{rest}"

    def _debians_mpich(self) -> Path:
        site = self.work / "site"
        command("cp", "--archive", self._base.folder, site)
        apt = "apt-get -qq update && apt-get -qq install --yes --no-install-recommends libmpich12"
        command("chroot", site, "sh", "-c", apt, env=environment(DEBIAN_FRONTEND="noninteractive"))
        (found,) = (site / "usr/lib").glob("*/libmpich.so.12")
        needed = command("chroot", site, "ldd", Path("/") / found.relative_to(site))
        (folder := self.work / "mpich").mkdir()
        shutil.copy(found, folder / "libmpi.so.12")
        for name, path in re.findall(r"^\s*(\S+) => (\S+)", needed, re.MULTILINE):
            if not name.startswith(("libc.", "libm.")):  # glibc is the image's own, always
                shutil.copy(site / path.lstrip("/"), folder / name)
        return folder

    # ---- the page --------------------------------------------------------------------------------------------------

    def page(self) -> str:
        commit = command("git", "describe", "--always", "--dirty").strip()
        packages = ("debootstrap", "charliecloud-builders", "buildah", "slurmctld")
        of_programs = {"spython": importlib.metadata.version("spython")} | {
            name: command("dpkg-query", "--show", "--showformat=${Version}", name) for name in packages
        }
        lines = [
            "# What the check of the container recipes found",
            "",
            f"Written by `containers/check` on {datetime.date.today()} at commit {commit}; not edited by hand.",
            "",
            "| step | found | seconds |",
            "|---|---|---:|",
            *(f"| {what} | {found} | {seconds:.0f} |" for what, found, seconds in self.rows),
            "",
            "In the image: " + ", ".join(f"{name} {version}" for name, version in self.versions.items()) + ".",
            "Made with: " + ", ".join(f"{name} {version}" for name, version in of_programs.items()) + ".",
            "",
            "Not run:",
            "",
            *(f"- {line}" for line in _NOT_RUN),
        ]
        return "\n".join(lines) + "\n"


def _results(folder: Path) -> dict[str, bytes]:
    """What a study leaves, by file: everything but logs, failures and the lock."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(k): v.read_bytes() for k, v in files.items() if k.parts[0] not in ("logs", "failed", ".lock")}


def _python(files: dict[str, bytes]) -> bytes:
    return str(json.loads(files["results.json"])["provenance"]["versions"]["python"]).encode()


def _gigabytes(folder: Path) -> str:
    return f"{int(command('du', '-sk', folder).split()[0]) / 1e6:.1f}"


def _refuse_where_impossible() -> None:
    if os.getuid() != 0:
        raise Refused("root is needed: debootstrap makes a Debian, and the test cluster needs networks of its own")
    missing = [name for name in ("landscaper_hpc", "spython") if importlib.util.find_spec(name) is None]
    if missing:
        raise Refused(
            f"{sys.executable} has no {' and no '.join(missing)}; use the project's: .venv/bin/python containers/check"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when everything held, 2 when it cannot be done here, 1 when a step failed, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="containers/check",
        description="Builds the image from both recipes with Debian's tools, runs its %%test, and a study inside it on "
        "two nodes of the test cluster; the results must be those of a run outside, byte for byte. Needs root on "
        "Debian 12, 12 GB in /tmp, and about 10 minutes. Removes what it made.",
    )
    default = Path(__file__).with_name("RESULTS.md")
    parser.add_argument("--page", type=Path, default=default, help="the page to write (default: containers/RESULTS.md)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        _refuse_where_impossible()
        install_programs()
        command(sys.executable, _TESTBED, "install", seconds=900)
        work = Path(tempfile.mkdtemp(prefix="landscaper-hpc-containers-", dir="/tmp"))  # ch-run binds /tmp
        work.chmod(0o755)  # the user of %test must come through
        check = Check(work)
        try:
            check.run()
            page = check.page()
        finally:
            check.clean()
        options.page.write_text(page)
    except Refused as error:
        print(f"containers/check: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"\ncontainers/check: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for line in _NOT_RUN:
        print(line)
    print(f"everything held; written down in {options.page}")
    return 0
