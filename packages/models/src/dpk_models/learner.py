"""The network that learns, beside the one that is kept.

Usually they are one. Apart, the learning network may compute in 16 bits, lie on several devices,
and run ahead of the average of its weights, while the kept one stays as it is saved: float32, on
one device, and always with weights that were validated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from dpk_core.errors import ValidationError
from dpk_models.options import TrainingOptions
from dpk_models.precision import choose_precision, dtype_policy
from dpk_models.replicas import choose_devices, layers_of
from dpk_models.seeding import random_kept
from dpk_models.trainer import MapTrainer

if TYPE_CHECKING:
    from dpk_models.base import PoseModel


class Learner:
    """A network, its optimizer and the compiled step.

    Parameters
    ----------
    model
        Its network is the one that is kept.
    options
        Their precision, devices and learning rate.
    average
        Weight of the past in the running average of weights (EMA), from 0 (none) to below 1.

    Attributes
    ----------
    network, optimizer, trainer
        What learns; ``trainer`` is what callbacks see.
    precision
        Name of the dtype policy.
    devices
        Where it computes.
    """

    def __init__(self, model: PoseModel, options: TrainingOptions, average: float = 0.0) -> None:
        self.kept = model.network
        self.precision = choose_precision(options.precision)
        self.devices = choose_devices(options.devices, options.batch_size)
        self.average = average
        with self.devices.scope():
            self.network = self._network(model)
            self.trainer = MapTrainer(self.network, model.task)
            self.optimizer = self._optimizer(options.learning_rate)
            self.trainer.compile(
                optimizer=self.optimizer,
                jit_compile=self.devices.jit_compile,
                auto_scale_loss=False,
            )
            self.optimizer.build(self.network.trainable_variables)

    def step(self, images: np.ndarray, keypoints: np.ndarray, learning_rate: float) -> float:
        """Learn from a batch; its loss, NaN or infinite when there is no way on."""
        self.optimizer.learning_rate = learning_rate
        return self.devices.step(self.trainer, images, keypoints)

    def publish(self) -> list[np.ndarray]:
        """Give the kept network the weights to judge by (the average, if there is one); a copy."""
        if self.network is not self.kept:
            set_weights(self.kept, self._averaged() if self.average else weights_of(self.network))
        return weights_of(self.kept)

    def state(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Weights of the network that learns, and variables of its optimizer."""
        return weights_of(self.network), [_copy(v) for v in self.optimizer.variables]

    def restore(self, network: list[np.ndarray], optimizer: list[np.ndarray]) -> None:
        """Put back what `state` gave."""
        check_fit(self.network.variables, network)
        check_fit(self.optimizer.variables, optimizer)
        set_weights(self.network, network)
        for variable, value in zip(self.optimizer.variables, optimizer, strict=True):
            variable.assign(value)

    def _network(self, model: PoseModel) -> keras.Model:
        if self.precision == "float32" and self.devices.n == 1 and not self.average:
            return self.kept
        with dtype_policy(self.precision), random_kept():
            network = self.devices.prepare(model.build(model.task))
        if coarse := {str(o.dtype) for o in network.outputs} - {"float32"}:
            raise ValidationError(
                f"precision: {self.precision} needs a network whose outputs are float32, as 16 "
                f"bits are too coarse for maps; those of {type(model).__name__} are "
                f'{", ".join(coarse)}. Give its last layers dtype="float32", or train with '
                'precision="float32" (--precision float32)'
            )
        for own, theirs in zip(layers_of(network), layers_of(self.kept), strict=True):
            if own.trainable != theirs.trainable:  # somebody froze it
                own.trainable = theirs.trainable
        set_weights(network, weights_of(self.kept))
        return network

    def _optimizer(self, learning_rate: float) -> keras.optimizers.Optimizer:
        averaging = {"use_ema": True, "ema_momentum": self.average} if self.average else {}
        optimizer = keras.optimizers.Adam(learning_rate, **averaging)
        if self.precision == "mixed_float16":  # whose smallest number gradients may fall below
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        return optimizer

    def _averaged(self) -> list[np.ndarray]:
        """Averages of the trainable weights, and what isn't trained as it is."""
        trainable = self.network.trainable_variables
        latest = [_copy(v) for v in trainable]
        self.optimizer.finalize_variable_values(trainable)
        averaged = weights_of(self.network)
        for variable, value in zip(trainable, latest, strict=True):
            variable.assign(value)
        return averaged


def weights_of(network: keras.Model) -> list[np.ndarray]:
    """A copy of all variables of a network."""
    return [_copy(variable) for variable in network.variables]


def set_weights(network: keras.Model, weights: list[np.ndarray]) -> None:
    """Put back what `weights_of` gave."""
    for variable, value in zip(network.variables, weights, strict=True):
        variable.assign(value)


def check_fit(variables: list[keras.Variable], values: list[np.ndarray]) -> None:
    """ValueError, which names the first that differs, unless shapes are the same."""
    if len(variables) != len(values):
        raise ValueError(f"expected {len(variables)} arrays, found {len(values)}")
    for variable, value in zip(variables, values, strict=True):
        if tuple(variable.shape) != value.shape:
            raise ValueError(
                f"{variable.path}: expected shape {tuple(variable.shape)}, found {value.shape}"
            )


def _copy(variable: keras.Variable) -> np.ndarray:
    # A real copy: on a CPU some backends hand out the memory that training goes on writing to.
    return np.array(keras.ops.convert_to_numpy(variable))
