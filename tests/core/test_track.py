"""Tracking a video: carried on after a kill, whole or not at all, faults named with their frame."""

from __future__ import annotations

import sqlite3
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core import Detections, Detector, Tracker, Tracks, VideoWriter, read_tracks
from dpk_core.cli.app import app
from dpk_core.errors import (
    FileFormatError,
    OutputError,
    OutputExistsError,
    PluginError,
    ValidationError,
    VideoError,
)
from dpk_core.services.storage.detections_log import DetectionsLog
from dpk_core.specs import DetectorSpec, TrackerSpec
from dpk_core.testing import walking_dots
from dpk_core.workflow import track
from dpk_core.workflow.track import track_video

HERE = "plugins_of_this_test"
LOOKED_AT = []
FRAMES, TRUTH = walking_dots(30)
NONSENSE = {
    "list": [[1, 2, 3, 4]],
    "right": Detections([200], [5]),
    "above": Detections([5], [-3]),
}


class Dark(Detector):
    """The centre of all dark pixels; fails, or finds nonsense, when told to."""

    def __init__(self, fail_at=None, give=None, interrupt_at=None):
        self.fail_at, self.give, self.interrupt_at = fail_at, give, interrupt_at
        self.n = None

    def prepare(self, frames):
        self.n = len(frames)
        assert frames[self.n - 1].shape == (96, 128, 3)

    def detect(self, frame):
        LOOKED_AT.append(len(LOOKED_AT))
        if len(LOOKED_AT) - 1 == self.fail_at:
            raise RuntimeError("no more")
        if len(LOOKED_AT) - 1 == self.interrupt_at:
            raise KeyboardInterrupt
        if self.give is not None:
            return NONSENSE[self.give]
        y, x = np.nonzero(frame[..., 0] < 100)
        return Detections([x.mean()], [y.mean()], keypoints=[[[x[0], y[0]], [np.nan, 1]]])


class First(Tracker):
    """All detections by their order; one of them remembers how often it was called."""

    def __init__(self, offset=0):
        self.offset, self.calls = offset, 0

    def update(self, number, detections, frame=None):
        assert (frame is not None) == self.uses_frames
        self.calls += 1
        n = len(detections)
        ids = np.arange(n) + self.offset
        return Tracks(np.full(n, number), ids, detections.x, detections.y, np.full(n, self.calls))


class Seeing(First):
    uses_frames = True


class Failing(First):
    def __init__(self, at=None, give=None):
        super().__init__()
        self.at, self.give = at, give

    def update(self, number, detections, frame=None):
        if number == self.at:
            return [][0] if self.give is None else self.give
        return super().update(number, detections)

    def finish(self, tracks):
        return [][0] if self.at == "end" else tracks


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    LOOKED_AT.clear()
    monkeypatch.setitem(
        sys.modules,
        HERE,
        SimpleNamespace(Dark=Dark, First=First, Seeing=Seeing, No=str, Failing=Failing),
    )
    specs = {
        ("detectors", "dark"): DetectorSpec("dark", "x", f"{HERE}:Dark"),
        ("trackers", "first"): TrackerSpec("first", "x", f"{HERE}:First", detector="dark"),
        ("trackers", "seeing"): TrackerSpec("seeing", "x", f"{HERE}:Seeing", detector="dark"),
        ("trackers", "failing"): TrackerSpec("failing", "x", f"{HERE}:Failing", detector="dark"),
        ("trackers", "no"): TrackerSpec("no", "x", f"{HERE}:No", detector="dark"),
    }

    def get(kind, name):
        if (kind, name) not in specs:
            raise PluginError(f"no {kind} plugin named {name!r}")
        return specs[kind, name]

    monkeypatch.setattr(track, "registry", lambda: SimpleNamespace(get=get, plugins=[]))


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "dots.mp4"
    with VideoWriter(path, fps=10) as writer:
        for frame in FRAMES:
            writer.write(frame)
    return path


