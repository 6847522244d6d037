"""Any order of writes, writers, deaths, full disks, damage, orchestrators and resumes ends in the bytes of one
undisturbed writer.

What happens to a writer is decided at each of its file operations: it may die there as by kill -9 (nothing is cleaned
up), find the disk full, or be held up while others write, verify and tidy.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from landscaper_hpc import InputError, LandscapeStore
from landscaper_hpc.files import PARTIAL
from landscaper_hpc.grid import Shard
from tests.store.test_store import contents, field, fill, make

ARRAYS = {"loss": "loss", "done": "done/sha256"}
COUNTS, SHARD, SHARDS = (5, 4, 3), (2, 2, 3), 6
OPERATIONS = 5  # of one `write`: open, fsync, rename; open, rename


class Killed(BaseException):
    """What a process that dies feels: nothing. No handler of it may do anything to a file."""


@contextmanager
def at_operation(number: int, happen: Callable[[], None]) -> Iterator[None]:
    """Before the file operation of this number (from 0), `happen`. Where that raises `Killed`, no later one is done."""
    left, dead, happening = number, False, False

    def counted(real: Callable[..., Any], counts: bool) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            nonlocal left, dead, happening
            if happening or threading.current_thread() is not threading.main_thread():  # zarr has threads of its own
                return real(*arguments, **options)
            if dead:
                raise Killed
            left -= counts
            if counts and left == -1:
                happening = True
                try:
                    happen()
                except Killed:
                    dead = True
                    raise
                finally:
                    happening = False
            return real(*arguments, **options)

        return operation

    with ExitStack() as stack:
        for owner, name in ((Path, "open"), (Path, "rename"), (os, "fsync"), (Path, "unlink"), (shutil, "rmtree")):
            removes = name in ("unlink", "rmtree")  # which needs no space, and leaves what is left anyway
            stack.enter_context(mock.patch.object(owner, name, counted(getattr(owner, name), not removes)))
        yield


def die() -> None:
    raise Killed


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class StoreMachine(RuleBasedStateMachine):
    shards = st.integers(0, SHARDS - 1)
    moments = st.integers(0, OPERATIONS)

    @initialize(number=st.integers(0, 60), what=st.sampled_from(["die", "full", "another", "nothing"]))
    def create(self, number: int, what: str) -> None:
        """A store whose creator may die, meet a full disk or be overtaken at any moment, and is then run again."""
        self.folder = Path(
            tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )  # fsync costs nothing there
        undisturbed = make(self.folder / "undisturbed", *COUNTS, shard=SHARD)
        self.values = field(*COUNTS)
        fill(undisturbed, self.values)
        self.expected = contents(self.folder / "undisturbed")
        self.oracle = undisturbed

        def create() -> None:
            make(self.folder / "s.zarr", *COUNTS, shard=SHARD)

        happen = {"die": die, "full": disk_full, "another": create, "nothing": lambda: None}[what]
        try:
            with at_operation(number, happen):
                create()
        except (Killed, InputError):
            assert what in ("die", "full")
            if not (self.folder / "s.zarr/a").exists():  # whole or not at all
                create()
        assert self.writer().n_done() == 0
        self.all = list(self.writer().shards())
        assert len(self.all) == SHARDS
        self.stores = [self.writer() for _ in range(3)]

    def writer(self) -> LandscapeStore:
        return LandscapeStore(self.folder / "s.zarr", "a")

    def write(self, number: int, store: int = 0) -> None:
        shard = self.all[number]
        self.stores[store].write(shard, self.values[shard.region])

    def file(self, array: str, shard: Shard, store: LandscapeStore | None = None) -> Path:
        folder = (store or self.stores[0]).folder
        return folder / ARRAYS[array] / ".".join(["c", *map(str, shard.index), *(["0"] if array == "done" else [])])

    def _is_damaged(self, shard: Shard) -> bool:
        """By comparison with the undisturbed store: said to be done, and not its bytes."""

        def differs(array: str) -> bool:
            found = self.file(array, shard)
            return not found.exists() or found.read_bytes() != self.file(array, shard, self.oracle).read_bytes()

        return self.file("done", shard).exists() and (differs("loss") or differs("done"))

    # ---- writers -----------------------------------------------------------------------------------------------------

    @rule(number=shards, store=st.integers(0, 2))
    def write_one(self, number: int, store: int) -> None:
        self.write(number, store)
        assert not self._is_damaged(self.all[number])

    @rule(number=shards, moment=moments)
    def killed_while_writing(self, number: int, moment: int) -> None:
        """At any of its operations, between data and done entry among them."""
        shard = self.all[number]
        done, damaged = self.stores[0].is_done(shard), self._is_damaged(shard)
        with at_operation(moment, die):
            try:
                self.write(number)
                assert moment == OPERATIONS
            except Killed:
                pass
        assert self.stores[0].is_done(shard) or not done
        assert damaged or not self._is_damaged(shard)

    @rule(number=shards, moment=moments)
    def disk_full_while_writing(self, number: int, moment: int) -> None:
        shard = self.all[number]
        leftovers, damaged = set(self.folder.rglob(f"*{PARTIAL}")), self._is_damaged(shard)
        with at_operation(moment, disk_full):
            try:
                self.write(number)
                assert moment == OPERATIONS
            except InputError as error:
                assert "no space left" in str(error)
        assert set(self.folder.rglob(f"*{PARTIAL}")) == leftovers
        assert damaged or not self._is_damaged(shard)

    @rule(number=shards, other=shards, moment=moments, then=st.sampled_from(["write", "die", "verify"]))
    def held_up_while_writing(self, number: int, other: int, moment: int, then: str) -> None:
        """A double writer at any of its operations, and a client that verifies beside a writer."""

        def happen() -> None:
            if then == "verify":
                self.stores[2].verify()
            else:
                self.write(other, 1)

        def second() -> None:
            with at_operation(other % OPERATIONS, die):
                self.write(number, 1)

        def happen_and_die() -> None:
            with suppress(Killed):
                second()

        with at_operation(moment, happen_and_die if then == "die" else happen):
            self.write(number)

    @rule(number=shards, moment=moments)
    def tidied_up_while_writing(self, number: int, moment: int) -> None:
        """An orphan still writes when the client, with everything done, removes leftovers: it may fail, no more."""
        self.resume()
        with at_operation(moment, lambda: self.stores[2].tidy()), suppress(FileNotFoundError):
            self.write(number)

    # ---- damage ------------------------------------------------------------------------------------------------------

    @rule(number=shards, array=st.sampled_from(["loss", "done"]), keep=st.integers(0, 31))
    def torn(self, number: int, array: str, keep: int) -> None:
        file = self.file(array, self.all[number])
        if file.exists():
            file.write_bytes(file.read_bytes()[:keep])

    @rule(number=shards, array=st.sampled_from(["loss", "done"]), bit=st.integers(0, 255))
    def flipped(self, number: int, array: str, bit: int) -> None:
        file = self.file(array, self.all[number])
        if file.exists() and (content := bytearray(file.read_bytes())):
            content[bit // 8 % len(content)] ^= 1 << bit % 8
            file.write_bytes(content)

    @rule(number=shards, array=st.sampled_from(["loss", "done"]))
    def removed(self, number: int, array: str) -> None:
        self.file(array, self.all[number]).unlink(missing_ok=True)

    @rule(array=st.sampled_from(["loss", "done"]), content=st.binary(max_size=9))
    def stale_partial(self, array: str, content: bytes) -> None:
        (self.stores[0].folder / ARRAYS[array] / f".c.0.0.0.gone.17.x{PARTIAL}").write_bytes(content)

    # ---- the client --------------------------------------------------------------------------------------------------

    @rule()
    def reopen(self) -> None:
        self.stores = [self.writer() for _ in range(3)]

    @rule(moment=st.integers(0, 30))
    def verify(self, moment: int) -> None:
        """Finds exactly what is damaged, also where the client before was killed while it verified."""
        damaged = {shard.index for shard in self.all if self._is_damaged(shard)}
        found: set[tuple[int, ...]] = set()
        try:
            with at_operation(moment, die):
                found = {shard.index for shard in self.stores[2].verify()}
            assert found == damaged
        except Killed:
            self.stores[2].verify()
        assert not any(self._is_damaged(shard) for shard in self.all)

    @rule(order=st.permutations(range(SHARDS)))
    def orchestrate(self, order: list[int]) -> None:
        self.resume(order)

    def resume(self, order: list[int] | None = None) -> None:
        """What `run` does, with the pending shards in any order: the bytes of the undisturbed store."""
        store = self.writer()
        store.verify()
        pending = store.pending()
        for shard in sorted(pending, key=lambda s: (order or list(range(SHARDS)))[self.all.index(s)]):
            store.write(shard, self.values[shard.region])
        assert store.verify() == []
        store.tidy()
        assert store.loss().tobytes() == self.values.tobytes()
        assert contents(self.folder / "s.zarr") == self.expected

    # ---- always ------------------------------------------------------------------------------------------------------

    @invariant()
    def pending_is_what_is_not_done(self) -> None:
        done = {shard.index for shard in self.all if self.file("done", shard).exists()}
        for store in self.stores:
            assert [shard.index for shard in store.pending()] == [s.index for s in self.all if s.index not in done]
            assert store.n_done() == len(done)
            assert all(store.is_done(shard) == (shard.index in done) for shard in self.all)

    @invariant()
    def what_is_not_done_is_not_read(self) -> None:
        shard = next(iter(self.stores[0].pending()), None)
        if shard is not None:
            with pytest.raises(InputError, match="not evaluated"):
                self.stores[0].read(shard.region)

    def teardown(self) -> None:
        try:
            self.resume()
        finally:
            shutil.rmtree(self.folder)


TestStoreMachine = pytest.mark.thorough(StoreMachine.TestCase)
TestStoreMachine.settings = settings(max_examples=20, stateful_step_count=25, phases=[Phase.generate])
