"""BatchLoader: batches in order, prepared ahead by worker threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from dpk_core.errors import DpkError, ValidationError

T_co = TypeVar("T_co", covariant=True)


class BatchSequence(Protocol[T_co]):
    """Batches by number, such as `dpk_core.services.generator.Batches`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> T_co: ...


class BatchError(DpkError):
    """A batch could not be prepared; the cause is chained and ``index`` tells which batch."""

    def __init__(self, index: int, cause: BaseException) -> None:
        super().__init__(f"batch {index} could not be prepared: {type(cause).__name__}: {cause}")
        self.index = index


class BatchLoader(Generic[T_co]):
    """Iterate over batches in order while worker threads prepare the next ones.

    Preparation starts at once. The loader is used up by one pass; it ends its threads when that
    pass is over, when a batch fails, and at the end of its ``with`` block. Threads suffice: the
    costly steps (warps, filters, reading) release Python's lock, and no image is copied between
    processes.

    Parameters
    ----------
    batches
        Has a length and gives batch i by ``[i]``, from several threads at once.
    n_workers
        Threads; 0 prepares each batch when it is asked for, in the thread that asks.
    prefetch
        Most batches ready or in preparation at a time; this bounds memory. Default: two a worker.

    Raises
    ------
    ValidationError
        On a negative number of workers or a prefetch below 1.
    BatchError
        From the iteration, when a batch could not be prepared.

    Examples
    --------
    >>> with BatchLoader([10, 20, 30], n_workers=2) as loader:
    ...     print(list(loader))
    [10, 20, 30]
    """

    def __init__(
        self, batches: BatchSequence[T_co], n_workers: int = 1, prefetch: int | None = None
    ) -> None:
        prefetch = max(2, 2 * n_workers) if prefetch is None else prefetch
        if n_workers < 0:
            raise ValidationError(f"n_workers: expected 0 or more, found {n_workers}")
        if prefetch < 1:
            raise ValidationError(f"prefetch: expected at least 1, found {prefetch}")
        self._batches = batches
        self._length = len(batches)
        self._prefetch = prefetch
        self._next = 0
        self._submitted = 0
        self._ahead: deque[Future[T_co]] = deque()
        self._closed = False
        self._waited = 0.0
        self._executor = (
            ThreadPoolExecutor(n_workers, thread_name_prefix="dpk-batches") if n_workers else None
        )
        self._submit()

    @property
    def wait_seconds(self) -> float:
        """Time that the consumer spent waiting for batches: near 0 when the workers keep up."""
        return self._waited

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T_co]:
        return self

    def __next__(self) -> T_co:
        if self._closed or self._next >= self._length:
            self.close()
            raise StopIteration
        index, start = self._next, time.perf_counter()
        try:
            if self._executor is None:
                batch = self._batches[index]
            else:
                batch = self._ahead[0].result()
                self._ahead.popleft()
        except Exception as error:
            self.close()
            raise BatchError(index, error) from error
        finally:
            self._waited += time.perf_counter() - start
        self._next += 1
        self._submit()
        return batch

    def close(self) -> None:
        """End the threads; batches in preparation are finished and thrown away."""
        self._closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def __enter__(self) -> BatchLoader[T_co]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _submit(self) -> None:
        if self._executor is None:
            return
        while self._submitted < self._length and len(self._ahead) < self._prefetch:
            # a plain sequence's [i] is the job itself: nothing of the loader is shared
            job = self._executor.submit(self._batches.__getitem__, self._submitted)
            self._ahead.append(job)
            self._submitted += 1
