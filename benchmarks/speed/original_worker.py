"""Runs DeepPoseKit 0.3.9 as it is on PyPI; started by run.py in an environment of its own.

DeepPoseKit was written for TensorFlow 1 and NumPy 1. Here it runs on TensorFlow's legacy Keras,
with four things put back that later versions of its dependencies took away. None of them is in
the way of a prediction. Reads one JSON line a measurement, writes one JSON line a result.
"""

from __future__ import annotations

import os
import sys
import types

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np


def put_back() -> None:
    """What DeepPoseKit 0.3.9 and imgaug 0.4.0 expect of older NumPy, h5py and TensorFlow."""
    import h5py

    np.sctypes = {
        "int": [np.int8, np.int16, np.int32, np.int64],
        "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
        "float": [np.float16, np.float32, np.float64],
        "complex": [np.complex64, np.complex128],
        "others": [bool, object, bytes, str, np.void],
    }
    for name, kind in (("bool", bool), ("float", float), ("int", int), ("object", object)):
        if name not in np.__dict__:
            setattr(np, name, kind)
    h5py.Dataset.value = property(lambda self: self[()])
    conv_utils = types.ModuleType("tensorflow.python.keras.utils.conv_utils")

    def normalize_data_format(value=None):
        return "channels_last" if value is None else value.lower()

    def normalize_tuple(value, n, name, **_):
        return (value,) * n if isinstance(value, int) else tuple(value)

    def deconv_output_length(length, kernel_size, padding, output_padding=None, stride=0, **_):
        return None if length is None else length * stride

    def conv_output_length(length, kernel_size, padding, stride, dilation=1):
        return None if length is None else -(-length // stride)

    for function in (
        normalize_data_format,
        normalize_tuple,
        deconv_output_length,
        conv_output_length,
    ):
        setattr(conv_utils, function.__name__, function)
    import tensorflow as tf

    parents = ("tensorflow.python.keras", "tensorflow.python.keras.utils")
    for parent in parents:
        sys.modules.setdefault(parent, types.ModuleType(parent))
    sys.modules["tensorflow.python.keras.utils.conv_utils"] = conv_utils
    sys.modules["tensorflow.python.keras.utils"].conv_utils = conv_utils
    sys.modules["tensorflow.keras.utils.conv_utils"] = conv_utils
    del tf


class Generator:
    """As much of DeepPoseKit's TrainingGenerator as building a network needs."""

    def __init__(self, size: int, n_keypoints: int, n_graph: int, downsample_factor: int) -> None:
        self.height = self.width = size
        self.downsample_factor = downsample_factor
        self.n_output_channels = n_keypoints + n_graph
        side = size // 2**downsample_factor
        self.config = {
            "image_shape": (size, size, 1),
            "output_shape": (side, side),
            "keypoints_shape": (n_keypoints, 2),
            "downsample_factor": downsample_factor,
            "output_sigma": 5 / 2**downsample_factor,
        }

    def get_config(self) -> dict:
        return self.config


def make(name: str, size: int, n_keypoints: int, n_graph: int):
    """One of the original's models, with random weights."""
    if name == "StackedDenseNet":
        from deepposekit.models.StackedDenseNet import StackedDenseNet

        return StackedDenseNet(Generator(size, n_keypoints, n_graph, 2), subpixel=True)
    if name == "StackedHourglass":
        from deepposekit.models.StackedHourglass import StackedHourglass

        generator = Generator(size, n_keypoints, n_graph, 2)
        return StackedHourglass(generator, n_stacks=2, filters=64, subpixel=True)
    if name == "LEAP":
        from deepposekit.models.LEAP import LEAP

        return LEAP(Generator(size, n_keypoints, n_graph, 0), subpixel=False)
    from deepposekit.models.DeepLabCut import DeepLabCut

    generator = Generator(size, n_keypoints, n_graph, 2)
    return DeepLabCut(generator, backbone="resnet50", weights=None, subpixel=True)


def main() -> None:
    put_back()
    sys.path.insert(0, os.path.dirname(__file__))
    from worker import serve

    setting = {"size": 192, "n_keypoints": 32, "n_graph": 34}
    model = make(sys.argv[1], **setting)
    serve(
        lambda images, batch_size: model.predict_model.predict(
            images, batch_size=batch_size, verbose=0
        ),
        n_parameters=model.train_model.count_params(),
    )


if __name__ == "__main__":
    main()
