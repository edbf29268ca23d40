"""Whole videos: poses followed by their keypoints, and all that videos and detectors may be."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core import (
    Detections,
    Detector,
    Poses,
    Skeleton,
    VideoReader,
    VideoWriter,
    read_tracks,
    write_poses,
)
from dpk_core.cli.app import app
from dpk_core.errors import OutputExistsError, PluginError, ValidationError, VideoError
from dpk_core.services.storage import PosesWriter
from dpk_core.specs import DetectorSpec, TrackerSpec
from dpk_core.swaps import swap_candidates
from dpk_core.workflow import track
from dpk_core.workflow.crop import crop_video
from dpk_core.workflow.track import track_video

HERE = "plugins_of_test_track_videos"
SIZE = (96, 160)
N = 40
SKELETON = Skeleton(["head", "left", "right", "tail"], [-1, 0, 0, 0])
BODY = np.array([[8.0, 0.0], [0.0, -4.0], [0.0, 4.0], [-8.0, 0.0]])


class Bright(Detector):
    """The centre and box of what is bright in each half-plane of gray levels; or as it is told."""

    def __init__(self, give="what is there"):
        self.give = give

    def detect(self, frame):
        if self.give == "raise":
            raise ZeroDivisionError("no luck")
        if self.give == "nan":
            return Detections([np.nan], [3.0])
        if self.give == "outside":
            return Detections([500.0], [3.0])
        if self.give == "reaching outside":
            return Detections([2.0], [2.0], [40.0], [30.0])
        found = []
        for low, high in ((90, 140), (180, 256)):
            y, x = np.nonzero((frame[..., 0] >= low) & (frame[..., 0] < high))
            if len(x) > 12:
                found.append((x.mean(), y.mean(), np.ptp(x) + 1, np.ptp(y) + 1))
        return Detections(*np.array(found).T) if found else Detections.none()


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    monkeypatch.setitem(sys.modules, HERE, SimpleNamespace(Bright=Bright))
    specs = {
        ("detectors", "bright"): DetectorSpec("bright", "x", f"{HERE}:Bright"),
        ("trackers", "kalman"): TrackerSpec(
            "kalman", "x", "dpk_trackers.kalman:KalmanTracker", detector="bright"
        ),
        ("trackers", "munkres"): TrackerSpec(
            "munkres", "x", "dpk_trackers.munkres:MunkresTracker", detector="bright"
        ),
    }
    monkeypatch.setattr(
        track, "registry", lambda: SimpleNamespace(get=lambda *key: specs[key], plugins=[])
    )


def film(path, places, size=SIZE, levels=(115, 220)):
    """A video of discs at (n, animals, 2), NaN for nobody."""
    y, x = np.mgrid[: size[0], : size[1]]
    with VideoWriter(path, fps=20) as writer:
        for points in places:
            frame = np.full((*size, 3), 20, np.uint8)
            for (px, py), level in zip(points, levels, strict=False):
                frame[(x - px) ** 2 + (y - py) ** 2 <= 36] = level
            writer.write(frame)
    return path


def walks(n=N):
    """(n, 2, 2): one goes right, one left, 40 px apart."""
    t = np.arange(n)
    right = np.stack([20 + 2.5 * t, np.full(n, 28.0)], 1)
    left = np.stack([138 - 2.5 * t, np.full(n, 68.0)], 1)
    return np.stack([right, left], 1)


def pose_rows(places, headings, skip=()):
    """Poses of animals at (n, a, 2) with (n, a) headings, in an order that says nothing."""
    rng = np.random.default_rng(0)
    frames, points = [], []
    for i, (here, turns) in enumerate(zip(places, headings, strict=True)):
        for a in rng.permutation(len(here)):
            if (i, a) in skip:
                continue
            cos, sin = np.cos(turns[a]), np.sin(turns[a])
            points.append(here[a] + BODY @ np.array([[cos, sin], [-sin, cos]]))
            frames.append(i)
    points = np.array(points).reshape(-1, 4, 2)
    return Poses(points, np.full(points.shape[:2], 0.9), SKELETON, frames=np.array(frames, int))


def passing(n=N):
    """Two who walk through one another, 9 px a frame: the next of each is where the other was."""
    t = np.arange(n)
    first = np.stack([8 + 4.0 * t, np.full(n, 48.0)], 1)
    second = np.stack([154 - 4.0 * t, np.full(n, 49.0)], 1)
    return np.stack([first, second], 1), np.tile([0.0, np.pi], (n, 1))


def names_by_place(tracks, places, reach=6.0):
    """(n, animals) id nearest to each place, -1 for none."""
    found = np.full(places.shape[:2], -1)
    for i, points in enumerate(places):
        rows = tracks[np.flatnonzero(tracks.frame == i)]
        for a, (x, y) in enumerate(points):
            if len(rows) and np.isfinite(x):
                gap = np.hypot(rows.x - x, rows.y - y)
                found[i, a] = rows.id[gap.argmin()] if gap.min() < reach else -1
    return found


# -- poses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tracker", "options"),
    [
        ("kalman", {}),
        ("munkres", {"match": "pose", "sigmas": 0.5}),
    ],
)
def test_poses_of_a_file_are_followed_by_their_keypoints(tmp_path, tracker, options):
    places, headings = passing()
    video = film(tmp_path / "a.mp4", places)
    write_poses(tmp_path / "a.poses.h5", pose_rows(places, headings))
    done = track_video(
        video, poses=tmp_path / "a.poses.h5", tracker=tracker, tracker_settings=options
    )
    assert (done.detector, done.n_before, done.n_frames) == ("poses", 0, N)
    found = names_by_place(done.tracks, places, 20)
    clear = np.abs(places[:, 0, 0] - places[:, 1, 0]) > 40
    assert len(np.unique(found[clear][:, 0])) == 1, "by pose the two keep their names"
    assert done.tracks.provenance["poses"].endswith("a.poses.h5")
    box = done.tracks[np.flatnonzero(done.tracks.frame == 20)]
    np.testing.assert_allclose(np.sort(box.width), [17, 17], atol=0.5)
    np.testing.assert_allclose(np.sort(box.height), [9, 9], atol=0.5)


def test_by_position_alone_they_would_be_exchanged(tmp_path):
    """Of the test above: what makes the difference is the pose."""
    places, headings = passing()
    video = film(tmp_path / "a.mp4", places)
    write_poses(tmp_path / "a.poses.h5", pose_rows(places, headings))
    done = track_video(video, poses=tmp_path / "a.poses.h5", tracker="munkres")
    found = names_by_place(done.tracks, places, 20)
    clear = np.abs(places[:, 0, 0] - places[:, 1, 0]) > 40
    assert len(np.unique(found[clear][:, 0])) == 2


def test_gaps_and_weak_keypoints(tmp_path):
    places = walks()
    video = film(tmp_path / "a.mp4", places)
    rows = pose_rows(places, np.tile([0.0, np.pi], (N, 1)), skip={(9, 0), (10, 0), (10, 1)})
    scores = rows.scores.copy()
    scores[rows.frames == 20] = 0.1  # nothing to go by in this frame
    scores[rows.frames == 21, 1] = 0.1  # one keypoint less in that
    write_poses(tmp_path / "a.h5", Poses(rows.keypoints, scores, SKELETON, rows.frames))
    tracks = track_video(video, poses=tmp_path / "a.h5").tracks
    assert len(np.unique(tracks.id)) == 2
    assert tracks.interpolated[tracks.frame == 20].all()
    assert tracks.interpolated.sum() == 5
    assert np.bincount(tracks.frame, minlength=N).tolist() == [2] * N


def test_poses_beyond_the_edge_have_boxes_within(tmp_path):
    places = np.stack([np.stack([np.full(N, 1.0), 20.0 + np.arange(N)], 1)], 1)
    video = film(tmp_path / "a.mp4", places)
    write_poses(tmp_path / "a.h5", pose_rows(places, np.zeros((N, 1))))
    tracks = track_video(video, poses=tmp_path / "a.h5", tracker_settings={"smooth": False}).tracks
    assert len(tracks) == N
    np.testing.assert_allclose(tracks.x - tracks.width / 2, -0.5)
    np.testing.assert_allclose(tracks.x + tracks.width / 2, 9.5)


def test_poses_of_another_video_and_other_mistakes(tmp_path):
    places, headings = passing()
    video = film(tmp_path / "a.mp4", places)
    rows = pose_rows(places, headings)
    with pytest.raises(ValidationError, match="found both; give one"):
        track_video(video, poses=tmp_path / "a.h5", detector="bright")
    for i, (facts, words) in enumerate(
        (
            ({"n_frames": 41}, "frames 40, not 41"),
            ({"width": 80}, "width 160, not 80"),
            ({"job": {"input": "abc"}}, "fingerprint"),
        )
    ):
        path = tmp_path / f"{i}.h5"
        write_poses(path, Poses(rows.keypoints, rows.scores, SKELETON, rows.frames, None, facts))
        with pytest.raises(ValidationError, match=words):
            track_video(video, poses=path)
    write_poses(tmp_path / "late.h5", Poses(rows.keypoints, rows.scores, SKELETON, rows.frames + 9))
    with pytest.raises(ValidationError, match="rows up to frame 48"):
        track_video(video, poses=tmp_path / "late.h5")
    with PosesWriter(tmp_path / "half.h5", SKELETON, {}) as writer:
        writer.append(rows[:10])
        with pytest.raises(ValidationError, match="is not finished"):
            track_video(video, poses=tmp_path / "half.h5")
    write_poses(tmp_path / "good.h5", rows)
    with pytest.raises(ValidationError, match="poses has no setting 'speed'; it has threshold"):
        track_video(video, poses=tmp_path / "good.h5", detector_settings={"speed": 1})
    with pytest.raises(ValidationError, match="expected threshold in"):
        track_video(video, poses=tmp_path / "good.h5", detector_settings={"threshold": 2})
    assert not (tmp_path / "a.tracks.h5").exists()


def test_other_poses_are_another_job(tmp_path):
    places, headings = passing()
    video = film(tmp_path / "a.mp4", places)
    write_poses(tmp_path / "a.h5", pose_rows(places, headings))
    run = CliRunner().invoke
    line = ["track", str(video), "--poses", str(tmp_path / "a.h5")]
    done = run(app, line)
    assert done.exit_code == 0, done.output
    assert "by kalman on poses" in " ".join(done.output.split())
    assert "were tracked already" in " ".join(run(app, line).output.split())
    write_poses(tmp_path / "a.h5", pose_rows(places + 1, headings), overwrite=True)
    with pytest.raises(OutputExistsError):
        track_video(video, poses=tmp_path / "a.h5")


def test_swaps_that_a_tracker_notes_are_in_the_file_and_told_of(tmp_path):
    """Two of different size touch and go back; the tracker looks at what it did."""
    n = 120
    away = np.abs(np.arange(n) - 59.5)
    places = np.stack(
        [np.stack([72 - away, np.full(n, 47.0)], 1), np.stack([84 + away, np.full(n, 49.0)], 1)], 1
    )
    video = film(tmp_path / "a.mp4", places.clip([8, 8], [150, 90]))
    rows = pose_rows(places, np.tile([0.0, np.pi], (n, 1)))
    big = rows.keypoints[:, :, 0].mean(axis=1) < 78
    middle = rows.keypoints.mean(axis=1, keepdims=True)
    grown = middle + (rows.keypoints - middle) * np.where(big, 1.4, 1.0)[:, None, None]
    late = rows.frames >= 60  # from here on each has the other's size: as after a swap
    other = middle + (rows.keypoints - middle) * np.where(big, 1.0, 1.4)[:, None, None]
    points = np.where(late[:, None, None], other, grown)
    write_poses(tmp_path / "a.h5", Poses(points, rows.scores, SKELETON, rows.frames))
    done = track_video(video, poses=tmp_path / "a.h5")
    (candidate,) = swap_candidates(read_tracks(done.output))
    assert candidate.corrected
    assert 45 < candidate.middle < 75
    said = CliRunner().invoke(
        app, ["track", str(video), "--poses", str(tmp_path / "a.h5"), "--force"]
    )
    assert "1 meetings after which names may be exchanged, 1 of them corrected" in " ".join(
        said.output.split()
    )


# -- videos and detectors that are not as they should be -----------------------------------------


@pytest.mark.parametrize("tracker", ["kalman", "munkres"])
def test_an_empty_video_has_no_tracks_and_cannot_be_cropped(tmp_path, tracker):
    video = film(tmp_path / "a.mp4", np.full((12, 1, 2), np.nan))
    done = track_video(video, tracker=tracker)
    assert len(read_tracks(done.output)) == 0
    with pytest.raises(ValidationError, match="no individual in the frames 0 to 11"):
        crop_video(video, done.output, tmp_path / "crops", size=32)


@pytest.mark.parametrize("tracker", ["kalman", "munkres"])
def test_somebody_who_is_away_for_long_is_somebody_new(tmp_path, tracker):
    places = np.tile([[[60.0, 50.0]]], (150, 1, 1))
    places[20:120] = np.nan
    done = track_video(film(tmp_path / "a.mp4", places), tracker=tracker)
    seen = done.tracks.frame
    assert not ((seen >= 20) & (seen < 120)).any()
    assert len(np.unique(done.tracks.id[seen < 20])) == 1
    assert len(np.unique(done.tracks.id)) == 2


@pytest.mark.parametrize("tracker", ["kalman", "munkres"])
def test_animals_leave_and_enter_and_more_come_than_there_were(tmp_path, tracker):
    places = walks(50)
    places[:25, 1] = np.nan  # the second enters in the middle
    places[35:, 0] = np.nan  # and the first has left before the end
    done = track_video(film(tmp_path / "a.mp4", places), tracker=tracker)
    found = names_by_place(done.tracks, places)
    first, second = found[:35, 0], found[25:, 1]
    assert (first == first[0]).all()
    assert first[0] >= 0
    assert (second == second[-1]).all()
    assert second[0] >= 0
    assert first[0] != second[0]
    assert len(np.unique(done.tracks.id)) == 2


@pytest.mark.parametrize(
    ("give", "error", "words"),
    [
        ("raise", PluginError, "bright failed at frame 0: ZeroDivisionError: no luck"),
        ("nan", ValidationError, "frame 0: detections: expected finite centres, found NaN"),
        ("outside", PluginError, r"found something at \(500.0, 3.0\) in frame 0"),
    ],
)
def test_a_detector_that_fails_is_named_and_nothing_is_written(tmp_path, give, error, words):
    video = film(tmp_path / "a.mp4", walks(5))
    with pytest.raises(error, match=words):
        track_video(video, detector_settings={"give": give})
    assert not (tmp_path / "a.tracks.h5").exists()


def test_a_box_that_reaches_beyond_the_edge_is_no_error(tmp_path):
    video = film(tmp_path / "a.mp4", walks(5))
    done = track_video(video, detector_settings={"give": "reaching outside"})
    np.testing.assert_allclose(done.tracks.x, 2)
    np.testing.assert_allclose(done.tracks.width, 40)


def test_images_of_changing_size_are_refused_by_name(tmp_path):
    import cv2

    folder = tmp_path / "images"
    folder.mkdir()
    for i, size in enumerate([(96, 160), (96, 160), (80, 160)]):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((*size, 3), 220, np.uint8))
    with pytest.raises(ValidationError, match=r"2\.png has 80x160 pixels.*before it 96x160"):
        track_video(folder)
    assert not (tmp_path / "images.tracks.h5").exists()


def test_a_video_whose_size_changes_is_tracked_up_to_there(tmp_path):
    path = tmp_path / "joined.h264"
    with path.open("wb") as file:
        for height, width in (SIZE, (64, 128)):
            file.write(stream_of(height, width))
    with pytest.raises(VideoError, match=r"frame 10 is 128x64 pixels(.|\n)*before the damage are"):
        track_video(path)
    tracks = read_tracks(tmp_path / "joined.tracks.h5")
    assert tracks.frame.tolist() == list(range(10))
    # Once more it is not all done, either.
    with pytest.raises(VideoError, match=r"frame 10 is 128x64 pixels(.|\n)*before the damage are"):
        track_video(path)
    np.testing.assert_allclose(tracks.x, 36 + np.arange(10), atol=1)


def stream_of(height, width, n=10):
    """A bare H.264 stream, as parts of films are joined by some programs."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(n):
            frame = np.full((height, width, 3), 20, np.uint8)
            frame[30:42, 31 + i : 43 + i] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    return buffer.getvalue()


