"""Align: a labelled set in which all animals point to the right."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import attrs

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import ValidationError
from dpk_core.services.alignment import align_individuals
from dpk_core.services.individuals import MARGIN
from dpk_core.services.sources import open_source
from dpk_core.services.storage import write_annotations
from dpk_core.services.storage.atomic import check_output
from dpk_core.services.video_paths import locate, portable


@attrs.frozen
class Alignment:
    """What came of it: the set, images in it, and labelled animals that were left out."""

    output: Path
    n_images: int
    left_out: int
    size: tuple[int, int]


def align_set(
    source: str | PathLike[str],
    output: str | PathLike[str],
    tail: str,
    head: str,
    *,
    size: int | tuple[int, int] | None = None,
    margin: float = MARGIN,
    overwrite: bool = False,
) -> Alignment:
    """Write a set of all labelled animals, turned; see `align_individuals`.

    Parameters
    ----------
    source
        Any labelled source: a set, or another program's project.
    output
        The set to write; videos are named relative to it where they are near.

    Raises
    ------
    FileMissingError, FileFormatError, SkeletonError, ValidationError
    OutputExistsError, OutputError
    """
    source, output = Path(source), Path(output)
    check_output(output, overwrite=overwrite)
    dataset = open_source(source, whole_frames=True)
    if not isinstance(dataset, AnnotationSet):
        raise ValidationError(f"{source}: expected a labelled set, found {type(dataset).__name__}")
    aligned = align_individuals(dataset, tail, head, size, margin=margin)
    named = tuple(
        attrs.evolve(one, video=_renamed(one.video, source.parent, output.parent))
        for one in aligned.sources
    )
    write_annotations(output, attrs.evolve(aligned, sources=named), overwrite=overwrite)
    height, width = aligned.image_shape[:2]
    return Alignment(output, len(aligned), len(dataset) - len(aligned), (height, width))


def _renamed(video: str, folder: Path, target: Path) -> str:
    found = locate(video, folder)
    return video if found is None else portable(found, target)
