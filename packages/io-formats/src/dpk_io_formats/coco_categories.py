"""Categories of COCO keypoints (see `dpk_io_formats.coco`): which animals, which skeleton."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpk_core.errors import FileFormatError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.skeleton import Skeleton
from dpk_io_formats.json_text import sequence, shown, table, text
from dpk_io_formats.name_graph import forest, partners

CATEGORY = "animal"
"""What we write, because labels here have no name for what they label."""


def read_categories(content: dict[str, Any], file: Path) -> list[dict[str, Any]]:
    """The categories, checked; FileFormatError when none has keypoints."""
    where = f"{file}, categories"
    found = []
    for position, value in enumerate(sequence(content.get("categories"), where)):
        here = f"{where}, number {position + 1}"
        category = table(value, here)
        plain_id(category.get("id"), here, "id")
        text(category.get("name"), f"{here}, name")
        names = sequence(category.get("keypoints") or [], f"{here}, keypoints")
        for name in names:
            text(name, f"{here}, keypoints")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise FileFormatError(f"{here}: the keypoint {shown(twice)} stands twice")
        found.append({**category, "keypoints": names})
    if not any(category["keypoints"] for category in found):
        raise FileFormatError(
            f"{where}: expected a category with names of keypoints, found none; a COCO file of "
            "boxes has no poses to read"
        )
    return found


def choose_categories(
    categories: list[dict[str, Any]], wanted: str | int | None, content: dict[str, Any], file: Path
) -> list[dict[str, Any]]:
    """The category to read, or several whose keypoints are the same."""
    able = [category for category in categories if category["keypoints"]]
    names = ", ".join(f"{c['name']} ({len(c['keypoints'])} keypoints)" for c in able)
    if wanted is not None:
        found = [c for c in able if str(wanted) in (c["name"], str(c["id"]))]
        if not found:
            raise ValidationError(
                f"{file} has no category {wanted!r} with keypoints; it has {names}"
            )
        return found[:1]
    annotations = sequence(content.get("annotations"), f"{file}, annotations")
    ids = [a.get("category_id") for a in annotations if isinstance(a, dict) and a.get("keypoints")]
    used = {i for i in ids if isinstance(i, (int, str))}
    chosen = [category for category in able if category["id"] in used] or able
    if any(category["keypoints"] != chosen[0]["keypoints"] for category in chosen):
        raise FileFormatError(
            f"{file} has categories with different keypoints: {names}; say which one to read with "
            "the option category=NAME"
        )
    return chosen


def report_categories(chosen: list[dict[str, Any]], losses: LossReport) -> None:
    """Names of categories are lost, but for the one that we write."""
    names = {category["name"] for category in chosen}
    if names != {CATEGORY}:
        losses.add("categories", len(names), "labels here have none")


def skeleton_of(
    category: dict[str, Any], file: Path, guess_swaps: bool, losses: LossReport
) -> Skeleton:
    """The skeleton of a category; its edges are pairs of keypoints counted from 1."""
    names = category["keypoints"]
    where = f"{file}, category {shown(category['name'])}, skeleton"
    pairs = []
    for pair in sequence(category.get("skeleton") or [], where):
        if len(sequence(pair, where)) != 2:
            raise FileFormatError(f"{where}: expected pairs of keypoints, found {shown(pair)}")
        pairs.append(tuple(whole(value, where) for value in pair))
    # COCO counts from 1. Files that count from 0 give themselves away by a 0.
    first = 0 if any(0 in pair for pair in pairs) else 1
    for pair in pairs:
        if not all(first <= value < len(names) + first for value in pair):
            raise FileFormatError(
                f"{where}: the edge {list(pair)} is not between two of {len(names)} keypoints"
            )
    parent, dropped = forest(len(names), [(a - first, b - first) for a, b in pairs])
    losses.add("skeleton edges", dropped, "they close a circle, and a skeleton is made of trees")
    return Skeleton(names, parent, partners(names) if guess_swaps else ())


def plain_id(value: Any, where: str, key: str) -> int | str:
    """An id, a number or a text, or FileFormatError."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise FileFormatError(f"{where}: expected a number as {key}, found {shown(value)}")
    return value


def whole(value: Any, where: str) -> int:
    """A whole number, or FileFormatError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise FileFormatError(f"{where}: expected a whole number, found {shown(value)}")
    return int(value)
