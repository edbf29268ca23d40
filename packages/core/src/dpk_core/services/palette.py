"""Colours of keypoints: cool on the left, warm on the right, one hue for each limb."""

from __future__ import annotations

import colorsys
import re
from typing import Literal

import numpy as np

from dpk_core.skeleton import NONE, Skeleton

Side = Literal["left", "right", "middle"]

# Hues in degrees with a lightness at both ends. Blue against orange stays apart for readers with
# any of the common colour deficiencies; the middle is told from both by being light.
_RANGES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "left": ((222, 0.60), (184, 0.50)),
    "right": ((6, 0.58), (42, 0.53)),
    "middle": ((128, 0.60), (60, 0.68)),
}
# Without any left and right: Okabe and Ito's palette, "Color universal design" (2008), without
# black, in an order that puts the most different ones first.
_OKABE_ITO = (
    (86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0),
    (0, 114, 178),
)  # fmt: skip


def sides(skeleton: Skeleton) -> tuple[Side, ...]:
    """Whether each keypoint is on the left or the right, or in the middle.

    Names say it (``leftear``, ``paw_R``, ``forelegL2``). Where the names of a swap pair don't, the
    first of the pair is taken for the left one. What has no side of its own takes that of its
    parent.

    Examples
    --------
    >>> sides(Skeleton.from_rows([("head", None, None), ("earL", "head", "earR"),
    ...                           ("earR", "head", "earL")]))
    ('middle', 'left', 'right')
    """
    found: list[Side] = []
    # one-sided pairs are slips for a mirror, but good enough to choose a colour
    for i, (name, partner) in enumerate(zip(skeleton.names, skeleton.swap, strict=True)):
        side = _side_in_name(name)
        if partner not in (NONE, i) and side == "middle":
            side = _side_in_pair(name, skeleton.names[partner]) or (
                "left" if i < partner else "right"
            )
        found.append(side)
    return tuple(_inherited(i, skeleton, found) for i in range(len(skeleton)))


def keypoint_colors(skeleton: Skeleton) -> np.ndarray:
    """(k, 3) uint8 RGB: a hue for each limb, cool left, warm right, growing paler along a limb."""
    branches = _branches(skeleton)
    side_of = sides(skeleton)
    if set(side_of) == {"middle"}:
        colors = _unsided_colors(len(branches))
    else:
        colors = _sided_colors([side_of[branch[0]] for branch in branches])
    of_keypoint = np.zeros((len(skeleton), 3))
    for branch, color in zip(branches, colors, strict=True):
        for position, i in enumerate(branch):
            pale = 0.45 * position / max(4, len(branch))
            of_keypoint[i] = np.asarray(color) * (1 - pale) + 255 * pale
    return of_keypoint.round().astype(np.uint8)


def _branches(skeleton: Skeleton) -> list[list[int]]:
    """Keypoints in chains: a new one begins at a root, a fork, and where the side changes."""
    children: dict[int, list[int]] = {}
    for i, p in enumerate(skeleton.parent):
        children.setdefault(p, []).append(i)
    side_of = sides(skeleton)
    branches: list[list[int]] = []

    def walk(i: int, branch: list[int]) -> None:
        while True:
            branch.append(i)
            following = children.get(i, [])
            if len(following) != 1 or side_of[following[0]] != side_of[i]:
                break
            i = following[0]
        for child in following:
            branches.append([])
            walk(child, branches[-1])

    for root in children.get(NONE, []):
        branches.append([])
        walk(root, branches[-1])
    return sorted(branches, key=lambda branch: branch[0])


def _sided_colors(branch_sides: list[Side]) -> list[tuple[float, ...]]:
    colors = []
    for j, side in enumerate(branch_sides):
        same = [other for other, s in enumerate(branch_sides) if s == side]
        t = same.index(j) / max(1, len(same) - 1)
        (hue0, light0), (hue1, light1) = _RANGES[side]
        # with many limbs on a side neighbours also differ in lightness
        shade = (-0.07, 0.07)[same.index(j) % 2] if len(same) > 3 else 0.0
        hue, light = hue0 + t * (hue1 - hue0), light0 + t * (light1 - light0) + shade
        colors.append(_rgb(hue, light))
    return colors


def _unsided_colors(n: int) -> list[tuple[float, ...]]:
    if n <= len(_OKABE_ITO):
        return [tuple(float(v) for v in c) for c in _OKABE_ITO[:n]]
    return [_rgb(360 * j / n, (0.52, 0.66)[j % 2]) for j in range(n)]


def _rgb(hue: float, light: float) -> tuple[float, ...]:
    return tuple(255 * v for v in colorsys.hls_to_rgb(hue / 360, light, 0.92))


def _inherited(i: int, skeleton: Skeleton, own: list[Side]) -> Side:
    while own[i] == "middle" and skeleton.parent[i] != NONE:
        i = skeleton.parent[i]
    return own[i]


def _side_in_name(name: str) -> Side:
    lower = name.lower()
    if "left" in lower:
        return "left"
    if "right" in lower:
        return "right"
    alone = re.search(r"(?:^|[^a-z0-9])([lr])(?=$|[^a-z])", lower)
    capital = re.search(r"[a-z]([LR])\d*$", name)
    letter = (alone or capital).group(1).lower() if alone or capital else ""
    return {"l": "left", "r": "right"}.get(letter, "middle")  # type: ignore[return-value]


def _side_in_pair(name: str, partner: str) -> Side | None:
    """From the first letters in which a pair of names differs."""
    for a, b in zip(name.lower(), partner.lower(), strict=False):
        if a != b:
            return {"lr": "left", "rl": "right"}.get(a + b)  # type: ignore[return-value]
    return None


def number_color(number: int) -> tuple[int, int, int]:
    """RGB of an individual: neighbouring numbers differ, and each keeps its colour.

    The first seven are Okabe and Ito's; hues go on by the golden angle after them.
    """
    if number < len(_OKABE_ITO):
        return _OKABE_ITO[max(0, number)]
    hue = (number * 0.61803398875) % 1
    red, green, blue = colorsys.hls_to_rgb(hue, 0.62, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)
