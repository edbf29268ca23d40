"""Labelled frames of a DeepLabCut project (Mathis et al. 2018, Nature Neuroscience 21:1281).

A project is a folder with ``config.yaml`` and ``labeled-data/VIDEO/`` for each video, which holds
the labelled images and ``CollectedData_SCORER.csv``.

Coordinates: DeepLabCut labels in a matplotlib canvas that shows the image with ``imshow``
(napari in version 3), where the centre of the top-left pixel is (0, 0). They are taken over as
they are.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import FileFormatError, FileMissingError
from dpk_core.interfaces import PoseFormat
from dpk_core.skeleton import NONE, Skeleton
from dpk_io_formats.deeplabcut_table import LabelTable, read_table

CONFIG = "config.yaml"
_SIDES = (("left", "right"), ("Left", "Right"), ("_l", "_r"), ("_L", "_R"))


class DeepLabCutFormat(PoseFormat):
    """Reads a project folder, or its ``config.yaml``."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        folder = _folder(Path(path))
        if not (folder / CONFIG).is_file() or not (folder / "labeled-data").is_dir():
            return False
        try:
            return "bodyparts" in _read_config(folder)
        except FileFormatError:
            return False

    def read(
        self,
        path: str | PathLike[str],
        *,
        scorer: str | None = None,
        missing: str = "error",
        guess_swaps: bool = True,
        **options: Any,
    ) -> AnnotationSet:
        """The labelled frames of all videos as one set; images are read when asked for.

        Parameters
        ----------
        path
            The project's folder or its ``config.yaml``.
        scorer
            Whose labels, by default those of the scorer in ``config.yaml``.
        missing
            What to do about labelled images that are not there: "error" names them, "skip" leaves
            them out.
        guess_swaps
            Take body parts as partners under a mirror whose names differ only in left and right
            (leftear, rightear) or a trailing _l and _r.

        Raises
        ------
        FileMissingError
            When there is no project, no labels of that scorer, or images are missing.
        FileFormatError
            When the configuration or a table is not what DeepLabCut writes.
        """
        if options:
            raise FileFormatError(f"deeplabcut: unknown options {sorted(options)}")
        if missing not in ("error", "skip"):
            raise FileFormatError(f"missing: expected 'error' or 'skip', found {missing!r}")
        folder = _folder(Path(path))
        config = _read_config(folder)
        tables = _read_tables(folder, scorer or str(config.get("scorer") or ""))
        bodyparts = tables[0][1].bodyparts
        for table_path, table in tables:
            if table.bodyparts != bodyparts:
                raise FileFormatError(
                    f"{table_path} has the body parts {', '.join(table.bodyparts)}; the other "
                    f"videos have {', '.join(bodyparts)}; they must agree"
                )
        images = [image for _, table in tables for image in table.images]
        keypoints = np.concatenate([table.keypoints for _, table in tables])
        paths = [folder / "labeled-data" / video / name for video, name in images]
        there = np.array([p.is_file() for p in paths])
        if not there.all() and missing == "error":
            absent = [str(p) for p, found in zip(paths, there, strict=True) if not found]
            raise FileMissingError(
                f"{len(absent)} of {len(paths)} labelled images are not there: "
                f"{', '.join(absent[:5])}{' ...' if len(absent) > 5 else ''}; put them back, or "
                "read the rest with missing='skip'"
            )
        if not there.any():
            raise FileMissingError(f"none of the labelled images of {folder} is there")
        kept = np.flatnonzero(there)
        return AnnotationSet(
            ImageFiles([paths[i] for i in kept]),
            keypoints[kept],
            make_skeleton(bodyparts, config.get("skeleton") or [], guess_swaps=guess_swaps),
            sources=tuple(Source(images[i][0], _frame_number(images[i][1])) for i in kept),
        )


