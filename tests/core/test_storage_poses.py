"""Poses and tracks in HDF5: growing, continuing, and what is refused."""

from __future__ import annotations

import errno
import sys
from contextlib import suppress

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core import Poses, Skeleton, Tracks, read_poses, read_tracks, write_poses, write_tracks
from dpk_core.errors import FileFormatError, OutputError, OutputExistsError, ValidationError
from dpk_core.services.storage import PosesWriter, describe, exchange_tracks, is_complete

SKELETON = Skeleton(("a", "b"), (-1, 0))
JOB = {"job": {"video": "v.mp4", "model": "abc"}}


def make(n, start=0, seed=0):
    rng = np.random.default_rng([seed, start])
    keypoints = rng.normal(0, 99, (n, 2, 2)).astype(np.float32)
    keypoints[rng.random((n, 2)) < 0.2] = np.nan
    return Poses(
        keypoints,
        rng.random((n, 2)).astype(np.float32),
        SKELETON,
        frames=np.arange(start, start + n),
        track_ids=rng.integers(-1, 3, n),
    )


def same(a, b):
    return all(
        np.array_equal(getattr(a, f), getattr(b, f), equal_nan=f == "keypoints")
        for f in ("keypoints", "scores", "frames", "track_ids")
    )


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_chunks_of_any_length_add_up(tmp_path_factory, lengths, capacity):
    path = tmp_path_factory.mktemp("poses") / "p.h5"
    chunks, start = [], 0
    with PosesWriter(path, SKELETON, JOB, capacity_hint=capacity) as writer:
        for n in lengths:
            chunks.append(make(n, start))
            writer.append(chunks[-1])
            start += n
            assert writer.n_rows == start == len(read_poses(path))
    whole = read_poses(path)
    assert len(whole) == start
    assert is_complete(path)
    assert whole.provenance == JOB
    at = 0
    for chunk in chunks:
        assert same(whole[at : at + len(chunk)], chunk)
        at += len(chunk)
    with h5py.File(path) as file:
        assert len(file["frames"]) == start


def test_write_and_read_ranges(tmp_path):
    poses = make(30)
    write_poses(tmp_path / "p.h5", poses)
    assert same(read_poses(tmp_path / "p.h5"), poses)
    assert same(read_poses(tmp_path / "p.h5", 10, 20), poses[10:20])
    assert describe(tmp_path / "p.h5")["complete"] is True


def test_an_interrupted_job_is_continued(tmp_path):
    path = tmp_path / "p.h5"
    with suppress(KeyboardInterrupt), PosesWriter(path, SKELETON, JOB) as writer:
        writer.append(make(5))
        raise KeyboardInterrupt
    assert not is_complete(path)
    assert len(read_poses(path)) == 5
    with PosesWriter(path, SKELETON, JOB, resume=True) as writer:
        assert writer.n_rows == 5
        writer.append(make(4, 5))
    assert same(read_poses(path)[:5], make(5))
    assert same(read_poses(path)[5:], make(4, 5))
    with PosesWriter(path, SKELETON, JOB, resume=True) as writer:
        assert writer.complete


def test_another_job_is_not_overwritten(tmp_path):
    path = tmp_path / "p.h5"
    write_poses(path, make(3))
    other = {"job": {"video": "w.mp4", "model": "abc"}}
    with pytest.raises(OutputExistsError, match="another job"):
        PosesWriter(path, SKELETON, JOB, resume=True)
    with PosesWriter(path, SKELETON, JOB, overwrite=True) as writer:
        writer.append(make(2))
    with pytest.raises(OutputExistsError, match=r"video: the file has 'v\.mp4', this is 'w\.mp4'"):
        PosesWriter(path, SKELETON, other, resume=True)
    with pytest.raises(OutputExistsError, match="exists already"):
        PosesWriter(path, SKELETON, JOB)
    assert len(read_poses(path)) == 2


def test_a_job_is_known_by_its_values_and_by_its_skeleton(tmp_path):
    path = tmp_path / "p.h5"
    job = {"size": (48, 64), "fps": np.float32(2.5), "frames": np.arange(2), "model": tmp_path}
    with PosesWriter(path, SKELETON, {"job": job}) as writer:
        writer.append(make(3))
    with PosesWriter(path, SKELETON, {"job": job}, resume=True) as writer:
        assert writer.n_rows == 3
    assert read_poses(path).provenance["job"]["frames"] == [0, 1]
    with pytest.raises(OutputExistsError, match="skeleton differs"):
        PosesWriter(path, Skeleton(("a", "b", "c")), {"job": job}, resume=True)
    with pytest.raises(ValidationError, match="provenance: expected texts and numbers"):
        PosesWriter(tmp_path / "q.h5", SKELETON, {"job": object()})
    assert [p.name for p in tmp_path.iterdir()] == ["p.h5"]


def test_rows_are_there_for_other_readers_while_it_grows(tmp_path):
    path = tmp_path / "p.h5"
    with PosesWriter(path, SKELETON, JOB, capacity_hint=4) as writer:
        for i in range(10):
            writer.append(make(3, 3 * i))
            assert same(read_poses(path, 3 * i), make(3, 3 * i))


