"""Merging the open set with another one of its folder, into a file of its own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import attrs

from dpk_annotator.films import POSES_SUFFIX
from dpk_annotator.jobs import Job, Jobs
from dpk_annotator.store import Store
from dpk_core.errors import DpkError, FileFormatError, ValidationError
from dpk_core.services.storage import read_annotations
from dpk_core.workflow.merge import SetMerge, merge_sets

SET_SUFFIXES = (".h5", ".hdf5")
MOST_CONFLICTS = 200


@attrs.frozen
class OtherSet:
    """A set that the page may ask to merge with, by its number."""

    number: int
    path: Path


class Merges:
    """Sets beside the open one. Thread-safe.

    Parameters
    ----------
    store
        The open set; a merge reads it and leaves it as it is.
    jobs
        Where a merge runs.
    """

    def __init__(self, store: Store, jobs: Jobs) -> None:
        self._store, self._jobs = store, jobs
        self._lock = threading.Lock()
        self._known: dict[str, OtherSet] = {}

    def all(self) -> list[OtherSet]:
        """Files that may be sets, by name; numbers stay while the server runs."""
        own = self._store.path
        try:
            found = sorted(p for p in own.parent.iterdir() if p.suffix.lower() in SET_SUFFIXES)
        except OSError:
            found = []
        others = [p for p in found if p.name != own.name and not p.name.startswith(".")]
        others = [p for p in others if not p.name.endswith(POSES_SUFFIX)]
        with self._lock:
            for path in others:
                self._known.setdefault(path.name, OtherSet(len(self._known), path))
            return [self._known[path.name] for path in others]

    def get(self, number: int) -> OtherSet:
        """A set by its number; ValidationError when there is none."""
        for one in self.all():
            if one.number == number:
                return one
        raise ValidationError(f"there is no set {number} to merge with")

    def describe(self, other: OtherSet) -> dict[str, Any] | None:
        """Name, images, labels; None when the file is no set at all."""
        known = {"id": other.number, "name": other.path.name}
        try:
            labels = read_annotations(other.path)
        except FileFormatError:
            return None
        except DpkError as error:
            return {**known, "error": str(error)}
        return {
            **known,
            "n": len(labels),
            "keypoints": list(labels.skeleton.names),
            "labels": int(labels.annotated.sum()),
            "error": None,
        }

    def preview(self, number: int, prefer: str) -> SetMerge:
        """What would become of a merge; nothing is written.

        Raises
        ------
        ValidationError
            When there is no such set, or the two have nothing in common.
        """
        other = self.get(number)
        self._store.save()
        inputs = [self._store.path, other.path]
        return merge_sets(inputs, self._output(other), prefer=prefer, dry_run=True)

    def begin(self, number: int, prefer: str) -> Job:
        """Write a new set with all images and labels of both, beside them: ``dpk merge``.

        Raises
        ------
        ValidationError
            When there is no such set, or a merge is running.
        """
        other = self.get(number)
        self._store.save()
        output = self._output(other)
        inputs = [str(path.absolute()) for path in (self._store.path, other.path)]
        arguments = ["merge", *inputs, "-o", str(output.absolute()), "--prefer", prefer]
        settings = {"other": other.path.name, "output": output.name, "prefer": prefer}
        return self._jobs.start("merge", arguments, settings)

    def _output(self, other: OtherSet) -> Path:
        """A name that no file has."""
        own = self._store.path
        stem = f"{own.stem}+{other.path.stem}"
        path, number = own.with_name(f"{stem}.h5"), 2
        while path.exists():
            path, number = own.with_name(f"{stem}-{number}.h5"), number + 1
        return path
