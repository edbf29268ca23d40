"""From one file format to another, with an account of what could not be carried over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet, ImageSource
from dpk_core.errors import DpkError, OutputExistsError, ValidationError
from dpk_core.losses import Loss, LossReport
from dpk_core.poses import Poses
from dpk_core.services.format_options import checked_options
from dpk_core.services.formats import OURS, get_format, identify, target_spec
from dpk_core.services.individuals import MARGIN, count_individuals, crop_individuals
from dpk_core.services.storage.atomic import atomic_target
from dpk_core.specs import FormatSpec
from dpk_core.streams import PoseStream
from dpk_core.workflow.progress import Progress, ignore

CROP, FRAMES = "crop", "frames"
"""What becomes of animals that share a frame."""


class LossError(DpkError):
    """A conversion would lose something, and was told not to."""


@attrs.frozen
class Conversion:
    """What was converted.

    Parameters
    ----------
    source_format, target_format
        Their names.
    kind
        "annotations", "poses" or "tracks".
    content
        What was read, in a few words.
    losses
        What could not be carried over.
    """

    source_format: str
    target_format: str
    kind: str
    content: str
    output: Path
    losses: tuple[Loss, ...]


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    kind: str | None = None,
    individuals: str | None = None,
    crop_size: int | None = None,
    margin: float = MARGIN,
    strict: bool = False,
    overwrite: bool = False,
    source_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
    progress: Progress = ignore,
) -> Conversion:
    """Read a file or folder of one format and write it in another, whole or not at all.

    Poses are converted in pieces, in bounded memory.

    Parameters
    ----------
    source, target
        Files or folders.
    source_format, target_format
        Names of formats; by default the one that recognises the source, and the one that writes
        files with the target's suffix.
    kind
        "annotations", "poses" or "tracks", where a source has several.
    individuals
        What becomes of labelled animals that share a frame: "crop" cuts each one out, "frames"
        keeps whole frames, any other word keeps the animal of that name. Default: "crop" when
        dpk's own labels are written, which are what a model learns from, else "frames".
    crop_size, margin
        See `dpk_core.services.individuals.crop_individuals`.
    strict
        Write nothing when anything would be lost.
    overwrite
        Replace the target.
    source_options, target_options
        For the two formats.

    Raises
    ------
    FileMissingError, FileFormatError
        About the source.
    OutputExistsError, OutputError
        About the target.
    LossError
        With ``strict``; it names the losses.
    ValidationError, PluginError, MissingDependencyError
    """
    source, target = Path(source), Path(target)
    _check_apart(source, target)
    found = identify(source, source_format)
    kind = found.kind(kind)
    spec = target_spec(target, kind, target_format, kinds=found.kinds)
    writer = get_format(spec.name)[1]
    reading = checked_options(found.format.read, found.spec.name, source_options or {})
    writing = checked_options(writer.write, spec.name, target_options or {})
    report = LossReport()
    with atomic_target(target, overwrite=overwrite) as temporary:
        data = found.format.read(source, kind, report=report, **reading)
        if isinstance(data, AnnotationSet):
            data = _choose(data, individuals or _default(spec), crop_size, margin)
        elif individuals is not None:
            raise ValidationError(f"individuals: only labels have a choice; {source} holds {kind}")
        content = repr(data)
        writer.write(temporary, _watched(data, progress), report=report, **writing)
        if strict and report:
            raise LossError(
                f"{target} was not written, because it could not hold all of {source}:\n{report}\n"
                "Convert without --strict to write it all the same"
            )
    return Conversion(found.spec.name, spec.name, kind, content, target, tuple(report))


def _check_apart(source: Path, target: Path) -> None:
    if target.exists() and source.exists() and target.resolve() == source.resolve():
        raise OutputExistsError(f"{target} is the source itself; choose another name to write")
    if target.is_dir() and source.resolve().is_relative_to(target.resolve()):
        raise OutputExistsError(
            f"the source {source} lies in {target}, which would be replaced; choose another name"
        )


def _default(spec: FormatSpec) -> str:
    return CROP if spec.name == OURS else FRAMES


def _choose(
    labels: AnnotationSet, individuals: str, size: int | None, margin: float
) -> AnnotationSet:
    """What becomes of animals that share a frame."""
    if individuals == FRAMES:
        return labels
    if individuals == CROP:
        several = count_individuals(labels) > 1 or size is not None
        return crop_individuals(labels, size, margin=margin) if several else labels
    names = [source.individual for source in labels.sources]
    if individuals not in names:
        known = ", ".join(sorted(set(filter(None, names)))) or "none has a name"
        raise ValidationError(
            f"individuals: expected {CROP!r}, {FRAMES!r} or the name of an animal ({known}), "
            f"found {individuals!r}"
        )
    return labels.subset([i for i, name in enumerate(names) if name == individuals])


def _watched(data: Any, progress: Progress) -> Any:
    """The same poses, telling of each piece; labels, telling of each image."""
    if isinstance(data, AnnotationSet):
        return attrs.evolve(data, images=_WatchedImages(data.images, progress))
    if not isinstance(data, PoseStream):
        return data

    def pieces() -> Iterator[Poses]:
        done = 0
        for piece in data:
            yield piece
            done += len(piece)
            progress(done, data.length, "converting poses")

    return attrs.evolve(data, pieces=pieces)


class _WatchedImages:
    """An `ImageSource` that tells how far a writer has come."""

    def __init__(self, images: ImageSource, progress: Progress) -> None:
        self._images = images
        self._progress = progress
        self.shape = images.shape
        self.dtype = images.dtype

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: Any) -> np.ndarray:
        found = self._images[row]
        last = int(np.max(np.arange(len(self))[row], initial=-1))
        self._progress(last + 1, len(self), "converting images")
        return found