def test_after_a_full_disk_the_same_rows_can_be_appended(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "p.h5"
    with PosesWriter(path, SKELETON, JOB, capacity_hint=4) as writer:
        writer.append(make(4))
        with monkeypatch.context() as patch:
            patch.setattr("dpk_core.services.storage.poses_file.require_space", full)
            with pytest.raises(OutputError, match="disk is full"):
                writer.append(make(3, 4))
        assert writer.n_rows == len(read_poses(path)) == 4
        writer.append(make(3, 4))
    assert same(read_poses(path, 4), make(3, 4))
    assert is_complete(path)


def test_a_file_of_known_length_is_not_copied_at_the_end(tmp_path):
    """Closing must not need the room of a second file after hours of work."""
    path = tmp_path / "p.h5"
    with PosesWriter(path, SKELETON, JOB, capacity_hint=6) as writer:
        writer.append(make(6))
        file = path.stat().st_ino
        assert not is_complete(path)
    assert path.stat().st_ino == file
    assert is_complete(path)


def test_values_that_cannot_be_are_the_files_fault(tmp_path):
    write_poses(tmp_path / "p.h5", make(3))
    with h5py.File(tmp_path / "p.h5", "r+") as file:
        file["scores"][1] = 2
    with pytest.raises(FileFormatError, match=r"p\.h5.*expected values in \[0, 1\]"):
        read_poses(tmp_path / "p.h5")


def test_describe_tells_of_rows_frames_and_tracks(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[describe.__module__], "_BLOCK_ROWS", 4)
    poses = make(10, 5)
    write_poses(tmp_path / "p.h5", poses)
    facts = describe(tmp_path / "p.h5")
    assert facts["content"] == "10 rows, frames 5-14, 3 tracks"
    assert facts["mean score"] == pytest.approx(poses.scores.mean())


def test_other_skeletons_and_other_files_are_refused(tmp_path):
    path = tmp_path / "p.h5"
    other = Poses(np.zeros((1, 1, 2)), np.zeros((1, 1)), Skeleton(("z",)))
    with PosesWriter(path, SKELETON, JOB) as writer, pytest.raises(ValidationError, match="names"):
        writer.append(other)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = 1
    with pytest.raises(FileFormatError, match="has no 'keypoints'; expected poses, found the keys"):
        read_poses(tmp_path / "x.h5")
    with pytest.raises(FileFormatError, match="expected tracks"):
        read_tracks(tmp_path / "x.h5")
    assert describe(tmp_path / "x.h5")["kind"] == "unknown HDF5"


def test_tracks_round_trip(tmp_path):
    tracks = Tracks([0, 0, 1], [4, 7, 4], [1.5, 2, 3], [0, np.nan, 2], interpolated=[0, 1, 0])
    write_tracks(tmp_path / "t.h5", tracks)
    found = read_tracks(tmp_path / "t.h5")
    for name, column in tracks.columns().items():
        assert np.array_equal(getattr(found, name), column, equal_nan=column.dtype.kind == "f")
    assert describe(tmp_path / "t.h5")["kind"] == "tracks"


def test_describe_tells_which_video_tracks_are_of(tmp_path):
    noted = {"video": "a.mp4", "job": {"tracker": {"name": "kalman"}}, "swap_candidates": [{}, {}]}
    write_tracks(tmp_path / "t.h5", Tracks([0], [4], [1.5], [0], provenance=noted))
    found = describe(tmp_path / "t.h5")
    assert found["provenance"] == {"video": "a.mp4", "job": {"tracker": {"name": "kalman"}}}
    assert found["meetings to look at"] == 2
    assert found["rows"] == "Tracks(1 rows, 1 individuals, frames 0-0, 0 interpolated)"


def test_identities_are_exchanged_from_a_frame_on_and_back(tmp_path):
    path = tmp_path / "two.poses.h5"
    frames, ids = np.repeat(np.arange(6), 2), np.tile([3, 7], 6)
    rng = np.random.default_rng(0)
    poses = Poses(
        rng.uniform(0, 9, (12, 2, 2)), rng.uniform(0, 1, (12, 2)), Skeleton(("a", "b")),
        frames=frames, track_ids=ids, provenance={"video": "film.mp4", "job": {"n": 1}},
    )  # fmt: skip
    write_poses(path, poses)
    assert exchange_tracks(path, 4, 3, 7) == 4
    found = read_poses(path)
    assert found.track_ids.tolist() == [3, 7] * 4 + [7, 3] * 2
    np.testing.assert_array_equal(found.keypoints, poses.keypoints)
    assert found.provenance["video"] == "film.mp4"
    assert found.provenance["exchanges"] == [[4, 3, 7]]
    exchange_tracks(path, 4, 7, 3)
    assert read_poses(path).track_ids.tolist() == ids.tolist()
    with pytest.raises(ValidationError, match="no individual 9; it has 3, 7"):
        exchange_tracks(path, 0, 3, 9)
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".h5"] == ["two.poses.h5"]


def test_identities_of_a_running_prediction_stay(tmp_path):
    path = tmp_path / "half.poses.h5"
    with PosesWriter(path, Skeleton(("a",)), {}) as writer:
        writer.append(Poses(np.ones((1, 1, 2)), np.ones((1, 1)), Skeleton(("a",)), track_ids=[0]))
        with pytest.raises(ValidationError, match="not complete"):
            exchange_tracks(path, 0, 0, 0)
