"""BatchLoader: ordered, bounded, ends its threads."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from dpk_core.errors import DpkError, ValidationError
from dpk_core.services import loader as loader_module
from dpk_core.services.loader import BatchError, BatchLoader


class Recorder:
    """Batches that record which were prepared; later ones are ready sooner."""

    def __init__(self, n: int, fails_at: int | None = None, seconds: float = 0.0) -> None:
        self.n, self.fails_at, self.seconds = n, fails_at, seconds
        self.prepared: list[int] = []
        self.running = 0
        self.most_running = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> int:
        with self._lock:
            self.prepared.append(i)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        time.sleep(self.seconds + 0.002 * (i % 3 == 0))
        with self._lock:
            self.running -= 1
        if i == self.fails_at:
            raise OSError("the disk is gone")
        return i


def worker_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("dpk-batches")]


@pytest.mark.parametrize("n_workers", [0, 1, 4])
def test_batches_come_in_order_and_threads_end(n_workers):
    loader = BatchLoader(Recorder(30), n_workers)
    assert len(loader) == 30
    assert list(loader) == list(range(30))
    assert list(loader) == []
    assert not worker_threads()


def test_no_more_than_prefetch_is_prepared_ahead():
    batches = Recorder(50)
    with BatchLoader(batches, n_workers=4, prefetch=3) as loader:
        for i, _ in enumerate(loader):
            assert len(batches.prepared) <= i + 1 + 3
            assert batches.most_running <= 3


def test_workers_prepare_at_the_same_time():
    barrier = threading.Barrier(3)  # passes only when three batches are prepared at once

    class Meeting(Recorder):
        def __getitem__(self, i: int) -> int:
            barrier.wait(timeout=300)
            return i

    assert list(BatchLoader(Meeting(6), n_workers=3)) == list(range(6))


@pytest.mark.parametrize("n_workers", [0, 2])
def test_an_error_names_the_batch_and_comes_in_its_turn(n_workers):
    loader = BatchLoader(Recorder(10, fails_at=4), n_workers)
    got: list[int] = []
    with pytest.raises(BatchError, match=r"batch 4 .*OSError: the disk is gone") as caught:
        got.extend(loader)
    assert got == [0, 1, 2, 3]
    assert isinstance(caught.value, DpkError)
    assert isinstance(caught.value.__cause__, OSError)
    assert not worker_threads()
    assert list(loader) == []


def test_leaving_early_ends_the_threads():
    batches = Recorder(1000)
    with BatchLoader(batches, n_workers=3) as loader:
        assert next(loader) == 0
    assert not worker_threads()
    assert len(batches.prepared) < 20
    assert list(loader) == []


def test_waiting_is_counted(monkeypatch):
    now = [0.0]

    class Costly(Recorder):
        def __getitem__(self, i: int) -> int:
            now[0] += 0.5
            return i

    monkeypatch.setattr(loader_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    slow = BatchLoader(Costly(3), n_workers=0)
    list(slow)
    assert slow.wait_seconds == 1.5
    ready = BatchLoader(Costly(1), n_workers=1)
    while not ready._ahead[0].done():
        time.sleep(0.001)
    assert list(ready) == [0]
    assert ready.wait_seconds == 0


def test_nothing_to_load():
    assert list(BatchLoader([], n_workers=2)) == []


@pytest.mark.parametrize(("n_workers", "prefetch"), [(-1, None), (1, 0)])
def test_wrong_numbers_are_refused(n_workers, prefetch):
    with pytest.raises(ValidationError, match="expected"):
        BatchLoader([1], n_workers, prefetch)
