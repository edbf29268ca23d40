"""JSON of other programs: read with errors that name the file, told apart without parsing it."""

from __future__ import annotations

import json
import math
import mmap
from pathlib import Path
from typing import Any

from dpk_core.errors import FileFormatError, FileMissingError

_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises
    ------
    FileMissingError, FileFormatError
        Also for text that is not UTF-8, cut short, or nested without end.
    """
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder; expected a JSON file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise FileMissingError(f"no file at {path}") from None
    except OSError as error:
        raise FileMissingError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not UTF-8 text ({error}); expected JSON") from None
    if not text.strip():
        raise FileFormatError(f"{path} is empty; expected JSON")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise FileFormatError(f"{path} is not JSON, or cut short: {error}") from None
    except RecursionError:
        raise FileFormatError(
            f"{path} is nested deeper than any labels are; it is damaged"
        ) from None
    except ValueError as error:  # a number with thousands of digits
        raise FileFormatError(f"{path} holds a number that cannot be: {error}") from None


def holds(path: Path, first: bytes, *needles: bytes) -> bool:
    """Whether a file begins with this sign and has all these texts in it; it never raises.

    A search through the bytes, which for files of hundreds of MB takes a moment where parsing
    takes minutes and gigabytes.
    """
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(4096).removeprefix(_BOM).lstrip(_SPACE)
            if not head.startswith(first):
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return all(content.find(needle) >= 0 for needle in needles)
    except (OSError, ValueError):
        return False


def number(value: Any, where: str) -> float:
    """A JSON number as float; NaN and infinities are let through.

    Raises
    ------
    FileFormatError
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FileFormatError(f"{where}: expected a number, found {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def table(value: Any, where: str) -> dict[str, Any]:
    """The value when it is a JSON object, or FileFormatError."""
    if not isinstance(value, dict):
        raise FileFormatError(f"{where}: expected an object {{...}}, found {shown(value)}")
    return value


def sequence(value: Any, where: str) -> list[Any]:
    """The value when it is a JSON list, or FileFormatError."""
    if not isinstance(value, list):
        raise FileFormatError(f"{where}: expected a list [...], found {shown(value)}")
    return value


def text(value: Any, where: str) -> str:
    """The value when it is a text that is not empty, or FileFormatError."""
    if not isinstance(value, str) or not value:
        raise FileFormatError(f"{where}: expected a text, found {shown(value)}")
    return value


def shown(value: Any) -> str:
    """A value for a message, never longer than a line."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    found = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return found if len(found) <= 80 else f"{found[:77]}..."
