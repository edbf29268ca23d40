"""Images that are made, one by one, when somebody asks for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class LazyImages(ABC):
    """An `ImageSource` of (n, h, w, c) uint8 whose rows are read, decoded or cut out on demand.

    A subclass sets `shape` and implements `image`; indexing by number, slice, array or list is as
    NumPy's.

    Examples
    --------
    >>> class Grays(LazyImages):
    ...     shape = (3, 2, 2, 1)
    ...     def image(self, row): return np.full((2, 2, 1), row, np.uint8)
    >>> Grays()[1:].mean(axis=(1, 2, 3)).tolist(), Grays()[-1][0, 0].tolist()
    ([1.0, 2.0], [2])
    """

    shape: tuple[int, ...]
    """(n, h, w, c)"""

    dtype = np.dtype(np.uint8)

    @abstractmethod
    def image(self, row: int) -> np.ndarray:
        """(h, w, c) uint8, for a row from 0 to n - 1."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: Any) -> np.ndarray:
        rows = np.arange(len(self))[row]
        if np.ndim(rows) == 0:
            return self.image(int(rows))
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for place, i in zip(found, rows.tolist(), strict=True):
            place[...] = self.image(i)
        return found
