"""Metrics: how far predicted keypoints lie from labelled ones.

A keypoint without a label (NaN) is left out of every metric. A labelled keypoint without a
prediction (NaN) has no distance, so the errors leave it out and count it as missed; `pck` and `oks`
count it as wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from dpk_core.checks import as_array
from dpk_core.errors import ValidationError

PERCENTILES = (25.0, 75.0, 90.0, 95.0)


def keypoint_errors(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Euclidean distance of each predicted keypoint from its label.

    Parameters
    ----------
    true
        (n, k, 2) of x, y; NaN where not labelled.
    predicted
        (n, k, 2) or (n, k, 3) of x, y and perhaps a score, which is not used here.

    Returns
    -------
    np.ndarray
        (n, k) float64 in the unit of the coordinates; NaN where either is missing.

    Raises
    ------
    ValidationError
        When the shapes disagree.

    Examples
    --------
    >>> keypoint_errors(np.array([[[0.0, 0.0], [1.0, 1.0]]]), np.array([[[3.0, 4.0], [1.0, 1.0]]]))
    array([[5., 0.]])
    """
    true, predicted = _pair(true, predicted)
    return np.linalg.norm(predicted - true, axis=2)


def accuracy(errors: np.ndarray) -> np.ndarray:
    """(1 + error)^-1 of each error: 1 for a perfect prediction, 0.5 for one pixel off, towards 0.

    The unit is the one of the errors, usually pixels, so accuracies compare only between images of
    one scale. NaN stays NaN.

    References
    ----------
    Graving et al. 2019, eLife 8:e47994, "Model evaluation".

    Examples
    --------
    >>> accuracy(np.array([0.0, 1.0, 3.0]))
    array([1.  , 0.5 , 0.25])
    """
    return 1 / (1 + np.asarray(errors, dtype=np.float64))


def pck(
    true: np.ndarray,
    predicted: np.ndarray,
    threshold: float,
    reference: float | np.ndarray | None = None,
    *,
    per_keypoint: bool = False,
) -> Any:
    """Percentage of correct keypoints, as a fraction: those within a distance of their label.

    Parameters
    ----------
    true, predicted
        As in `keypoint_errors`.
    threshold
        Largest distance that is correct: in pixels, or relative to ``reference``.
    reference
        A length in pixels, for all images or (n,) for each: of the body, the head (PCKh), the
        torso. A NaN leaves the image out.
    per_keypoint
        Give (k,) fractions instead of one of all keypoints.

    Returns
    -------
    float or np.ndarray
        Correct / labelled; NaN where nothing is labelled. A labelled keypoint without a prediction
        is wrong.

    References
    ----------
    Yang and Ramanan 2013, IEEE TPAMI 35(12):2878, section 6.1; with the head as reference,
    Andriluka et al. 2014, CVPR, section 5.

    Examples
    --------
    >>> true = np.zeros((1, 2, 2))
    >>> predicted = np.array([[[0.0, 3.0], [6.0, 0.0]]])
    >>> pck(true, predicted, 5)
    0.5
    >>> pck(true, predicted, 0.1, reference=100.0)
    1.0
    """
    true, predicted = _pair(true, predicted)
    n = len(true)
    if not threshold >= 0:
        raise ValidationError(f"threshold: expected 0 or more, found {threshold}")
    lengths = _one_each("reference", 1.0 if reference is None else reference, n)
    labelled = ~np.isnan(true).any(axis=2) & ~np.isnan(lengths)[:, None]
    distances = np.linalg.norm(predicted - true, axis=2)
    correct = labelled & (distances <= threshold * lengths[:, None])  # False for NaN
    axis = 0 if per_keypoint else None
    fraction = _ratio(correct.sum(axis=axis), labelled.sum(axis=axis))
    return fraction if per_keypoint else float(fraction)


def oks(
    true: np.ndarray,
    predicted: np.ndarray,
    area: float | np.ndarray,
    kappa: float | Sequence[float] | np.ndarray,
) -> np.ndarray:
    """Object keypoint similarity of each image or individual, as COCO defines it.

    The mean over the labelled keypoints i of ``exp(-d_i^2 / (2 s^2 kappa_i^2))``, where d_i is the
    distance of prediction and label and s^2 the area of the object.

    Parameters
    ----------
    true, predicted
        As in `keypoint_errors`.
    area
        Area of the object in square pixels, one for all or (n,). COCO takes the area of the
        segmentation; the one of a bounding box is larger and gives higher values.
    kappa
        Fall-off of each keypoint, one for all or (k,). COCO uses twice the standard deviation of
        people's labels relative to s, for instance 0.05 for eyes and 0.214 for hips.

    Returns
    -------
    np.ndarray
        (n,) from 0 to 1; NaN where nothing is labelled. A labelled keypoint without a prediction
        adds 0.

    References
    ----------
    https://cocodataset.org/#keypoints-eval, section 1.3.

    Examples
    --------
    >>> true, predicted = np.zeros((1, 2, 2)), np.array([[[0.0, 0.0], [np.nan, np.nan]]])
    >>> oks(true, predicted, area=100.0, kappa=0.1)
    array([0.5])
    """
    true, predicted = _pair(true, predicted)
    n, k, _ = true.shape
    areas = _one_each("area", area, n)
    kappas = _one_each("kappa", kappa, k)
    if not (areas > 0).all() or not (kappas > 0).all():
        raise ValidationError("oks: expected areas and kappas above 0")
    squared = ((predicted - true) ** 2).sum(axis=2)
    similarity = np.exp(-squared / (2 * areas[:, None] * kappas**2))
    labelled = ~np.isnan(true).any(axis=2)
    found = labelled & ~np.isnan(squared)
    return _ratio(np.where(found, similarity, 0).sum(axis=1), labelled.sum(axis=1))


