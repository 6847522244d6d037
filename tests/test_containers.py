"""The container recipes as far as they can be checked without building them; containers/check builds and runs them."""

from __future__ import annotations

import configparser
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from containers.building import CONTAINERFILE, ROOT, Base, Failed, dockerfile, filled_in, parsed

SCRIPTS = sorted((ROOT / "containers").glob("*.sh"))


@pytest.fixture
def definition(tmp_path: Path) -> Any:
    return parsed(filled_in(), tmp_path)


@pytest.fixture
def containerfile(tmp_path: Path) -> Any:
    from spython.main.parse.parsers import DockerParser

    (file := tmp_path / "Dockerfile").write_text(CONTAINERFILE.read_text())
    (recipe,) = DockerParser(str(file)).recipe.values()
    return recipe


def instructions(name: str) -> list[str]:
    """What follows every `name` in the Containerfile."""
    lines = CONTAINERFILE.read_text().splitlines()
    return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]


def copied(recipe: Any) -> set[tuple[str, ...]]:
    return {tuple(pair.split() if isinstance(pair, str) else pair) for pair in recipe.files}


def test_both_recipes_make_the_same_image(definition: Any, containerfile: Any) -> None:
    assert copied(definition) == copied(containerfile)
    assert definition.fromHeader == containerfile.fromHeader
    (install,) = (line for line in definition.install if "install.sh" in line)
    for argument, value in ("torch", "cuda"), ("index", "none"):
        assert f"{argument}={value}" in instructions("ARG")
        install = install.replace(f" {value}", f" ${argument}")
    assert install == "sh /opt/landscaper-hpc/source/containers/install.sh $torch $index"
    assert [install] == instructions("RUN")
    assert definition.environ == instructions("ENV")


def test_labels_agree_with_each_other_and_with_the_package(definition: Any) -> None:
    found = dict(line.split(" ", 1) for line in definition.labels)
    assert found == dict(line.replace('"', "").split("=", 1) for line in instructions("LABEL"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert found["org.opencontainers.image.version"] == project["version"]
    assert found["org.opencontainers.image.title"] == project["name"]


def test_what_is_copied_is_there_and_is_what_pip_needs(definition: Any) -> None:
    sources = {source for source, _ in copied(definition)}
    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", "setup.py", "README.md", *project["license-files"], "landscaper_hpc", "constraints.txt"}
    assert sources >= needed
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    for package in "torch", "mpich", "mpi4py":
        assert sum(line.startswith(f"{package}==") for line in constraints) == 1


@pytest.mark.parametrize("torch", ["cuda", "cpu"])
def test_spython_makes_a_dockerfile_of_one_command_a_line(torch: str, tmp_path: Path) -> None:
    """spython takes every line of %post for a command, and leaves a line that holds USER without an instruction."""
    lines = dockerfile(filled_in(torch=torch), tmp_path).read_text().splitlines()
    known = {"FROM", "COPY", "LABEL", "ENV", "RUN", "CMD", "HEALTHCHECK"}
    assert {line.split()[0] for line in lines} == known
    assert f"RUN sh /opt/landscaper-hpc/source/containers/install.sh {torch} none" in lines
    assert 'CMD exec landscaper-hpc "$@"' in lines


def test_an_argument_that_the_definition_does_not_have_is_refused() -> None:
    with pytest.raises(Failed, match="no such argument: touch"):
        filled_in(touch="cpu")


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [[], ["tpu"]])
def test_install_wants_to_know_which_torch(arguments: list[str]) -> None:
    done = subprocess.run(
        ["sh", ROOT / "containers/install.sh", *arguments], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 2
    assert done.stderr == f"install.sh: say cuda or cpu; found '{''.join(arguments)}'\n"


@pytest.mark.processes
def test_scripts_pass_shellcheck() -> None:
    assert len(SCRIPTS) == 2
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout


@pytest.mark.processes
def test_pip_finds_inside_what_it_finds_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels, index, certificate = tmp_path / "wheels", tmp_path / "index/simple", tmp_path / "own/ca.pem"
    for folder in wheels, index, certificate.parent:
        folder.mkdir(parents=True)
    certificate.write_text("certificate")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"https://packages.example/simple file://{index}")
    monkeypatch.setenv("PIP_CERT", str(certificate))
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")  # no way to packages, and not the image's business
    base = Base(tmp_path / "work")
    (base.folder / "etc").mkdir(parents=True)
    base.write_pip()
    config = configparser.ConfigParser(interpolation=None)
    config.read(base.folder / "etc/pip.conf")
    found = config["global"]
    assert found["find-links"] == str(wheels)
    assert found["extra-index-url"].split() == ["https://packages.example/simple", f"file://{index}"]
    assert found["cert"] == "/mnt/pip/ca.pem"
    assert "require-virtualenv" not in found
    binds = base.binds("--bind")
    assert f"{wheels}:{wheels}" in binds
    assert f"{index.parent}:{index.parent}" in binds, "an index's links may lead beside it"
    inside = {bind.rpartition(":")[2]: bind.partition(":")[0] for bind in binds[1::2]}
    assert Path(inside["/mnt/pip"], "ca.pem").read_text() == "certificate"
    assert all((base.folder / there.lstrip("/")).is_dir() for there in inside), "a read-only image gets no mount points"


@pytest.mark.processes
def test_check_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "containers/check", "--help"], capture_output=True, text=True, check=True, timeout=240
    )
    assert "two nodes of the test cluster" in " ".join(done.stdout.split())
