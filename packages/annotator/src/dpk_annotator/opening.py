"""Bringing a file and its journal together: which of them knows what, and whether they belong.

The journal is the truth of who did what; the file is what every program can read. The file says by
its stamp up to which entry it holds the labels. Other programs may have changed the file, put back
an old copy, or put another set in its place; a journal may be missing, damaged, or somebody else's.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import attrs

from dpk_annotator.entries import GROW, JournalDamagedError
from dpk_annotator.journal import Journal
from dpk_annotator.journal_place import adopt, place_for, put_aside
from dpk_annotator.labels import Labels
from dpk_annotator.ledger import Ledger
from dpk_annotator.salvage import Salvaged, salvage
from dpk_annotator.set_file import SetOnDisk, image_digests
from dpk_core.errors import DpkError, FileFormatError, OutputError

RECOVERED = "(recovered)"
"""Who made the changes that were read from a damaged journal."""

NOT_WRITTEN = -1
"""Stands for the entry up to which a file is, when it holds no such state."""

_SHOWN = 10
_OTHERS = "belongs to another set"


class OtherSetError(DpkError):
    """Where the set was, there is another one now."""


@attrs.define
class Opened:
    """Labels with their journal, as they were found.

    Parameters
    ----------
    ledger
        Labels as they are after the journal's last entry.
    file_seq
        Entry up to which the file holds the labels, `NOT_WRITTEN` when it must be written.
    name
        What whoever keeps something of the set elsewhere, as a browser does, knows it by: the same
        each time the file is opened; see `name_of`.
    place
        Where the journal is, or will be.
    notices
        What a user should know.
    """

    ledger: Ledger
    file_seq: int
    name: str
    place: Path
    notices: list[str]


def open_journal(path: Path, disk: SetOnDisk, *, read_only: bool) -> Opened:
    """The labels of a file with all that its journal knows.

    A journal that does not belong to the file, or is damaged, is put aside under another name and
    never deleted; of a damaged one, what can be read and is not in the file yet is taken over.

    Raises
    ------
    OutputError
        When there is a journal that can be neither read nor put aside.
    """
    notices: list[str] = []
    place = place_for(path)
    if not place.exists() and disk.stamp is not None and not read_only:
        place = adopt(path, disk.stamp.set_id) or place
    name, saved = name_of(path, disk), None
    try:
        opened = _with_journal(disk, name, place, notices, read_only=read_only)
    except JournalDamagedError as error:
        notices.append(str(error))
        if not read_only:
            saved = _salvaged(place, disk)
            notices[-1] += f"; it was put aside as {put_aside(place, 'damaged').name}"
        opened = _opened(None, disk, name, place, notices)
    if saved is not None and not saved.labels.same_as(opened.ledger.labels):
        opened.ledger.restore(0, RECOVERED, saved.labels)
        opened.file_seq = NOT_WRITTEN
        notices.append("edits that were not in the file yet were recovered from it")
    if saved is not None and saved.lost:
        notices.append(
            f"of the edits that were not in the file yet, {len(saved.lost)} could not be read: "
            f"number {_some(saved.lost)}; look at what was labelled last"
        )
    return opened


def name_of(path: Path, disk: SetOnDisk) -> str:
    """The name of a set that has no journal yet: of its place, images and their sources.

    Journals are told apart by a random name of their own, for their entries count: this one is what
    a browser keeps unsent edits under, which must be found again when the server died before the
    first of them was written, and must not go to a copy, or to other images in the same place.
    """
    annotations = disk.annotations
    known = hashlib.blake2b(os.fsencode(path.resolve()), digest_size=16)
    known.update(repr((annotations.image_shape, len(disk.labels))).encode())
    if disk.stamp is not None:
        known.update(disk.stamp.set_id.encode())
    for source in annotations.sources:
        known.update(repr((source.video, source.frame, source.individual)).encode())
    with suppress(DpkError, OSError):  # images that cannot be read are told of when they are shown
        known.update(repr(image_digests(annotations.images)).encode())
    return known.hexdigest()


def find_base(journal: Journal, disk: SetOnDisk) -> int | None:
    """The entry whose labels the file began from; None when it is another set's file."""
    if len(disk.labels) < _images_known(journal):
        return None
    stamp = disk.stamp
    if stamp is not None and stamp.set_id == journal.set_id:
        return stamp.seq if stamp.seq <= journal.last_seq() else None
    if not _has_same_images(journal, disk):  # labels alone prove nothing: blank ones are all alike
        return None
    base = journal.base_of(disk.fingerprint)
    return journal.last_written() if base is None else base


