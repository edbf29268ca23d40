"""What the machine at hand is good at."""

from __future__ import annotations

from functools import cache

import keras


@cache
def has_accelerator() -> bool:
    """Whether Keras' backend sees a GPU or TPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax

        return jax.default_backend() != "cpu"
    if backend == "torch":
        import torch

        return bool(torch.cuda.is_available() or torch.backends.mps.is_available())
    return False


def jit_compile() -> bool:
    """Whether XLA makes programs faster here.

    On a CPU, TensorFlow's oneDNN convolutions beat XLA's. JAX has nothing but XLA.
    """
    backend = keras.backend.backend()
    return backend == "jax" or (backend == "tensorflow" and has_accelerator())


def describe_device() -> str:
    """Where Keras computes here, in a word."""
    return "GPU" if has_accelerator() else "CPU"
