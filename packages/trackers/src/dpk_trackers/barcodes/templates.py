"""How the codes of a dictionary look to a camera: on a grid of two points to a module, blurred."""

from __future__ import annotations

import functools
from math import erf, sqrt

import numpy as np

from dpk_trackers.barcodes.dictionary import TagDictionary, rotations

FINE = 2
"""Grid points to a module."""
BLUR = 0.85
"""Standard deviation in pixels of what lies between a printed edge and the gray levels read: the
area of a pixel, a usual lens, the interpolation."""
BLURS = (0.08, 0.16, 0.24, 0.32, 0.4, 0.48, 0.58)
"""Standard deviations in modules for which codes are drawn."""

ONE_THREAD = 262_144
"""Products (of numbers) in a matrix product up to which OpenBLAS takes no further threads."""


class Templates:
    """All codes of a dictionary in all rotations, as a camera would see them, and their slopes."""

    def __init__(self, dictionary: TagDictionary) -> None:
        self.dictionary = dictionary
        n = dictionary.n
        self.cells = n + 4
        """Modules along a side of the grid: the code and two rings around it."""
        self.half = dictionary.modules / 2
        """Half the side of the black square, in modules."""
        axis: np.ndarray = (np.arange(self.cells * FINE) + 0.5) / FINE - self.cells / 2
        self.grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        """(p, 2) places of the grid in modules from the centre of the tag."""
        depth = self.cells / 2 - np.abs(self.grid).max(axis=1)
        self.in_rings = np.flatnonzero(depth < 2)
        """Grid points in the two rings."""
        brighter = (depth[self.in_rings] > 1) == (dictionary.rings == "double")
        self.rings = _pattern(brighter)
        self.grid_32 = self.grid.astype(np.float32)
        axis = np.arange(self.cells) + 0.5 - self.cells / 2
        modules = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        depth = self.cells / 2 - np.abs(modules).max(axis=1)
        self.quick_grid = modules[depth < 2].astype(np.float32)
        self.quick_rings = _pattern((depth[depth < 2] > 1) == (dictionary.rings == "double"))
        turned = rotations(dictionary.codes).reshape(-1, n * n)
        self.bits = np.pad(turned, ((0, 0), (1, 0)), constant_values=1).astype(np.float32)
        """(4 count, 1 + n n): 1 for the rings, then the modules; row = turn * count + code."""
        self._drawn = [Drawn(self, blur) for blur in BLURS]

    def usual_blur(self, module: np.ndarray) -> np.ndarray:
        """Which entry of BLURS a usual lens gives, for modules of so many pixels."""
        wanted = BLUR / np.maximum(module, 1e-6)
        return np.argmin(np.abs(wanted[:, None] - np.array(BLURS)), axis=1)

    def drawn(self, index: int) -> Drawn:
        return self._drawn[index]


class Drawn:
    """The templates for one blur, made when first needed.

    Blur is linear: a code as the camera sees it is the rings, plus what each of its white modules
    adds. So n * n + 1 pictures stand for all codes and rotations, and comparing gray levels with
    all of them takes two small matrix products.
    """

    def __init__(self, templates: Templates, blur: float) -> None:
        self._templates = templates
        self._blur = blur

    @functools.cached_property
    def _parts(self) -> np.ndarray:
        """(1 + n n, p) float32: the rings, then what each module adds."""
        templates = self._templates
        n = templates.dictionary.n
        inner, outer = (1, 0) if templates.dictionary.rings == "double" else (0, 1)
        code = np.zeros((1 + n * n, n, n))
        code[1:] = np.eye(n * n).reshape(-1, n, n)
        ringed = np.pad(code, ((0, 0), (3, 3), (3, 3)))
        ringed[0] = 1  # outside lies paper or ground, white in most cases
        ringed[0, 1:-1, 1:-1] = outer
        ringed[0, 2:-2, 2:-2] = inner
        ringed[0, 3:-3, 3:-3] = 0
        blur = _blur_matrix(templates.cells, self._blur)
        parts = blur @ ringed @ blur.T
        return parts.reshape(len(parts), -1).astype(np.float32)

    @functools.cached_property
    def _slopes(self) -> np.ndarray:
        """(1 + n n, 2 p): the same, changes for each module to the right and then down."""
        size = self._templates.cells * FINE
        parts = self._parts.reshape(-1, size, size)
        down, across = np.gradient(parts, 1 / FINE, axis=(1, 2))
        return np.concatenate(
            [across.reshape(len(parts), -1), down.reshape(len(parts), -1)], axis=1
        )

    @functools.cached_property
    def _flat(self) -> np.ndarray:
        return without_light(self._parts, self._templates.grid_32)

    @functools.cached_property
    def _norms(self) -> np.ndarray:
        """(4 count,) of each code in each rotation, from the products of the parts."""
        products = self._flat @ self._flat.T
        bits = self._templates.bits
        return np.sqrt(np.einsum("ka,ka->k", bits @ products, bits))

    def likeness(self, flat: np.ndarray) -> np.ndarray:
        """(n, p) gray levels without light, of norm 1 -> (n, 4 count) correlations."""
        return product(product(flat, self._flat.T), self._templates.bits.T) / self._norms

    def likeness_of(self, flat: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(n,) the correlation of each with one of them."""
        bits = self._templates.bits[rows]
        products = np.einsum("na,na->n", product(flat, self._flat.T), bits)
        return products / self._norms[rows]

    def seen(self, rows: np.ndarray) -> np.ndarray:
        """(n, p) brightness from 0 to 1."""
        return product(self._templates.bits[rows], self._parts)

    def gradient(self, rows: np.ndarray) -> np.ndarray:
        """(n, 2, p) change of brightness for each module to the right and down."""
        return product(self._templates.bits[rows], self._slopes).reshape(len(rows), 2, -1)


def _blur_matrix(cells: int, blur: float) -> np.ndarray:
    """(cells FINE, cells + 2): what each module of a row adds to each grid point of it."""
    edge = np.arange(cells + 3) - cells / 2 - 1
    axis = (np.arange(cells * FINE) + 0.5) / FINE - cells / 2
    reach = (edge[None] - axis[:, None]) / (blur * sqrt(2))
    below = np.vectorize(erf)(reach)
    below[:, 0], below[:, -1] = -1, 1  # what lies outside goes on
    return np.diff(below, axis=1) / 2


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The matrix product, in pieces so small that each is computed by the thread that asks.

    Linear algebra libraries share larger products among threads that wait for each other, which
    takes a hundred times as long as these products themselves where other programs run, too.
    """
    rows = max(1, ONE_THREAD // max(right.size, 1))
    pieces = -(-len(left) // rows)
    padded = np.zeros((pieces * rows, left.shape[1]), left.dtype)
    padded[: len(left)] = left
    parts = padded.reshape(pieces, rows, left.shape[1]) @ right
    return parts.reshape(pieces * rows, right.shape[1])[: len(left)]


def without_light(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(..., p) values less the plane of x and y that fits each row best."""
    basis = np.column_stack([np.ones(len(grid)), grid])
    basis = basis / np.linalg.norm(basis, axis=0)  # orthogonal, as the grid is even
    basis = basis.astype(values.dtype)
    rows = values.reshape(-1, values.shape[-1])
    plane = product(product(rows, basis), basis.T)
    return values - plane.reshape(values.shape)


def _pattern(brighter: np.ndarray) -> np.ndarray:
    centred = brighter.astype(np.float32) - brighter.mean(dtype=np.float32)
    return centred / np.linalg.norm(centred)