def is_as_written(journal: Journal, disk: SetOnDisk) -> bool:
    """Whether the file's labels are those that a store wrote, to the last bit."""
    stamp = disk.stamp
    return (
        stamp is not None
        and stamp.set_id == journal.set_id
        and stamp.fingerprint == disk.fingerprint
    )


def has_news(journal: Journal, disk: SetOnDisk, base: int) -> bool:
    """Whether there are changes of another program in the file that nobody has taken in yet."""
    if is_as_written(journal, disk):
        return False
    return journal.written_up_to(base, disk.fingerprint) is None


def journal_maker(place: Path, name: str, disk: SetOnDisk) -> Callable[[Labels], Journal]:
    """What begins the journal when there is something to write."""

    def begin(labels: Labels) -> Journal:
        digests = {
            str(row): digest for row, digest in image_digests(disk.annotations.images).items()
        }
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make {place.parent} for the journal ({error.strerror}); nothing is saved"
            ) from None
        known = {
            "set_id": uuid.uuid4().hex,
            "name": name,
            "images": str(len(labels)),
            "digests": json.dumps(digests),
        }
        return Journal.create(place, known, labels)

    return begin


# -- small parts ------------------------------------------------------------------------------


def _with_journal(
    disk: SetOnDisk, name: str, place: Path, notices: list[str], *, read_only: bool
) -> Opened:
    """What journal and file say together; a journal that is not the file's is put aside."""
    try:
        journal = Journal.open(place)
    except OutputError:
        if not read_only:
            raise
        notices.append(f"the journal {place} cannot be read; the labels are those of the file")
        return _opened(None, disk, name, place, notices)
    if journal is None:
        return _opened(None, disk, name, place, notices)
    try:
        why = _strangeness(journal, disk)
        if why == _OTHERS and journal.name == name:
            # It was begun here for these images: what it says of them is not what was written.
            raise JournalDamagedError(f"{place}: what it says of its set is damaged")
        if why is None:
            return _opened(journal, disk, journal.name, place, notices)
    except BaseException:
        journal.close()
        raise
    journal.close()
    notices.append(f"the journal {place.name} {why}; ")
    if read_only:
        notices[-1] += "the labels are those of the file"
    else:
        notices[-1] += f"it was put aside as {put_aside(place, 'other').name}"
    return _opened(None, disk, name, place, notices)


def _opened(
    journal: Journal | None, disk: SetOnDisk, name: str, place: Path, notices: list[str]
) -> Opened:
    labels, seq, file_seq = disk.labels.copy(), 0, 0
    begin = journal_maker(place, name, disk)
    if journal is not None:
        base = find_base(journal, disk)
        assert base is not None
        if is_as_written(journal, disk) and disk.has_marks:
            seq = base
        else:
            seq, labels = journal.snapshot(journal.last_seq())
        file_seq = NOT_WRITTEN if has_news(journal, disk, base) else base
        if base < journal.last_written():
            notices.append(
                "the file is older than the journal beside it (an old copy?); all edits of the "
                "journal are shown; to go back, restore an earlier moment from the history"
            )
    return Opened(Ledger(labels, journal, seq, begin), file_seq, name, place, notices)


def _strangeness(journal: Journal, disk: SetOnDisk) -> str | None:
    """Why a journal cannot be this file's; None when it can."""
    if len(disk.labels) < _images_known(journal):
        return "knows of more images than the file has"
    stamp = disk.stamp
    if stamp is not None and stamp.set_id == journal.set_id and stamp.seq > journal.last_seq():
        return "is older than the file"
    return _OTHERS if find_base(journal, disk) is None else None


def _images_known(journal: Journal) -> int:
    grown = journal.entries(kind=GROW, last=1)
    return int(grown[-1].edit["n"] if grown else journal.meta.get("images", 0))


def _has_same_images(journal: Journal, disk: SetOnDisk) -> bool:
    try:
        known = {int(row): text for row, text in json.loads(journal.meta["digests"]).items()}
        return image_digests(disk.annotations.images, list(known)) == known
    except (KeyError, ValueError, AttributeError, FileFormatError):
        return False


def _some(numbers: Sequence[int]) -> str:
    text = ", ".join(map(str, numbers[:_SHOWN]))
    return text if len(numbers) <= _SHOWN else f"{text}, ... {numbers[-1]}"


def _salvaged(place: Path, disk: SetOnDisk) -> Salvaged | None:
    """The file's labels with the edits that a damaged journal still tells of."""
    if disk.stamp is not None and disk.stamp.fingerprint != disk.fingerprint:
        return None  # changed by another program: nobody knows what the entries belong to
    return salvage(place, 0 if disk.stamp is None else disk.stamp.seq, disk.labels)
