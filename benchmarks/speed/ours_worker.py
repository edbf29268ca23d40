"""Runs one of dpk's models as a user would, or its network alone; started by run.py."""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.dirname(__file__))

import numpy as np
from worker import SIZE, serve

from dpk_core import Skeleton, Task
from dpk_core.services.engines import load_model
from dpk_core.services.plugins import registry


def fly_like_task(downsample_factor: int) -> Task:
    """32 keypoints with 34 channels of posture graph, as many as DeepPoseKit's fly has."""
    parents = [-1] * 32
    tree, position = (8, 4, 4, 4, 4, 4, 4), 0
    for length in tree:
        for i in range(position + 1, position + length):
            parents[i] = i - 1
        position += length
    skeleton = Skeleton(tuple(f"p{i}" for i in range(32)), parents)
    return Task((SIZE, SIZE, 1), skeleton, downsample_factor=downsample_factor)


def save(name: str, downsample_factor: int, settings: dict, path: str) -> None:
    task = fly_like_task(downsample_factor)
    model = registry().get("models", name).load()(task, **settings)
    model.save(path)
    print("@" + json.dumps({"n_parameters": model.network.count_params()}), flush=True)


def network_alone(path: str) -> None:
    """The network as one compiled TensorFlow function: no peaks, nothing fed or copied back."""
    import tensorflow as tf

    from dpk_models import load_model as load_keras

    network = load_keras(path).network
    function = tf.function(lambda images: network(images, training=False)[-1])
    constants: dict[int, tf.Tensor] = {}

    def run(images: np.ndarray, batch_size: int) -> None:
        if batch_size not in constants:
            repeated = np.resize(images, (batch_size, *images.shape[1:]))
            constants[batch_size] = tf.constant(repeated)
        for _ in range(-(-len(images) // batch_size)):
            result = function(constants[batch_size])
        result[0, 0, 0, 0].numpy()  # wait until it is there

    serve(run)


def predictions(path: str, engine: str, precision: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (16, SIZE, SIZE, 1), np.uint8)
    model = load_model(path, engine, precision, calibration=lambda: noise)
    serve(lambda images, size: model.predict(images, batch_size=size), engine=model.engine)


if __name__ == "__main__":
    task = sys.argv[1]
    if task == "save":
        save(sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5])
    elif task == "alone":
        network_alone(sys.argv[2])
    else:
        predictions(*sys.argv[2:5])
