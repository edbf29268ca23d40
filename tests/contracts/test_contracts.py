"""One contract check for each interface, run over every plugin that is registered."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pytest

from dpk_core.errors import PluginError
from dpk_core.hookspecs import HOOKS
from dpk_core.interfaces import Augmenter, Dataset, Sample
from dpk_core.services.model_settings import read_settings
from dpk_core.services.plugins import registry
from dpk_core.testing import (
    ContractError,
    check_augmenter,
    check_dataset,
    check_detector,
    check_format,
    check_model,
    check_peak_detector,
    check_tracker,
    dot_annotations,
    sample_of,
)

SMALL = {
    "DeepLabCut": {"backbone": "mobilenetv2", "alpha": 0.35},
    "LEAP": {
        "filters": 4,
        "batch_normalization": True,
        "pooling": "average",
        "upsampling": "nearest",
        "activation": "elu",
        "downsample_factor": 0,
    },
    "StackedDenseNet": {"growth_rate": 4},
    "StackedHourglass": {"filters": 8, "bottleneck_factor": 4, "n_stacks": 2, "n_transitions": 3},
}
"""What makes a model small enough for a test, and the output stride if it can't have the usual."""

OF_ONE_ANIMAL = ("lightning-pose",)
"""Formats that refuse frames with several."""

DETECTOR_SETTINGS = {"barcode": {"dictionary": "DICT_4X4_50"}}
"""What a detector cannot be made without."""

WITH_FILES = ("callable", "centroids", "keypoints", "onnx")
"""Detectors that need a model or a function."""


def _names(kind: str) -> list[str]:
    return [spec.name for spec in registry().specs(kind)]


@pytest.mark.parametrize("name", _names("models"))
def test_every_model_keeps_the_contract(name):
    check_model(name, **SMALL.get(name, {}))


@pytest.mark.parametrize("name", _names("peak_detectors"))
def test_every_peak_detector_keeps_the_contract(name):
    check_peak_detector(name)


@pytest.mark.parametrize("name", _names("augmenters"))
def test_every_augmenter_keeps_the_contract(name):
    check_augmenter(name)


@pytest.mark.parametrize("name", _names("formats"))
def test_every_format_keeps_the_contract(name):
    spec = registry().get("formats", name)
    if not spec.is_available:
        pytest.skip(f"{name} needs {spec.install}")
    labels = sample_of("annotations")
    samples = {"annotations": labels.subset([0, 2, 3])} if name in OF_ONE_ANIMAL else None
    check_format(name, samples=samples)


@pytest.mark.parametrize("name", _names("detectors"))
def test_every_detector_keeps_the_contract(name):
    if name in WITH_FILES:
        pytest.skip("tests/trackers makes the file that it needs, and checks it there")
    check_detector(name, **DETECTOR_SETTINGS.get(name, {}))


@pytest.mark.parametrize("name", _names("trackers"))
def test_every_tracker_keeps_the_contract(name):
    check_tracker(name)


def test_annotation_sets_keep_the_dataset_contract():
    annotations = dot_annotations()
    check_dataset(annotations)
    check_dataset(annotations.subset([3, 1, 11]))
    check_dataset(annotations.labelled())


def test_every_registered_target_loads():
    for kind in (hook.removeprefix("dpk_") for hook in HOOKS):
        for spec in registry().specs(kind):
            try:
                spec.load()
            except PluginError as error:
                pytest.fail(str(error))


# -- the checks themselves must be able to fail ---------------------------------------------------


class _Forgetful(Dataset):
    """Gives another image each time."""

    def __init__(self):
        self.skeleton = dot_annotations(1).skeleton
        self._rng = np.random.default_rng(0)

    def __len__(self):
        return 3

    @property
    def image_shape(self):
        return (8, 8, 1)

    def __getitem__(self, i):
        if not -3 <= i < 3:
            raise IndexError(i)
        image = self._rng.integers(0, 255, (8, 8, 1)).astype(np.uint8)
        return Sample(image, np.zeros((3, 2), np.float32), np.full(3, 2, np.uint8))


def test_check_dataset_notices_a_changing_sample():
    with pytest.raises(ContractError, match="same sample every time"):
        check_dataset(_Forgetful())


class _Drunk(Augmenter):
    """Ignores the seed."""

    def __init__(self):
        self._rng = np.random.default_rng(0)

    def augment(self, images, keypoints, seed):
        return self._rng.permuted(images, axis=0), keypoints.copy()


class _Vandal(Augmenter):
    """Writes into its input."""

    def augment(self, images, keypoints, seed):
        images += 1
        return images, keypoints


@pytest.mark.parametrize(
    ("augmenter", "promise"), [(_Drunk(), "same seed"), (_Vandal(), "stay as they were")]
)
def test_check_augmenter_notices(augmenter, promise):
    with pytest.raises(ContractError, match=promise):
        check_augmenter(augmenter)


class _Middle:
    """Always finds the centre of the map."""

    def __init__(self, sigma):
        pass

    def __call__(self, maps):
        n, h, w, k = maps.shape
        return np.broadcast_to(np.array([w / 2, h / 2, 1.0]), (n, k, 3))


def test_check_peak_detector_notices_a_wrong_peak():
    with pytest.raises(ContractError, match="clean peak"):
        check_peak_detector(_Middle)


@pytest.mark.parametrize("name", _names("models"))
def test_every_models_listing_says_what_its_class_takes(name):
    spec = registry().get("models", name)
    parameters = list(inspect.signature(spec.load()).parameters.values())[1:]
    settings = read_settings(spec)
    assert {s.name for s in settings} == {p.name for p in parameters}
    assert {s.name: ast.literal_eval(s.default) for s in settings} == {
        p.name: p.default for p in parameters
    }
    assert all(s.description for s in settings), [s.name for s in settings if not s.description]
