"""The interfaces: what each kind of part promises, so that any of them works with any other.

`dpk_core.testing` has a public check for each (``check_dataset``, ``check_model``, ...) that a
plugin author runs in one line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from dpk_core.skeleton import Skeleton
from dpk_core.task import Task

if TYPE_CHECKING:
    from dpk_core.annotations import AnnotationSet
    from dpk_core.detections import Detections
    from dpk_core.losses import LossReport
    from dpk_core.streams import PoseStream
    from dpk_core.tracks import Tracks


class Sample(NamedTuple):
    """One labelled image.

    image (h, w, c) uint8; keypoints (k, 2) float32 of x, y in pixels with NaN for missing;
    visibility (k,) uint8: 0 not labelled, 1 hidden, 2 visible.
    """

    image: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray


class Dataset(ABC):
    """Labelled images by number.

    Contract: ``len`` is constant; ``[i]`` gives the same `Sample` every time, for -len <= i < len,
    and IndexError outside; every image has the shape `image_shape`; it is read from several
    threads at once.
    """

    skeleton: Skeleton

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, i: int) -> Sample: ...

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""

    @property
    def groups(self) -> list[str] | None:
        """A name for each image such that neighbours share it (its video); None when unknown."""
        return None

    @property
    def frames(self) -> np.ndarray | None:
        """(n,) position of each image within its group; None when unknown."""
        return None


class Augmenter(ABC):
    """Changes images and their keypoints together.

    Contract: output shapes and types equal the input's; the same seed gives the same result,
    whatever was augmented before and in whichever thread; the input arrays stay as they were; a
    NaN keypoint stays NaN; a keypoint follows the pixel that it lies on, in the convention that
    (0, 0) is the centre of the top-left pixel.
    """

    @abstractmethod
    def augment(
        self, images: np.ndarray, keypoints: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n, h, w, c) uint8 and (n, k, 2) float32 -> the same, transformed."""


