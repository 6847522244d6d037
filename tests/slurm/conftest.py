from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from studies import Gate, command, contents, network, only_trained

from tests.slurm.cluster import NotPossible, SlurmCluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.timeout(900))  # the first one may wait for apt


@pytest.fixture(scope="session")
def testbed() -> Iterator[SlurmCluster]:
    """One cluster for all tests of a session. `cluster` is what most tests want."""
    made = SlurmCluster(Path(f"/tmp/landscaper-hpc-testbed-pytest-{os.getpid()}"))
    try:
        made.install()
    except NotPossible as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no test cluster in CI: {reason}")
        pytest.skip(f"no test cluster: {reason}")
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def cluster(testbed: SlurmCluster) -> SlurmCluster:
    """The cluster with no job, no fault and every node idle, whatever the test before has left."""
    testbed.restore()
    return testbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A study, with a site.yaml beside it, and what an undisturbed serial run leaves of it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = network(folder / "study", slow=0.02)
    only_trained(file)
    done = command("run", file, "--out", folder / "run", "--executor", "serial", "--site", file.parent / "site.yaml")
    assert done.returncode == 0, done.stderr
    return file, contents(folder / "run")


@pytest.fixture
def gate(undisturbed: tuple[Path, dict[str, str]]) -> Iterator[Gate]:
    """Closed: the study's points are evaluated as far as the test says."""
    with closing(Gate(undisturbed[0])) as made:
        yield made