@attrs.frozen(eq=False, repr=False)
class ErrorSummary:
    """Errors summed up over images, of all keypoints together and of each.

    Attributes
    ----------
    names : tuple of str
        The k keypoints.
    count : np.ndarray
        (k,) errors that went in.
    missed : np.ndarray
        (k,) labelled keypoints without a prediction, which have no error.
    mean, median, rmse, accuracy : np.ndarray
        (k,) of each keypoint; rmse is the root of the mean squared Euclidean distance (not of the
        single coordinates, which would be smaller by a factor of the root of 2); accuracy is the
        mean of `accuracy`. NaN where count is 0.
    percentiles : dict of float to np.ndarray
        (k,) for each percentile, interpolated linearly between errors.
    overall : dict of str to float
        The same numbers over all errors of all keypoints; percentiles as "p95".
    """

    names: tuple[str, ...]
    count: np.ndarray
    missed: np.ndarray
    mean: np.ndarray
    median: np.ndarray
    rmse: np.ndarray
    accuracy: np.ndarray
    percentiles: dict[float, np.ndarray]
    overall: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: "overall", and "keypoints" with a dict for each name."""
        return {
            "overall": dict(self.overall),
            "keypoints": {r.pop("name"): r for r in self._each()},
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """A dict for each keypoint and a last one named "all", to print or write as a table."""
        return [*self._each(), {"name": "all", **self.overall}]

    def _each(self) -> list[dict[str, Any]]:
        columns: dict[str, np.ndarray] = {
            "count": self.count,
            "missed": self.missed,
            "mean": self.mean,
            "median": self.median,
            "rmse": self.rmse,
            "accuracy": self.accuracy,
            **{_percentile_name(q): values for q, values in self.percentiles.items()},
        }
        return [
            {"name": name, **{key: values[i].item() for key, values in columns.items()}}
            for i, name in enumerate(self.names)
        ]

    def __repr__(self) -> str:
        o = self.overall
        return (
            f"ErrorSummary({len(self.names)} keypoints, {o['count']} errors: mean {o['mean']:.3g}, "
            f"median {o['median']:.3g}, rmse {o['rmse']:.3g})"
        )


def summarize_errors(
    errors: np.ndarray,
    names: Sequence[str] | None = None,
    *,
    labelled: np.ndarray | None = None,
    percentiles: Sequence[float] = PERCENTILES,
) -> ErrorSummary:
    """Sum up errors, leaving out NaN.

    Parameters
    ----------
    errors
        (n, k) from `keypoint_errors`.
    names
        Of the k keypoints; default ``keypoint_0``, ...
    labelled
        (n, k) bool, which keypoints have a label; tells missed predictions from missing labels.
        Without it nothing counts as missed.
    percentiles
        Each from 0 to 100.

    Examples
    --------
    >>> summary = summarize_errors(np.array([[3.0, 1.0], [4.0, np.nan]]), ["head", "tail"])
    >>> summary
    ErrorSummary(2 keypoints, 3 errors: mean 2.67, median 3, rmse 2.94)
    >>> summary.mean
    array([3.5, 1. ])
    """
    errors = as_array("errors", errors, np.float64, ("n", "k"))
    k = errors.shape[1]
    names = tuple(f"keypoint_{i}" for i in range(k)) if names is None else tuple(names)
    if len(names) != k:
        raise ValidationError(f"names: expected one for each of {k} keypoints, found {len(names)}")
    wanted = [float(q) for q in percentiles]
    if not all(0 <= q <= 100 for q in wanted):
        raise ValidationError(f"percentiles: expected numbers from 0 to 100, found {wanted}")
    known = ~np.isnan(errors)
    if labelled is None:
        labelled = known
    labelled = as_array("labelled", labelled, np.bool_, errors.shape)
    each = [_statistics(errors[known[:, i], i], wanted) for i in range(k)]
    missed = (labelled & ~known).sum(axis=0)
    everything = _statistics(errors[known], wanted)
    return ErrorSummary(
        names=names,
        count=known.sum(axis=0),
        missed=missed,
        **{
            name: np.array([one[name] for one in each])
            for name in ("mean", "median", "rmse", "accuracy")
        },
        percentiles={q: np.array([one[_percentile_name(q)] for one in each]) for q in wanted},
        overall={"count": int(known.sum()), "missed": int(missed.sum()), **everything},
    )


def _statistics(errors: np.ndarray, percentiles: list[float]) -> dict[str, float]:
    names = ["mean", "median", "rmse", "accuracy", *map(_percentile_name, percentiles)]
    if not errors.size:
        return dict.fromkeys(names, float("nan"))
    values = [
        errors.mean(),
        np.median(errors),
        np.sqrt((errors**2).mean()),
        accuracy(errors).mean(),
        *np.percentile(errors, percentiles),
    ]
    return dict(zip(names, map(float, values), strict=True))


def _percentile_name(q: float) -> str:
    return f"p{q:g}"


def _pair(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    true = as_array("true", true, np.float64, ("n", "k", 2))
    predicted = np.asarray(predicted)
    if predicted.ndim == 3 and predicted.shape[2] == 3:
        predicted = predicted[..., :2]
    return true, as_array("predicted", predicted, np.float64, true.shape)


def _one_each(name: str, value: float | Sequence[float] | np.ndarray, n: int) -> np.ndarray:
    return as_array(name, np.full(n, value) if np.ndim(value) == 0 else value, np.float64, (n,))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