class PeakDetector(ABC):
    """Finds one peak in each confidence map.

    Contract: made as ``Detector(sigma=...)``, sigma being the standard deviation in map pixels of
    the Gaussian that the maps were trained on. Called with (n, h, w, k) maps in [0, 1], a NumPy
    array or a tensor of the backend in use, it gives (n, k, 3) of x, y in map pixels ((0, 0) the
    centre of the top-left one) and a score in [0, 1]. Coordinates lie within the map, whose pixels
    reach from -0.5 to size - 0.5. A map without a peak has a score near 0, never NaN.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = float(sigma)

    @abstractmethod
    def __call__(self, maps: Any) -> Any:
        """(n, h, w, k) -> (n, k, 3)."""


class Model(ABC):
    """Learns from labelled images and finds keypoints in new ones.

    Contract: made as ``Model(generator, **hyperparameters)`` from a `TrainingGenerator` or a
    `Task`; every hyperparameter has a default. `predict` takes images of the size of the original
    ones and gives coordinates in their pixels. A saved model predicts the same after it was
    loaded in a new process.
    """

    task: Task

    @property
    def skeleton(self) -> Skeleton:
        return self.task.skeleton

    @abstractmethod
    def fit(self, batch_size: int = 16, *, n_workers: int = 1, **options: Any) -> Any:
        """Train; gives a record of the training (see the model package for the options)."""

    @abstractmethod
    def predict(self, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """(n, h, w, c) uint8 -> (n, k, 3) float32 of x, y in pixels of the images, score."""

    @abstractmethod
    def evaluate(self, dataset: Dataset | None = None) -> Mapping[str, Any]:
        """Errors in pixels on a dataset, or on the validation set that training left out."""

    @abstractmethod
    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to one file, whole or not at all."""

    @property
    def engine(self) -> str:
        """What computes the predictions, in words: program, device, precision."""
        return type(self).__name__

    def realtime(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function from one frame (h, w, c) uint8 to (k, 3), with as little delay as can be."""
        return lambda frame: self.predict(frame[None], batch_size=1)[0]

    def confidence_maps(self, images: np.ndarray) -> np.ndarray:
        """(n, h, w, c) uint8 as for `predict` -> (n, h', w', k) float32 maps from about 0 to 1, by
        which is seen how sure the model is of a place; not every model can.

        Raises
        ------
        DpkError
            When it ends in coordinates.
        """
        from dpk_core.errors import DpkError

        raise DpkError(
            f"{type(self).__name__} ({self.engine}) gives coordinates only, no confidence maps; "
            "open the trained model itself, not what it was exported to"
        )

    def export(self, path: str | PathLike[str], **options: Any) -> None:
        """Write a file for other programs, as its suffix says; not every model can.

        Raises
        ------
        DpkError
            When this model, or one of its layers, cannot be exported.
        """
        from dpk_core.errors import DpkError

        raise DpkError(f"{type(self).__name__} cannot be exported: it has no export method")


class Frames(Protocol):
    """Frames of a video by number: ``len``, and ``[i]`` gives (h, w, c) uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> np.ndarray: ...


class Detector(ABC):
    """Finds animals in a frame.

    Contract: made with keyword arguments that have defaults; `detect` gives the same `Detections`
    for the same frame whatever it saw before, since a run that was cut off carries on in the
    middle; no detection lies outside the frame.
    """

    def prepare(self, frames: Frames) -> None:
        """Look at the video before its first frame is asked for: a background needs frames from
        all over it. It must come to the same every time. Default: nothing."""
        return

    @abstractmethod
    def detect(self, frame: np.ndarray) -> Detections:
        """(h, w, c) uint8 -> `Detections`, maybe none."""


class Tracker(ABC):
    """Follows individuals, online: one frame at a time, in order.

    Contract: made with keyword arguments that have defaults; `update` gives rows of just that
    frame, each id at most once, ids from 0; the same stream gives the same rows; frames without
    detections, and numbers that jump, are no error.
    """

    uses_frames: bool = False
    """Whether `update` wants the frame: to compensate the camera's motion, say."""

    @abstractmethod
    def update(
        self, number: int, detections: Detections, frame: np.ndarray | None = None
    ) -> Tracks:
        """What was found in frame ``number`` -> who is where in it.

        Parameters
        ----------
        number
            Of the frame in the video, larger than in the call before.
        detections
            In that frame.
        frame
            (h, w, c) uint8 where `uses_frames`, else None.
        """

    def finish(self, tracks: Tracks) -> Tracks:
        """All rows when the stream has ended -> the same, mended: gaps filled in, pieces joined.
        Default: as they are."""
        return tracks


class PoseFormat(ABC):
    """Reads and writes files of labels, poses or tracks.

    Contract: coordinates are in dpk's convention whatever the file's is; what cannot be carried
    over is counted in the report; a file that is damaged, or of another format, raises a DpkError
    that names the file and the place. Nothing of a file is executed, no pickle is loaded, no path
    in it leads out of its folder unless it is a video's or an image's that only is read.

    Of animals that share a frame, an `AnnotationSet` has a row each: the same image, and
    ``Source.individual`` tells them apart (`dpk_core.services.individuals` crops them out and
    groups them again). Names of `Poses` and `Tracks` ids stand in ``provenance["track_names"]``,
    a dict of id (as text) to name.
    """

    @abstractmethod
    def sniff(self, path: str | PathLike[str]) -> bool:
        """Whether the file or folder is of this format, judged by content; it never raises."""

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        """What is in the file: some of "annotations", "poses", "tracks"; the first is meant
        when nobody says. Asked only after `sniff`. Default: annotations."""
        return ("annotations",)

    @abstractmethod
    def read(
        self,
        path: str | PathLike[str],
        kind: str = "annotations",
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> AnnotationSet | PoseStream | Tracks:
        """An `AnnotationSet` whose images are read when asked for, a `PoseStream`, or `Tracks`."""

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> None:
        """Write a file or folder that is not there yet; whoever calls puts it in its place.

        Relative paths in the file are relative to the folder that ``path`` lies in.
        """
        from dpk_core.errors import DpkError

        raise DpkError(f"{type(self).__name__} only reads; choose another format for writing")
