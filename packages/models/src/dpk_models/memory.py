"""Out of memory: what the backends call it, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dpk_core.errors import DeviceMemoryError

_CLASSES = (
    ("tensorflow", "errors.ResourceExhaustedError"),
    ("torch", "OutOfMemoryError"),
    ("torch", "cuda.OutOfMemoryError"),
)
_MARK = "RESOURCE_EXHAUSTED"
"""In the message of JAX's one error for everything, and of those that XLA raises elsewhere."""


@contextmanager
def memory_errors(batch_size: int, *, during: str, option: str = "batch_size") -> Iterator[None]:
    """Raise `DeviceMemoryError`, which says what to try, when a device runs out of memory within.

    Parameters
    ----------
    batch_size
        Images at once.
    during
        What was going on, such as "training".
    option
        What the user changes.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(_advice(batch_size, during, option)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is how a backend says that a device's memory is full."""
    for module, path in _CLASSES:
        kind: object = sys.modules.get(module)  # a backend that isn't loaded raised nothing
        for name in path.split("."):
            kind = getattr(kind, name, None)
        if isinstance(kind, type) and isinstance(error, kind):
            return True
    return isinstance(error, RuntimeError) and _MARK in str(error)


def _advice(batch_size: int, during: str, option: str) -> str:
    half = batch_size // 2
    if half:
        first = f"try {option}={half} (--{option.replace('_', '-')} {half}), half of {batch_size}"
    else:
        first = "one image at a time is too much for it: use a smaller network"
    return (
        f"the device ran out of memory during {during}; {first}, or make the images smaller with "
        "scale=0.5 (--scale 0.5)"
    )
