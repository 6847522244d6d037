"""Helpers in tests/ are imported by name. With pytest's -n, tests run in several processes."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# the same examples everywhere, however busy the machine is
settings.load_profile("ci")

_ON_CLUSTER = "tests/slurm"


@pytest.hookimpl(tryfirst=True)  # before xdist looks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the test cluster shares one; of the rest, a file's tests share their fixtures."""
    for item in items:
        file = item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(_ON_CLUSTER if file.startswith(_ON_CLUSTER) else file))


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line says why tests on the cluster were skipped, where they were."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # one of several processes
        return
    skipped = [r for r in reporter.stats.get("skipped", []) if r.nodeid.startswith(_ON_CLUSTER)]
    if skipped:
        print(f"{len(skipped)} tests in {_ON_CLUSTER} were skipped: {skipped[0].longrepr[2].removeprefix('Skipped: ')}")
