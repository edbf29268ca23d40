"""What a training tells its user afterwards, and what to do about it."""

from __future__ import annotations

from dpk_models.options import TrainingOptions
from dpk_models.record import TrainingRecord
from dpk_models.replicas import unused_devices

WAIT_SHARE, WAIT_SECONDS = 0.05, 5.0
"""Waiting for images is worth a remark when it takes more than this of the time, and this long."""


def about_divergence(record: TrainingRecord, options: TrainingOptions, precision: str) -> str:
    """Why a training ended in NaN, perhaps, and what to try."""
    epoch = len(record.history) + 1
    kept = (
        f"the model has the weights of epoch {record.best_epoch}, its best"
        if record.history
        else "nothing was learned, and nothing is saved"
    )
    tries = [
        f"a lower learning rate (learning_rate={options.learning_rate / 4:g}, "
        f"--learning-rate {options.learning_rate / 4:g})"
    ]
    if precision != "float32":
        tries.append('32 bits (precision="float32", --precision float32)')
    tries.append("whether the labels lie where they should (dpk info, dpk render)")
    return (
        f"training diverged: the loss was NaN or infinite in epoch {epoch}; {kept}. Try "
        f"{'; '.join(tries)}"
    )


def about_waiting(waited: float, total: float, n_workers: int) -> str:
    """That the steps waited for images, if they did; otherwise nothing."""
    if waited < WAIT_SECONDS or waited < WAIT_SHARE * total:
        return ""
    return (
        f"the steps of training waited for images {waited / total:.0%} of the time "
        f"({waited:.0f} s); use more workers (n_workers={2 * n_workers}, --workers "
        f"{2 * n_workers}) if the machine has processors to spare, smaller images, or an "
        "augmenter that does less"
    )


def about_idle_devices(wanted: str | int) -> str:
    """That the backend leaves GPUs idle, if it does; otherwise nothing."""
    idle = unused_devices() if wanted == "auto" else 0
    if not idle:
        return ""
    return (
        f"PyTorch under Keras trains on one GPU; {idle} more stayed idle. TensorFlow and JAX use "
        "all (KERAS_BACKEND=tensorflow or jax)"
    )
