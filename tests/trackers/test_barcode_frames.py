"""Frames of any size and layout: tags are read wherever they lie, in whatever order pixels are
stored, and what is left out to save time is nothing that a tag could be."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dpk_trackers.barcodes import TagDictionary, quads
from dpk_trackers.barcodes.soft_reader import SoftReader
from dpk_trackers.barcodes.synthetic import SceneSettings, draw_tag, render_scene, tag_homography

TAGS = TagDictionary.generate(5, distance=7, count=40, seed=1)
READER = SoftReader(TAGS)


def frame_with(shape: tuple[int, int], tags: dict[int, tuple[float, float, float]]) -> np.ndarray:
    """A gray frame with tags: id -> x and y of its centre, side of its black square."""
    frame = np.full(shape, 150, np.uint8)
    for tag_id, (x, y, side) in tags.items():
        half = int(side)
        left, top = int(x) - half, int(y) - half
        size = 2 * half + 1
        part = np.full((size, size), 150, np.float32)
        matrix = tag_homography((x - left, y - top), side, turn=0.3, tilt=0, towards=0, distance=20)
        draw_tag(part, TAGS.picture(tag_id), matrix, white=225, black=25, supersample=6)
        # Where a tag reaches over the border, it is cut.
        ys = slice(max(top, 0), min(top + size, shape[0]))
        xs = slice(max(left, 0), min(left + size, shape[1]))
        seen = part[ys.start - top : ys.stop - top, xs.start - left : xs.stop - left]
        frame[ys, xs] = np.round(seen)
    return frame


def assert_read(frame: np.ndarray, tags: dict[int, tuple[float, float, float]]) -> None:
    readings = READER.read(frame)
    assert sorted(readings.id.tolist()) == sorted(tags)
    for reading in readings:
        np.testing.assert_allclose(reading.centre, tags[reading.id][:2], atol=0.1)


@pytest.mark.parametrize("shape", [(3000, 4096), (4096, 3000)])
def test_large_frames_are_read_from_corner_to_corner(shape):
    height, width = shape
    tags = {
        1: (30.3, 28.6, 24.0),
        2: (width - 31.4, 30.2, 18.0),
        3: (40.7, height - 41.3, 60.0),
        4: (width - 29.7, height - 30.1, 20.0),
        5: (width / 2 + 0.2, height / 2 - 0.4, 300.0),
    }
    assert_read(frame_with(shape, tags), tags)


def test_a_frame_of_64_pixels_is_read():
    for side in (18.0, 24.0, 40.0):
        tags = {7: (31.2, 32.6, side)}
        assert_read(frame_with((64, 64), tags), tags)


@pytest.mark.parametrize("more", range(8))
def test_a_tag_at_the_last_pixels_of_a_frame_of_any_size_is_read(more):
    height, width = 60 + more, 90 - more
    tags = {9: (width - 17.3, height - 17.6, 20.0)}
    assert_read(frame_with((height, width), tags), tags)


@pytest.mark.parametrize("shape", [(12, 400), (400, 12), (64, 9), (8, 8)])
def test_frames_too_narrow_for_a_tag_give_nothing(shape):
    noise = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    assert len(READER.read(noise)) == 0


def test_frames_in_any_layout_give_the_same_and_stay_as_they_are():
    gray = frame_with((90, 130), {3: (40.2, 45.1, 30.0), 8: (95.6, 41.9, 22.0)})
    first = READER.read(gray)
    assert sorted(first.id.tolist()) == [3, 8]
    spread = np.zeros((180, 390), np.uint8)
    spread[::2, ::3] = gray
    locked = gray.copy()
    locked.setflags(write=False)
    colour = np.dstack([gray] * 3)
    planes = np.ascontiguousarray(colour.transpose(2, 0, 1))
    layouts = {
        "every second row, every third column": spread[::2, ::3],
        "columns first": np.asfortranarray(gray),
        "upside down, stored the other way": np.ascontiguousarray(gray[::-1, ::-1])[::-1, ::-1],
        "part of a larger frame": np.pad(gray, 7)[7:-7, 7:-7],
        "read-only": locked,
        "colour": colour,
        "colour, planes first": planes.transpose(1, 2, 0),
        "blue, green, red": colour[..., ::-1],
        "one of four channels": np.dstack([gray] * 4)[..., 1],
    }
    for name, frame in layouts.items():
        before = frame.copy()
        again = READER.read(frame)
        np.testing.assert_array_equal(again.id, first.id, err_msg=name)
        np.testing.assert_array_equal(again.corners, first.corners, err_msg=name)
        np.testing.assert_array_equal(frame, before, err_msg=name)


@pytest.mark.parametrize("smallest", [2.4, 7.2, 15.0])
def test_leaving_out_specks_loses_no_quadrilateral(monkeypatch, smallest):
    settings = SceneSettings(size=(500, 600), count=25, side=16.0, noise=(5.0, 6.0))
    levels = quads.pyramid(render_scene(TAGS, settings, seed=6).image, 12, np.inf)
    found = quads.find_quads(levels, smallest)
    assert len(found[0]) > 25
    monkeypatch.setattr(quads, "SPECK", 1000)  # wider than any: nothing is left out
    for one, other in zip(found, quads.find_quads(levels, smallest), strict=True):
        np.testing.assert_array_equal(one.corners, other.corners)
        np.testing.assert_array_equal(one.white, other.white)


def test_a_single_pixel_wide_outline_is_no_speck():
    # A frame of 6 x 6 pixels, on its corner: its pixels touch at their corners alone.
    level = np.full((60, 60), 100, np.uint8)
    cv2.polylines(level, [np.array([[30, 24], [36, 30], [30, 36], [24, 30]])], True, 200)
    marked = (level == 200).astype(np.uint8) * 255
    marked[5, 5] = marked[50:53, 50:53] = 255
    kept = quads._without_specks(marked)
    np.testing.assert_array_equal(kept == 255, level == 200)
