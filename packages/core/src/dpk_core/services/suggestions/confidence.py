"""Confidence: frames in which the model is unsure of its keypoints."""

from __future__ import annotations

import numpy as np

from dpk_core.checks import as_array


def low_confidence(scores: np.ndarray) -> np.ndarray:
    """How unsure the model is of each keypoint: 1 less its score.

    A frame's value is the mean over its keypoints, so that a keypoint which is always hidden does
    not decide alone.

    Parameters
    ----------
    scores
        (n, k) in [0, 1], 0 where a keypoint was not found; NaN counts as 0.

    Returns
    -------
    np.ndarray
        (n, k) float64 in [0, 1].

    References
    ----------
    Least-confidence sampling: Lewis & Gale 1994, SIGIR, "A sequential algorithm for training text
    classifiers". For keypoints: Pereira et al. 2019, Nature Methods 16:117; Graving et al. 2019,
    eLife 8:e47994, Appendix 3 (low confidence scores find frames to annotate); "uncertain" in Nath
    et al. 2019, Nature Protocols 14:2152.

    Examples
    --------
    >>> low_confidence(np.array([[1.0, 0.25], [0.0, np.nan]])).tolist()
    [[0.0, 0.75], [1.0, 1.0]]
    """
    return 1 - np.nan_to_num(as_array("scores", scores, np.float64, ("n", "k"))).clip(0, 1)
