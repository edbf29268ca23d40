"""The store of a set: labels, journal and file as one thing that several threads may use.

    with Store.open("labels.h5") as store:
        store.apply([(0, MoveKeypoint("head", 12.5, 30.0))], store.revision, "me")
        store.undo("me")

An edit is on disk, in the journal, when `Store.apply` returns. The HDF5 file follows in the
background and when the store is closed; whatever keeps it from that (a full disk, another program
that has it open, a file that has vanished) becomes a notice and is tried again, for the journal has
it all. Locks are taken in this order: the one for the file, the file's own, the one for labels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs
import numpy as np

from dpk_annotator.backups import list_backups, write_backup
from dpk_annotator.foreign import FileChanges, plan_file_changes
from dpk_annotator.guess_sources import guesses_from_poses
from dpk_annotator.guesses import Guess, Guesses, checked_guesses
from dpk_annotator.journal import Entry
from dpk_annotator.labels import Labels
from dpk_annotator.ledger import FILE, Change
from dpk_annotator.opening import (
    NOT_WRITTEN,
    Opened,
    OtherSetError,
    find_base,
    has_news,
    open_journal,
)
from dpk_annotator.outcome import Applied, Conflict
from dpk_annotator.row_state import RowState
from dpk_annotator.set_file import (
    SetChangedError,
    SetOnDisk,
    Signature,
    Stamp,
    check_writable,
    nobody_writes,
    read_set,
    signature,
    write_set,
)
from dpk_annotator.skeleton_edits import SkeletonChange, SkeletonPreview, preview
from dpk_annotator.updater import Updater
from dpk_core.annotations import Source
from dpk_core.errors import DpkError, ValidationError
from dpk_core.poses import Poses
from dpk_core.services.storage.atomic import exclusive
from dpk_core.skeleton import Skeleton

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


class Store:
    """An open set; see `Store.open`. Every method may be called from any thread."""

    def __init__(
        self, path: Path, disk: SetOnDisk, opened: Opened, read_only: bool, background: bool
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.on_change: Callable[[Changed], None] = lambda changed: None
        self.on_saved: Callable[[int], None] = lambda revision: None
        self._lock = threading.RLock()
        self._file_lock = threading.RLock()
        self._notices: dict[str, str] = dict(_numbered(opened.notices))
        self._guesses = Guesses()
        self._guesses_version: str | None = None
        self._closed = False
        self._updater = Updater(self._update_quietly, UPDATE_AFTER, UPDATE_LATEST)
        self._background = background and not read_only
        self._take(disk, opened)
        if self._ledger.seq != self._file_seq:
            self._wake()

    @classmethod
    def open(
        cls, path: str | PathLike[str], *, read_only: bool = False, background: bool = True
    ) -> Store:
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

    # -- what there is ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return min(len(self._disk.labels), len(self._ledger.labels))

    def __repr__(self) -> str:
        return f"Store({self.path.name}, {len(self)} images, revision {self.revision})"

    @property
    def set_id(self) -> str:
        """Name of the set, unlike any other; it stays when the file is renamed."""
        journal = self._ledger.journal
        return self._set_id if journal is None else journal.set_id

    @property
    def revision(self) -> int:
        """Number of the last edit."""
        return self._ledger.seq

    @property
    def saved_revision(self) -> int:
        """Number of the last edit that is in the HDF5 file; -1 when the file must be written."""
        return self._file_seq

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton now."""
        return self._ledger.labels.skeleton

    @property
    def skeleton_seq(self) -> int:
        """Number of the edit that made the skeleton."""
        return self._ledger.skeleton_version.seq

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where each image came from."""
        return self._disk.annotations.sources

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""
        return self._disk.annotations.image_shape

    def image(self, row: int) -> np.ndarray:
        """(h, w, c) uint8 pixels, read from the file."""
        self._check_row(row)
        return np.asarray(self._disk.annotations.images[row])

    def state(self, row: int) -> RowState:
        """The labels of one image, as they are now."""
        with self._lock:
            self._catch_up()
            return self._ledger.state(row)

    def guess(self, row: int) -> Guess | None:
        """What a model says of an image, in the order of the skeleton; None when nothing."""
        with self._lock:
            self._check_row(row)
            return self._guesses.get(row, self.skeleton)

    def labels(self) -> tuple[int, Labels, np.ndarray]:
        """The revision, a copy of all labels, and (n,) mean scores of guesses with NaN."""
        with self._lock:
            self._catch_up()
            labels = self._ledger.labels
            return self._ledger.seq, labels.copy(), self._guesses.confidence(len(labels))

    def labels_at(self, seq: int) -> Labels:
        """All labels as they were after an edit."""
        with self._lock:
            return self._ledger.state_at(seq)

    def steps(self, client: str) -> tuple[int, int]:
        """How many steps a client can undo, and redo."""
        with self._lock:
            return self._ledger.steps(client)

    def history(self, before: int | None = None, limit: int = 100) -> list[Entry]:
        """The last edits with numbers below ``before``, the latest first."""
        with self._lock:
            journal = self._ledger.journal
            if journal is None:
                return []
            upto = None if before is None else before - 1
            return journal.entries(upto=upto, last=limit)[::-1]

    def pauses(self, seconds: float = 1800.0, last: int = 50) -> list[tuple[int, float]]:
        """(number, time) of edits after which nothing was done for a while, the latest first."""
        with self._lock:
            journal = self._ledger.journal
            return [] if journal is None else journal.pauses(seconds, last)

    @property
    def notices(self) -> list[str]:
        """What a user should know now: why the file is not up to date, what was found in it."""
        with self._lock:
            return list(self._notices.values())

    # -- changing ---------------------------------------------------------------------------------

    def apply(
        self, changes: Sequence[Change], base: int, client: str, token: str | None = None
    ) -> Applied | Conflict:
        """Do edits at once; they are on disk when this returns.

        Parameters
        ----------
        changes
            (row, edit); all are done, or none.
        base
            The revision that whoever makes them has seen. What others changed since in other
            parts of the images is kept; the same part is a `Conflict`.
        client
            Who makes them; undo goes by it.
        token
            A text of the client's for this request: repeated, it is done once.

        Raises
        ------
        ValidationError
            When an edit cannot be done.
        ReadOnlyError, OutputError
            When nothing can be written; nothing has changed then.
        """
        with self._writing():
            return self._ledger.apply(changes, base, client, token)

    def undo(
        self, client: str, base: int | None = None, token: str | None = None
    ) -> Applied | Conflict | None:
        """Take back the last thing that a client did; None when there is nothing."""
        with self._writing():
            return self._ledger.undo(client, base, token)

    def redo(
        self, client: str, base: int | None = None, token: str | None = None
    ) -> Applied | Conflict | None:
        """Do again what a client took back last; None when there is nothing."""
        with self._writing():
            return self._ledger.redo(client, base, token)

    def restore(self, seq: int, client: str, token: str | None = None) -> Applied:
        """Make all labels what they were after an edit, as one step that can be undone."""
        with self._writing():
            return self._ledger.restore(seq, client, None, token)

    def restore_labels(self, labels: Labels, client: str) -> Applied:
        """Make all labels those given (of a backup, say), as one step that can be undone."""
        with self._writing():
            return self._ledger.restore(self._ledger.seq, client, labels)

    def confirm(
        self,
        row: int,
        base: int,
        client: str,
        token: str | None = None,
        *,
        keypoints: list[str] | None = None,
        threshold: float = 0.0,
    ) -> Applied | Conflict:
        """Make labels of a model's guesses for an image, where there are none yet."""
        with self._writing():
            self._ledger.catch_up()
            guess = self._guesses.get(row, self.skeleton)
            if guess is None:
                raise ValidationError(f"there are no guesses for image {row} to confirm")
            for name in keypoints or ():
                self.skeleton.index(name)
            edit = guess.confirm(self._ledger.state(row), keypoints, threshold)
            return self._ledger.apply([(row, edit)], base, client, token)

    def preview_skeleton(self, change: SkeletonChange) -> SkeletonPreview:
        """What a change of skeleton would do."""
        with self._lock:
            return preview(change, self.skeleton, self._ledger.labels.labelled_in())

    def touched_by(self, names: Sequence[str]) -> int:
        """The number of images in which any of these keypoints is labelled."""
        with self._lock:
            labels = self._ledger.labels
            columns = [labels.skeleton.index(name) for name in names]
            known = labels.annotated | ~np.isnan(labels.keypoints[..., 0])
            return int(known[:, columns].any(axis=1).sum())

    def change_skeleton(
        self, change: SkeletonChange, base: int, client: str, token: str | None = None
    ) -> Applied | Conflict:
        """Take another skeleton; labels follow by name, those of removed keypoints go."""
        with self._writing():
            return self._ledger.change_skeleton(change, base, client, token)

    def put_guesses(self, rows: Any, keypoints: Any, scores: Any, model: str = "") -> int:
        """Keep a model's keypoints for images, over its older ones and never over labels.

        Parameters
        ----------
        rows
            (m,) numbers of images.
        keypoints, scores
            (m, k, 2) pixels of the images with NaN, (m, k) in [0, 1], in the skeleton's order.
        model
            Which model it was, for people.

        Returns
        -------
        int
            The number of images.
        """
        with self._writing():
            k = len(self.skeleton)
            found = checked_guesses(rows, keypoints, scores, len(self), k)
            journal = self._ledger.journal_to_write()
            with journal.transaction():
                journal.put_guesses(found[0], self.skeleton.names, *found[1:], model)
                journal.set_meta("guesses", f"{time.time_ns()}")
            self._load_guesses()
            touched = tuple(map(int, found[0]))
        self.on_change(Changed(self.revision, touched or None, model))
        return len(touched)

    def put_poses(self, poses: Poses, video: str, model: str = "") -> int:
        """Keep what was predicted for a video as guesses for the images that came from it."""
        rows, keypoints, scores = guesses_from_poses(
            poses, video, self.sources, self.image_shape[:2], self.skeleton, self.path.parent
        )
        return self.put_guesses(rows, keypoints, scores, model) if len(rows) else 0

    # -- file -------------------------------------------------------------------------------------

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
        with self._lock:
            self._notices.pop("save", None)
        return saved

    def poll(self) -> None:
        """Take in what other processes have done to the journal and to the file."""
        with self._lock:
            if self._closed:
                return
            self._catch_up()
        if not self._file_lock.acquire(blocking=False):
            return  # it is being brought up to date, which looks at it, too
        try:
            self._look_at_file()
            with self._lock:
                self._notices.pop("file", None)
        except DpkError as error:
            with self._lock:
                self._notices["file"] = str(error)
        finally:
            self._file_lock.release()

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

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- small parts ------------------------------------------------------------------------------

    def _take(self, disk: SetOnDisk, opened: Opened) -> None:
        self._disk, self._ledger, self._file_seq = disk, opened.ledger, opened.file_seq
        self._set_id, self._place = opened.set_id, opened.place
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
        if self._ledger.seq != self._file_seq:
            self._wake()

    def _wake(self) -> None:
        if self._background:
            self._updater.notify()

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

    def _check_row(self, row: int) -> None:
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < len(self):
            raise ValidationError(
                f"image: expected a number from 0 to {len(self) - 1}, found {row!r}"
            )

    def _update_quietly(self) -> bool:
        try:
            self.save()
        except (DpkError, OSError) as error:
            with self._lock:
                self._notices["save"] = (
                    f"{error} (the file is not up to date yet; no label is lost: the journal "
                    f"{self._place.name} has them all)"
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
            self._disk.close()  # of the file that was; images are read from the new one
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
                write_backup(self.path, self.labels_at(0), 0, time.time() - 1)
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
            if base is None or disk.annotations.image_shape != self.image_shape:
                disk.close()
                raise OtherSetError(
                    f"{self.path} is another set now, or an older one with fewer images; it is "
                    "left alone. Close this and open it anew; all edits are in the journal "
                    f"{self._place.name}"
                )
            news = has_news(journal, disk, base)
            if news and not self.read_only:
                found = self._take_in(disk, base)
                if found:
                    self._notices["found"] = (
                        f"another program has changed {self.path.name}: {found}"
                    )
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
        self._disk.close()
        self._take(disk, opened)
        self._signature = disk.signature
        self.on_change(Changed(self._ledger.seq, None, FILE))


def _look(place: Path) -> Signature | None:
    """What can be seen of a journal that we have not opened; None when there is none."""
    try:
        return signature(place)
    except OSError:
        return None


def _numbered(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Notices of the opening, which stay, under keys of their own."""
    for i, text in enumerate(texts):
        yield f"open {i}", text
