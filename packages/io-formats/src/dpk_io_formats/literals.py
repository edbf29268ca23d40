"""Lists, tuples, texts and numbers in a pickle, read without loading it.

A pickle is a program that runs when it is loaded. PyTables keeps attributes as pickles all the
same; those made of literals alone can be read off, opcode by opcode, and others are refused.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

from dpk_core.errors import DpkError, FileFormatError

INSTEAD = "read the .csv beside it instead, or write one: pandas.read_hdf(FILE).to_csv(NAME)"


class PickledDataError(FileFormatError):
    """The file keeps what is asked for as pickled objects, which are not loaded."""


_MARK = object()


def read_literal(pickled: Any, where: str, path: Path) -> Any:
    """What a pickle says if it is made of literals alone; nothing in it is called or imported.

    Raises
    ------
    PickledDataError
        When there is anything else in it.
    """
    if not isinstance(pickled, bytes):
        return pickled
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "STOP":
                (value,) = stack
                return value
            _step(opcode.name, argument, stack, memo)
    except DpkError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise PickledDataError(
            f"{path}: an attribute of {where} is not readable ({error}); {INSTEAD}"
        ) from None
    raise PickledDataError(f"{path}: an attribute of {where} is cut short; {INSTEAD}")


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _VALUES:
        stack.append(argument)
    elif name == "MARK":
        stack.append(_MARK)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name in ("EMPTY_LIST", "LIST"):
        stack.append([] if name == "EMPTY_LIST" else _pop_to_mark(stack))
    elif name in ("EMPTY_DICT", "DICT"):
        stack.append({} if name == "EMPTY_DICT" else _pairs(_pop_to_mark(stack)))
    elif name == "EMPTY_TUPLE":
        stack.append(())
    elif name == "TUPLE":
        stack.append(tuple(_pop_to_mark(stack)))
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        n = int(name[-1])
        stack[-n:] = [tuple(stack[-n:])]
    elif name in ("APPEND", "APPENDS"):
        items = [stack.pop()] if name == "APPEND" else _pop_to_mark(stack)
        stack[-1].extend(items)
    elif name in ("SETITEM", "SETITEMS"):
        items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else _pop_to_mark(stack)
        stack[-1].update(_pairs(items))
    elif name not in ("PROTO", "FRAME"):
        raise ValueError(f"it holds more than texts and numbers: {name}")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = ("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT")
_TEXTS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_OLD_TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING")
_VALUES = frozenset((*_NUMBERS, *_TEXTS, *_OLD_TEXTS))


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))
