"""Writing COCO keypoints (see `dpk_io_formats.coco` for the format and its convention)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.annotations import VISIBLE, AnnotationSet, Source
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.skeleton import NONE, Skeleton
from dpk_core.streams import PoseStream
from dpk_io_formats.frame_folder import (
    Frame,
    box_of,
    frames_of,
    make_folder,
    report_labels,
    report_names,
    write_frames,
)
from dpk_io_formats.gathered import is_numbering
from dpk_io_formats.name_graph import partners
from dpk_io_formats.tidy import without_infinite

ANNOTATIONS = "annotations.json"
IMAGES = "images"
OURS = "dpk"
"""Key of what we add to an image: where it came from."""


def write_labels(
    folder: Path, data: AnnotationSet, report: LossReport | None, category: str, category_id: int
) -> None:
    """A folder with the annotations and the images; each frame once."""
    frames = frames_of(data)
    make_folder(folder)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for frame, (height, width) in write_frames(folder / IMAGES, data, frames):
        image = {"id": len(images) + 1, "file_name": frame.name, "width": width, "height": height}
        if not _says_all(frame):
            image[OURS] = _origin(frame.source)
        images.append(image)
        individuals = [data.sources[i].individual for i in frame.rows]
        named = not is_numbering(individuals)
        for i, name in zip(frame.rows, individuals, strict=True):
            annotation = _annotation(data.keypoints[i], data.visibility[i])
            if annotation is None:
                if report is not None and (len(individuals) > 1 or name):
                    report.add("animals", 1, "nothing of them is labelled in that frame")
                continue
            annotation |= {"image_id": len(images), "category_id": category_id}
            if named and name:
                annotation["attributes"] = {"individual": name}
            annotations.append({"id": len(annotations) + 1, **annotation})
    skeleton = data.skeleton
    content = {
        "info": {"description": "written by dpk"},
        "images": images,
        "annotations": annotations,
        "categories": [
            {
                "id": category_id,
                "name": category,
                "supercategory": "",
                "keypoints": list(skeleton.names),
                "skeleton": [[parent + 1, child + 1] for child, parent in skeleton.edges],
            }
        ],
    }
    (folder / ANNOTATIONS).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    report_labels(data, report)
    report_names(frames, report)
    _report_skeleton(skeleton, report)


def _annotation(keypoints: np.ndarray, visibility: np.ndarray) -> dict[str, Any] | None:
    """What COCO says of one animal; None when nothing of it is labelled."""
    box = box_of(keypoints)
    if box is None:
        return None
    placed = np.isfinite(keypoints).all(axis=1)
    values: list[float] = []
    for (x, y), here, flag in zip(keypoints.tolist(), placed, visibility.tolist(), strict=True):
        values += [x, y, flag or VISIBLE] if here else [0, 0, 0]
    return {
        "keypoints": values,
        "num_keypoints": int(placed.sum()),
        "bbox": list(box),
        "area": box[2] * box[3],
        "iscrowd": 0,
    }


def _says_all(frame: Frame) -> bool:
    """Whether the name of the image file says where it came from."""
    return frame.source.video in ("", frame.name) or frame.is_image_file


def _origin(source: Source) -> dict[str, Any]:
    crop = {} if source.crop is None else {"crop": list(source.crop)}
    return {"video": source.video, "frame": source.frame, **crop}


def _report_skeleton(skeleton: Skeleton, report: LossReport | None) -> None:
    """Partners are lost unless their names tell them."""
    if report is None:
        return
    guessed = partners(skeleton.names)
    lost = sum(a != b for a, b in zip(skeleton.swap, guessed, strict=True) if a != NONE)
    report.add("swap partners", lost, "COCO knows no left and right, and the names don't tell")


def write_results(
    path: Path, stream: PoseStream, report: LossReport | None, category_id: int, first: int
) -> None:
    """One line for each animal, written piece by piece."""
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        comma = "\n"
        for given in stream:
            for entry in _results(without_infinite(given, report), category_id, first):
                if entry is None:
                    if report is not None:
                        report.add("rows", 1, "nothing was found there, and a result is a find")
                    continue
                file.write(f"{comma}{json.dumps(entry)}")
                comma = ",\n"
        file.write("\n]\n")
    if report is not None:
        k = len(stream.skeleton)
        report.add("keypoint names", k, "results hold numbers only")
        report.add("skeleton edges", len(stream.skeleton.edges), "results hold numbers only")
        swaps = sum(partner != NONE for partner in stream.skeleton.swap)
        report.add("swap partners", swaps, "results hold numbers only")
        rest = dict(stream.provenance)
        names = rest.pop("track_names", None)
        report.add("track names", len(names) if names else 0, "results hold numbers only")
        report.add("provenance entries", len(rest), "results have no place for them")


def _results(piece: Poses, category_id: int, first: int) -> Iterator[dict[str, Any] | None]:
    found = np.isfinite(piece.keypoints).all(axis=2)
    values = np.where(found[..., None], piece.to_predictions(), 0).reshape(len(piece), -1).tolist()
    with np.errstate(invalid="ignore"):
        scores = np.where(found, piece.scores, 0).sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    some = found.any(axis=1)
    for i, (frame, track) in enumerate(
        zip(piece.frames.tolist(), piece.track_ids.tolist(), strict=True)
    ):
        if not some[i]:
            yield None
            continue
        entry = {
            "image_id": frame + first,
            "category_id": category_id,
            "keypoints": values[i],
            "score": float(scores[i]),
        }
        if track != NO_TRACK:
            entry["track_id"] = track
        yield entry
