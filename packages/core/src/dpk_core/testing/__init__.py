"""Public checks of the contracts in `dpk_core.interfaces`, for plugin authors and for ourselves.

In a plugin's tests, one line each::

    from dpk_core.testing import check_model
    def test_model():
        check_model("MyNet", filters=8)

A check raises `ContractError`, an AssertionError that says which promise was broken and how.
"""

from __future__ import annotations

from dpk_core.testing.augmenters import check_augmenter
from dpk_core.testing.contract import ContractError
from dpk_core.testing.datasets import check_dataset, dot_annotations
from dpk_core.testing.formats import check_format, sample_of
from dpk_core.testing.models import check_model
from dpk_core.testing.peak_detectors import check_peak_detector, gaussian_maps
from dpk_core.testing.trackers import check_detector, check_tracker, walking_dots

__all__ = [
    "ContractError",
    "check_augmenter",
    "check_dataset",
    "check_detector",
    "check_format",
    "check_model",
    "check_peak_detector",
    "check_tracker",
    "dot_annotations",
    "gaussian_maps",
    "sample_of",
    "walking_dots",
]
