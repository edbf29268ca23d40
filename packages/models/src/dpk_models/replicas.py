"""Training on several devices at once: each sees its part of every batch.

TensorFlow: ``tf.distribute.MirroredStrategy``. JAX: ``keras.distribution.DataParallel``. PyTorch
under Keras has neither; it uses one device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import keras
import numpy as np

from dpk_core.errors import ValidationError
from dpk_models.device import jit_compile


class Devices:
    """The one device that the backend chooses; the base of several.

    Attributes
    ----------
    n
        How many devices.
    jit_compile
        Whether the step on them is better compiled by XLA.
    """

    n: int = 1

    @property
    def jit_compile(self) -> bool:
        return jit_compile()

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Variables of the training belong in here."""
        yield

    def prepare(self, network: keras.Model) -> keras.Model:
        """A network made in the scope, so that it computes what it would on one device."""
        return network

    def step(self, trainer: keras.Model, images: np.ndarray, keypoints: np.ndarray) -> float:
        """One step on one batch; its loss."""
        return float(trainer.train_on_batch(images, keypoints, return_dict=True)["loss"])


class JaxDevices(Devices):
    """One program over all devices, whose sums and means are over the whole batch by themselves."""

    def __init__(self, names: list[str]) -> None:
        self.n = len(names)
        self._distribution = keras.distribution.DataParallel(devices=names)

    @contextmanager
    def scope(self) -> Iterator[None]:
        with self._distribution.scope():
            yield

    def step(self, trainer: keras.Model, images: np.ndarray, keypoints: np.ndarray) -> float:
        with self.scope():
            return super().step(trainer, *fill_up(images, keypoints, self.n))


@cache
def _mirrored(names: tuple[str, ...]) -> Any:
    """One strategy for all trainings: a second one would number its messages like the first."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(list(names))


class TensorFlowDevices(Devices):
    """A copy of the network on each device, kept the same by summing the gradients."""

    def __init__(self, names: list[str]) -> None:
        self.n = len(names)
        self._strategy = _mirrored(tuple(names))

    @contextmanager
    def scope(self) -> Iterator[None]:
        with self._strategy.scope():
            yield

    @property
    def jit_compile(self) -> bool:
        return False  # XLA compiles for one device only here

    def prepare(self, network: keras.Model) -> keras.Model:
        for layer in layers_of(network):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True  # statistics of the whole batch
        return network

    def step(self, trainer: keras.Model, images: np.ndarray, keypoints: np.ndarray) -> float:
        images, keypoints = fill_up(images, keypoints, self.n)
        batch = (self._shared(images), self._shared(keypoints), None)
        # `train_on_batch` would give every device the whole batch (Keras 3.15).
        with self.scope():
            trainer.make_train_function()
            trainer.reset_metrics()
            return float(trainer.train_function(iter([batch]))["loss"])

    def _shared(self, array: np.ndarray) -> Any:
        import tensorflow as tf

        parts = [tf.convert_to_tensor(part) for part in np.split(array, self.n)]
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )


def choose_devices(wanted: str | int, batch_size: int) -> Devices:
    """The devices to train on.

    Parameters
    ----------
    wanted
        "auto" for all GPUs (TPUs), and one device without any; or how many: GPUs, or CPUs where
        there is no GPU.
    batch_size
        "auto" takes no more devices than there are images in a batch.

    Raises
    ------
    ValidationError
        When there are fewer, or the backend can use only one.
    """
    if wanted == 1:
        return Devices()
    accelerators, cpus = _visible()
    names = accelerators or cpus
    if wanted == "auto":
        n = min(len(accelerators), batch_size) if _is_able() else 1
    else:
        n = int(wanted)
        if not _is_able():
            raise ValidationError(
                f"devices: expected 1 with Keras on {keras.backend.backend()}, which trains on one "
                f"device only; found {n}. TensorFlow and JAX use several: set KERAS_BACKEND"
            )
        if n > len(names):
            raise ValidationError(f"devices: expected at most {len(names)} ({names}), found {n}")
        if n > batch_size:
            raise ValidationError(
                f"devices: expected at most the batch size, {batch_size}; found {n}"
            )
    if n <= 1:
        return Devices()
    kind = TensorFlowDevices if keras.backend.backend() == "tensorflow" else JaxDevices
    return kind(names[:n])


def unused_devices() -> int:
    """How many GPUs a training leaves idle because the backend cannot use more than one."""
    return 0 if _is_able() else max(0, len(_visible()[0]) - 1)


def sum_over_devices(value: Any) -> Any:
    """Within a step: the sum of a scalar over the devices that take part."""
    if keras.backend.backend() != "tensorflow":
        return value  # in JAX's one program the sum is over the whole batch already
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def fill_up(
    images: np.ndarray, keypoints: np.ndarray, multiple: int
) -> tuple[np.ndarray, np.ndarray]:
    """A batch that can be shared out evenly: images stand twice, the second time without labels.

    Without labels they weigh nothing. They are images of the batch so that the statistics of a
    batch normalization stay close to what they were.
    """
    missing = -len(images) % multiple
    if not missing:
        return images, keypoints
    again = np.arange(missing) % len(images)
    blank = np.full((missing, *keypoints.shape[1:]), np.nan, keypoints.dtype)
    return np.concatenate([images, images[again]]), np.concatenate([keypoints, blank])


def layers_of(network: keras.Model) -> Iterator[keras.layers.Layer]:
    """All layers, also those of networks within it."""
    for layer in network.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from layers_of(layer)


def _is_able() -> bool:
    return keras.backend.backend() in ("tensorflow", "jax")


def _visible() -> tuple[list[str], list[str]]:
    """Names of accelerators and of CPUs."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus, cpus = (
            [device.name for device in tf.config.list_logical_devices(kind)]
            for kind in ("GPU", "CPU")
        )
        return gpus, cpus
    if backend == "jax":
        import jax

        devices = jax.local_devices()
        names = [f"{device.platform}:{device.id}" for device in devices]
        return ([], names) if jax.default_backend() == "cpu" else (names, [])
    if backend == "torch":
        import torch

        return [f"cuda:{i}" for i in range(torch.cuda.device_count())], ["cpu"]
    return [], ["cpu"]
