"""Tag dictionaries: which patterns there are, how far they differ, and what surrounds them.

A tag is a square of n x n black and white modules inside two rings, each one module wide:

- ``"double"`` (pinpoint): a white ring, and around it a black one, which is the tag's edge;
- ``"single"`` (ArUco, AprilTag): a black ring, which is the tag's edge; the white ring around it is
  the paper and not counted as part of the tag.

Nothing in a pattern says which way up it is: the code itself does, because it differs from every
rotation of every code, its own included.
"""

from __future__ import annotations

import functools
import json
import re
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.errors import FileFormatError, FileMissingError, ValidationError

FORMAT = "dpk-tag-dictionary"
VERSION = 1
MAX_BITS = 16
"""Modules along a side; more than any dictionary in use, few enough for every check to be quick."""
MAX_CODES = 20_000
RINGS = ("double", "single")


def _codes(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != 3 or array.shape[1] != array.shape[2] or not len(array):
        raise ValidationError(
            f"codes: expected (count, n, n) with at least one code, found {array.shape}"
        )
    if not 2 <= array.shape[1] <= MAX_BITS or len(array) > MAX_CODES:
        raise ValidationError(
            f"codes: expected at most {MAX_CODES} codes of 2 to {MAX_BITS} modules a side, found "
            f"{len(array)} of {array.shape[1]}"
        )
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ValidationError("codes: expected only 0 (black) and 1 (white)")
    array = np.ascontiguousarray(array, dtype=np.uint8)
    array.setflags(write=False)
    return array


def _ids(value: Any, dictionary: TagDictionary) -> np.ndarray:
    count = len(dictionary.codes)
    array = np.arange(count) if value is None else np.asarray(value)
    if array.shape != (count,) or array.dtype.kind not in "iu" or array.min() < 0:
        raise ValidationError(
            f"ids: expected {count} whole numbers from 0, one for each code, found "
            f"{array.dtype} of shape {array.shape}"
        )
    if len(np.unique(array)) != count:
        raise ValidationError("ids: expected each once, found some twice")
    array = array.astype(np.int64)
    array.setflags(write=False)
    return array


@attrs.frozen(eq=False, repr=False)
class TagDictionary:
    """Codes of tags, numbered, with the number of modules in which the two closest differ.

    Parameters
    ----------
    codes
        (count, n, n) of 0 (black) and 1 (white), upright: row 0 is the top.
    distance
        Fewest modules in which any code differs from any rotation of any other, or from a rotation
        of itself. None: counted. A claim is checked.
    ids
        (count,) the number of each code. Default 0, 1, ...
    rings
        "double": white inside black, as in pinpoint; "single": black, as ArUco and AprilTag have.
    name
        For messages and printed sheets.

    Raises
    ------
    ValidationError
        On arrays of the wrong shape or values, a claimed distance that is not the true one, or two
        codes (or a code and its rotation) that are the same.

    Examples
    --------
    >>> tags = TagDictionary.generate(4, distance=4, count=10, seed=1)
    >>> tags
    TagDictionary('4x4_4', 10 codes of 4x4, distance 4, double ring)
    """

    codes: np.ndarray = attrs.field(converter=_codes)
    distance: int | None = None
    ids: np.ndarray = attrs.field(default=None)
    rings: str = attrs.field(default="double")
    name: str = ""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "ids", _ids(self.ids, self))
        if self.rings not in RINGS:
            raise ValidationError(f"rings: expected one of {RINGS}, found {self.rings!r}")
        true = minimum_distance(self.codes)
        if true == 0:
            raise ValidationError(
                "codes: expected every code to differ from all rotations of all others and from "
                "its own, found a distance of 0"
            )
        if self.distance is not None and self.distance != true:
            raise ValidationError(
                f"distance: {self.distance} is claimed, but the closest two codes differ in "
                f"{true} modules; give {true}, or None to have it counted"
            )
        object.__setattr__(self, "distance", true)
        if not self.name:
            object.__setattr__(self, "name", f"{self.n}x{self.n}_{true}")

    @classmethod
    def generate(
        cls, n: int, distance: int, count: int, seed: int = 0, *, rings: str = "double"
    ) -> TagDictionary:
        """``count`` random codes of n x n modules that differ in at least ``distance``.

        The same arguments give the same codes everywhere.

        Raises
        ------
        ValidationError
            When the search does not come to ``count`` codes; the message says how many it found.
        """
        from dpk_trackers.barcodes.generate import generate_codes

        return cls(codes=generate_codes(n, distance, count, seed), rings=rings)

    @property
    def n(self) -> int:
        """Modules along a side of the code."""
        return self.codes.shape[1]

    @property
    def modules(self) -> int:
        """Modules along a side of the black square."""
        return self.n + (4 if self.rings == "double" else 2)

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        return (
            f"TagDictionary({self.name!r}, {len(self)} codes of {self.n}x{self.n}, distance "
            f"{self.distance}, {self.rings} ring)"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TagDictionary):
            return NotImplemented
        return (
            self.rings == other.rings
            and np.array_equal(self.codes, other.codes)
            and np.array_equal(self.ids, other.ids)
        )

    def __hash__(self) -> int:
        return hash((self.rings, self.codes.tobytes(), self.ids.tobytes()))

    def index(self, tag_id: int) -> int:
        """The position of an id; ValidationError when there is none."""
        found = np.flatnonzero(self.ids == tag_id)
        if not len(found):
            raise ValidationError(f"{self.name} has no tag {tag_id}; ids: {_range(self.ids)}")
        return int(found[0])

    def choose(self, ids: Any) -> TagDictionary:
        """Only these ids, in this order: fewer codes, a distance at least as large."""
        rows = [self.index(int(tag_id)) for tag_id in ids]
        return TagDictionary(self.codes[rows], None, self.ids[rows], self.rings, self.name)

    def picture(self, tag_id: int, *, paper: int = 0) -> np.ndarray:
        """(m, m) uint8 of 0 and 1, one pixel a module: the black square and all within it.

        ``paper`` is the width of white around it, in modules.
        """
        code = self.codes[self.index(tag_id)]
        if self.rings == "double":
            code = np.pad(code, 1, constant_values=1)
        return np.pad(np.pad(code, 1, constant_values=0), paper, constant_values=1)

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the dictionary as JSON, one line of 0 and 1 a code, rows joined by '/'.

        Raises
        ------
        OutputExistsError
            When the file exists and ``overwrite`` is False.
        """
        from dpk_core.services.storage import atomic_path

        lines = [
            ["".join(map(str, row)) for row in code] for code in self.codes.astype(int).tolist()
        ]
        content = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "n": self.n,
            "distance": self.distance,
            "rings": self.rings,
            "ids": self.ids.tolist(),
            "codes": ["/".join(rows) for rows in lines],
        }
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> TagDictionary:
        """Read what `save` wrote (.json), one of pinpoint's pickles (.pkl), or a dictionary that
        OpenCV wrote (.yml, .xml).

        Raises
        ------
        FileMissingError, FileFormatError
            When the file is absent, or not a dictionary; a claimed distance is checked.
        """
        path = Path(path)
        if not path.is_file():
            raise FileMissingError(f"expected a tag dictionary at {path}, found no file")
        if path.suffix.lower() in (".pkl", ".pickle"):
            from dpk_trackers.barcodes.pinpoint_lists import read_pinpoint

            return read_pinpoint(path)
        if path.suffix.lower() in (".yml", ".yaml", ".xml"):
            from dpk_trackers.barcodes.opencv_files import read_opencv

            return read_opencv(path)
        return _read_json(path)

    @classmethod
    def named(cls, name: str | PathLike[str]) -> TagDictionary:
        """A file, or one of OpenCV's by its name, in capitals or not ("dict_4x4_50").

        Raises
        ------
        ValidationError, FileMissingError, FileFormatError
        """
        if str(name).upper().startswith("DICT_") and not Path(name).exists():
            return cls.predefined(_spelt(str(name)))
        return cls.load(name)

    @classmethod
    def predefined(cls, name: str) -> TagDictionary:
        """One of OpenCV's, by its name: "DICT_5X5_100", "DICT_APRILTAG_36h11", ..."""
        import cv2

        number = getattr(cv2.aruco, name, None) if name.startswith("DICT_") else None
        if not isinstance(number, int):
            known = sorted(entry for entry in dir(cv2.aruco) if entry.startswith("DICT_"))
            raise ValidationError(f"expected one of {', '.join(known)}, found {name!r}")
        return cls.from_opencv(cv2.aruco.getPredefinedDictionary(number), name)

    @classmethod
    def from_opencv(cls, dictionary: Any, name: str = "") -> TagDictionary:
        """The codes of a ``cv2.aruco.Dictionary``, which has a black ring around each."""
        import cv2

        codes = [
            cv2.aruco.Dictionary.getBitsFromByteList(row[None], dictionary.markerSize)
            for row in dictionary.bytesList
        ]
        return cls(np.array(codes), rings="single", name=name)

    def to_opencv(self) -> Any:
        """A ``cv2.aruco.Dictionary``: number i is the code in position i, whatever its id is.

        OpenCV knows one black ring, so a white one counts as part of the code. Its tags can be
        read with ``cv2.aruco.ArucoDetector``, and as many wrong modules are put right as the
        distance allows.
        """
        import cv2

        bits = self.codes
        if self.rings == "double":
            bits = np.pad(bits, ((0, 0), (1, 1), (1, 1)), constant_values=1)
        rows = [cv2.aruco.Dictionary.getByteListFromBits(code) for code in bits]
        assert self.distance is not None
        return cv2.aruco.Dictionary(
            np.concatenate(rows), bits.shape[1], max(0, (self.distance - 1) // 2)
        )


@functools.lru_cache(maxsize=32)
def _cached_distance(shape: tuple[int, ...], data: bytes) -> int:
    codes = np.frombuffer(data, np.uint8).reshape(shape)
    count, n = shape[0], shape[1]
    turned = rotations(codes).reshape(4, count, n * n)
    signs = (2.0 * turned - 1).astype(np.float32)
    smallest = n * n
    for start in range(0, count, 512):  # 512 x 4 x 20,000 floats at most
        block = signs[0, start : start + 512]
        apart = (n * n - block @ signs.reshape(4 * count, -1).T) / 2
        rows = np.arange(len(block))
        apart[rows, start + rows] = n * n  # itself, not turned
        smallest = min(smallest, int(apart.min()))
    return smallest


def minimum_distance(codes: np.ndarray) -> int:
    """Fewest differing modules over all pairs, all rotations, and rotations of each on itself.

    Parameters
    ----------
    codes
        (count, n, n) of 0 and 1.
    """
    codes = np.ascontiguousarray(codes, dtype=np.uint8)
    return _cached_distance(codes.shape, codes.tobytes())


def rotations(codes: np.ndarray) -> np.ndarray:
    """(count, n, n) -> (4, count, n, n): entry r is turned by r quarter turns clockwise."""
    return np.stack([np.rot90(codes, -quarter, axes=(1, 2)) for quarter in range(4)])


def _read_json(path: Path) -> TagDictionary:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: expected a tag dictionary in JSON; {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileFormatError(f"{path}: expected a tag dictionary ('format': {FORMAT!r})")
    version = content.get("version")
    if version != VERSION:
        raise FileFormatError(
            f"{path}: expected version {VERSION} of the format, found {version!r}; "
            "a newer dpk may read it"
        )
    try:
        n, lines = content["n"], content["codes"]
        rows = [[int(bit) for bit in line.replace("/", "")] for line in lines]
        codes = np.array(rows, dtype=np.uint8).reshape(len(rows), n, n)
        return TagDictionary(
            codes=codes,
            distance=content["distance"],
            ids=np.array(content["ids"]),
            rings=content["rings"],
            name=str(content["name"]),
        )
    except ValidationError as error:
        raise FileFormatError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FileFormatError(
            f"{path}: expected name, n, distance, rings, ids and codes of a tag dictionary; "
            f"{type(error).__name__}: {error}"
        ) from None


def _spelt(name: str) -> str:
    """As OpenCV spells it: capitals, but for the family's h in DICT_APRILTAG_36h11."""
    return re.sub(r"(?<=\d)H(?=\d)", "h", name.upper())


def _range(ids: np.ndarray) -> str:
    return f"{len(ids)} from {ids.min()} to {ids.max()}"
