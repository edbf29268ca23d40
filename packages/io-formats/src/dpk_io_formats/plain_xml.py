"""XML of other programs, element by element, without entities and without end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from dpk_core.errors import FileFormatError, FileMissingError

_BLOCK = 2**16
_DEEPEST = 64
_LONGEST = 2**24
"""Characters of one text; a skeleton's drawing has some thousands."""


def children(path: Path, root: str) -> Iterator[Element]:
    """The elements directly below the root, one after the other; none is kept.

    Document types, and with them entities, are refused: labels need none, and they are how a small
    file fills the memory or reads another.

    Raises
    ------
    FileMissingError, FileFormatError
        Also when the root has another name.
    """
    reader = _Reader(path, root)
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield from reader.feed(block)
            yield from reader.feed(b"", last=True)
    except FileNotFoundError:
        raise FileMissingError(f"no file at {path}") from None
    except IsADirectoryError:
        raise FileFormatError(f"{path} is a folder; expected an XML file") from None
    except OSError as error:
        raise FileMissingError(f"cannot read {path}: {error.strerror}") from None


def parse_fragment(text: str, path: Path) -> list[Element]:
    """Elements of a piece of XML without a root; FileFormatError when it is none."""
    reader = _Reader(path, "fragment")
    return list(reader.feed(f"<fragment>{text}</fragment>".encode(), last=True))


class _Reader:
    def __init__(self, path: Path, root: str) -> None:
        self._path = path
        self._root = root
        self._depth = 0
        self._length = 0
        self._builder: TreeBuilder | None = None
        self._done: list[Element] = []
        # expat reads UTF-8, UTF-16, ISO-8859-1 and ASCII by itself, others are refused.
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse

    def feed(self, data: bytes, *, last: bool = False) -> list[Element]:
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as error:
            raise FileFormatError(f"{self._path} is not XML, or cut short: {error}") from None
        except (ValueError, LookupError) as error:  # an encoding that Python has not
            raise FileFormatError(f"{self._path} is not readable XML: {error}") from None
        done, self._done = self._done, []
        return done

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1:
            if name != self._root:
                raise FileFormatError(
                    f"{self._path}: expected <{self._root}>, found <{name[:60]}>; it is XML of "
                    "another program"
                )
            return
        if self._depth > _DEEPEST:
            raise FileFormatError(f"{self._path} is nested deeper than any labels are")
        if self._depth == 2:
            self._builder, self._length = TreeBuilder(), 0
        assert self._builder is not None
        self._builder.start(name, attributes)

    def _end(self, name: str) -> None:
        if self._builder is not None:
            self._builder.end(name)
            if self._depth == 2:
                self._done.append(self._builder.close())
                self._builder = None
        self._depth -= 1

    def _text(self, data: str) -> None:
        if self._builder is None:
            return
        self._length += len(data)
        if self._length > _LONGEST:
            raise FileFormatError(f"{self._path} holds a text that is longer than any label")
        self._builder.data(data)

    def _refuse(self, *_: object) -> None:
        raise FileFormatError(
            f"{self._path} has a document type or entities, which no labels need; it is refused"
        )