class ImageFiles:
    """Images from files of one size, read when they are asked for, as RGB; thread-safe."""

    def __init__(self, paths: list[Path], keep: int = 16) -> None:
        self._paths = paths
        self._keep = keep
        self._recent: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self.shape = (len(paths), *self._read(0).shape)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: Any) -> np.ndarray:
        rows = np.arange(len(self))[row]
        if np.ndim(rows) == 0:
            return self._image(int(rows))
        if not len(rows):
            return np.empty((0, *self.shape[1:]), np.uint8)
        return np.stack([self._image(int(i)) for i in rows])

    def _image(self, i: int) -> np.ndarray:
        with self._lock:
            if i in self._recent:
                return self._recent[i]
        image = self._read(i)
        if image.shape != self.shape[1:]:
            raise FileFormatError(
                f"{self._paths[i]} is {image.shape[1]}x{image.shape[0]} pixels, "
                f"{self._paths[0]} is {self.shape[2]}x{self.shape[1]}; all images of a set must "
                "have one size: resize them, or read the videos one by one"
            )
        with self._lock:
            self._recent[i] = image
            while len(self._recent) > self._keep:
                self._recent.popitem(last=False)
        return image

    def _read(self, i: int) -> np.ndarray:
        import cv2

        # From bytes, because OpenCV cannot open paths with other than ASCII characters everywhere.
        data = np.frombuffer(self._paths[i].read_bytes(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if image is None:
            raise FileFormatError(f"{self._paths[i]} is not an image, or cut short")
        image = np.ascontiguousarray(image[..., ::-1])
        image.setflags(write=False)
        return image


def make_skeleton(
    bodyparts: tuple[str, ...], pairs: list[Any], *, guess_swaps: bool = True
) -> Skeleton:
    """A skeleton from DeepLabCut's list of linked body parts.

    DeepLabCut draws lines between any two body parts; a `Skeleton` is made of trees. A link is
    taken, in the order of the list, unless it closes a circle or names an unknown part; each tree
    hangs on its first body part.
    """
    index = {name: i for i, name in enumerate(bodyparts)}
    neighbours: list[list[int]] = [[] for _ in bodyparts]
    group = list(range(len(bodyparts)))
    for pair in pairs:
        a, b = (index.get(str(name), NONE) for name in [*list(pair), "", ""][:2])
        if NONE in (a, b) or group[a] == group[b]:
            continue
        group = [group[a] if g == group[b] else g for g in group]
        neighbours[a].append(b)
        neighbours[b].append(a)
    parent = [NONE] * len(bodyparts)
    visited: set[int] = set()
    for root in range(len(bodyparts)):
        waiting = [] if root in visited else [root]
        while waiting:
            i = waiting.pop()
            visited.add(i)
            for j in neighbours[i]:
                if j not in visited:
                    parent[j] = i
                    waiting.append(j)
    swap = _guess_swaps(bodyparts) if guess_swaps else [NONE] * len(bodyparts)
    return Skeleton(bodyparts, parent, swap)


def _guess_swaps(bodyparts: tuple[str, ...]) -> list[int]:
    index = {name: i for i, name in enumerate(bodyparts)}
    swap = [NONE] * len(bodyparts)
    for name, i in index.items():
        for left, right in _SIDES:
            if left.startswith("_"):
                partner = name[: -len(left)] + right if name.endswith(left) else ""
            else:
                partner = name.replace(left, right) if name.count(left) == 1 else ""
            j = index.get(partner, NONE)
            if j not in (NONE, i):
                swap[i], swap[j] = j, i
    return swap


def _folder(path: Path) -> Path:
    return path.parent if path.name == CONFIG else path


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise FileMissingError(f"no DeepLabCut project at {folder}: expected {path}")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} is not readable YAML: {error}") from None
    if not isinstance(config, dict):
        raise FileFormatError(f"{path}: expected a DeepLabCut configuration, found no settings")
    return config


def _read_tables(folder: Path, scorer: str) -> list[tuple[Path, LabelTable]]:
    pattern = f"CollectedData_{scorer}.csv" if scorer else "CollectedData_*.csv"
    paths = sorted((folder / "labeled-data").glob(f"*/{pattern}"))
    if not paths:
        others = sorted({p.stem for p in (folder / "labeled-data").glob("*/CollectedData_*.csv")})
        raise FileMissingError(
            f"no labels in {folder / 'labeled-data'}: expected VIDEO/{pattern}; found "
            f"{', '.join(others) or 'no table at all'}"
        )
    return [(path, read_table(path)) for path in paths]


def _frame_number(name: str) -> int:
    """DeepLabCut names extracted frames imgNNNN.png after their number in the video."""
    found = re.fullmatch(r"\D*(\d+)", Path(name).stem)
    return int(found.group(1)) if found else -1
