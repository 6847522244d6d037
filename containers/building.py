"""The two recipes, built with what Debian has: the definition by spython and Charliecloud, Containerfile by buildah."""

from __future__ import annotations

import ast
import configparser
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DEFINITION = HERE / "landscaper-hpc.def"
CONTAINERFILE = HERE / "Containerfile"
PREFIX = "opt/landscaper-hpc"
PROGRAMS = {
    "debootstrap": "debootstrap",
    "ch-image": "charliecloud-builders",
    "ch-run": "charliecloud-runtime",
    "buildah": "buildah",
    "setpriv": "util-linux",
}
_CH_IMAGE = ["/usr/bin/python3", "/usr/bin/ch-image"]  # Debian's, whose modules another python3 does not see
_OF_PIP = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "proxy", "timeout")
_OF_APT = ("Acquire::http", "Acquire::https", "Acquire::Check")


class Refused(Exception):
    """It cannot be done on this machine; nothing was changed. The message says why and what to do."""


class Failed(Exception):
    """A step did not give what it should."""


def environment(**more: str) -> dict[str, str]:
    """This process's, without what leads Python and the loader astray inside of a container."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LD_"))} | {"USER": "root"} | more


def command(*argv: str | Path, seconds: float = 1800, **options: Any) -> str:
    """The command's standard output; `Failed` with the end of what it said if it fails."""
    words = list(map(str, argv))
    settings: dict[str, Any] = {"env": environment(), "cwd": ROOT} | options
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False, **settings)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(words)[:200]}\ntook longer than {seconds:.0f} s") from None
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise Failed(f"{' '.join(words)[:200]}\n{said}\nexit code {done.returncode}")
    return str(done.stdout)


# ---- the definition -------------------------------------------------------------------------------------------------


def filled_in(**arguments: str) -> str:
    """The definition with every `{{ name }}` filled in from `arguments` and %arguments, as Apptainer does it."""
    text = DEFINITION.read_text()
    section = re.search(r"^%arguments\n(.*?)^%", text, re.MULTILINE | re.DOTALL)
    defaults = dict(re.findall(r"^ *(\w+)=(\S+)$", section[1], re.MULTILINE)) if section else {}
    if unknown := arguments.keys() - defaults.keys():
        raise Failed(f"{DEFINITION.name}: no such argument: {', '.join(unknown)}")
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: (defaults | arguments)[found[1]], text)


def parsed(text: str, folder: Path) -> Any:
    """The definition as spython reads it: `files`, `environ`, `labels`, `install`, `test`, `cmd`."""
    (recipe,) = _parse(text, folder).recipe.values()
    return recipe


def dockerfile(text: str, folder: Path) -> Path:
    """What spython makes of the definition. Charliecloud knows no ADD; for files and folders it is what COPY is."""
    from spython.main.parse.writers import DockerWriter

    made = DockerWriter(_parse(text, folder).recipe).convert()
    (result := folder / "Dockerfile").write_text(re.sub("^ADD ", "COPY ", made, flags=re.MULTILINE) + "\n")
    return result


def _parse(text: str, folder: Path) -> Any:
    from spython.main.parse.parsers import SingularityParser

    (file := folder / DEFINITION.name).write_text(text)
    return SingularityParser(str(file))


# ---- the machine's ways to packages ----------------------------------------------------------------------------------


