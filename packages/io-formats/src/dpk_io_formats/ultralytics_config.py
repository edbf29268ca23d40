"""``data.yaml`` of an Ultralytics dataset (see `dpk_io_formats.ultralytics`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import yaml

from dpk_core.errors import FileFormatError
from dpk_core.losses import LossReport
from dpk_core.skeleton import NONE, Skeleton
from dpk_io_formats.json_text import shown
from dpk_io_formats.name_graph import forest

CONFIG = "data.yaml"
SPLITS = ("train", "val", "test")
CATEGORY = "animal"
_LARGEST_CONFIG = 2**20
_KNOWN = {"path", *SPLITS, "nc", "names", "kpt_shape", "flip_idx", "kpt_names"}
_KNOWN |= {"node_names", "skeleton"}


@attrs.frozen
class Config:
    """What data.yaml says."""

    file: Path
    root: Path
    splits: dict[str, tuple[str, ...]]
    skeleton: Skeleton
    values: int
    n_classes: int | None

    @classmethod
    def of(cls, config: dict[str, Any], file: Path, losses: LossReport) -> Config:
        k, values = _kpt_shape(config.get("kpt_shape"), file)
        names = _keypoint_names(config, k, file)
        pairs = _pairs(config.get("skeleton"), k, file)
        parent, dropped = forest(k, pairs)
        losses.add(
            "skeleton edges", dropped, "they close a circle, and a skeleton is made of trees"
        )
        classes = config.get("names")
        n_classes = len(classes) if isinstance(classes, (list, dict)) else None
        found = list(classes.values()) if isinstance(classes, dict) else classes
        if found and found != [CATEGORY]:
            losses.add("classes", n_classes or 1, "labels here have none")
        losses.add(
            "settings", len(set(map(str, config)) - _KNOWN), "they are no part of the labels"
        )
        return cls(
            file,
            _root(config.get("path"), file),
            {name: _places(config.get(name), name, file) for name in SPLITS},
            Skeleton(names, parent, _swaps(config.get("flip_idx"), k, file)),
            values,
            n_classes,
        )


def find_config(path: Path) -> Path | None:
    """The yaml file that a path means; None when there is none."""
    if path.is_file():
        return path if path.suffix.lower() in (".yaml", ".yml") else None
    if (path / CONFIG).is_file() or not path.is_dir():
        return path / CONFIG if path.is_dir() else None
    found = [p for pattern in ("*.yaml", "*.yml") for p in sorted(path.glob(pattern))]
    found = [p for p in found if b"kpt_shape" in _head(p)]
    return found[0] if len(found) == 1 else None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST_CONFIG)


def _kpt_shape(value: Any, file: Path) -> tuple[int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(type(number) is int for number in value)
        or value[0] < 1
        or value[0] > 10**6
        or value[1] not in (2, 3)
    ):
        raise FileFormatError(
            f"{file}: expected kpt_shape: [keypoints, 2 or 3], found {shown(value)}; a dataset "
            "without it has boxes and no poses"
        )
    return value[0], value[1]


def _keypoint_names(config: dict[str, Any], k: int, file: Path) -> tuple[str, ...]:
    names = config.get("kpt_names")
    if isinstance(names, dict):
        names = next(iter(names.values()), None)
    elif isinstance(names, list) and names and isinstance(names[0], list):
        names = names[0]
    if names is None:
        names = config.get("node_names")
    if names is None:
        return tuple(f"keypoint_{i}" for i in range(k))
    if not isinstance(names, list) or len(names) != k or not all(map(_is_plain, names)):
        raise FileFormatError(f"{file}: expected {k} names in kpt_names, found {shown(names)}")
    found = tuple(str(name) for name in names)
    if len(set(found)) < k:
        twice = next(name for name in found if found.count(name) > 1)
        raise FileFormatError(f"{file}: the keypoint {shown(twice)} stands twice in kpt_names")
    return found


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and value != ""


def _pairs(value: Any, k: int, file: Path) -> list[tuple[int, int]]:
    pairs = [] if value is None else value
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(i) is int and 0 <= i < k for i in pair)
        for pair in pairs
    ):
        raise FileFormatError(
            f"{file}: expected a skeleton of pairs of keypoints from 0 to {k - 1}, found "
            f"{shown(value)}"
        )
    return [(pair[0], pair[1]) for pair in pairs]


def _swaps(value: Any, k: int, file: Path) -> list[int]:
    if value is None or value == []:
        return [NONE] * k
    if (
        not isinstance(value, list)
        or len(value) != k
        or not all(type(i) is int and 0 <= i < k for i in value)
    ):
        raise FileFormatError(
            f"{file}: expected flip_idx with {k} numbers from 0 to {k - 1}, found {shown(value)}"
        )
    return [NONE if partner == i else partner for i, partner in enumerate(value)]


def _root(value: Any, file: Path) -> Path:
    """Where ``train`` and ``val`` are looked up; the file's own folder when that is not there."""
    here = file.parent
    if isinstance(value, str) and value:
        path = Path(value)
        if path.is_absolute():
            return path if path.is_dir() else here
        if ".." in Path(value.replace("\\", "/")).parts:
            return here
        return here / path if (here / path).is_dir() else here
    return here


def _places(value: Any, split: str, file: Path) -> tuple[str, ...]:
    """Folders or lists of images, below the root.

    Roboflow writes ``../train/images`` and means the folder beside the file, as Ultralytics'
    ``check_det_dataset`` knows: a leading ``../`` is dropped, any other refused.
    """
    if value is None:
        return ()
    places = value if isinstance(value, list) else [value]
    found = []
    for place in places:
        if not isinstance(place, str) or not place:
            raise FileFormatError(f"{file}, {split}: expected a folder, found {shown(place)}")
        name = place.replace("\\", "/")
        while name.startswith(("../", "./")):
            name = name.split("/", 1)[1]
        if ".." in Path(name).parts or "\0" in name:
            raise FileFormatError(f"{file}, {split}: {shown(place)} leads out of the dataset")
        found.append(name)
    return tuple(found)


def write_config(path: Path, skeleton: Skeleton, category: str, values: int) -> None:
    """Without ``path``: Ultralytics then looks in the folder of the file, wherever that is."""
    content = {
        "train": "train/images",
        "val": "train/images",
        "names": {0: category},
        "kpt_shape": [len(skeleton), values],
        "flip_idx": skeleton.flip_order.tolist(),
        "kpt_names": {0: list(skeleton.names)},
        "node_names": list(skeleton.names),
        "skeleton": [[parent, child] for child, parent in skeleton.edges],
    }
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, default_flow_style=None)
    path.write_text(text, encoding="utf-8")
