"""A set that is open: labels, journal and file held together while any of them may change.

The file follows the journal in the background and when the set is closed; whatever keeps it from
that (a full disk, another program that has it open, a file that has vanished) becomes a notice and
is tried again, for the journal has it all. Locks are taken in this order: the one for the file, the
file's own, the one for labels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import attrs

from dpk_annotator.asked import FILE
from dpk_annotator.backups import list_backups, write_backup
from dpk_annotator.foreign import FileChanges, plan_file_changes
from dpk_annotator.guesses import Guesses
from dpk_annotator.labels import Labels
from dpk_annotator.opening import (
    NOT_WRITTEN,
    Opened,
    OtherSetError,
    find_base,
    has_news,
    open_journal,
)
from dpk_annotator.set_file import (
    SetChangedError,
    SetOnDisk,
    Signature,
    Stamp,
    check_writable,
    image_digests,
    nobody_writes,
    read_set,
    signature,
    write_set,
)
from dpk_annotator.updater import Updater
from dpk_core.errors import DpkError
from dpk_core.services.storage.atomic import exclusive

if TYPE_CHECKING:
    from typing_extensions import Self

UPDATE_AFTER, UPDATE_LATEST = 4.0, 60.0
"""Seconds after the last edit, and after the first, when the file is brought up to date."""

_BACKUP_EVERY = 600.0
_TRIES = 5
_MOST_ANNOUNCED = 1000


class ReadOnlyError(DpkError):
    """The set is open for looking only."""


@attrs.frozen
class Changed:
    """Labels have changed: of ``rows`` (None: of any), up to ``revision``, by ``client``."""

    revision: int
    rows: tuple[int, ...] | None
    client: str


class HeldSet:
    """What `Store` stands on: opening, keeping the file up to date, closing.

    ``on_change``, ``on_saved`` and ``on_notices`` are called, from any thread, when labels, the
    file or `notices` have changed.
    """

    def __init__(
        self, path: Path, disk: SetOnDisk, opened: Opened, read_only: bool, background: bool
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.on_change: Callable[[Changed], None] = lambda changed: None
        self.on_saved: Callable[[int], None] = lambda revision: None
        self.on_notices: Callable[[list[str]], None] = lambda texts: None
        self._lock = threading.RLock()
        self._file_lock = threading.RLock()
        self._notices: dict[str, str] = {f"open {i}": text for i, text in enumerate(opened.notices)}
        self._guesses = Guesses()
        self._guesses_version: str | None = None
        self._closed = False
        self._known_ids: set[str] = set()
        self._updater = Updater(self._update_quietly, UPDATE_AFTER, UPDATE_LATEST)
        self._background = background and not read_only
        self._take(disk, opened)
        if self._ledger.seq != self._file_seq:
            self._wake()

    @classmethod
    def open(
        cls, path: str | PathLike[str], *, read_only: bool = False, background: bool = True
    ) -> Self:
        """Open a set with what its journal knows; nothing is written before there is an edit.

        Parameters
        ----------
        read_only
            Look at it only: every change is refused, and nothing is ever written.
        background
            Bring the file up to date now and then by itself. Without it, `save` and `close` do.

        Raises
        ------
        FileMissingError, FileFormatError, SkeletonError
            About the file.
        OutputError
            When the journal can be neither read nor put aside.
        """
        path = Path(path)
        disk = read_set(path)
        try:
            opened = open_journal(path, disk, read_only=read_only)
        except BaseException:
            disk.close()
            raise
        store = cls(path, disk, opened, read_only, background)
        store.poll()
        return store

    @property
    def notices(self) -> list[str]:
        """What a user should know now: why the file is not up to date, what was found in it."""
        with self._lock:
            return list(self._notices.values())

    def save(self) -> int:
        """Bring the HDF5 file up to date now; the number of the last edit that is in it.

        Raises
        ------
        FileLockedError
            When the file is protected, or another program has it open for writing.
        OutputError, FileMissingError, OtherSetError
            The labels are in the journal all the same.
        """
        if self.read_only:
            raise ReadOnlyError(f"{self.path.name} was opened for looking only")
        with self._file_lock:
            for attempt in range(_TRIES):
                try:
                    saved = self._save()
                    break
                except SetChangedError:
                    if attempt == _TRIES - 1:
                        raise
        self._notice("save", None)
        return saved

    def poll(self) -> None:
        """Take in what other processes have done to the journal and to the file."""
        if not self._file_lock.acquire(blocking=False):
            return  # it is being brought up to date, which looks at both, too
        try:
            with self._lock:
                if self._closed:
                    return
                self._catch_up()
            self._look_at_file()
            self._notice("file", None)
        except DpkError as error:
            self._notice("file", str(error))
        finally:
            self._file_lock.release()

    @contextmanager
    def growing(self) -> Iterator[None]:
        """While the block adds images to the file: up to date before, and taken in after it.

        One at a time; labelling goes on meanwhile.
        """
        with self._file_lock:
            self.save()
            try:
                yield
            finally:
                self.poll()

    def close(self) -> bool:
        """Bring the file up to date and close; False when that failed (the journal has it all)."""
        with self._lock:
            if self._closed:
                return "save" not in self._notices
        self._updater.close()
        done = self.read_only or self._update_quietly()
        with self._lock:
            self._closed = True
            if self._ledger.journal is not None:
                self._ledger.journal.close()
            self._disk.close()
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- labels and journal ------------------------------------------------------------------------

    def _take(self, disk: SetOnDisk, opened: Opened) -> None:
        self._disk, self._ledger, self._file_seq = disk, opened.ledger, opened.file_seq
        self._name, self._place = opened.name, opened.place
        self._known_ids.add(opened.name)
        # The next look at the file takes in what another program has put into it.
        self._signature = None if opened.file_seq == NOT_WRITTEN else disk.signature
        self._place_seen = _look(self._place)
        self._announced = self._ledger.seq
        self._load_guesses()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self.read_only:
            raise ReadOnlyError(
                f"{self.path.name} was opened for looking only; start again without --read-only"
            )
        with self._lock:
            if self._closed:
                raise ReadOnlyError(f"{self.path.name} is closed")
            yield
            events = self._events()
        for event in events:
            self.on_change(event)
        self._tell_of_journal()
        if self._ledger.seq != self._file_seq:
            self._wake()

    def _tell_of_journal(self) -> None:
        journal = self._ledger.journal
        if journal is not None and journal.was_put_back:
            self._notice(
                "journal",
                f"the journal {journal.path.name} was removed or replaced by another program; it "
                "was put back, and no edit is lost. Leave it where it is while the set is open",
            )

    def _catch_up(self) -> None:
        if self._closed:
            return
        if self._ledger.journal is None and _look(self._place) != self._place_seen:
            self._join()
        if self._ledger.catch_up():
            self._wake()
        self._refresh_guesses()
        for event in self._events():
            self.on_change(event)

    def _join(self) -> None:
        """Another process has begun the journal: use it, too."""
        self._place_seen = _look(self._place)
        opened = open_journal(self.path, self._disk, read_only=True)
        if opened.ledger.journal is not None:
            self._take(self._disk, opened)
            self._announced = 0

    def _events(self) -> list[Changed]:
        """What has changed since the last time; called with the lock held."""
        journal, since = self._ledger.journal, self._announced
        if journal is None or self._ledger.seq <= since:
            return []
        self._announced = self._ledger.seq
        if self._ledger.seq - since > _MOST_ANNOUNCED:
            return [Changed(self._ledger.seq, None, "")]
        events: list[Changed] = []
        for entry in journal.entries(since, self._ledger.seq):
            rows = None if entry.row is None else (entry.row,)
            last = events[-1] if events else None
            if last is not None and last.client == entry.client:
                merged = None if rows is None or last.rows is None else (*last.rows, *rows)
                events[-1] = Changed(entry.seq, merged, entry.client)
            else:
                events.append(Changed(entry.seq, rows, entry.client))
        return events

    def _refresh_guesses(self) -> None:
        journal = self._ledger.journal
        if journal is not None and journal.stored_meta("guesses") != self._guesses_version:
            self._load_guesses()
            self.on_change(Changed(self._ledger.seq, None, ""))

    def _load_guesses(self) -> None:
        journal = self._ledger.journal
        self._guesses_version = None if journal is None else journal.stored_meta("guesses")
        if self._guesses_version is not None:
            self._guesses.load(journal)

    # -- the file ---------------------------------------------------------------------------------

    def _notice(self, key: str, text: str | None) -> None:
        """Keep what is to be known of something, or (None) take it away, and tell."""
        with self._lock:
            if self._notices.get(key) == text:
                return
            if text is None:
                del self._notices[key]
            else:
                self._notices[key] = text
            texts = list(self._notices.values())
        self.on_notices(texts)

    def _wake(self) -> None:
        if self._background:
            self._updater.notify()

    def _update_quietly(self) -> bool:
        try:
            self.save()
        except (DpkError, OSError) as error:
            self._notice(
                "save",
                f"{error} (the file is not up to date yet; no label is lost: the journal "
                f"{self._place.name} has them all)",
            )
            return False
        return True

    def _save(self) -> int:
        with self._lock:
            self._catch_up()
            if self._closed or self._ledger.journal is None:
                return self._file_seq
        found = signature(self.path)
        if self._ledger.seq == self._file_seq and found == self._signature:
            return self._file_seq
        check_writable(self.path)
        with exclusive(self.path):
            self._look_at_file()
            with self._lock:
                self._catch_up()
                seq, journal = self._ledger.seq, self._ledger.journal
                if seq == self._file_seq or journal is None:
                    return seq
                labels = self._ledger.labels.copy()
            assert self._signature is not None
            stamp = Stamp(journal.set_id, seq, labels.fingerprint())
            self._signature = write_set(self.path, labels, stamp, self._signature)
            self._file_seq = seq
            self._disk.close()  # of the file that was; from now on images come from the new one
            _ = self._disk.annotations.images[:0]
            with self._lock:
                with journal.transaction():
                    journal.note_written(seq, stamp.fingerprint, seq)
                self._ledger.snapshot_if_due()
        self._keep_backup(labels, seq)
        self.on_saved(seq)
        return seq

    def _keep_backup(self, labels: Labels, seq: int) -> None:
        with suppress(DpkError, OSError):  # the journal has the same, and the file
            last = list_backups(self.path)[:1]
            if not last:
                with self._lock:
                    first = self._ledger.state_at(0)
                write_backup(self.path, first, 0, time.time() - 1)
            if not last or time.time() - last[0].time >= _BACKUP_EVERY:
                write_backup(self.path, labels, seq)

    def _look_at_file(self) -> None:
        """Take in what another program, or another of our processes, did to the file."""
        if signature(self.path) == self._signature:
            return
        with nobody_writes(self.path):
            disk = read_set(self.path)
        with self._lock:
            journal = self._ledger.journal
            if journal is None:
                self._reopen(disk)
                return
            base = find_base(journal, disk)
            if base is None or _size(disk) != _size(self._disk):
                disk.close()
                raise OtherSetError(
                    f"{self.path} is another set now, or an older one with fewer images; it is "
                    "left alone. Close this and open it anew; all edits are in the journal "
                    f"{self._place.name}"
                )
            news = has_news(journal, disk, base)
            if news and not self.read_only:
                found = self._take_in(disk, base)
                if found.more_than_images:
                    self._notice("found", f"another program has changed {self.path.name}: {found}")
            self._disk.close()
            self._disk, self._signature = disk, disk.signature
            self._file_seq = NOT_WRITTEN if news else base
            events = self._events()
        for event in events:
            self.on_change(event)
        if self._ledger.seq != self._file_seq:
            self._wake()

    def _take_in(self, disk: SetOnDisk, base: int) -> FileChanges:
        was, version = self._ledger.state_at(base), self._ledger.skeleton_at(base)
        found: list[FileChanges] = []

        def plan(draft: Any) -> None:
            found.append(
                plan_file_changes(
                    draft, self._ledger.labels, was, disk.labels, version, has_marks=disk.has_marks
                )
            )

        self._ledger.take_in(plan, (base, disk.fingerprint))
        return found[0]

    def _reopen(self, disk: SetOnDisk) -> None:
        """Nobody has edited yet: take the file as it is now."""
        opened = open_journal(self.path, disk, read_only=True)
        if not _show_the_same(self._disk, disk):
            self._known_ids.clear()
        self._disk.close()
        self._take(disk, opened)
        self._signature = disk.signature
        self.on_change(Changed(self._ledger.seq, None, FILE))


def _size(disk: SetOnDisk) -> tuple[int, int, int]:
    return disk.annotations.image_shape


def _show_the_same(old: SetOnDisk, new: SetOnDisk) -> bool:
    """Whether a file has the images of another one, and perhaps more."""
    known = image_digests(old.annotations.images)
    return image_digests(new.annotations.images, list(known)) == known


def _look(place: Path) -> tuple[Signature | None, ...]:
    """What can be seen of a journal that we have not opened: of its file, and of its log."""
    found: list[Signature | None] = []
    for path in (place, place.with_name(place.name + "-wal")):
        try:
            found.append(signature(path))
        except OSError:
            found.append(None)
    return tuple(found)
