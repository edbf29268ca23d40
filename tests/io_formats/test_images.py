"""Images of labels: files and video frames, padded, lazy, from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dpk_core import VideoWriter
from dpk_core.errors import FileFormatError, FileMissingError, ValidationError
from dpk_io_formats.images import (
    Images,
    find_missing,
    image_size,
    read_image,
    source_sizes,
    unpadded,
    write_png,
)


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "кадр.png"
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    write_png(path, image)
    return path, image


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "walk.mp4"
    with VideoWriter(path, fps=10) as writer:
        for i in range(12):
            writer.write(np.full((32, 48, 3), 20 * i, np.uint8))
    return path


def test_png_keeps_every_pixel(small):
    path, image = small
    assert np.array_equal(read_image(path), image)
    assert image_size(path) == (20, 30)


def test_smaller_images_are_padded_right_and_below(small, video):
    path, image = small
    images = Images([(path, None), (video, 7), (path, None)])
    assert images.shape == (3, 32, 48, 3)
    assert np.array_equal(images[0][:20, :30], image)
    assert not images[0][20:].any()
    assert not images[0][:, 30:].any()
    assert abs(int(images[1].mean()) - 140) < 5
    assert source_sizes(images) == [(20, 30), None, (20, 30)]
    assert np.array_equal(unpadded(images[2], images.padding(2)), image)
    assert images[1:1].shape == (0, 32, 48, 3)
    assert images[[2, 0]].shape == (2, 32, 48, 3)


def test_gray(small):
    path, _ = small
    assert Images([(path, None)], channels=1).shape == (1, 20, 30, 1)
    assert Images([(path, None)], channels=1)[0].shape == (20, 30, 1)


def test_many_threads_at_once(video):
    images = Images([(video, i % 12) for i in range(48)])
    with ThreadPoolExecutor(4) as pool:
        means = list(pool.map(lambda i: images[i].mean(), range(48)))
    assert np.allclose(means, [20 * (i % 12) for i in range(48)], atol=5)


def test_a_frame_that_the_video_has_not(video):
    with pytest.raises(FileFormatError, match=r"has 12 frames; the labels are of frame 12"):
        Images([(video, 12)])[0]


def test_what_is_no_image(tmp_path):
    for content in (b"", b"\x89PNG\r\n\x1a\n", b"text"):
        path = tmp_path / "broken.png"
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"broken\.png is not an image, or cut short"):
            Images([(path, None)])
    with pytest.raises(FileMissingError, match=r"no image at .*gone\.png"):
        Images([(tmp_path / "gone.png", None)])


def test_missing_files_are_named(small, tmp_path):
    path, _ = small
    gone = tmp_path / "gone.png"
    with pytest.raises(FileMissingError, match=r"set: 1 of 2 .*gone\.png.*skip"):
        find_missing([path, gone, gone], "error", "set")
    found = find_missing([path, gone, path], "skip", "set")
    assert found.absent == (gone,)
    assert found.kept.tolist() == [0, 2]
    with pytest.raises(FileMissingError):
        find_missing([gone], "skip", "set")
    with pytest.raises(ValidationError, match="'error' or 'skip'"):
        find_missing([path], "ignore", "set")
