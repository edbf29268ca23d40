"""What a network computes in while it trains: 32 bits, or 16 where the hardware is made for it.

Weights, maps and losses stay float32 in any case, and so does the network that is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from dpk_core.errors import ValidationError

PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
LEAST_CAPABILITY = (7, 0)
"""Of an NVIDIA GPU: from this compute capability on, it has units for products of 16 bits."""


def choose_precision(wanted: str) -> str:
    """The name of a Keras dtype policy.

    Parameters
    ----------
    wanted
        One of `PRECISIONS`. "auto": "mixed_float16" on GPUs that are made for it,
        "mixed_bfloat16" on TPUs, else "float32".

    Raises
    ------
    ValidationError
    """
    if wanted not in PRECISIONS:
        raise ValidationError(f"precision: expected {', '.join(PRECISIONS)}; found {wanted!r}")
    return _best() if wanted == "auto" else wanted


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers made within compute in this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _best() -> str:
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        if jax.default_backend() == "tpu":
            return "mixed_bfloat16"
    capability = {"tensorflow": _of_tensorflow, "jax": _of_jax, "torch": _of_torch}.get(backend)
    lowest = None if capability is None else capability()
    return "mixed_float16" if lowest is not None and lowest >= LEAST_CAPABILITY else "float32"


def _of_tensorflow() -> tuple[int, int] | None:
    import tensorflow as tf

    found = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return min(found) if found and None not in found else None


def _of_jax() -> tuple[int, int] | None:
    import jax

    if jax.default_backend() != "gpu":
        return None
    found = [str(getattr(d, "compute_capability", "0.0")) for d in jax.local_devices()]
    pairs = [tuple(map(int, text.split("."))) for text in found if text.count(".") == 1]
    return min((major, minor) for major, minor in pairs) if pairs else None


def _of_torch() -> tuple[int, int] | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return min(torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))
