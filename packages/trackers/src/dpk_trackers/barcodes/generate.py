"""Random codes that differ enough from each other in every rotation."""

from __future__ import annotations

import numpy as np

from dpk_core.errors import ValidationError
from dpk_trackers.barcodes.dictionary import MAX_BITS, MAX_CODES, rotations

BLOCK = 4096
PATIENCE = 200
"""Blocks in a row without a new code after which the search gives up."""


def generate_codes(n: int, distance: int, count: int, seed: int) -> np.ndarray:
    """(count, n, n) uint8 codes; see `TagDictionary.generate`.

    Random candidates are taken one by one if they differ enough from their own rotations and from
    all rotations of those taken before. Blocks of candidates are compared at once.
    """
    _check(n, distance, count)
    # A bit generator by name, raw words only: the codes stay the same with every NumPy version.
    words = np.random.Philox(seed)
    taken = np.zeros((0, n * n), np.float32)
    idle = 0
    while len(taken) < count and idle < PATIENCE:
        fresh = _candidates(words, n)
        fresh = fresh[_self_distance(fresh) >= distance]
        before = len(taken)
        taken = _take(fresh, taken, distance, count)
        idle = 0 if len(taken) > before else idle + 1
    if len(taken) < count:
        raise ValidationError(
            f"found {len(taken)} codes of {n}x{n} modules that differ in {distance}, expected "
            f"{count}; ask for fewer, for a smaller distance, or for larger n"
        )
    return (taken.reshape(count, n, n) > 0).astype(np.uint8)


def _check(n: int, distance: int, count: int) -> None:
    if not 2 <= n <= MAX_BITS:
        raise ValidationError(f"n: expected 2 to {MAX_BITS} modules a side, found {n}")
    if not 1 <= distance <= n * n:
        raise ValidationError(f"distance: expected 1 to {n * n} modules, found {distance}")
    if not 1 <= count <= MAX_CODES:
        raise ValidationError(f"count: expected 1 to {MAX_CODES} codes, found {count}")


def _candidates(words: np.random.Philox, n: int) -> np.ndarray:
    needed = -(-n * n // 64)
    raw = words.random_raw(BLOCK * needed).astype("<u8").reshape(BLOCK, needed)
    bits = np.unpackbits(raw.view(np.uint8), axis=1, bitorder="little")[:, : n * n]
    return bits.reshape(BLOCK, n, n)


def _self_distance(codes: np.ndarray) -> np.ndarray:
    turned = rotations(codes)
    return (turned[1:] != turned[0]).sum(axis=(2, 3)).min(axis=0)


def _take(fresh: np.ndarray, taken: np.ndarray, distance: int, count: int) -> np.ndarray:
    """``taken`` with those of ``fresh`` that fit, in order; rows of -1 and 1."""
    size = fresh.shape[1] * fresh.shape[2]
    most = size - 2 * distance  # the inner product of two codes that differ in `distance`
    turned = (2.0 * rotations(fresh) - 1).reshape(4, len(fresh), size).astype(np.float32)
    if len(taken):
        fits = (turned @ taken.T).max(axis=(0, 2)) <= most
        turned = turned[:, fits]
    while turned.shape[1] and len(taken) < count:
        first = turned[0, 0]
        taken = np.concatenate([taken, first[None]])
        turned = turned[:, (turned @ first).max(axis=0) <= most]
    return taken
