"""PoseModel: what every network shares, so that a new one is a class with one method."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, partial
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import keras
import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.interfaces import Dataset, Model
from dpk_core.task import Task
from dpk_models.memory import memory_errors

if TYPE_CHECKING:
    from dpk_core.services.generator import TrainingGenerator
    from dpk_core.services.inference import Realtime
    from dpk_models.record import TrainingRecord

pose_model = partial(
    attrs.define, eq=False, slots=False, repr=False, on_setattr=attrs.setters.frozen
)
"""Decorator of a `PoseModel`: its annotated attributes are hyperparameters, fixed once made."""


@pose_model
class PoseModel(Model):
    """A network for one task, with training, prediction and saving.

    A subclass decorated with `pose_model` lists its hyperparameters as attributes with defaults
    and implements `build`. That is all a new model needs.

    Parameters
    ----------
    source
        A `TrainingGenerator` to train from, or only a `Task` to build the network for.
    peak_detector
        Name of the plugin that turns confidence maps into coordinates.

    Raises
    ------
    ValidationError
        On a hyperparameter that the network can't have.
    """

    suited_learning_rate: ClassVar[float] = 1e-3
    """Adam's highest rate in recipes that name none; a network that bears more learns faster."""

    suited_downsample_factor: ClassVar[int] = 2
    """What ``dpk train`` gives the generator when nobody says how small maps shall be."""

    source: TrainingGenerator | Task
    peak_detector: str = attrs.field(default="subpixel_maxima", kw_only=True)

    def __attrs_post_init__(self) -> None:
        self.generator = None if isinstance(self.source, Task) else self.source
        self.task: Task = self.source if isinstance(self.source, Task) else self.source.task
        self.record: TrainingRecord | None = None
        _check_storable(self.hyperparameters)
        if not isinstance(self.peak_detector, str):
            raise ValidationError(
                f"peak_detector: expected the name of a plugin, found {self.peak_detector!r}"
            )
        with _seeded_initializers(0 if self.generator is None else self.generator.seed):
            self.network: keras.Model = self.build(self.task)
        _check_network(type(self).__name__, self.network, self.task)
        if _pretrained_wanted.get():
            self.load_pretrained()

    def build(self, task: Task) -> keras.Model:
        """A functional model from uint8 images (h, w, c) to confidence maps.

        Its outputs, one or a list for intermediate supervision (the last is used for prediction),
        have the shape ``(*task.output_shape, task.n_output_channels)`` and lie on the scale 0 to
        `dpk_models.maps.MAP_SCALE`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no build(self, task) method")

    def load_pretrained(self) -> None:
        """Put weights that were learned elsewhere into the new network; by default there are none.

        Called once, after `build`. Not called for a model that is loaded from its file, which has
        all weights in it: neither a network connection nor another file is needed for that.
        """

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Every setting but the source, by name; JSON values."""
        return {f.name: getattr(self, f.name) for f in attrs.fields(type(self))[1:]}

    # -- the Model contract ---------------------------------------------------------------------

    def fit(
        self, batch_size: int | None = None, *, n_workers: int = 1, **options: Any
    ) -> TrainingRecord:
        """Train; see `dpk_models.options.TrainingOptions` for the options.

        Without options it follows the default recipe and ends by itself. Ctrl-C stops after the
        running step and keeps the best weights so far; the record says so.

        Raises
        ------
        ValidationError
            On an option that is wrong.
        TrainingError
            When the loss became NaN before anything was learned.
        DeviceMemoryError
            With the batch size to try.
        """
        from dpk_models.options import TrainingOptions
        from dpk_models.saving import warn_if_unsavable
        from dpk_models.training import train

        if self.generator is None:
            raise ValidationError(
                f"{type(self).__name__} was made from a Task and has no data to train on; make it "
                "from a TrainingGenerator, or give it one with model.generator = ..."
            )
        _check_same_task(self.task, self.generator.task)
        options = {"batch_size": batch_size, "n_workers": n_workers, **options}
        known = {f.name for f in attrs.fields(TrainingOptions)}
        if unknown := sorted(set(options) - known):
            raise ValidationError(f"fit: unknown options {unknown}; there are {sorted(known)}")
        chosen = TrainingOptions(**options)
        if chosen.learning_rate is None:
            chosen = attrs.evolve(chosen, learning_rate=self.suited_learning_rate)
        warn_if_unsavable(self)
        self.record = train(self, self.generator, chosen)
        return self.record

    def predict(
        self,
        images: np.ndarray | Dataset | Any,
        batch_size: int = 32,
        *,
        mirror: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Find the keypoints in images.

        Parameters
        ----------
        images
            (n, h, w, c) uint8 of the size of the original training images, in memory or in a file
            that is read by slices (such as `AnnotationSet.images`); or a `Dataset`; or a
            `VideoReader`. Gray and colour are converted to what the network was trained on.
        batch_size
            Images to go through the network at once. The last batch is filled up, so that every
            result is computed by the very same program.
        mirror
            Also look at the mirror of each image: twice the time for a somewhat smaller error. For
            skeletons that name their left-right pairs, and models trained with flips.
        progress
            Called with the number of images done and their total after each batch.

        Returns
        -------
        (n, k, 3) float32 of x, y in pixels of the given images, and a score in [0, 1].

        Raises
        ------
        ValidationError
            For images of another size or type.
        DeviceMemoryError
            With the batch size to try.
        """
        from dpk_core.services.inference import predict_images
        from dpk_core.services.test_time import check_mirror, with_mirror

        check_mirror(self.task, mirror)
        run = with_mirror(self._run, self.skeleton, self.task.sigma) if mirror else self._run
        return predict_images(run, self.task, images, batch_size, progress)

    def confidence_maps(self, images: np.ndarray) -> np.ndarray:
        """The maps behind `predict`: (n, h, w, k) float32 from about 0 to 1, where the network's
        last output has its pixels, ``task.output_stride`` to one of the network's image."""
        from dpk_core.services.imaging import prepare_images
        from dpk_models.maps import MAP_SCALE

        outputs = self.network.predict_on_batch(prepare_images(images, self.task))
        maps = outputs[-1] if isinstance(outputs, (list, tuple)) else outputs
        return np.asarray(maps, np.float32)[..., : self.task.n_keypoints] / MAP_SCALE

    def evaluate(self, dataset: Dataset | None = None, batch_size: int = 32) -> Mapping[str, Any]:
        """Errors in pixels of the original images.

        Parameters
        ----------
        dataset
            What to evaluate on. Default: the validation images of the generator.

        Returns
        -------
        A mapping with "summary" (`dpk_core.services.metrics.ErrorSummary`), "errors" (n, k),
        "predictions" (n, k, 3) and "keypoints" (n, k, 2).
        """
        from dpk_core.services.evaluation import evaluate_on

        if dataset is None:
            if self.generator is None:
                raise ValidationError("evaluate: expected a dataset, as the model has no generator")
            dataset = self.generator.validation_dataset()
        return evaluate_on(self, dataset, batch_size)

    def save(self, path: str | PathLike[str], *, overwrite: bool = True) -> None:
        """Write network, skeleton, task and training record to one ``.keras`` file."""
        from dpk_models.saving import save_model

        save_model(self, path, overwrite=overwrite)

    @property
    def engine(self) -> str:
        from dpk_models.device import describe_device

        return f"keras {keras.__version__} on {keras.backend.backend()}, {describe_device()}"

    def realtime(self) -> Realtime:
        """One frame in, coordinates out; see `dpk_core.services.inference.Realtime`."""
        from dpk_core.services.inference import Realtime

        return Realtime(self._run, self.task)

    def export(
        self, path: str | PathLike[str], *, overwrite: bool = True, check: bool = True
    ) -> None:
        """Write one file that takes uint8 images and gives coordinates, for other programs.

        Parameters
        ----------
        path
            Its suffix says the format: ``.onnx``, ``.xml`` (OpenVINO) or ``.tflite`` (LiteRT).
        overwrite
            Replace a file that is there.
        check
            Compare the exported model's predictions with this one's before the file is put in
            place (ONNX only).

        Raises
        ------
        MissingDependencyError
            With what to install.
        DpkError
            When a layer of the network cannot be exported, or the result predicts otherwise.
        """
        from dpk_models.export import export_model

        export_model(self, path, overwrite=overwrite, check=check)

    # -- the compiled prediction ----------------------------------------------------------------

    def _run(self, images: np.ndarray) -> np.ndarray:
        with memory_errors(len(images), during="prediction"):
            return np.asarray(self.predictor.predict_on_batch(images))

    @cached_property
    def predictor(self) -> keras.Model:
        """uint8 images (n, h, w, c) in, (n, k, 3) of x, y, score out, compiled as one program."""
        from dpk_models.prediction import make_predictor

        return make_predictor(self)

    def __repr__(self) -> str:
        h, w, c = self.task.image_shape
        settings = ", ".join(f"{k}={v!r}" for k, v in self.hyperparameters.items())
        return (
            f"{type(self).__name__}({h}x{w}x{c}, {self.task.finds}, "
            f"{self.network.count_params():,} parameters, {settings})"
        )


_pretrained_wanted: ContextVar[bool] = ContextVar("pretrained_wanted", default=True)


@contextmanager
def without_pretrained() -> Iterator[None]:
    """Models made within don't load pretrained weights, as theirs are about to be read."""
    token = _pretrained_wanted.set(False)
    try:
        yield
    finally:
        _pretrained_wanted.reset(token)


def _check_storable(hyperparameters: Mapping[str, Any]) -> None:
    """What could not be written to a model file is refused before anything is trained."""
    from dpk_models.record import plain

    for name, value in hyperparameters.items():
        try:
            json.dumps(value, default=plain)
        except (TypeError, ValueError) as error:
            raise ValidationError(f"{name}: cannot be written to a model file: {error}") from None


def _check_same_task(own: Task, found: Task) -> None:
    differing = [
        f.name for f in attrs.fields(Task) if getattr(own, f.name) != getattr(found, f.name)
    ]
    if differing:
        details = "; ".join(
            f"{name}: expected {getattr(own, name)!r}, found {getattr(found, name)!r}"
            for name in differing
        )
        raise ValidationError(f"the generator is for another task than the model: {details}")


def _check_network(name: str, network: keras.Model, task: Task) -> None:
    """The network must fit the task; a plugin author learns of a mistake here, not in training."""
    if tuple(network.input_shape[1:]) != task.image_shape:
        raise ValidationError(
            f"{name}.build: expected an input of {task.image_shape}, found "
            f"{tuple(network.input_shape[1:])}"
        )
    expected = (*task.output_shape, task.n_output_channels)
    for output in network.outputs:
        if tuple(output.shape[1:]) != expected:
            raise ValidationError(
                f"{name}.build: expected outputs of {expected} (height, width, channels), found "
                f"{tuple(output.shape[1:])}"
            )


@contextmanager
def _seeded_initializers(seed: int) -> Iterator[None]:
    """Make new layers draw the same initial weights for the same seed.

    Keras takes the seed of an initializer without one from Python's `random`. The state of that
    generator is the user's: it is put back.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
