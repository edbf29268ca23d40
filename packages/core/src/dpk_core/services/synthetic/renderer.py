"""SyntheticAnimal: a video of an animal whose keypoints are known exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import PathLike

import attrs
import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.services.synthetic.animal import SKELETON, pose, walk
from dpk_core.services.synthetic.painting import paint
from dpk_core.services.synthetic.scene import light, make_scene
from dpk_core.skeleton import Skeleton


@attrs.define(eq=False, slots=False, repr=False)
class SyntheticAnimal:
    """An articulated animal that walks through a changing scene; every frame is reproducible.

    Parameters
    ----------
    seed
        Of the walk, the scene and the noise.
    size
        (height, width) of the frames in pixels, at least 32.
    n_frames
        Length of the video.
    channels
        3 for RGB, 1 for gray.
    occlusion
        Whether blades of grass hide parts of the animal now and then.
    noise
        Standard deviation of the camera's noise in gray levels.
    animal_scale
        Body length, snout to hip, as a fraction of the shorter side.

    Attributes
    ----------
    skeleton : Skeleton
    keypoints : np.ndarray
        (n, k, 2) float64, exact; (0, 0) is the centre of the top-left pixel; NaN outside the image.
    visibility : np.ndarray
        (n, k) uint8: 2 visible, 1 hidden by grass, 0 outside the image.

    Examples
    --------
    >>> animal = SyntheticAnimal(seed=1, size=(64, 80), n_frames=3)
    >>> animal
    SyntheticAnimal(3 frames 64x80x3, 16 keypoints, seed 1)
    >>> animal.render(2).shape
    (64, 80, 3)
    """

    seed: int = 0
    size: tuple[int, int] = (160, 160)
    n_frames: int = 300
    channels: int = 3
    occlusion: bool = True
    noise: float = 3.0
    animal_scale: float = 0.36

    def __attrs_post_init__(self) -> None:
        if min(self.size) < 32:
            raise ValidationError(f"size: expected sides of at least 32, found {self.size}")
        if self.channels not in (1, 3):
            raise ValidationError(f"channels: expected 1 or 3, found {self.channels}")
        if self.n_frames < 1:
            raise ValidationError(f"n_frames: expected at least 1, found {self.n_frames}")
        rng = np.random.default_rng([self.seed, 0])
        self._motion = walk(self.n_frames, self.size, self.animal_scale * min(self.size), rng)
        self._pose = pose(self._motion)
        self._scene = make_scene(
            self.size, np.random.default_rng([self.seed, 1]), occlusion=self.occlusion
        )
        self._light_phase = np.random.default_rng([self.seed, 2]).uniform(0, 2 * np.pi, 2)
        self.visibility = self._see()
        self.keypoints = np.where((self.visibility > 0)[..., None], self._pose, np.nan)

    @property
    def skeleton(self) -> Skeleton:
        return SKELETON

    def __len__(self) -> int:
        return self.n_frames

    def render(self, i: int) -> np.ndarray:
        """Frame i, (h, w, c) uint8; frames can be rendered in any order and in any process."""
        import cv2

        i = range(self.n_frames)[i]
        image = self._scene.ground.copy()
        color, cover, corner = paint(self._pose[i], self._motion.length, self.size)
        if cover.size:
            cover = _blur_along(cover, self._motion.heading[i], self._motion.speed[i])
            _darken(image, cover, corner, 0.035 * self._motion.length)
            top, left = corner
            part = image[top : top + cover.shape[0], left : left + cover.shape[1]]
            part += cover[..., None] * (color - part)
        image += self._scene.cover[..., None] * (self._scene.grass - image)
        image *= light(self.size, i, self._light_phase)[..., None]
        if self.channels == 1:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
        rng = np.random.default_rng([self.seed, 3, i])
        image += self.noise * rng.standard_normal(image.shape, dtype=np.float32)
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames start to stop, one after the other."""
        for i in range(*slice(start, stop).indices(self.n_frames)):
            yield self.render(i)

    def _see(self) -> np.ndarray:
        """(n, k) visibility of every keypoint."""
        height, width = self.size
        column, row = np.rint(self._pose).astype(int).transpose(2, 0, 1)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        cover = self._scene.cover[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
        return np.where(inside, np.where(cover > 0.5, 1, 2), 0).astype(np.uint8)

    def __repr__(self) -> str:
        (h, w), k = self.size, len(self.skeleton)
        return (
            f"SyntheticAnimal({self.n_frames} frames {h}x{w}x{self.channels}, {k} keypoints, "
            f"seed {self.seed})"
        )


def write_video(
    animal: SyntheticAnimal,
    path: str | PathLike[str],
    fps: float = 25,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Render all frames into a video; ``progress(done, total)`` is called after each."""
    from dpk_core.services.video import VideoWriter

    with VideoWriter(path, fps, overwrite=overwrite) as writer:
        for i, frame in enumerate(animal.frames(), start=1):
            writer.write(frame)
            if progress is not None:
                progress(i, len(animal))


def _blur_along(cover: np.ndarray, heading: float, speed: float) -> np.ndarray:
    """The camera's shutter: a blur along the way as long as half a step, to both sides alike."""
    import cv2

    reach = 0.25 * speed
    if reach < 0.1:
        return cover
    kernel = np.zeros((5, 5), np.float32)
    for t in np.linspace(-reach, reach, 9):
        x, y = 2 + t * np.cos(heading), 2 + t * np.sin(heading)
        x0, y0 = int(np.clip(x, 0, 3)), int(np.clip(y, 0, 3))
        fx, fy = x - x0, y - y0
        kernel[y0 : y0 + 2, x0 : x0 + 2] += np.outer([1 - fy, fy], [1 - fx, fx])
    return cv2.filter2D(cover, -1, kernel / kernel.sum())


def _darken(image: np.ndarray, cover: np.ndarray, corner: np.ndarray, offset: float) -> None:
    """A soft shadow a little below and to the right."""
    import cv2

    height, width = image.shape[:2]
    shadow = np.zeros((height, width), np.float32)
    top, left = corner
    shadow[top : top + cover.shape[0], left : left + cover.shape[1]] = cover
    shift = np.array([[1, 0, offset], [0, 1, 1.4 * offset]], np.float32)
    shadow = cv2.warpAffine(shadow, shift, (width, height))
    shadow = cv2.GaussianBlur(shadow, (0, 0), max(offset, 0.8))
    image *= (1 - 0.38 * shadow)[..., None]
