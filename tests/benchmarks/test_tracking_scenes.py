"""The scenes that trackers are compared on are what their settings say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "tracking" / "scenes.py"


@pytest.fixture(scope="module")
def scenes():
    spec = importlib.util.spec_from_file_location("tracking_scenes", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scene(scenes):
    return scenes.make_scene(attrs.evolve(scenes.SETTINGS["30"], frames=200), 5)


def near(boxes, found, reach=8.0):
    """(n, m) whether a detection lies within ``reach`` pixels of a true centre."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    gap = np.hypot(centers[:, 0, None] - found.x, centers[:, 1, None] - found.y)
    return gap < reach


def test_a_seed_makes_one_scene(scenes, scene):
    again = scenes.make_scene(scene.setting, 5)
    for a, b in zip(scene.detections, again.detections, strict=True):
        np.testing.assert_array_equal(a.x, b.x)
    other = scenes.make_scene(scene.setting, 6)
    assert len(other.detections[0]) != len(scene.detections[0]) or not np.array_equal(
        other.detections[0].x, scene.detections[0].x
    )


def test_truth_is_what_has_its_centre_in_view_each_once(scene):
    h, w = scene.setting.size
    for ids, boxes in scene.truth:
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        assert ((centers >= 0) & (centers < [w, h])).all()
        assert len(np.unique(ids)) == len(ids)
    seen = np.mean([len(ids) for ids, _ in scene.truth])
    assert 0.7 * scene.setting.in_view < seen < 1.3 * scene.setting.in_view


def test_detections_are_missed_false_and_noisy_as_settings_say(scene):
    missed, false, total, errors = 0, 0, 0, []
    for (_, boxes), found in zip(scene.truth, scene.detections, strict=True):
        pairs = near(boxes, found)
        missed += (~pairs.any(axis=1)).sum()
        false += (~pairs.any(axis=0)).sum()
        total += len(boxes)
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        for a, b in zip(*np.nonzero(pairs), strict=True):
            errors.append(found.x[b] - centers[a, 0])
    setting = scene.setting
    assert missed / total > setting.missed, "bursts and covers come on top"
    assert missed / total < 0.3
    assert false / total > 0.5 * setting.false
    assert 1.0 * setting.noise < np.std(errors) < 1.6 * setting.noise
    scores = np.concatenate([found.score for found in scene.detections])
    assert (scores < 0.5).mean() > 0.05, "weak ones are among them"


def test_the_camera_moves_or_stands(scenes, scene):
    assert np.ptp(scene.cameras[:, :, 2], axis=0).min() > 5
    still = scenes.make_scene(attrs.evolve(scene.setting, camera=False), 5)
    assert (still.cameras == np.eye(2, 3)).all()


def test_pictures_show_the_animals_where_they_are(scene):
    image = next(scene.images())
    assert image.shape == (*scene.setting.size, 1)
    _, boxes = scene.truth[0]
    centers = ((boxes[:, :2] + boxes[:, 2:]) / 2).round().astype(int)
    dark = [image[y, x, 0] < 60 for x, y in centers]
    assert np.mean(dark) > 0.7, "but those under bushes"
