"""How a broken promise is reported."""

from __future__ import annotations

from typing import Any

import numpy as np


class ContractError(AssertionError):
    """A plugin does not keep a promise of its interface."""


def require(kept: bool | np.bool_, promise: str, found: Any = None) -> None:
    """ContractError with the promise, and what was found instead, unless it is kept."""
    if not kept:
        raise ContractError(promise if found is None else f"{promise}; found {found}")


def require_array(what: str, array: Any, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
    """A NumPy array of exactly that shape (and type, when given)."""
    require(isinstance(array, np.ndarray), f"{what} is a NumPy array", type(array).__name__)
    require(array.shape == shape, f"{what} has the shape {shape}", array.shape)
    if dtype is not None:
        require(array.dtype == dtype, f"{what} is {np.dtype(dtype)}", array.dtype)
    return array