class Base:
    """A bare Debian from apt's own source, in the base image's place, with this machine's apt and pip configuration."""

    def __init__(self, work: Path) -> None:
        match = re.search(r"^From: (debian:(\w+)-slim)$", DEFINITION.read_text(), re.MULTILINE)
        if match is None:
            raise Failed(f"{DEFINITION.name}: 'From: debian:<release>-slim' not found")
        self.image, self.release = match.groups()
        self.folder = work / "base"
        self._pip = work / "pip"
        self._binds: list[tuple[Path, Path]] = [(self._pip, Path("/mnt/pip"))]

    def make(self) -> None:
        sites = command(
            "apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", f"Codename: {self.release}"
        ).split()
        if not sites:
            raise Refused(f"apt has no source of Debian's {self.release}, which the image is made from")
        command("debootstrap", "--variant=minbase", self.release, self.folder, sites[0])
        for device in (self.folder / "dev").iterdir():
            shutil.rmtree(device) if device.is_dir() and not device.is_symlink() else device.unlink()
        lines = command("apt-config", "dump").splitlines()
        of_apt = ['APT::Sandbox::User "root";', *(line for line in lines if line.startswith(_OF_APT))]
        (self.folder / "etc/apt/apt.conf.d/zz-check").write_text("\n".join(of_apt) + "\n")
        self.write_pip()

    def binds(self, option: str, suffix: str = "") -> list[str]:
        """`option` with what pip reads on this machine, for a command line."""
        return [word for here, there in self._binds for word in (option, f"{here}:{there}{suffix}")]

    def write_pip(self) -> None:
        """What pip is told on this machine, put down so that it holds inside as well."""
        self._pip.mkdir()
        config = configparser.ConfigParser(interpolation=None)
        config["global"] = {}
        for line in sorted(command(sys.executable, "-m", "pip", "config", "list", env=None).splitlines(), reverse=True):
            key, value = line.split("=", 1)  # the environment's, ":env:.key", come last and win
            section, _, name = key.partition(".")
            if section in ("global", ":env:", "install") and name in _OF_PIP:
                words = ast.literal_eval(value).split()
                config["global"][name] = "\n".join(map(self._reachable, words))
        with (self.folder / "etc/pip.conf").open("w") as file:
            config.write(file)
        for _, there in self._binds:
            (self.folder / there.relative_to("/")).mkdir(parents=True, exist_ok=True)

    def _reachable(self, word: str) -> str:
        """A word of pip's configuration that holds inside as well: what it names on this machine is bound or copied."""
        path = Path(word.removeprefix("file://"))
        if word.startswith("file://"):
            self._bind(path.parent)  # an index's links may lead beside it
        elif path.is_absolute() and path.is_dir():
            self._bind(path)
        elif path.is_absolute() and path.is_file():
            shutil.copy(path, self._pip)
            return f"/mnt/pip/{path.name}"
        return word

    def _bind(self, folder: Path) -> None:
        if (folder, folder) not in self._binds:
            self._binds.append((folder, folder))


# ---- building -------------------------------------------------------------------------------------------------------


def by_charliecloud(base: Base, recipe: Path, storage: Path) -> Path:
    """The image's folder."""
    image = [*_CH_IMAGE, "--storage", str(storage), "--no-cache"]
    command(*image, "import", base.folder, base.image)
    command(*image, "build", "--tag=landscaper-hpc", "--file", recipe, *base.binds("--bind"), ROOT)
    return storage / "img/landscaper-hpc"


class Buildah:
    """Containerfile built as `podman build` does it, which is buildah itself."""

    def __init__(self, work: Path) -> None:
        self._buildah = ["buildah", f"--root={work / 'buildah'}", f"--runroot={work / 'buildah.run'}"]

    def build(self, base: Base) -> Path:
        """The image's folder, mounted."""
        bare = self._do("from", "scratch").strip()
        self._do("add", "--quiet", bare, base.folder, "/")
        self._do("commit", "--quiet", "--rm", bare, base.image)
        options = ["--isolation=chroot", "--pull-never", "--build-arg=torch=cpu", *base.binds("--volume", ":ro")]
        self._do("bud", *options, f"--file={CONTAINERFILE}", "--tag=landscaper-hpc", str(ROOT))
        return Path(self._do("mount", self._do("from", "--pull-never", "landscaper-hpc").strip()).strip())

    def configuration(self) -> dict[str, Any]:
        """Env, Labels and Cmd of the image."""
        found = json.loads(self._do("inspect", "--type=image", "landscaper-hpc"))
        return dict(found["OCIv1"]["config"])

    def remove(self) -> None:
        self._do("umount", "--all")

    def _do(self, *words: str | Path) -> str:
        return command(*self._buildah, *words)


def installed(image: Path) -> dict[str, str]:
    """Every file below the prefix with the SHA-256 of its bytes, but compiled Python, which has times in it."""
    folder = image / PREFIX
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.suffix != ".pyc"
    }


def install_programs() -> Sequence[str]:
    """Install what is missing of `PROGRAMS` with apt; the packages that were installed."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        if shutil.which("apt-get") is None:
            raise Refused(f"{', '.join(missing)} not installed, and there is no apt-get; only Debian is supported")
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
        command(*apt, "update")
        quiet = environment(DEBIAN_FRONTEND="noninteractive")
        command(*apt, "install", "--yes", "--no-install-recommends", *missing, env=quiet)
    return missing