def files(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


@pytest.mark.parametrize("tracker", ["first", "seeing"])
def test_a_video_is_tracked(video, tmp_path, tracker):
    told = []
    done = track_video(video, tracker=tracker, progress=lambda *event: told.append(event))
    assert done.output == tmp_path / "dots.tracks.h5"
    assert (done.tracker, done.detector, done.n_frames, done.n_before) == (tracker, "dark", 30, 0)
    tracks = read_tracks(done.output)
    assert tracks.frame.tolist() == list(range(30))
    assert tracks.width.tolist() == list(range(1, 31))
    centers = np.array([[d.x.mean(), d.y.mean()] for d in TRUTH])
    assert np.abs(np.stack([tracks.x, tracks.y], 1) - centers).max() < 1  # dots may touch
    assert tracks.provenance["n_frames"] == 30
    assert tracks.provenance["video"].endswith("dots.mp4")
    assert told[-1] == (30, 30, "tracking")
    assert files(tmp_path) == ["dots.mp4", "dots.tracks.h5"]


@pytest.mark.parametrize("tracker", ["first", "seeing"])
@pytest.mark.parametrize("way", [{"fail_at": 17}, {"interrupt_at": 17}])
def test_what_was_found_before_a_fault_is_not_looked_for_again(video, tmp_path, tracker, way):
    whole = track_video(video, tmp_path / "whole.h5", tracker=tracker).tracks
    LOOKED_AT.clear()
    run = {"tracker": tracker, "detector_settings": way}
    with pytest.raises((PluginError, KeyboardInterrupt)) as caught:
        track_video(video, tmp_path / "t.h5", **run)
    if "fail_at" in way:
        assert "dark failed at frame 17: RuntimeError: no more" in str(caught.value)
    assert not (tmp_path / "t.h5").exists()
    done = track_video(video, tmp_path / "t.h5", **run)
    assert done.n_before == 17
    assert len(LOOKED_AT) == 18 + 13
    for name, column in whole.columns().items():
        np.testing.assert_array_equal(column, done.tracks.columns()[name])
    assert files(tmp_path) == ["dots.mp4", "t.h5", "whole.h5"]


def test_the_same_again_does_nothing_and_another_job_is_refused(video, tmp_path):
    track_video(video, tracker="first", start=4, stop=9)
    before = (tmp_path / "dots.tracks.h5").read_bytes()
    LOOKED_AT.clear()
    done = track_video(video, tracker="first", start=4, stop=9)
    assert done.nothing_to_do
    assert done.n_before == done.n_frames == 5
    assert not LOOKED_AT
    others = (
        ({"stop": 8}, r"is of another job \(it differs in: stop\)"),
        ({"stop": 9, "tracker_settings": {"offset": 2}}, r"differs in: tracker \(settings\)\)"),
        ({"stop": 9, "tracker": "seeing"}, r"differs in: tracker \(name\)\)"),
    )
    for other, words in others:
        with pytest.raises(OutputExistsError, match=words):
            track_video(video, **{"tracker": "first", "start": 4, **other})
    assert (tmp_path / "dots.tracks.h5").read_bytes() == before
    done = track_video(
        video, tracker="first", tracker_settings={"offset": 2}, start=4, stop=9, overwrite=True
    )
    assert set(done.tracks.id.tolist()) == {2}
    assert done.tracks.frame.tolist() == [4, 5, 6, 7, 8]


def test_another_tracker_uses_the_same_detections(video, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        track_video(
            video, tmp_path / "t.h5", tracker="first", detector_settings={"interrupt_at": 20}
        )
    LOOKED_AT.clear()
    done = track_video(
        video, tmp_path / "t.h5", tracker="first", detector_settings={"interrupt_at": 20},
        tracker_settings={"offset": 1},
    )  # fmt: skip
    assert len(LOOKED_AT) == 10
    assert set(done.tracks.id.tolist()) == {1}


@pytest.mark.parametrize(
    ("give", "words"),
    [
        ("list", "gave list for frame 0; expected dpk_core.Detections"),
        ("right", r"found something at \(200.0, 5.0\) in frame 0, which is 128x96"),
        ("above", r"\(5.0, -3.0\) in frame 0"),
    ],
)
def test_a_detector_that_gives_nonsense(video, tmp_path, give, words):
    with pytest.raises(PluginError, match=words):
        track_video(video, tracker="first", detector_settings={"give": give})
    assert "dots.tracks.h5" not in files(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"at": 17}, "the tracker failing failed at frame 17: IndexError: list index .* is kept"),
        ({"at": "end"}, "the tracker failing failed at the end: IndexError"),
        ({"at": 17, "give": 5}, r"failing gave int for frame 17; expected dpk_core\.Tracks"),
    ],
)
def test_a_tracker_with_a_fault_is_named_and_detections_are_kept(video, tmp_path, settings, words):
    with pytest.raises(PluginError, match=words):
        track_video(video, tracker="failing", tracker_settings=settings)
    LOOKED_AT.clear()
    done = track_video(video, tracker="first")
    assert done.n_before + len(LOOKED_AT) == 30
    assert done.n_before >= 17
    assert not done.nothing_to_do


def test_a_function_that_was_changed_in_its_file_is_another_job(video, tmp_path):
    code = tmp_path / "mine.py"
    run = {"tracker": "first", "detector_settings": {"give": f"{code}:find"}}
    code.write_text("def find(frame): ...")
    NONSENSE[f"{code}:find"] = Detections([5], [5])
    track_video(video, **run)
    assert track_video(video, **run).nothing_to_do
    code.write_text("def find(frame): return None")
    with pytest.raises(OutputExistsError, match=r"differs in: detector \(files\)\)"):
        track_video(video, **run)


def test_rows_of_many_frames_are_joined_on_the_way(monkeypatch, video):
    whole = track_video(video, tracker="first").tracks
    monkeypatch.setattr(track, "_BLOCK", 7)
    again = track_video(video, tracker="first", overwrite=True).tracks
    for name, column in whole.columns().items():
        np.testing.assert_array_equal(column, again.columns()[name])


def test_a_video_that_is_cut_short(video, tmp_path):
    content = video.read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoError):
        track_video(broken, tracker="first")
    assert ".broken.tracks.h5.detections" not in files(tmp_path)


