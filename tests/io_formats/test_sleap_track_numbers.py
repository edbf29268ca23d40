"""Numbers of tracks survive SLEAP, which counts its own from 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.services.formats import get_format
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_io_formats.sleap_track_numbers import numbers_of

sio = pytest.importorskip("sleap_io")

NAMES = ("head", "wing_l", "wing_r", "tail")
FORMAT = get_format("sleap")[1]


def lost(report: LossReport) -> dict[str, int]:
    return {loss.what: loss.count for loss in report}


@pytest.mark.parametrize("name", ["sleap", "sleap-analysis"])
def test_numbers_and_names_there_and_back(tmp_path: Path, name: str) -> None:
    """Not in the order of their frames, one without a name; and animals without a track."""
    before = Poses(
        np.ones((5, 4, 2)), np.ones((5, 4)), Skeleton(NAMES), [0, 0, 1, 3, 3], [17, 4, 0, 4, 17],
        {"track_names": {"17": "anna", "4": "Größe", "0": "4"}, "model": "m"},
    )  # fmt: skip
    report, found = LossReport(), get_format(name)[1]
    found.write(tmp_path / "a", PoseStream.of(before, 2), report=report)
    after = found.read(tmp_path / "a", "poses", report=report).read()
    assert not report, str(report)
    order = np.lexsort((before.track_ids, before.frames))
    again = np.lexsort((after.track_ids, after.frames))
    np.testing.assert_array_equal(after.track_ids[again], before.track_ids[order])
    np.testing.assert_array_equal(after.frames[again], before.frames[order])
    assert after.provenance == before.provenance


def test_tracks_that_sleap_renamed_or_added_get_free_numbers(tmp_path: Path) -> None:
    """Tags read 17 and 4: these stay; what a person did in SLEAP since is counted around them."""
    poses = Poses(
        np.ones((3, 4, 2)), np.ones((3, 4)), Skeleton(NAMES), [0, 0, 1], [17, 4, 0],
        {"track_names": {"17": "anna"}},
    )  # fmt: skip
    FORMAT.write(tmp_path / "a.slp", PoseStream.of(poses))
    theirs = sio.load_slp(str(tmp_path / "a.slp"), open_videos=False)
    assert sorted(track.name for track in theirs.tracks) == ["anna", "track_0", "track_4"]
    for track in theirs.tracks:
        track.name = {"track_4": "bert"}.get(track.name, track.name)
    theirs.save(str(tmp_path / "b.slp"))
    found = FORMAT.read(tmp_path / "b.slp", "poses").read()
    assert found.provenance["track_names"] == {"17": "anna", "1": "bert", "0": "track_0"}
    assert sorted(found.track_ids.tolist()) == [0, 1, 17]
    tracks = FORMAT.read(tmp_path / "b.slp", "tracks")
    assert sorted(tracks.id.tolist()) == [0, 1, 17]


def test_tracks_of_one_name_lose_their_numbers_aloud(tmp_path: Path) -> None:
    names = {"track_names": {"5": "fly", "9": "fly"}}
    poses = Poses(np.ones((2, 4, 2)), np.ones((2, 4)), Skeleton(NAMES), [0, 0], [5, 9], names)
    report = LossReport()
    FORMAT.write(tmp_path / "a.slp", PoseStream.of(poses), report=report)
    assert lost(report) == {"track numbers": 2}
    assert FORMAT.read(tmp_path / "a.slp", "poses").read().track_ids.tolist() == [0, 1]


@pytest.mark.parametrize(
    "noted", [3, {"anna": "x"}, {"anna": 2**40}, {"anna": 3, "bert": 3}, {"anna": True}, {"a": 1}]
)
def test_notes_of_numbers_that_cannot_be_count_for_nothing(noted: object) -> None:
    provenance = {"dpk": {"track_numbers": noted}}
    assert numbers_of(["anna", "bert"], provenance).tolist() == [0, 1, NO_TRACK]
