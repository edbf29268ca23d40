"""The skeleton: names of the keypoints, who hangs on whom, and which swap under a mirror."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path

import attrs
import numpy as np

from dpk_core.errors import FileFormatError, FileMissingError, SkeletonError

NONE = -1
"""Stands for "no parent" and "no swap partner" in index arrays, as in DeepPoseKit's files."""


def _indices(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(v) for v in values)


@attrs.frozen(repr=False)
class Skeleton:
    """Keypoint names with their tree and their left-right pairs.

    Parameters
    ----------
    names
        One name a keypoint, unique and not empty.
    parent
        Index of each keypoint's parent, -1 for a root. Every component is a tree. Empty: all roots.
    swap
        Index of each keypoint's partner under a left-right mirror, -1 (or itself) for none.
        Empty: none.

    Raises
    ------
    SkeletonError
        On a duplicate or empty name, an index outside the skeleton, or a cycle.

    Notes
    -----
    Swap partners are normally mutual. Published skeletons contain slips (DeepPoseKit's fly has
    ``midlegR3 -> midlegL2``), so one-sided entries load; `flip_order` uses only mutual pairs and
    `one_sided_swaps` lists the rest, so that a mirror is always a permutation.

    Examples
    --------
    >>> s = Skeleton.from_rows([("head", None, None), ("eyeL", "head", "eyeR"),
    ...                         ("eyeR", "head", "eyeL")])
    >>> s
    Skeleton(3 keypoints, 2 edges, 1 limb, 1 swap pair)
    >>> s.edges
    ((1, 0), (2, 0))
    >>> s.flip_order.tolist()
    [0, 2, 1]
    """

    names: tuple[str, ...] = attrs.field(converter=_texts)
    parent: tuple[int, ...] = attrs.field(default=(), converter=_indices)
    swap: tuple[int, ...] = attrs.field(default=(), converter=_indices)

    def __attrs_post_init__(self) -> None:
        k = len(self.names)
        for field in ("parent", "swap"):
            if not getattr(self, field) and k:
                object.__setattr__(self, field, (NONE,) * k)
        _check_names(self.names)
        _check_indices("parent", self.parent, self.names)
        _check_indices("swap", self.swap, self.names)
        _check_acyclic(self.parent, self.names)

    # -- construction ---------------------------------------------------------------------------

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[str, str | None, str | None]]) -> Skeleton:
        """Make a skeleton from ``(name, parent name, swap name)`` rows; None or "" means none.

        Raises
        ------
        SkeletonError
            Also when a parent or swap partner is not among the names.
        """
        names = [str(row[0]).strip() for row in rows]
        _check_names(names)
        index = {name: i for i, name in enumerate(names)}

        def look_up(i: int, kind: str, value: str | None) -> int:
            value = (value or "").strip()
            if not value:
                return NONE
            if value not in index:
                raise SkeletonError(
                    f"keypoint {names[i]!r} (row {i + 1}) has the {kind} {value!r}, which is not a "
                    f"keypoint; expected one of: {', '.join(names)}"
                )
            return index[value]

        parent = [look_up(i, "parent", row[1]) for i, row in enumerate(rows)]
        swap = [look_up(i, "swap partner", row[2]) for i, row in enumerate(rows)]
        return cls(tuple(names), parent, swap)

    @classmethod
    def from_csv(cls, path: str | PathLike[str]) -> Skeleton:
        """Read a ``name,parent,swap`` CSV as DeepPoseKit writes it (UTF-8, with or without BOM).

        Raises
        ------
        FileMissingError, FileFormatError, SkeletonError
        """
        path = Path(path)
        if not path.is_file():
            raise FileMissingError(f"no skeleton at {path}: expected a CSV with name,parent,swap")
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, skipinitialspace=True)
                header = [str(h).strip() for h in (reader.fieldnames or [])]
                reader.fieldnames = header
                if "name" not in header:
                    raise FileFormatError(
                        f"{path} is not a skeleton: expected the columns name,parent,swap, "
                        f"found {','.join(header) or 'an empty file'}"
                    )
                rows = [
                    (row["name"] or "", row.get("parent"), row.get("swap"))
                    for row in reader
                    if any((v or "").strip() for v in row.values() if not isinstance(v, list))
                ]
        except (UnicodeDecodeError, csv.Error) as error:
            raise FileFormatError(
                f"{path} is not UTF-8 text ({error}); save it as CSV UTF-8"
            ) from None
        try:
            return cls.from_rows(rows)
        except SkeletonError as error:
            raise SkeletonError(f"{path}: {error}") from None

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write the ``name,parent,swap`` CSV that `from_csv` and DeepPoseKit read."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["name", "parent", "swap"])
            for i, name in enumerate(self.names):
                writer.writerow(
                    [name, self._name_or_empty(self.parent[i]), self._name_or_empty(self.swap[i])]
                )

    @classmethod
    def from_array(cls, array: np.ndarray, names: Sequence[str] | None = None) -> Skeleton:
        """From DeepPoseKit's ``skeleton`` dataset, (k, 2) of parent and swap indices.

        Without names, keypoints are called ``keypoint_0``, ``keypoint_1``, ...
        """
        array = np.asarray(array)
        if array.ndim != 2 or array.shape[1] != 2:
            raise SkeletonError(f"expected a skeleton array of shape (k, 2), found {array.shape}")
        if names is None:
            names = [f"keypoint_{i}" for i in range(len(array))]
        return cls(tuple(names), array[:, 0].tolist(), array[:, 1].tolist())

    def to_array(self) -> np.ndarray:
        """(k, 2) int32 of parent and swap indices, -1 for none."""
        return np.stack([self.parent, self.swap], axis=1).astype(np.int32).reshape(-1, 2)

    def to_rows(self) -> list[tuple[str, str | None, str | None]]:
        """``(name, parent name, swap name)`` a keypoint; the inverse of `from_rows`."""
        return [
            (n, self._name_or_empty(p) or None, self._name_or_empty(s) or None)
            for n, p, s in zip(self.names, self.parent, self.swap, strict=True)
        ]

    # -- what it knows --------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """The position of a keypoint; SkeletonError with the list of names when there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            raise SkeletonError(
                f"no keypoint {name!r}; this skeleton has {', '.join(self.names)}"
            ) from None

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(child, parent) pairs, one for each keypoint that has a parent, in keypoint order."""
        return tuple((i, p) for i, p in enumerate(self.parent) if p != NONE)

    @cached_property
    def roots(self) -> tuple[int, ...]:
        """For each keypoint the root of the tree that it hangs on."""
        roots = []
        for i in range(len(self)):
            while self.parent[i] != NONE:
                i = self.parent[i]
            roots.append(i)
        return tuple(roots)

    @cached_property
    def limbs(self) -> tuple[tuple[int, ...], ...]:
        """Whole limbs: for each tree that has an edge, the positions of its edges in `edges`."""
        limbs: dict[int, list[int]] = {}
        for e, (child, _) in enumerate(self.edges):
            limbs.setdefault(self.roots[child], []).append(e)
        return tuple(tuple(limbs[root]) for root in sorted(limbs))

    @property
    def n_graph_channels(self) -> int:
        """Channels that the posture graph adds: limbs, segments, whole graph, graph + keypoints.

        Source: Graving et al. 2019, eLife 8:e47994, "Learning multi-scale geometry".
        """
        return len(self.limbs) + len(self.edges) + 2 if self.edges else 0

    @cached_property
    def flip_order(self) -> np.ndarray:
        """(k,) int: ``keypoints[:, flip_order]`` renames left and right after a mirror."""
        order = np.arange(len(self))
        for i, s in enumerate(self.swap):
            if s != NONE and self.swap[s] == i:
                order[i] = s
        return order

    @property
    def one_sided_swaps(self) -> tuple[tuple[str, str], ...]:
        """(keypoint, partner) names whose partner does not name them back; likely slips."""
        return tuple(
            (self.names[i], self.names[s])
            for i, s in enumerate(self.swap)
            if s not in (NONE, i) and self.swap[s] != i
        )

    def _name_or_empty(self, i: int) -> str:
        return "" if i == NONE else self.names[i]

    def __repr__(self) -> str:
        pairs = int((self.flip_order != np.arange(len(self))).sum()) // 2
        return (
            f"Skeleton({_count(len(self), 'keypoint')}, {_count(len(self.edges), 'edge')}, "
            f"{_count(len(self.limbs), 'limb')}, {_count(pairs, 'swap pair')})"
        )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise SkeletonError("expected at least one keypoint, found none")
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if not name:
            raise SkeletonError(f"row {i + 1} has an empty name; every keypoint needs one")
        if name in seen:
            raise SkeletonError(
                f"the name {name!r} stands twice, in rows {seen[name] + 1} and {i + 1}; "
                "keypoint names must be unique"
            )
        seen[name] = i


def _check_indices(kind: str, indices: Sequence[int], names: Sequence[str]) -> None:
    k = len(names)
    if len(indices) != k:
        raise SkeletonError(f"expected one {kind} for each of {k} keypoints, found {len(indices)}")
    for i, j in enumerate(indices):
        if not NONE <= j < k:
            raise SkeletonError(
                f"keypoint {names[i]!r} has the {kind} index {j}; expected -1 (none) to {k - 1}"
            )


def _check_acyclic(parent: Sequence[int], names: Sequence[str]) -> None:
    for start in range(len(parent)):
        path, i = [start], parent[start]
        while i != NONE:
            path.append(i)
            if i == start:
                circle = " -> ".join(names[j] for j in path)
                raise SkeletonError(f"the parents form a cycle: {circle}; a skeleton is a tree")
            if len(path) > len(parent):
                break  # a cycle that does not contain `start`; reported from one of its members
            i = parent[i]
