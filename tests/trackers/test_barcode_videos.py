"""Videos of tags, from the file to the tracks: identities through hiding, odd frames, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core.cli.app import app
from dpk_core.errors import OutputExistsError, ValidationError
from dpk_core.services.plugins import registry
from dpk_core.services.storage import read_tracks
from dpk_core.services.video import VideoWriter
from dpk_core.testing import check_tracker
from dpk_core.workflow.track import track_video
from dpk_trackers.assignment import join
from dpk_trackers.barcode_detector import BarcodeDetector
from dpk_trackers.barcodes import TagDictionary, make_reader
from dpk_trackers.barcodes.synthetic import SceneSettings, render_scene
from dpk_trackers.barcodes.synthetic_film import FilmSettings, render_film
from dpk_trackers.barcodes.tracking import BarcodeTracker

TAGS = TagDictionary.generate(4, distance=4, count=20, seed=1)
SCENE = SceneSettings(size=(240, 320), count=5, side=26.0, tilt=(0.0, 20.0), supersample=3)
FILM = FilmSettings(scene=SCENE, frames=40, hidden=12, speed=1.5)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A video of five tags that are each hidden for 12 of its 40 frames, and the truth about it."""
    folder = tmp_path_factory.mktemp("film")
    frames = list(render_film(TAGS, FILM, seed=2))
    with VideoWriter(folder / "bees.mp4", 25) as writer:
        for frame in frames:
            writer.write(np.repeat(frame.scene.image[..., None], 3, axis=2))
    TAGS.save(folder / "tags.json")
    return folder, frames


def test_the_tracker_keeps_the_contract_and_brings_its_detector():
    check_tracker("barcode")
    check_tracker("barcode", ids=[5, 6], fill_gap=0)
    assert registry().get("trackers", "barcode").detector == "barcode"


def test_identities_are_held_through_hiding_on_the_command_line(film, tmp_path: Path):
    folder, frames = film
    words = ["track", str(folder / "bees.mp4"), "--tracker", "barcode", "-o", "bees.tracks.h5"]
    words[-1] = str(tmp_path / words[-1])
    words += ["--detector-set", f"dictionary={folder / 'tags.json'}"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    tracks = read_tracks(words[5])
    ids = frames[0].scene.ids
    assert set(tracks.id.tolist()) == set(ids.tolist())
    column = np.array([ids.tolist().index(tag_id) for tag_id in tracks.id])
    centres = np.stack([frame.scene.centres for frame in frames])
    visible = np.stack([frame.visible for frame in frames])
    away = np.hypot(*(np.column_stack([tracks.x, tracks.y]) - centres[tracks.frame, column]).T)
    shown = visible[tracks.frame, column]
    assert away[~tracks.interpolated].max() < 1.0  # never elsewhere
    assert shown[~tracks.interpolated].all()
    seen = np.zeros(visible.shape, bool)
    seen[tracks.frame[~tracks.interpolated], column[~tracks.interpolated]] = True
    assert seen[visible].mean() > 0.97
    filled = np.zeros(visible.shape, bool)
    filled[tracks.frame[tracks.interpolated], column[tracks.interpolated]] = True
    assert filled[~visible].all()


def test_only_ids_in_use_are_followed(film, tmp_path: Path):
    folder, frames = film
    wanted = frames[0].scene.ids[:2].tolist()
    done = track_video(
        folder / "bees.mp4",
        tmp_path / "few.tracks.h5",
        tracker="barcode",
        tracker_settings={"ids": wanted},
        detector_settings={"dictionary": str(folder / "tags.json")},
        stop=10,
    )
    assert set(done.tracks.id.tolist()) == set(wanted)
    with pytest.raises(OutputExistsError):
        track_video(
            folder / "bees.mp4",
            tmp_path / "few.tracks.h5",
            tracker="barcode",
            detector_settings={"dictionary": str(folder / "tags.json")},
            stop=10,
        )


def test_without_a_dictionary_the_command_says_what_to_name(film, tmp_path: Path):
    folder, _ = film
    words = [
        "track",
        str(folder / "bees.mp4"),
        "--tracker",
        "barcode",
        "-o",
        str(tmp_path / "t.h5"),
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "--detector-set" in result.output
    assert not (tmp_path / "t.h5").exists()


def test_frames_of_changing_size_and_with_nothing_in_them_are_followed_through():
    detector, tracker = BarcodeDetector(TAGS), BarcodeTracker(fill_gap=10)
    tag = np.kron(TAGS.picture(7, paper=2), np.full((5, 5), 255)).astype(np.uint8)
    parts = []
    for number, (height, width) in enumerate(
        [(100, 120), (1, 1), (0, 0), (90, 300), (7, 400), (64, 64), (200, 90)]
    ):
        frame = np.full((height, width, 3), 140, np.uint8)
        if min(height, width) >= len(tag):
            frame[: len(tag), : len(tag)] = tag[..., None]
        parts.append(tracker.update(number, detector.detect(frame)))
    tracks = tracker.finish(join(parts))
    assert tracks.frame.tolist() == list(range(7))
    assert set(tracks.id.tolist()) == {7}
    assert tracks.interpolated.tolist() == [False, True, True, False, True, False, False]
    np.testing.assert_allclose(tracks.x, tracks.x[0], atol=0.01)


def test_a_tag_that_stands_twice_in_every_frame_is_one_track_that_stays_where_it_is():
    detector, tracker = BarcodeDetector(TAGS), BarcodeTracker()
    tag = np.kron(TAGS.picture(3, paper=2), np.full((5, 5), 255)).astype(np.uint8)
    rows = []
    for number in range(8):
        frame = np.full((100, 320), 140, np.uint8)
        frame[: len(tag), number : number + len(tag)] = tag
        if number:
            frame[-len(tag) :, -len(tag) :] = tag
        rows.append(tracker.update(number, detector.detect(frame[..., None])))
    tracks = join(rows)
    assert tracks.id.tolist() == [3] * 8
    np.testing.assert_allclose(np.diff(tracks.x), 1, atol=0.05)


def test_films_are_the_same_again_and_their_wishes_are_checked():
    settings = FilmSettings(scene=SCENE, frames=3, hidden=1)
    one, other = (list(render_film(TAGS, settings, seed=5)) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.scene.image, b.scene.image)
    assert [frame.visible.sum() for frame in one].count(5) < 3
    with pytest.raises(ValidationError, match="three times as long"):
        FilmSettings(frames=10, hidden=4)
    crowd = SceneSettings(size=(900, 900), count=21, side=20.0)
    with pytest.raises(ValidationError, match="at most 20 tags"):
        next(render_film(TAGS, FilmSettings(scene=crowd, frames=3, hidden=1), seed=0))


def test_soiled_tags_have_blots_where_their_truth_says_the_tag_is():
    clean = SceneSettings(size=(200, 200), count=3, side=40.0, noise=(0.0, 0.0), shot=0.0)
    soiled = SceneSettings(
        size=(200, 200), count=3, side=40.0, noise=(0.0, 0.0), shot=0.0, dirt=(0.2, 0.2)
    )
    one, other = render_scene(TAGS, clean, 1), render_scene(TAGS, soiled, 1)
    np.testing.assert_array_equal(one.corners[0], other.corners[0])
    assert (one.image != other.image).sum() > 500
    read = [len(make_reader("soft", TAGS).read(scene.image)) for scene in (one, other)]
    assert read[0] == 3 > read[1]
