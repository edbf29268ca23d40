"""Merge: several labelled sets as one, by keypoint name and by image content."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import reduce
from os import PathLike
from pathlib import Path

import attrs

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import ValidationError
from dpk_core.services.merging import (
    Conflict,
    MergedImages,
    MergedLabels,
    Place,
    image_keys,
    known_source,
)
from dpk_core.services.merging_marks import MergedMarks, merge_marks
from dpk_core.services.storage import read_annotations, write_annotations
from dpk_core.services.storage.annotations_file import unknown_keys
from dpk_core.services.storage.atomic import check_output, exclusive
from dpk_core.services.storage.marks import GROUP, read_marks
from dpk_core.services.storage.merge import extended
from dpk_core.services.video_paths import locate, portable
from dpk_core.skeleton import Skeleton
from dpk_core.workflow.progress import Progress, ignore

PREFER = ("first", "second", "newest")
_SHOWN = 20


@attrs.frozen(repr=False)
class SetMerge:
    """What became of a merge; printed, it says so in a few lines.

    Parameters
    ----------
    inputs, output
        The files.
    images
        Of each input.
    new
        Of each input, those that no input before it has (nor itself, earlier).
    n_images
        In the output.
    filled
        Labels that one set gave to an image which another one had labelled in part.
    conflicts
        Where two sets label a keypoint of one image differently.
    notes
        What was changed or could not be carried over.
    """

    inputs: tuple[Path, ...]
    output: Path
    images: tuple[int, ...]
    new: tuple[int, ...]
    n_images: int
    filled: int
    conflicts: tuple[Conflict, ...]
    notes: tuple[str, ...] = ()

    def where(self, place: Place) -> str:
        """A place in words.

        Examples
        --------
        >>> merge = SetMerge((Path("a.h5"),), Path("c.h5"), (4,), (4,), 4, 0, ())
        >>> merge.where((0, 3))
        'a.h5 row 3'
        """
        return f"{self.inputs[place[0]]} row {place[1]}"

    def __str__(self) -> str:
        lines = [
            f"{path}: {n} images, {new} new"
            for path, n, new in zip(self.inputs, self.images, self.new, strict=True)
        ]
        lines.append(f"{self.output}: {self.n_images} images, {self.filled} labels completed")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"SetMerge({self.n_images} images of {len(self.inputs)} sets, {self.filled} labels "
            f"filled, {len(self.conflicts)} conflicts)"
        )


def merge_sets(
    inputs: Sequence[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    prefer: str | None = None,
    strict: bool = False,
    tolerance: float = 0.5,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress = ignore,
) -> SetMerge:
    """Write a set with all images and labels of several sets; they stay as they are.

    Keypoints are matched by name; the output has those of the first set, then those that only
    others have. Images with the same pixels (of the same individual, where sets name them) are
    one image, and labels that one set lacks come from another. A label is worth more than a
    model's guess. Flags, notes and finished marks come along: see `merge_marks`. Images of
    different sizes are padded on the right and at the bottom, which moves no coordinate; gray ones
    become colour where others are. Names of videos are written as seen from the output. Memory
    holds the labels, and one block of images at a time.

    Parameters
    ----------
    inputs
        Two sets or more.
    output
        Written whole or not at all. It may be one of the inputs, with ``overwrite``.
    prefer
        Which label is kept where two differ by more than ``tolerance`` pixels, or in whether the
        keypoint is hidden: that of the set that comes "first", of the "second" (the later one), or
        of the file that was changed last ("newest"). Default: "first".
    strict
        Without ``prefer``: refuse, and write nothing, when there is any such conflict.
    dry_run
        Only find out what would become of it: nothing is written.

    Raises
    ------
    FileMissingError, FileFormatError
    OutputExistsError, OutputError
    ValidationError
        On fewer than two sets; sets that share neither a keypoint nor an image; channels that
        don't go together; with ``strict``, on conflicts (the message lists them).
    """
    paths, output = [Path(path) for path in inputs], Path(output)
    _check_options(paths, prefer, tolerance)
    if not dry_run:
        check_output(output, overwrite=overwrite)
    with exclusive(output) if output.exists() and not dry_run else nullcontext():
        sets = [read_annotations(path) for path in paths]
        skeleton = reduce(extended, [labels.skeleton for labels in sets])
        channels = _common_channels(sets, paths)
        rows = _group(sets, channels, progress)
        _check_related(sets, rows, paths)
        labels = MergedLabels(skeleton, len(rows), _ages(paths, prefer), tolerance)
        for row, places in enumerate(rows):
            for place in places:
                labels.put(row, place, sets[place[0]])
        known = [read_marks(path, len(one)) for path, one in zip(paths, sets, strict=True)]
        marks = merge_marks(known, rows, labels.annotated, paths)
        result = SetMerge(
            inputs=tuple(paths),
            output=output,
            images=tuple(len(one) for one in sets),
            new=tuple(sum(places[0][0] == i for places in rows) for i in range(len(sets))),
            n_images=len(rows),
            filled=labels.filled,
            conflicts=tuple(labels.conflicts),
            notes=(*_notes(sets, paths, output, skeleton, labels, rows), *marks.report(paths)),
        )
        if strict and prefer is None and labels.conflicts:
            raise ValidationError(_refusal(result))
        if not dry_run:
            _write(output, sets, paths, rows, labels, marks, channels, overwrite, progress)
    return result


def _check_options(paths: Sequence[Path], prefer: str | None, tolerance: float) -> None:
    if len(paths) < 2:
        raise ValidationError(f"inputs: expected two sets or more, found {len(paths)}")
    if prefer is not None and prefer not in PREFER:
        raise ValidationError(f"prefer: expected one of {', '.join(PREFER)}; found {prefer!r}")
    if not tolerance >= 0:
        raise ValidationError(f"tolerance: expected pixels from 0, found {tolerance}")


def _common_channels(sets: Sequence[AnnotationSet], paths: Sequence[Path]) -> int:
    found = {labels.image_shape[2] for labels in sets}
    if len(found) > 1 and found != {1, 3}:
        texts = (f"{p}: {s.image_shape[2]}" for p, s in zip(paths, sets, strict=True))
        raise ValidationError(
            f"images: expected gray (1 channel) and colour (3), found {', '.join(texts)}; convert "
            "them first"
        )
    return max(found)


def _group(sets: Sequence[AnnotationSet], channels: int, progress: Progress) -> list[list[Place]]:
    """For each image of the output, the places where it stands, in the order of the inputs."""
    rows: dict[tuple[bytes, str], list[Place]] = {}
    total, done = sum(map(len, sets)), 0
    for number, labels in enumerate(sets):
        for i, key in enumerate(image_keys(labels, channels)):
            rows.setdefault(key, []).append((number, i))
            done += 1
            progress(done, total, "comparing images")
    return list(rows.values())


def _check_related(
    sets: Sequence[AnnotationSet], rows: Sequence[list[Place]], paths: Sequence[Path]
) -> None:
    """ValidationError for a set that has nothing to do with those before it."""
    for i in range(1, len(sets)):
        names = {name for labels in sets[:i] for name in labels.skeleton.names}
        shares = bool(names & set(sets[i].skeleton.names)) or not names
        shares |= any(p[0][0] < i and any(number == i for number, _ in p) for p in rows)
        if not shares:
            raise ValidationError(
                f"{paths[i]} has neither a keypoint nor an image in common with "
                f"{', '.join(map(str, paths[:i]))}: it has {', '.join(sets[i].skeleton.names)}; "
                f"before it: {', '.join(sorted(names))}. Rename keypoints, or keep the sets apart"
            )


def _ages(paths: Sequence[Path], prefer: str | None) -> list[float]:
    """A number for each set; the label of the one with the higher number is kept."""
    if prefer == "newest":
        return [path.stat().st_mtime_ns for path in paths]
    return [float(i) if prefer == "second" else 0.0 for i in range(len(paths))]


def _write(
    output: Path,
    sets: Sequence[AnnotationSet],
    paths: Sequence[Path],
    rows: Sequence[list[Place]],
    labels: MergedLabels,
    marks: MergedMarks,
    channels: int,
    overwrite: bool,
    progress: Progress,
) -> None:
    sizes = [one.image_shape for one in sets]
    shape = (max(s[0] for s in sizes), max(s[1] for s in sizes), channels)
    images = MergedImages(
        sets,
        [places[0] for places in rows],
        shape,
        lambda done, total: progress(done, total, "writing images"),
    )
    names = [_names(one, path.parent, output.parent) for one, path in zip(sets, paths, strict=True)]
    sources = (reduce(known_source, [_source(sets, names, p) for p in places]) for places in rows)
    merged = AnnotationSet(
        images,
        labels.keypoints,
        labels.skeleton,
        labels.annotated,
        labels.visibility,
        tuple(attrs.evolve(one, size=images.size(row)) for row, one in enumerate(sources)),
    )
    write_annotations(output, merged, overwrite=overwrite, marks=marks.marks)


def _source(sets: Sequence[AnnotationSet], names: Sequence[dict[str, str]], place: Place) -> Source:
    source = sets[place[0]].sources[place[1]]
    return attrs.evolve(source, video=names[place[0]][source.video])


def _names(labels: AnnotationSet, folder: Path, target: Path) -> dict[str, str]:
    """Names of videos in a file of ``folder`` -> the same as seen from ``target``; one that is not
    there, or is named the same from both, keeps its name."""
    names = {}
    for video in {source.video for source in labels.sources}:
        found = locate(video, folder)
        is_elsewhere = found is not None and target.resolve() != folder.resolve()
        names[video] = portable(found, target) if found is not None and is_elsewhere else video
    return names


# -- what a user should know --------------------------------------------------------------------


def _notes(
    sets: Sequence[AnnotationSet],
    paths: Sequence[Path],
    output: Path,
    skeleton: Skeleton,
    labels: MergedLabels,
    rows: Sequence[list[Place]],
) -> list[str]:
    notes = []
    for path, one in zip(paths, sets, strict=True):
        absent = [name for name in skeleton.names if name not in one.skeleton.names]
        if absent:
            notes.append(f"{path} has no {', '.join(absent)}: unlabelled in its images")
        if differing := _other_skeleton(one.skeleton, skeleton):
            notes.append(f"{path} connects or swaps {', '.join(differing)} otherwise: not taken")
        if keys := _not_taken(path, len(one)):
            notes.append(f"{path} has more than labels, which was not taken: {', '.join(keys)}")
        lost = _unreachable(one, path.parent, output.parent)
        if lost:
            notes.append(f"{path} names videos that are not there: {', '.join(lost)}")
    if len({one.image_shape[:2] for one in sets}) > 1:
        notes.append("images have different sizes: smaller ones are padded right and bottom")
    if len({one.image_shape[2] for one in sets}) > 1:
        notes.append("gray images were stored as colour")
    if labels.guesses_left:
        notes.append(f"{labels.guesses_left} keypoints have two different guesses: one was kept")
    if twice := sum(_tells_otherwise(sets, places) for places in rows):
        notes.append(f"{twice} images stand in different videos or frames: the first was kept")
    return notes


def _not_taken(path: Path, n: int) -> list[str]:
    """What a file holds besides labels and marks."""
    keys = unknown_keys(path)
    return keys if read_marks(path, n) is None else [key for key in keys if key != GROUP]


def _other_skeleton(own: Skeleton, merged: Skeleton) -> list[str]:
    rows = {name: (parent, swap) for name, parent, swap in merged.to_rows()}
    return [name for name, parent, swap in own.to_rows() if rows[name] != (parent, swap)]


def _unreachable(labels: AnnotationSet, folder: Path, target: Path) -> list[str]:
    """Videos whose names may lead nowhere, as the output lies in another folder."""
    if folder.resolve() == target.resolve():
        return []
    videos = {source.video for source in labels.sources if source.video}
    return sorted(video for video in videos if locate(video, folder) is None)


def _tells_otherwise(sets: Sequence[AnnotationSet], places: Sequence[Place]) -> bool:
    known = [sets[number].sources[i] for number, i in places]
    return len({(Path(s.video).name, s.frame) for s in known if s.video}) > 1


def _refusal(result: SetMerge) -> str:
    lines = [
        f"  {c.keypoint}: {result.where(c.first)} and {result.where(c.second)}, {c.difference}"
        for c in result.conflicts[:_SHOWN]
    ]
    if len(result.conflicts) > _SHOWN:
        lines.append(f"  and {len(result.conflicts) - _SHOWN} more")
    return (
        f"{len(result.conflicts)} labels of the same image differ; nothing was written. Say which "
        "to keep (--prefer, prefer=), or correct them:\n" + "\n".join(lines)
    )
