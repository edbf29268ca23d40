"""Films of tags that walk about and are hidden now and then, whose true places are known."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np

from dpk_core.errors import ValidationError
from dpk_trackers.barcodes.dictionary import TagDictionary
from dpk_trackers.barcodes.synthetic import (
    Scene,
    SceneSettings,
    draw_blots,
    draw_tag,
    expose,
    make_ground,
    place_tags,
    soil_tag,
    tag_homography,
    tag_places,
)


@attrs.frozen
class FilmSettings:
    """How tags move.

    Parameters
    ----------
    scene
        How the pictures look; ``motion`` and ``bodies`` do not count: tags are blurred by how they
        move.
    frames
        How many pictures.
    hidden
        Frames in a row in which a tag is not to be seen, once for each, at a random time that
        leaves as many frames before and after.
    speed
        Typical pixels in a frame; it changes slowly, and so does the direction.
    shutter
        Part of a frame's time in which the shutter is open.
    """

    scene: SceneSettings = attrs.field(
        factory=lambda: SceneSettings(size=(1024, 1024), count=30, side=18.0)
    )
    frames: int = 250
    hidden: int = 25
    speed: float = 3.0
    shutter: float = 0.3

    def __attrs_post_init__(self) -> None:
        if self.hidden < 0 or self.frames < 3 * self.hidden or self.frames < 1:
            raise ValidationError(
                "film: expected frames for three times as long as tags are hidden, found "
                f"{self.frames} and {self.hidden}"
            )


@attrs.frozen(eq=False)
class FilmFrame:
    """A picture with all tags' true places, and which of them are to be seen in it."""

    scene: Scene
    visible: np.ndarray


def render_film(
    dictionary: TagDictionary, settings: FilmSettings, seed: int
) -> Iterator[FilmFrame]:
    """Frames one by one; the same seed gives the same film. Ids are drawn without repetition."""
    random = np.random.default_rng(seed)
    scene = settings.scene
    ground = make_ground(scene, random)
    start = place_tags(scene, random)
    n = len(start)
    if n > len(dictionary):
        raise ValidationError(f"film: expected at most {len(dictionary)} tags, found {n}")
    ids = random.permutation(dictionary.ids)[:n]
    places = _paths(start, settings, random)
    turns = random.uniform(0, 2 * np.pi, n) + _wander(settings.frames, n, 0.05, random)
    tilts = np.radians(random.uniform(*scene.tilt, n))
    towards, distance = random.uniform(0, 2 * np.pi, n), random.uniform(*scene.distance, n)
    white, black = random.uniform(*scene.white, n), random.uniform(*scene.black, n)
    since = random.integers(settings.hidden, settings.frames - 2 * settings.hidden + 1, n)
    blots = draw_blots(scene, n, random)
    exposure = int(random.integers(2**31))
    for number in range(settings.frames):
        visible = (number < since) | (number >= since + settings.hidden)
        picture = ground.copy()
        corners, centres = np.zeros((n, 4, 2)), np.zeros((n, 2))
        moving = places[min(number + 1, settings.frames - 1)] - places[max(number - 1, 0)]
        for i in range(n):
            homography = tag_homography(
                places[number, i],
                scene.side,
                turn=turns[number, i],
                tilt=tilts[i],
                towards=towards[i],
                distance=distance[i],
            )
            corners[i], centres[i] = tag_places(homography)
            if visible[i]:
                draw_tag(
                    picture,
                    dictionary.picture(int(ids[i])),
                    homography,
                    white=white[i],
                    black=black[i],
                    paper=scene.paper / dictionary.modules,
                    moved=moving[i] / 2 * settings.shutter,
                    supersample=scene.supersample,
                )
                if scene.dirt[1] > 0:
                    place, radius, level = blots[i]
                    soil_tag(picture, homography, place, radius * scene.side, level)
        # The same light and lens in all frames, other noise in each.
        image = expose(
            picture, scene, np.random.default_rng(exposure), np.random.default_rng([seed, number])
        )
        yield FilmFrame(Scene(image, ids, corners, centres), visible)


def _paths(start: np.ndarray, settings: FilmSettings, random: np.random.Generator) -> np.ndarray:
    """(frames, n, 2) places; who comes to the border turns round."""
    n, frames = len(start), settings.frames
    heading = random.uniform(0, 2 * np.pi, n) + _wander(frames, n, 0.15, random)
    pace = settings.speed * np.exp(_wander(frames, n, 0.1, random).clip(-2, 0.7))
    steps = pace[..., None] * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    height, width = settings.scene.size
    border = 1.5 * settings.scene.side
    room = np.array([width, height]) - 2 * border
    paths = start - border + steps.cumsum(axis=0)
    return border + room - np.abs(paths % (2 * room) - room)


def _wander(frames: int, n: int, step: float, random: np.random.Generator) -> np.ndarray:
    """(frames, n) random walks from 0."""
    walk: np.ndarray = random.normal(0, step, (frames, n)).cumsum(axis=0)
    return walk
