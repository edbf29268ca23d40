"""The synthetic animal: its keypoints are where they are painted, in every frame, reproducibly."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core.errors import ValidationError
from dpk_core.services.synthetic import SyntheticAnimal
from dpk_core.services.synthetic import painting as painting_module
from dpk_core.services.synthetic.animal import INDEX, SKELETON

PLAIN = {"occlusion": False, "noise": 0.0}


@pytest.fixture(scope="module")
def animal():
    return SyntheticAnimal(seed=3, size=(120, 160), n_frames=200)


def test_frames_are_reproducible_in_any_order(animal):
    again = SyntheticAnimal(seed=3, size=(120, 160), n_frames=200)
    for i in (150, 2, 77):
        assert np.array_equal(animal.render(i), again.render(i))
    in_order = list(again.frames(75, 79))
    assert np.array_equal(in_order[2], animal.render(77))
    assert not np.array_equal(SyntheticAnimal(seed=4, size=(120, 160)).render(2), animal.render(2))


@pytest.mark.parametrize("size", [(128, 128), (96, 180)])
def test_keypoints_lie_where_they_are_painted(size, monkeypatch):
    """The eyes are discs: the difference that painting them makes is centred on their keypoint."""
    animal = SyntheticAnimal(seed=5, size=size, n_frames=60, animal_scale=0.6, **PLAIN)
    checked = 0
    for i in range(0, 60, 7):
        for name in ("eyeL", "eyeR"):
            x, y = animal.keypoints[i, INDEX[name]]
            if not (8 < x < size[1] - 9 and 8 < y < size[0] - 9):
                continue
            found = _centre_of_marker(animal, i, name, monkeypatch)
            assert np.hypot(*(found - (x, y))) < 0.1
            checked += 1
    assert checked >= 8


def _centre_of_marker(animal, i, name, monkeypatch):
    """Centroid of a bright disc that is painted instead of one eye, by its own colour."""
    keypoints, length = animal._pose[i], animal._motion.length

    def cover_of(extra):
        def body(points, size, fill, disc):
            if extra:
                disc(points[INDEX[name]], 0.05 * size, (255, 255, 255))

        for part in ("_paint_legs", "_paint_body", "_paint_head"):
            patch = body if part == "_paint_head" else lambda *_: None
            monkeypatch.setattr(painting_module, part, patch)
        _, cover, corner = painting_module.paint(keypoints, length, animal.size)
        monkeypatch.undo()
        return cover, corner

    cover, (top, left) = cover_of(extra=True)
    y, x = np.mgrid[: cover.shape[0], : cover.shape[1]]
    return np.array([(x * cover).sum(), (y * cover).sum()]) / cover.sum() + (left, top)


def test_eyes_are_the_darkest_spots_of_a_rendered_frame():
    """End to end through background, light and shadow."""
    animal = SyntheticAnimal(seed=1, size=(160, 160), n_frames=40, animal_scale=0.6, **PLAIN)
    for i in (0, 20, 39):
        image = animal.render(i).mean(axis=2)
        for name in ("eyeL", "eyeR"):
            x, y = np.rint(animal.keypoints[i, INDEX[name]]).astype(int)
            around = image[y - 6 : y + 7, x - 6 : x + 7]
            assert image[y, x] < np.percentile(around, 15) + 6


def test_left_is_left_and_right_is_right(animal):
    """Seen from above, with y down: the left eye lies counter-clockwise of the way to the snout."""
    pose = animal._pose
    forward = pose[:, INDEX["snout"]] - pose[:, INDEX["neck"]]
    for name, sign in (("eyeL", -1), ("eyeR", 1)):
        side = pose[:, INDEX[name]] - pose[:, INDEX["neck"]]
        cross = forward[:, 0] * side[:, 1] - forward[:, 1] * side[:, 0]
        assert (np.sign(cross) == sign).all()


def test_hidden_keypoints_lie_under_grass_and_only_they():
    animal = SyntheticAnimal(seed=3, size=(160, 160), n_frames=400)
    hidden, seen = animal.visibility == 1, animal.visibility == 2
    assert 0.005 < hidden.mean() < 0.3
    column, row = np.rint(np.nan_to_num(animal.keypoints)).astype(int).transpose(2, 0, 1)
    cover = animal._scene.cover[row.clip(0, 159), column.clip(0, 159)]
    assert (cover[hidden] > 0.5).all()
    assert (cover[seen] <= 0.5).all()
    assert np.isnan(animal.keypoints[animal.visibility == 0]).all()


def test_it_stays_mostly_inside_and_moves(animal):
    assert (animal.visibility > 0).mean() > 0.9
    steps = np.linalg.norm(np.diff(animal._motion.position, axis=0), axis=1)
    assert 0.2 < steps.mean() < 5
    bend = animal._pose[:, INDEX["tailtip"]] - animal._pose[:, INDEX["neck"]]
    directions = np.arctan2(bend[:, 1], bend[:, 0])
    assert np.ptp(directions) > 1


def test_the_skeleton_is_symmetric():
    assert len(SKELETON) == 16
    assert SKELETON.one_sided_swaps == ()
    assert (SKELETON.flip_order != np.arange(16)).sum() == 10


def test_gray_and_bad_sizes():
    assert SyntheticAnimal(size=(40, 50), n_frames=1, channels=1).render(0).shape == (40, 50, 1)
    with pytest.raises(ValidationError, match="at least 32"):
        SyntheticAnimal(size=(20, 50))
    with pytest.raises(ValidationError, match="channels"):
        SyntheticAnimal(channels=2)
    with pytest.raises(IndexError):
        SyntheticAnimal(n_frames=2).render(2)