def test_settings_and_names_that_are_not_known(video):
    with pytest.raises(ValidationError, match="first has no setting 'speed'; it has offset"):
        track_video(video, tracker="first", tracker_settings={"speed": 3})
    with pytest.raises(PluginError, match="no trackers plugin named 'second'"):
        track_video(video, tracker="second")
    with pytest.raises(PluginError, match=r"no gave str; expected a dpk_core\.Tracker"):
        track_video(video, tracker="no")


def test_the_log_survives_and_is_begun_anew_for_another_job(tmp_path):
    path = tmp_path / "log"
    keypoints = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    found = Detections([1, 2], [3, 4], angle=[0.5, np.nan], id=[7, -1], keypoints=keypoints)
    with DetectionsLog(path, {"a": 1}) as log:
        log.put(5, found)
        log.put(6, Detections.none())
    with DetectionsLog(path, {"a": 1}) as log:
        again = log.get(5)
        for name, column in found.columns().items():
            np.testing.assert_array_equal(column, again.columns()[name])
        np.testing.assert_array_equal(again.keypoints, keypoints)
        assert len(log.get(6)) == 0
        assert log.get(7) is None
        assert len(log) == 2
    with DetectionsLog(path, {"a": 2}) as log:
        assert len(log) == 0
    path.write_bytes(b"no database at all, but some text that is long enough to be looked at")
    with DetectionsLog(path, {"a": 2}) as log:
        assert len(log) == 0


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_log_that_is_damaged_in_its_middle_says_what_to_do(tmp_path):
    path = tmp_path / "log"
    with DetectionsLog(path, {"a": 1}) as log:
        for i in range(300):
            log.put(i, Detections(np.arange(20.0), np.arange(20.0)))
    content = bytearray(path.read_bytes())
    content[20_000:-20_000] = b"\xff" * (len(content) - 40_000)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"log, which keeps .* is damaged .*; delete it"):
        read_all(path, 300)
    assert path.exists()


def read_all(path, n):
    with DetectionsLog(path, {"a": 1}) as log:
        for i in range(n):
            log.get(i)


class Sick(sqlite3.Connection):
    def execute(self, *arguments):
        raise sqlite3.OperationalError("disk I/O error")


def test_a_log_is_not_thrown_away_because_the_disk_fails(tmp_path, monkeypatch):
    path = tmp_path / "log"
    with DetectionsLog(path, {"a": 1}) as log:
        log.put(5, Detections([1], [2]))
    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda where: connect(where, factory=Sick))
        with pytest.raises(OutputError, match=r"disk I/O error.*; is the disk full or read-only"):
            DetectionsLog(path, {"a": 1})
    with DetectionsLog(path, {"a": 1}) as log:
        assert len(log.get(5)) == 1


def test_on_the_command_line(video, tmp_path):
    run = CliRunner().invoke
    done = run(app, ["track", str(video), "--tracker", "first", "--set", "offset=3"])
    assert done.exit_code == 0, done.output
    assert "30 rows, 1 individuals" in " ".join(done.output.split())
    assert read_tracks(tmp_path / "dots.tracks.h5").id.tolist() == [3] * 30
    done = run(app, ["track", str(video), "--tracker", "first", "--set", "offset=3"])
    assert "all 30 frames were tracked already" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("found", "taken", "said"),
    [
        (0, 0, "Nobody was followed: dark found nothing in 30 frames"),
        (2, 0, "found 60 times something, with scores of at most 0.25, and first took none of it"),
        (3, 1, "first left more than half of the 90 detections to nobody"),
        (2, 1, ""),
    ],
)
def test_on_the_command_line_it_says_why_few_are_followed(video, monkeypatch, found, taken, said):
    def detect(self, frame):
        return Detections([5.0] * found, [5.0] * found, score=[0.25] * found)

    def update(self, number, detections, frame=None):
        rows = detections[np.arange(taken)]
        return Tracks(np.full(taken, number), np.arange(taken), rows.x, rows.y)

    monkeypatch.setattr(Dark, "detect", detect)
    monkeypatch.setattr(First, "update", update)
    done = CliRunner().invoke(app, ["track", str(video), "--tracker", "first"])
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert said in told
    assert ("detections to nobody" in told or "Nobody was" in told) is bool(said)


def test_what_the_tracker_was_given_is_counted_also_when_it_carries_on(video):
    options = {"tracker": "first", "detector_settings": {"interrupt_at": 20}}
    LOOKED_AT.clear()
    with pytest.raises(KeyboardInterrupt):
        track_video(video, **options)
    done = track_video(video, **options)
    assert (done.n_before, done.n_detections, done.best_score) == (20, 30, 1.0)
    again = track_video(video, **options)
    assert again.n_detections == 0
    assert np.isnan(again.best_score)


def test_interrupted_on_the_command_line_and_carried_on(video):
    command = ["track", str(video), "--tracker", "first", "--detector-set", "interrupt_at=20"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 130
    assert "the same command carries on" in " ".join(done.output.split())
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "20 of 30 frames looked at before" in " ".join(done.output.split())