def test_a_track_of_a_single_frame(tmp_path):
    """Seen once: munkres has it, and it can be cropped; kalman does not believe it."""
    places = np.full((12, 1, 2), np.nan)
    places[6] = [[50, 40]]
    video = film(tmp_path / "a.mp4", places)
    done = track_video(video, tracker="munkres")
    assert (done.tracks.frame.tolist(), done.tracks.id.tolist()) == ([6], [0])
    cropped = crop_video(video, done.output, tmp_path / "crops", size=32)
    with VideoReader(cropped.videos[0]) as reader:
        assert reader[6].max() > 90
        assert reader[5].max() < 40
    assert len(track_video(video, tmp_path / "k.h5", tracker="kalman").tracks) == 0


def test_somebody_at_the_border_is_cropped_with_a_black_margin(tmp_path):
    places = np.tile([[[4.0, 90.0]]], (8, 1, 1))
    video = film(tmp_path / "a.mp4", places)
    done = track_video(video, tracker="munkres")
    cropped = crop_video(video, done.output, tmp_path / "crops", size=32)
    with VideoReader(cropped.videos[0]) as reader, VideoReader(video) as whole:
        crop, frame = reader[3][..., 0].astype(int), whole[3][..., 0].astype(int)
    table = np.loadtxt(cropped.videos[0].with_suffix(".csv"), delimiter=",", skiprows=1)
    _, _, _, x0, _, _, y0 = table[3]
    left, top = round(x0), round(y0)
    assert left > 0, "the crop begins outside the frame"
    assert crop[:, : left - 2].max() < 12
    assert np.abs(crop[: 96 + top][:, left:][:20] - frame[-top : -top + 20, : 32 - left]).mean() < 6


def test_tracks_of_another_video_are_refused(tmp_path):
    done = track_video(film(tmp_path / "a.mp4", walks(10)))
    others = {
        "longer.mp4": (walks(11), SIZE, "frames 11, not 10"),
        "larger.mp4": (walks(10), (96, 192), "width 192, not 160"),
        "other.mp4": (walks(10)[::-1], SIZE, "fingerprint differs"),
    }
    for name, (places, size, words) in others.items():
        with pytest.raises(ValidationError, match=words):
            crop_video(
                film(tmp_path / name, places, size), done.output, tmp_path / "crops", size=32
            )
