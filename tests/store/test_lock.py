"""One run at a time in a folder: a second is refused, a requeued one waits for the orphan of its former self."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from landscaper_hpc import InputError
from landscaper_hpc.errors import Stopped
from landscaper_hpc.store.lock import only_one, restarts


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(InputError, match="another run is at work"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


@pytest.mark.thorough
def test_a_requeued_run_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = only_one(tmp_path)
    first.__enter__()
    asked = []

    def stop() -> bool:
        asked.append(True)
        if len(asked) == 2:
            first.__exit__(None, None, None)
        return False

    with only_one(tmp_path, stop):
        assert len(asked) == 2
        with pytest.raises(Stopped), only_one(tmp_path, lambda: True):
            pass
    assert not restarts()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert restarts()


def test_a_file_system_without_locks_does_not_stop_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with only_one(tmp_path):
        pass
