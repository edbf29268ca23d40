"""Skeletons from names: lines between keypoints become trees, left and right become partners."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from dpk_core.skeleton import NONE

_SIDES = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))
_LETTERS = (("l", "r"), ("L", "R"))


def forest(k: int, pairs: Iterable[tuple[int, int]]) -> tuple[list[int], int]:
    """Parents of k keypoints from lines that a program draws between them.

    A line is taken, in the given order, unless it closes a circle, begins and ends at one
    keypoint, or stands there already. A tree whose lines all lead from a keypoint to what hangs
    on it, (parent, child), keeps that direction; any other hangs on its first keypoint.

    Returns
    -------
    parent
        k indices, -1 for a root.
    dropped
        Number of lines that were left out, the repeated ones not counted.

    Examples
    --------
    >>> forest(4, [(2, 1), (2, 0), (0, 1), (0, 2)])
    ([2, 2, -1, -1], 1)
    """
    group = list(range(k))
    neighbours: list[list[int]] = [[] for _ in range(k)]
    above: list[list[int]] = [[] for _ in range(k)]
    dropped = 0
    for a, b in pairs:
        if b in neighbours[a]:
            continue
        if _root(group, a) == _root(group, b):
            dropped += 1
            continue
        group[_root(group, a)] = _root(group, b)
        neighbours[a].append(b)
        neighbours[b].append(a)
        above[b].append(a)
    parent = [NONE] * k
    for tree in _trees(k, neighbours):
        if all(len(above[i]) <= 1 for i in tree):
            for i in tree:
                parent[i] = above[i][0] if above[i] else NONE
            continue
        waiting = [tree[0]]
        while waiting:
            i = waiting.pop()
            for j in neighbours[i]:
                if j != parent[i]:
                    parent[j] = i
                    waiting.append(j)
    return parent, dropped


def partners(names: Sequence[str]) -> list[int]:
    """Swap partners guessed from names that differ only in left and right, or in an L and an R.

    Examples
    --------
    >>> partners(["left_eye", "right_eye", "legL2", "legR2", "paw_r", "paw_l", "tail"])
    [1, 0, 3, 2, 5, 4, -1]
    """
    index = {name: i for i, name in enumerate(names)}
    swap = [NONE] * len(names)
    for name, i in index.items():
        for other in _mirrored(name):
            j = index.get(other, NONE)
            if j not in (NONE, i) and swap[i] == NONE and swap[j] == NONE:
                swap[i], swap[j] = j, i
    return swap


def _mirrored(name: str) -> Iterable[str]:
    for left, right in _SIDES:
        if name.count(left) == 1 and right not in name:
            yield name.replace(left, right)
    for left, right in _LETTERS:
        # a letter of its own: paw_l, l_paw, or a capital after a small letter: legL, legL2
        apart = rf"(?:(?<=[_\-. ])|^){left}(?=[_\-. ]|\d|$)"
        pattern = rf"{apart}|(?<=[a-z\d]){left}(?=\d*$)" if left.isupper() else apart
        if len(re.findall(pattern, name)) == 1:
            yield re.sub(pattern, right, name)


def _root(group: list[int], i: int) -> int:
    while group[i] != i:
        group[i] = group[group[i]]
        i = group[i]
    return i


def _trees(k: int, neighbours: list[list[int]]) -> list[list[int]]:
    """The keypoints of each tree, the one that stands first in the skeleton first."""
    seen: set[int] = set()
    trees = []
    for i in range(k):
        if i in seen:
            continue
        tree, waiting = [], [i]
        seen.add(i)
        while waiting:
            j = waiting.pop()
            tree.append(j)
            new = [n for n in neighbours[j] if n not in seen]
            seen.update(new)
            waiting.extend(new)
        trees.append(tree)
    return trees
