"""Helpers in tests/ are imported by name. With pytest's -n, tests run in several processes."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

sys.path.insert(0, str(Path(__file__).parent))

# the same examples everywhere, however busy the machine is
settings.load_profile("ci")

_ON_CLUSTER = "tests/slurm"


class OneCluster(LoadScopeScheduling):
    """What needs the test cluster shares one; of the rest, a file's tests share their fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return _ON_CLUSTER if file.startswith(_ON_CLUSTER) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneCluster:
    return OneCluster(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line says why tests on the cluster were skipped, where they were."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # one of several processes
        return
    skipped = [r for r in reporter.stats.get("skipped", []) if r.nodeid.startswith(_ON_CLUSTER)]
    if skipped:
        print(f"{len(skipped)} tests in {_ON_CLUSTER} were skipped: {skipped[0].longrepr[2].removeprefix('Skipped: ')}")
