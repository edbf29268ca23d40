"""The contract of `PeakDetector`, and synthetic confidence maps with known peaks."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpk_core.services.plugins import registry
from dpk_core.testing.contract import require


def check_peak_detector(detector: str | type, tolerance: float = 0.75) -> None:
    """Check a peak detector class, or the plugin of that name, against its contract.

    Parameters
    ----------
    tolerance
        Map pixels that a peak of a clean Gaussian may be off; 0.75 is what the brightest pixel
        gives.

    Raises
    ------
    ContractError
    """
    cls = (
        registry().get("peak_detectors", detector).load() if isinstance(detector, str) else detector
    )
    rng = np.random.default_rng(0)
    for size in ((24, 32), (33, 17)):
        height, width = size
        peaks = rng.uniform(3, (width - 4, height - 4), (4, 5, 2))
        found = _detect(cls(sigma=1.25), gaussian_maps(peaks, size, 1.25))
        require(found.shape == (4, 5, 3), "maps (n, h, w, k) give (n, k, 3)", found.shape)
        off = np.hypot(*np.moveaxis(found[..., :2] - peaks, -1, 0)).max()
        require(off <= tolerance, f"a clean peak is found within {tolerance} map pixels", off)
        require((found[..., 2] > 0.5).all(), "a clear peak has a high score", found[..., 2].min())
    _check_hard_maps(cls)


def gaussian_maps(peaks: np.ndarray, size: tuple[int, int], sigma: float) -> np.ndarray:
    """(n, h, w, k) float32 maps, each a Gaussian of height 1 at peaks (n, k, 2) in map pixels."""
    y, x = np.mgrid[: size[0], : size[1]][..., None]
    dx = x - peaks[:, None, None, :, 0]
    dy = y - peaks[:, None, None, :, 1]
    return np.exp(-(dx**2 + dy**2) / (2 * sigma**2)).astype(np.float32)


def _check_hard_maps(cls: Any) -> None:
    """Flat maps, two equal peaks, a peak in a corner, maps of a few pixels."""
    corner = gaussian_maps(np.array([[[0.0, 0.0], [15.0, 11.0]]]), (12, 16), 1.0)
    twins = gaussian_maps(np.array([[[4.0, 5.0]]]), (12, 16), 1.0)
    twins = np.maximum(twins, gaussian_maps(np.array([[[11.0, 5.0]]]), (12, 16), 1.0))
    cases = {
        "an empty map": np.zeros((1, 12, 16, 1), np.float32),
        "a flat map": np.full((1, 12, 16, 1), 0.3, np.float32),
        "a negative map": np.full((1, 12, 16, 1), -0.1, np.float32),
        "a peak in a corner": corner,
        "two equal peaks": twins,
        "a map of 2x2": np.ones((1, 2, 2, 1), np.float32),
        "one bright pixel": np.eye(1, 12 * 16, 40, dtype=np.float32).reshape(1, 12, 16, 1),
    }
    for name, maps in cases.items():
        found = _detect(cls(sigma=1.0), maps)
        require(np.isfinite(found).all(), f"{name} gives finite values", found.tolist())
        height, width = maps.shape[1:3]
        inside = (found[..., :2] >= -0.5) & (found[..., :2] <= (width - 0.5, height - 0.5))
        require(inside.all(), f"{name} gives coordinates within the map", found.tolist())
        scores = found[..., 2]
        require(((scores >= 0) & (scores <= 1)).all(), f"{name} gives a score in [0, 1]", scores)
    require(
        _detect(cls(sigma=1.0), cases["an empty map"])[0, 0, 2] < 0.05,
        "a map without a peak has a score near 0",
    )
    found = _detect(cls(sigma=1.0), twins)[0, 0]
    nearest = min(np.hypot(found[0] - x, found[1] - 5) for x in (4, 11))
    require(nearest < 1.0, "of two equal peaks it gives one, not the middle", found.tolist())


def _detect(detector: Any, maps: np.ndarray) -> np.ndarray:
    """Call with NumPy maps; the result is an array or a CPU tensor that NumPy can read."""
    result = detector(maps)
    if hasattr(result, "detach"):
        result = result.detach().cpu()
    return np.asarray(result)
