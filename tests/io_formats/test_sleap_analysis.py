"""SLEAP's analysis files: both orders of axes, sleap-io's and SLEAP's own, damaged ones."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import h5py
import numpy as np
import pytest

from dpk_core.errors import DpkError, FileFormatError, OutputExistsError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.services.formats import identify
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.testing import check_format
from dpk_io_formats.sleap_analysis import SleapAnalysisFormat

sio = pytest.importorskip("sleap_io")
hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

FORMAT = SleapAnalysisFormat()
SKELETON = Skeleton(("head", "wing_l", "wing_r"), [-1, 0, 0], [-1, 2, 1])
PRESETS = ("matlab", "standard")


def lost(report: LossReport) -> dict[str, int]:
    return {loss.what: loss.count for loss in report}


def poses(n: int = 40, tracks: int = 3, seed: int = 0, step: int = 7) -> Poses:
    rng = np.random.default_rng(seed)
    places = rng.permutation(n * tracks)[:n]
    places.sort()
    keypoints = rng.uniform(-9, 900, (n, 3, 2)).astype(np.float32)
    keypoints[rng.random((n, 3)) < 0.2] = np.nan
    provenance = {"track_names": {"0": "anna", "1": "bert", "2": "Größe"}, "model": "m.keras"}
    return Poses(
        keypoints, rng.random((n, 3)), SKELETON, places // tracks * step, places % tracks,
        provenance,
    )  # fmt: skip


def same(before: Poses, after: Poses) -> None:
    order = np.lexsort((before.track_ids, before.frames))
    np.testing.assert_array_equal(after.keypoints, before.keypoints[order])
    np.testing.assert_array_equal(after.scores, before.scores[order])
    np.testing.assert_array_equal(after.frames, before.frames[order])
    np.testing.assert_array_equal(after.track_ids, before.track_ids[order])


@pytest.mark.parametrize("preset", PRESETS)
def test_there_and_back(tmp_path: Path, preset: str) -> None:
    before, report = poses(), LossReport()
    FORMAT.write(tmp_path / "a.h5", PoseStream.of(before, 6), report=report, preset=preset)
    after = FORMAT.read(tmp_path / "a.h5", report=report).read()
    same(before, after)
    assert after.provenance == before.provenance
    assert after.skeleton == SKELETON
    assert not report, str(report)
    assert identify(tmp_path / "a.h5").spec.name == "sleap-analysis"


def test_numbers_of_tracks_are_kept(tmp_path: Path) -> None:
    before = attrs.evolve(
        poses(), track_ids=np.array([17, 4, 30])[poses().track_ids],
        provenance={"track_names": {"17": "anna", "4": "bert", "30": "Größe"}},
    )  # fmt: skip
    FORMAT.write(tmp_path / "a.h5", PoseStream.of(before, 6))
    after = FORMAT.read(tmp_path / "a.h5").read()
    same(before, after)
    assert after.provenance == before.provenance


@pytest.mark.parametrize("preset", PRESETS)
def test_contract(preset: str) -> None:
    check_format("sleap-analysis", preset=preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_sleap_reads_ours(tmp_path: Path, preset: str) -> None:
    before = poses()
    FORMAT.write(tmp_path / "a.h5", PoseStream.of(before, 6), preset=preset)
    labels = sio.load_analysis_h5(str(tmp_path / "a.h5"))
    found = {(f.frame_idx, i.track.name): i for f in labels.labeled_frames for i in f.instances}
    seen = np.isfinite(before.keypoints).all(axis=2)
    assert len(found) == seen.any(axis=1).sum()
    for row in np.flatnonzero(seen.any(axis=1)):
        name = before.provenance["track_names"][str(before.track_ids[row])]
        theirs = found[int(before.frames[row]), name]
        np.testing.assert_array_equal(theirs.numpy(), before.keypoints[row])
        np.testing.assert_array_equal(
            theirs.points["score"][seen[row]], before.scores[row][seen[row]]
        )
        assert theirs.score == pytest.approx(before.scores[row][seen[row]].mean(), abs=1e-6)
    assert labels.skeleton.edge_inds == [(0, 1), (0, 2)]
    assert labels.skeleton.symmetry_inds == [(1, 2)]


@pytest.mark.parametrize("preset", [*PRESETS, "custom"])
def test_we_read_what_sleap_io_writes(tmp_path: Path, preset: str) -> None:
    before = poses(step=1)
    FORMAT.write(tmp_path / "a.h5", PoseStream.of(before))
    labels = sio.load_analysis_h5(str(tmp_path / "a.h5"))
    options = {"preset": preset}
    if preset == "custom":
        options = {"frame_dim": 2, "track_dim": 3, "node_dim": 0, "xy_dim": 1}
    sio.save_analysis_h5(labels, str(tmp_path / "b.h5"), **options)
    after = FORMAT.read(tmp_path / "b.h5").read()
    placed = before[np.flatnonzero(np.isfinite(before.keypoints).any(axis=(1, 2)))]
    same(placed, after)


def as_sleap(path: Path, before: Poses, transpose: bool = True, first: int = 0) -> None:
    """As sleap/info/write_tracking_h5.py of SLEAP 1.3 lays it out, without names of axes."""
    n, t = int(before.frames.max()) - first + 1, 3
    occupancy = np.zeros((t, n), np.uint8)
    tracks, scores = np.full((n, 3, 2, t), np.nan), np.full((n, 3, t), np.nan)
    single = np.full((n, t), np.nan)
    for frame, track, xy, score in zip(
        before.frames - first, before.track_ids, before.keypoints, before.scores, strict=True
    ):
        occupancy[track, frame] = 1
        tracks[frame, ..., track] = xy
        scores[frame, ..., track] = np.where(np.isnan(xy[:, 0]), np.nan, score)
    arrays = {
        "tracks": tracks, "track_occupancy": occupancy, "point_scores": scores,
        "instance_scores": single, "tracking_scores": single,
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file.create_dataset(key, data=value.T if transpose else value, compression="gzip")
        file["track_names"] = [b"anna", b"bert", "Größe".encode()]
        file["node_names"] = [name.encode() for name in SKELETON.names]


@pytest.mark.parametrize("transpose", [True, False])
def test_we_read_what_sleap_writes(tmp_path: Path, transpose: bool) -> None:
    before = poses(step=2)
    as_sleap(tmp_path / "a.h5", before, transpose)
    after = FORMAT.read(tmp_path / "a.h5").read()
    same(before, after)
    assert after.provenance["track_names"] == before.provenance["track_names"]


def test_frames_that_sleap_left_out(tmp_path: Path) -> None:
    before = poses(step=2)
    late = Poses(before.keypoints, before.scores, SKELETON, before.frames + 50, before.track_ids)
    first = int(late.frames.min())
    as_sleap(tmp_path / "a.h5", late, first=first)
    same(late, FORMAT.read(tmp_path / "a.h5", first_frame=str(first)).read())
    with pytest.raises(ValidationError, match="first_frame"):
        FORMAT.read(tmp_path / "a.h5", first_frame=-1)


def test_one_animal_without_a_track(tmp_path: Path) -> None:
    before = poses(20, 1)
    alone = Poses(before.keypoints, before.scores, SKELETON, before.frames)
    report = LossReport()
    FORMAT.write(tmp_path / "a.h5", PoseStream.of(alone), report=report)
    after = FORMAT.read(tmp_path / "a.h5", report=report).read()
    assert set(after.track_ids) == {NO_TRACK}
    same(alone, after)
    assert not report
    assert not sio.load_analysis_h5(str(tmp_path / "a.h5")).tracks


def test_several_animals_without_a_track_are_told_apart(tmp_path: Path) -> None:
    keypoints = np.arange(36, dtype=np.float32).reshape(6, 3, 2)
    frames, tracks = [0, 0, 1, 1, 1, 0], [NO_TRACK, 5, NO_TRACK, NO_TRACK, 5, NO_TRACK]
    before = Poses(keypoints, np.ones((6, 3)), SKELETON, frames, tracks)
    report = LossReport()
    FORMAT.write(tmp_path / "a.h5", PoseStream.of(before, 4), report=report)
    after = FORMAT.read(tmp_path / "a.h5").read()
    assert lost(report)["rows without a track"] == 4
    assert len(after) == 6
    got = {(int(f), float(k[0, 0])) for f, k in zip(after.frames, after.keypoints, strict=True)}
    assert got == {(f, float(k[0, 0])) for f, k in zip(frames, keypoints, strict=True)}
    assert set(after.provenance["track_names"].values()) == {
        "track_5", "untracked_0", "untracked_1",
    }  # fmt: skip


def test_poses_that_come_track_by_track_and_far_apart(tmp_path: Path) -> None:
    """Windows of frames leave memory and come back."""
    rng = np.random.default_rng(0)
    n = 3000
    frames = np.tile(rng.permutation(9000)[:n], 2)
    tracks = np.repeat([0, 1], n)
    before = Poses(
        rng.uniform(0, 9, (2 * n, 3, 2)), rng.random((2 * n, 3)), SKELETON, frames, tracks
    )
    from dpk_io_formats import sleap_analysis_write

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sleap_analysis_write, "_BUFFER_BYTES", 1)
        patch.setattr(sleap_analysis_write, "_WINDOW", 256)
        FORMAT.write(tmp_path / "a.h5", PoseStream.of(before, 500))
    same(before, FORMAT.read(tmp_path / "a.h5").read())


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
@hypothesis.given(st.data())
def test_any_poses_come_back(data: object) -> None:
    draw = data.draw
    places = draw(
        st.lists(
            st.tuples(st.integers(0, 300), st.integers(-1, 3)), max_size=12,
            unique_by=lambda p: p if p[1] >= 0 else (p[0], -1),
        )
    )  # fmt: skip
    value = st.one_of(st.floats(-1e6, 1e6, width=32), st.just(float("nan")))
    n = len(places)
    xy = draw(st.lists(value, min_size=6 * n, max_size=6 * n))
    scores = draw(st.lists(st.floats(0, 1, width=32), min_size=3 * n, max_size=3 * n))
    before = Poses(
        np.array(xy).reshape(n, 3, 2), np.array(scores).reshape(n, 3), SKELETON,
        np.array([p[0] for p in places], int), np.array([p[1] for p in places], int),
    )  # fmt: skip
    report = LossReport()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        FORMAT.write(
            path, PoseStream.of(before, 3), report=report, preset=draw(st.sampled_from(PRESETS))
        )
        after = FORMAT.read(path).read()
    assert len(after) == n
    names = after.provenance.get("track_names", {})
    ours = sorted(
        (int(f), f"track_{t}", k.tobytes(), s.tobytes())
        for f, t, k, s in zip(before.frames, before.track_ids, before.keypoints, before.scores,
                              strict=True) if t != NO_TRACK
    )  # fmt: skip
    theirs = sorted(
        (int(f), names.get(str(t), ""), k.tobytes(), s.tobytes())
        for f, t, k, s in zip(after.frames, after.track_ids, after.keypoints, after.scores,
                              strict=True) if names.get(str(t), "").startswith("track_")
    )  # fmt: skip
    assert ours == theirs
    alone = set(before.track_ids.tolist()) == {NO_TRACK}
    assert alone or lost(report).get("rows without a track", 0) == n - len(ours)


# -- bad input ------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    FORMAT.write(tmp_path / "a.h5", PoseStream.of(poses()))
    return tmp_path / "a.h5"


def _replace(file: h5py.File, key: str, value: object) -> None:
    del file[key]
    file[key] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: _replace(f, "tracks", np.zeros((2, 2, 2))), "expected 4 axes"),
        (lambda f: _replace(f, "tracks", np.zeros((3, 2, 9, 5))), "cannot be found"),
        (lambda f: _replace(f, "tracks", np.full((3, 2, 3, 9), b"a")), "axes of numbers"),
        (lambda f: _replace(f, "point_scores", np.zeros((3, 3, 9))), "'point_scores' has the"),
        (lambda f: _replace(f, "track_names", [b"a"]), "cannot be found"),
        (lambda f: _replace(f, "node_names", [b"a", b"b", b"a"]), "'a' stands twice"),
        (lambda f: _replace(f, "edge_inds", [[0, 7]]), "not between two nodes"),
        (lambda f: _replace(f, "provenance", "{"), "no JSON"),
        (lambda f: f["tracks"].attrs.update(dims="{"), "axes of 'tracks'"),
        (lambda f: f["tracks"].attrs.update(dims='["a", "b", "c", "d"]'), "axes of 'tracks'"),
        (lambda f: f.attrs.update(skeleton_symmetries='[["head", "x"]]'), "symmetries"),
        (lambda f: _replace(f, "track_names", h5py.ExternalLink("b.h5", "a")), "link"),
    ],
)
def test_a_damaged_file_says_what(file: Path, change: Callable, message: str) -> None:
    with h5py.File(file, "a") as stored:
        change(stored)
    with pytest.raises(DpkError, match=message):
        FORMAT.read(file).read()


def test_infinite_coordinates_and_scores_out_of_range(file: Path) -> None:
    with h5py.File(file, "a") as stored:
        places = np.argwhere(np.isfinite(stored["point_scores"][:]))
        stored["point_scores"][tuple(places[0])] = 1.5
        stored["tracking_scores"][0, 0] = 3
    report = LossReport()
    FORMAT.read(file, report=report).read()
    assert lost(report)["scores"] == 1
    with h5py.File(file, "a") as stored:
        place = tuple(np.argwhere(np.isfinite(stored["tracks"][:]))[0])
        stored["tracks"][place] = np.inf
    stream = FORMAT.read(file)
    with pytest.raises(FileFormatError, match="infinitely far away"):
        stream.read()


def test_poses_that_it_cannot_hold(file: Path, tmp_path: Path) -> None:
    two = Poses(np.zeros((2, 3, 2)), np.ones((2, 3)), SKELETON, [4, 4], [1, 1])
    with pytest.raises(ValidationError, match="frame 4 has the track 1 twice"):
        FORMAT.write(tmp_path / "b.h5", PoseStream.of(two))
    (tmp_path / "b.h5").unlink()
    with pytest.raises(ValidationError, match="frame 4 has the track 1 twice"):
        FORMAT.write(tmp_path / "b.h5", PoseStream.of(two, 1))
    (tmp_path / "b.h5").unlink()
    far = Poses(np.zeros((1, 3, 2)), np.ones((1, 3)), SKELETON, [10**12], [1])
    with pytest.raises(ValidationError, match="a place for each frame"):
        FORMAT.write(tmp_path / "b.h5", PoseStream.of(far))
    with pytest.raises(OutputExistsError):
        FORMAT.write(file, PoseStream.of(two))
    with pytest.raises(ValidationError, match="preset"):
        FORMAT.write(tmp_path / "c.h5", PoseStream.of(two), preset="python")
    with pytest.raises(ValidationError, match="reads poses"):
        FORMAT.read(file, "tracks")


def test_damaged_bytes(file: Path, tmp_path: Path, damaged: Callable[..., Iterator[bytes]]) -> None:
    refused = 0
    for i, content in enumerate(damaged(file.read_bytes(), 150, 1)):
        path = tmp_path / f"d{i}.h5"
        path.write_bytes(content)
        try:
            if FORMAT.sniff(path):
                FORMAT.read(path).read()
        except DpkError:
            refused += 1
        path.unlink()
    assert refused > 5


def test_provenance_is_json_that_others_read(file: Path) -> None:
    with h5py.File(file) as stored:
        assert json.loads(stored["provenance"][()]) == {"dpk": {"model": "m.keras"}}
