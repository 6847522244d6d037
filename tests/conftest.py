"""Helpers in tests/ are imported by name. With pytest's -n, tests run in several processes."""

import gc
import multiprocessing.util
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy.testing  # noqa: F401 - that of numpy 2.0 starts `lscpu`: before any test that must start nothing
import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from landscaper_hpc.topology.compiling import marker
from landscaper_hpc.topology.kernels.compiled import cache_folder

sys.path.insert(0, str(Path(__file__).parent))

# nodes of the test cluster have names of their own, and yet are this machine: none compiles what another has compiled
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder()))
# more processes than processors: a thread that has nothing to do must not wait by turning round
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# what a shell starts in the background ignores Ctrl-C, and so would all that the tests start and press it at
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# what is collected stays: until all is, nothing is looked through for garbage, and what is collected never is
gc.disable()

# the same examples everywhere, however busy the machine is
settings.load_profile("ci")

_ON_CLUSTER = "tests/slurm"
_CLUSTERS = 2
_SECONDS = {  # on two processors that have much else to do, of what is not slow
    "test_contract_on_slurm.py": 240,
    "test_dask_on_slurm.py": 130,
    "test_faults.py": 0,
    "test_group_on_slurm.py": 0,
    "test_landscape_sbatch.py": 170,
    "test_mpi.py": 20,
    "test_submitit.py": 150,
    "test_sweep_on_slurm.py": 60,
    "test_testbed.py": 80,
    "test_testbed_life.py": 40,
}

_LONG = (
    *("test_watch.py", "test_page.py", "test_run.py", "test_worker.py", "test_export.py", "test_sampled.py"),
    *("test_merge_tree.py", "test_task_metrics.py", "test_hessian.py", "test_evaluate.py", "test_mistakes.py"),
    *("test_of_objective.py", "test_lowest_part.py", "test_confirmed.py", "test_paper_studies.py"),
)
"""Of the files that start no processes: begun last, one of them would be waited for alone."""


def _cluster_of() -> dict[str, int]:
    """File to number of cluster, so that all are busy for about as long: the longest first, to who has least."""
    names = sorted(path.name for path in Path(__file__).parent.glob("slurm/test_*.py"))
    busy = [0] * _CLUSTERS
    found = {}
    for name in sorted(names, key=lambda name: -_SECONDS.get(name, 60)):
        found[name] = busy.index(min(busy))
        busy[found[name]] += _SECONDS.get(name, 60)
    return found


class Clusters(LoadScopeScheduling):
    """What needs the test cluster shares a few of them; of the rest, a file's tests share their fixtures."""

    _cluster = _cluster_of()

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return f"cluster {self._cluster[Path(file).name]}" if file.startswith(_ON_CLUSTER) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Clusters:
    return Clusters(config, log)


_MAY_START_PROCESSES = ("processes", "mpi", "slurm", "slow", "gpu")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, file by file: the clusters, what else starts processes, what takes long without, the rest."""
    starting = {item.path for item in items if any(map(item.get_closest_marker, _MAY_START_PROCESSES[:2]))}
    items.sort(
        key=lambda item: (
            not item.nodeid.startswith(_ON_CLUSTER),
            item.path not in starting,
            item.path.name not in _LONG,
        )
    )
    global _painted
    _painted = any(map(_may_start_processes, items))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


_compiling = pytest.StashKey[subprocess.Popen[bytes]]()
_forbidden = False
_painted = True
"""Whether any test of this run starts processes, whose pages are compared with those that fixtures have left."""


def _may_start_processes(item: pytest.Item) -> bool:
    return any(map(item.get_closest_marker, _MAY_START_PROCESSES))


def _refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    if "watchdog.py" in str(arguments[1:2]):
        return  # one for all tests, and it sleeps
    if _forbidden and event in ("subprocess.Popen", "os.posix_spawn", "os.exec"):
        raise RuntimeError(
            f"starts a process ({arguments[0]}): mark the test `processes`, or run the command in this one"
        )


sys.addaudithook(_refuse_processes)
platform.processor()  # starts `uname` the first time, as when h5py is imported


@pytest.fixture(autouse=True)
def _no_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is not marked so starts no other process: `make test-fast` stays quick."""
    global _forbidden
    _forbidden = not _may_start_processes(request.node)
    if _forbidden:  # spawning is not announced to audit hooks
        monkeypatch.setattr(
            multiprocessing.util, "spawnv_passfds", lambda path, *_: _refuse_processes("os.exec", (path,))
        )
        # what a run begins beside all else, in case it comes to need it
        monkeypatch.setattr("landscaper_hpc.work.preloaded.start_loading_early", lambda together: None)
    yield
    _forbidden = False


@pytest.fixture(scope="session", autouse=True)
def _pages_are_painted_once_if_at_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A page is most of a small study's time: what a fixture has painted is not painted again from the same, and what
    a test runs that starts no other process, which would paint it in full, is painted in tests/report alone."""
    # not in the process that only hands out tests
    import forked
    from painting import painted_once

    forked.pages = tmp_path_factory.getbasetemp() / "pages"
    with painted_once(lambda: _forbidden or not _painted, forked.pages):
        yield


@pytest.fixture(scope="session", autouse=True)
def _pools_are_forked_from_what_has_loaded_all() -> Iterator[None]:
    """Their first process would load torch for seconds, and each worker the kernels."""
    from forked import fork_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing.util, "spawnv_passfds", fork_server)
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Which takes half of a small study's time."""
    from forked import no_fsync

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", no_fsync)
        yield


@pytest.fixture
def words_only() -> Iterator[None]:
    """Figures are made, but nothing is painted, which is most of a page's time."""
    from painting import nothing_painted

    with nothing_painted():
        yield


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where several processes test and nothing is compiled, another begins at the other end of what all wait for."""
    if getattr(session.config.option, "numprocesses", None) and not any(cache_folder().iterdir()):
        session.config.stash[_compiling] = subprocess.Popen([sys.executable, Path(__file__).with_name("compile.py")])
    marker().touch()  # what is run neither says that it compiles nor has it done beside, each anew


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line says why tests on the cluster were skipped, where they were."""
    if compiling := config.stash.get(_compiling, None):
        compiling.kill()
        compiling.wait()
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # one of several processes
        return
    skipped = [r for r in reporter.stats.get("skipped", []) if r.nodeid.startswith(_ON_CLUSTER)]
    if skipped:
        print(f"{len(skipped)} tests in {_ON_CLUSTER} were skipped: {skipped[0].longrepr[2].removeprefix('Skipped: ')}")
