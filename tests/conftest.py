"""Helpers in tests/ are imported by name. With pytest's -n, tests run in several processes."""

import multiprocessing.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from landscaper_hpc.topology.kernels.compiled import cache_folder

sys.path.insert(0, str(Path(__file__).parent))

# nodes of the test cluster have names of their own, and yet are this machine: none compiles what another has compiled
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder()))

# the same examples everywhere, however busy the machine is
settings.load_profile("ci")

_ON_CLUSTER = "tests/slurm"
_FILES = sorted(Path(__file__).parent.glob("slurm/test_*.py"))
_CLUSTERS = 2


class Clusters(LoadScopeScheduling):
    """What needs the test cluster shares two of them; of the rest, a file's tests share their fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        if not file.startswith(_ON_CLUSTER):
            return file
        return f"cluster {[path.name for path in _FILES].index(Path(file).name) % _CLUSTERS}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Clusters:
    return Clusters(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: a cluster mostly waits, and others have the processors meanwhile."""
    items.sort(key=lambda item: not item.nodeid.startswith(_ON_CLUSTER))


_MAY_START_PROCESSES = ("processes", "mpi", "slurm", "slow", "gpu")
_forbidden = False


def _refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    if _forbidden and event in ("subprocess.Popen", "os.posix_spawn", "os.exec"):
        raise RuntimeError(
            f"starts a process ({arguments[0]}): mark the test `processes`, or run the command in this one"
        )


sys.addaudithook(_refuse_processes)


@pytest.fixture(autouse=True)
def _no_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is not marked so starts no other process: `make test-fast` stays quick."""
    global _forbidden
    _forbidden = not any(request.node.get_closest_marker(name) for name in _MAY_START_PROCESSES)
    if _forbidden:  # spawning is not announced to audit hooks
        monkeypatch.setattr(
            multiprocessing.util, "spawnv_passfds", lambda path, *_: _refuse_processes("os.exec", (path,))
        )
    yield
    _forbidden = False


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line says why tests on the cluster were skipped, where they were."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # one of several processes
        return
    skipped = [r for r in reporter.stats.get("skipped", []) if r.nodeid.startswith(_ON_CLUSTER)]
    if skipped:
        print(f"{len(skipped)} tests in {_ON_CLUSTER} were skipped: {skipped[0].longrepr[2].removeprefix('Skipped: ')}")
