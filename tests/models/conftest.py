"""A small labelled set and the smallest network that can learn it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dpk_core import AnnotationSet, TrainingGenerator
from dpk_core.testing import dot_annotations
from dpk_models import StackedDenseNet


@pytest.fixture
def make_model() -> Callable[..., StackedDenseNet]:
    """A tiny Stacked DenseNet on images of dots; options go to the generator."""

    def make(annotations: AnnotationSet | None = None, **options: Any) -> StackedDenseNet:
        annotations = dot_annotations(12, size=(32, 32)) if annotations is None else annotations
        options = {"augmenter": None, "seed": 3, "sigma": 3.0, **options}
        return StackedDenseNet(TrainingGenerator(annotations, **options), growth_rate=4)

    return make


def weights_of(model: StackedDenseNet) -> list[np.ndarray]:
    return [np.array(w) for w in model.network.get_weights()]


@pytest.fixture
def same_weights() -> Callable[[StackedDenseNet, StackedDenseNet], bool]:
    def same(a: StackedDenseNet, b: StackedDenseNet) -> bool:
        pairs = zip(weights_of(a), weights_of(b), strict=True)
        return all(np.array_equal(x, y) for x, y in pairs)

    return same
