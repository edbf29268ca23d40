"""Initial weights that can be repeated, without touching anybody else's random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def seeds_from(seed: int | None) -> Iterator[int | None]:
    """A fresh seed for every layer, all of them following from one."""
    rng = None if seed is None else np.random.default_rng(seed)
    while True:
        yield None if rng is None else int(rng.integers(2**31))


@contextmanager
def random_kept() -> Iterator[None]:
    """Put back the state of Python's `random` afterwards; Keras takes seeds from it."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
