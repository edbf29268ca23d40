"""Small sets to label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.services.storage import write_annotations
from dpk_core.skeleton import Skeleton


@pytest.fixture(autouse=True)
def _own_journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals that cannot lie beside their file never reach the data of whoever runs the tests."""
    monkeypatch.setenv("DPK_JOURNALS", str(tmp_path / "journals at home"))


@pytest.fixture
def skeleton() -> Skeleton:
    """Five keypoints with a tree and one pair."""
    return Skeleton.from_rows(
        [
            ("head", None, None),
            ("earL", "head", "earR"),
            ("earR", "head", "earL"),
            ("hip", "head", None),
            ("tail", "hip", None),
        ]
    )


@pytest.fixture
def annotations(skeleton: Skeleton) -> AnnotationSet:
    """Six images of 24x32; the first two are labelled, of the second the tail is hidden."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (6, 24, 32, 1), np.uint8)
    keypoints = np.full((6, len(skeleton), 2), np.nan)
    keypoints[:2] = rng.uniform(1, 20, (2, len(skeleton), 2)).round(2)
    visibility = np.where(np.isnan(keypoints[..., 0]), 0, 2).astype(np.uint8)
    visibility[1, 4] = 1
    sources = tuple(Source("day1.mp4", 10 * i) for i in range(6))
    return AnnotationSet(images, keypoints, skeleton, visibility=visibility, sources=sources)


@pytest.fixture
def labels_file(tmp_path: Path, annotations: AnnotationSet) -> Path:
    """The same in a file."""
    path = tmp_path / "labels.h5"
    write_annotations(path, annotations)
    return path


@pytest.fixture
def write_set(tmp_path: Path, annotations: AnnotationSet) -> Callable[..., Path]:
    """Writes a changed copy of the small set: ``write_set("name.h5", keypoints=...)``."""

    def write(name: str = "labels.h5", **changes: object) -> Path:
        write_annotations(tmp_path / name, attrs.evolve(annotations, **changes), overwrite=True)
        return tmp_path / name

    return write
