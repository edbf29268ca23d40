"""NWB with ndx-pose: what pynwb and sleap-io find in ours, what we find in theirs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import h5py
import numpy as np
import pytest

from dpk_core.annotations import HIDDEN, AnnotationSet
from dpk_core.errors import DpkError, FileFormatError, OutputExistsError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.services.formats import identify
from dpk_core.services.individuals import crop_individuals
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.testing import check_format
from dpk_io_formats.nwb import NwbFormat
from dpk_io_formats.sleap import SleapFormat

pynwb = pytest.importorskip("pynwb")
sio = pytest.importorskip("sleap_io")
ndx_pose = pytest.importorskip("ndx_pose")
hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

FORMAT = NwbFormat()
SKELETON = Skeleton(("head", "wing/l", "Größe"), [-1, 0, 0])
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def lost(report: LossReport) -> dict[str, int]:
    return {loss.what: loss.count for loss in report}


def poses(n: int = 30, seed: int = 0, names: tuple[str, ...] = ("anna", "be/rt")) -> Poses:
    rng = np.random.default_rng(seed)
    places = np.sort(rng.permutation(4 * n)[:n])
    keypoints = rng.uniform(-9, 900, (n, 3, 2)).astype(np.float32)
    keypoints[rng.random((n, 3)) < 0.2] = np.nan
    provenance = {
        "track_names": {"3": names[0], "8": names[1]}, "model": "m.keras", "fps": 29.97,
    }  # fmt: skip
    return Poses(
        keypoints, rng.random((n, 3)), SKELETON, places // 2 + 11, np.where(places % 2, 3, 8),
        provenance,
    )  # fmt: skip


def same(before: Poses, after: Poses) -> None:
    a, b = (np.lexsort((p.track_ids, p.frames)) for p in (before, after))
    for name in ("frames", "track_ids", "keypoints", "scores"):
        np.testing.assert_array_equal(getattr(after, name)[b], getattr(before, name)[a])


def test_there_and_back(tmp_path: Path) -> None:
    before, report = poses(), LossReport()
    FORMAT.write(tmp_path / "a.nwb", PoseStream.of(before, 7), report=report)
    stream = FORMAT.read(tmp_path / "a.nwb", report=report)
    after = stream.read()
    same(before, after)
    assert stream.length == len(before)
    assert (np.diff(after.frames) >= 0).all()
    assert after.provenance == before.provenance
    assert after.skeleton == SKELETON
    assert not report, str(report)
    assert identify(tmp_path / "a.nwb").spec.name == "nwb"


def test_contract() -> None:
    check_format("nwb")


_WRITE = """
import sys
import numpy as np
from dpk_core import Poses, Skeleton
from dpk_core.streams import PoseStream
from dpk_io_formats.nwb import NwbFormat

poses = Poses(np.ones((3, 1, 2)), np.ones((3, 1)), Skeleton(("a",)), frames=range(3))
NwbFormat().write(sys.argv[1], PoseStream.of(poses), fps=25)
"""


def test_no_other_process_meets_a_schema_that_is_half_written(tmp_path: Path) -> None:
    """pynwb keeps its schema in the user's cache, not whole at once: we have it keep none."""
    home = tmp_path / "home"
    home.mkdir()
    apart = {"PYNWB_NO_CACHE_DIR", "XDG_CACHE_HOME"}
    environment = {key: value for key, value in os.environ.items() if key not in apart}
    done = subprocess.run(
        [sys.executable, "-c", _WRITE, str(tmp_path / "a.nwb")],
        env=environment | {"HOME": str(home), "LOCALAPPDATA": str(home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(FORMAT.read(tmp_path / "a.nwb").read()) == 3
    assert list(home.rglob("*.pkl")) == []


def test_pynwb_reads_ours_and_finds_it_valid(tmp_path: Path) -> None:
    from pynwb.validation import validate

    before = poses()
    path = tmp_path / "a.nwb"
    FORMAT.write(
        path, PoseStream.of(before, 7), session_start="2024-05-31T14:00:00+00:00", identifier="me"
    )
    assert not validate(path=str(path))
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        file = io.read()
        assert file.identifier == "me"
        assert file.session_start_time == datetime(2024, 5, 31, 14, tzinfo=timezone.utc)
        module = file.processing["SLEAP_VIDEO_000_video"]
        anna = module["track=anna"]
        assert anna.skeleton.nodes[:].tolist() == list(SKELETON.names)
        assert anna.skeleton.edges[:].tolist() == [[0, 1], [0, 2]]
        rows = np.flatnonzero(before.track_ids == 3)
        for j, name in enumerate(("head", "wing_l", "Größe")):
            series = anna[name]
            np.testing.assert_array_equal(series.data[:], before.keypoints[rows, j])
            np.testing.assert_array_equal(series.confidence[:], before.scores[rows, j])
            np.testing.assert_allclose(series.timestamps[:] * 29.97, before.frames[rows])
        assert module["track=be_rt"]["head"].data.shape == ((before.track_ids == 8).sum(), 2)


def test_sleap_io_reads_ours(tmp_path: Path) -> None:
    before = poses(names=("anna", "bert"))
    plain = Skeleton(("head", "wing", "tail"), [-1, 0, 0])
    before = Poses(before.keypoints, before.scores, plain, before.frames, before.track_ids,
                   before.provenance)  # fmt: skip
    FORMAT.write(tmp_path / "a.nwb", PoseStream.of(before))
    labels = sio.load_nwb(str(tmp_path / "a.nwb"))
    theirs = {i.numpy().tobytes() for f in labels.labeled_frames for i in f.instances}
    seen = np.isfinite(before.keypoints).any(axis=(1, 2))
    assert theirs == {k.astype(np.float64).tobytes() for k in before.keypoints[seen]}
    assert labels.skeleton.edge_inds == [(0, 1), (0, 2)]


@pytest.mark.parametrize("step", [1, 3])
def test_we_read_what_sleap_io_writes(tmp_path: Path, step: int) -> None:
    """Regular times become a rate there, others stay times; missing keypoints have no sample."""
    from sleap_io.io.nwb_predictions import write_nwb

    before = poses(names=("anna", "bert"))
    plain = Skeleton(("head", "wing", "tail"), [-1, 0, 0])
    frames = (before.frames - before.frames.min()) * step
    before = Poses(before.keypoints, before.scores, plain, frames, before.track_ids,
                   {"track_names": before.provenance["track_names"]})  # fmt: skip
    SleapFormat().write(tmp_path / "a.slp", PoseStream.of(before))
    labels = sio.load_slp(str(tmp_path / "a.slp"))
    times = {"video_timestamps": np.arange(frames.max() + 1) / 20.0}
    write_nwb(labels, str(tmp_path / "a.nwb"), pose_estimation_metadata=times)
    report = LossReport()
    after = FORMAT.read(tmp_path / "a.nwb", fps=20, report=report).read()
    seen = np.isfinite(before.keypoints).any(axis=(1, 2))
    a = {
        (int(f), t == 3, k.tobytes())
        for f, t, k in zip(
            before.frames[seen], before.track_ids[seen], before.keypoints[seen], strict=True
        )
    }
    names = after.provenance["track_names"]
    b = {(int(f), names[str(t)] == "anna", k.tobytes()) for f, t, k in zip(
        after.frames, after.track_ids, after.keypoints, strict=True)}  # fmt: skip
    assert a == b
    assert after.skeleton == plain


def estimation(path: Path, seconds: object, rate: float | None = None, **series: object) -> Path:
    """A file of one animal by pynwb, as other programs write it."""
    file = pynwb.NWBFile(
        session_description="a", identifier="b", session_start_time=datetime.now(timezone.utc)
    )
    skeleton = ndx_pose.Skeleton(name="s", nodes=["nose"], edges=np.zeros((0, 2), np.uint8))
    when = {"timestamps": seconds} if rate is None else {"rate": rate, "starting_time": seconds}
    fields = {"data": np.arange(10.0).reshape(5, 2), "confidence": np.full(5, 0.5)} | series
    found = ndx_pose.PoseEstimation(
        name="Pose",
        pose_estimation_series=[
            ndx_pose.PoseEstimationSeries(name="nose", reference_frame="?", **when, **fields)
        ],
        skeleton=skeleton,
    )
    module = file.create_processing_module("behavior", "b")
    module.add(ndx_pose.Skeletons(skeletons=[skeleton]))
    module.add(found)
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


def test_times_become_frames(tmp_path: Path) -> None:
    def frames(name: str, seconds: object, rate: float | None = None, **options: object) -> list:
        path = estimation(tmp_path / name, seconds, rate)
        report = LossReport()
        found = FORMAT.read(path, report=report, **options).read()
        assert set(found.track_ids) == {NO_TRACK}
        return [*found.frames.tolist(), lost(report).get("frame numbers", 0)]

    steps = np.array([0, 1, 2, 5, 6])
    assert frames("a.nwb", 0.4, 25.0) == [10, 11, 12, 13, 14, 0]
    assert frames("b.nwb", steps / 25.0) == [0, 1, 2, 5, 6, 5]  # guessed, and so it says
    assert frames("c.nwb", steps / 25.0, fps="50") == [0, 2, 4, 10, 12, 0]
    assert frames("d.nwb", 7.3 + steps**2 / 11.7) == [0, 1, 2, 3, 4, 5]  # in their order
    with pytest.raises(FileFormatError, match=r"two positions in frame 0.*fps"):
        frames("e.nwb", steps / 25.0, fps=1)
    with pytest.raises(ValidationError, match="fps"):
        frames("f.nwb", steps / 25.0, fps="fast")


def test_where_zero_is(tmp_path: Path) -> None:
    path = estimation(tmp_path / "a.nwb", 0.0, 10.0, conversion=2.0)
    plain = FORMAT.read(path).read()
    corner = FORMAT.read(path, origin="corner").read()
    assert plain.keypoints[1, 0].tolist() == [4, 6]
    assert corner.keypoints[1, 0].tolist() == [3.5, 5.5]
    with pytest.raises(ValidationError, match="origin"):
        FORMAT.read(path, origin="top")


def test_one_animal_without_a_track_and_several(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = np.repeat(np.arange(4), 2)
    for tracks, expected in (([NO_TRACK, 5] * 4, 2), ([NO_TRACK] * 8, 2)):
        before = Poses(rng.random((8, 3, 2)), rng.random((8, 3)), SKELETON, frames, tracks)
        path = tmp_path / f"{tracks[1]}.nwb"
        FORMAT.write(path, PoseStream.of(before, 3))
        after = FORMAT.read(path).read()
        got = {(int(f), k.tobytes()) for f, k in zip(after.frames, after.keypoints, strict=True)}
        assert got == {(int(f), k.tobytes()) for f, k in zip(frames, before.keypoints, strict=True)}
        with h5py.File(path) as file:
            assert len(file["processing/SLEAP_VIDEO_000_video"]) == expected


@hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
@hypothesis.given(st.data())
def test_any_poses_come_back(data: object) -> None:
    places = data.draw(
        st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 2)), max_size=10, unique=True)
    )
    n = len(places)
    value = st.one_of(st.floats(-1e6, 1e6, width=32), st.just(float("nan")))
    xy = data.draw(st.lists(value, min_size=6 * n, max_size=6 * n))
    scores = data.draw(st.lists(st.floats(0, 1, width=32), min_size=3 * n, max_size=3 * n))
    fps = data.draw(st.sampled_from([None, 1, 29.97, 240, 1e4]))
    before = Poses(
        np.array(xy).reshape(n, 3, 2), np.array(scores).reshape(n, 3), SKELETON,
        np.array([p[0] for p in places], int), np.array([p[1] for p in places], int),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nwb"
        FORMAT.write(path, PoseStream.of(before, 3), fps=fps)
        after = FORMAT.read(path).read()
    same(before, after)


# -- labels ---------------------------------------------------------------------------------------


def test_sleap_io_and_pynwb_read_our_labels(
    made_labels: Callable[..., AnnotationSet], tmp_path: Path
) -> None:
    from pynwb.validation import validate

    labels = crop_individuals(made_labels(names=("head", "wing_l", "wing_r", "tail")), 64)
    whole = made_labels(names=("head", "wing_l", "wing_r", "tail"))
    report = LossReport()
    path = tmp_path / "a.nwb"
    FORMAT.write(path, labels, report=report)
    assert not validate(path=str(path))
    assert lost(report)["images"] == lost(report)["crops"] == len(labels)
    assert lost(report)["swap partners"] == 2
    placed = np.isfinite(whole.keypoints).all(axis=2)
    seen = placed & (whole.visibility != HIDDEN)
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        training = io.read().processing["behavior"]["PoseTraining"]
        (video,) = training.source_videos.image_series.values()
        assert video.external_file[:].tolist() == ["walk.mp4"]
        frames = training.training_frames.training_frames
        stored = {
            (int(f.source_video_frame_index), name): i
            for f in frames.values()
            for name, i in f.skeleton_instances.skeleton_instances.items()
        }
        assert len(stored) == len(whole)
        for row, source in enumerate(whole.sources):
            found = stored[source.frame, source.individual]
            np.testing.assert_allclose(found.node_locations[:], whole.keypoints[row])
            np.testing.assert_array_equal(found.node_visibility[:], seen[row])
    theirs = sio.load_nwb(str(path))
    assert sum(len(f.instances) for f in theirs.labeled_frames) == len(whole)
    for frame in theirs.labeled_frames:
        rows = [i for i, s in enumerate(whole.sources) if s.frame == frame.frame_idx]
        for row, theirs_row in zip(rows, frame.instances, strict=True):
            expected = np.where(seen[row][:, None], whole.keypoints[row], np.nan)
            np.testing.assert_allclose(theirs_row.numpy(), expected)
    assert theirs.skeleton.edge_inds == [(0, 1), (0, 2), (0, 3)]


def test_real_labels_name_their_video(test_data: Path, tmp_path: Path) -> None:
    labels = SleapFormat().read(test_data / "flies-clip/clip.slp").subset(range(12))
    FORMAT.write(tmp_path / "a.nwb", labels)
    theirs = sio.load_nwb(str(tmp_path / "a.nwb"))
    assert theirs.video.shape[:3] == (1500, 1024, 1024)
    with h5py.File(tmp_path / "a.nwb") as file:
        series = file["processing/behavior/PoseTraining/source_videos/video_0"]
        assert series["dimension"][:].tolist() == [1024, 1024]
        assert series["starting_time"].attrs["rate"] == 25
    found = {(f.frame_idx, i.numpy().tobytes()) for f in theirs.labeled_frames for i in f.instances}
    ours = {(s.frame, k.tobytes()) for s, k in zip(labels.sources, labels.keypoints, strict=True)}
    assert found == ours


def test_an_animal_that_waits_for_labels_is_reported(
    made_labels: Callable[..., AnnotationSet], tmp_path: Path
) -> None:
    labels = made_labels(frames=1, animals=3)
    assert len(labels) > 1
    labels.keypoints[1:] = np.nan
    report = LossReport()
    FORMAT.write(tmp_path / "a.nwb", labels, report=report)
    assert lost(report)["animals"] == len(labels) - 1
    assert "frames without labels" not in lost(report)


def test_nothing_labelled(made_labels: Callable[..., AnnotationSet], tmp_path: Path) -> None:
    labels = made_labels()
    empty = AnnotationSet(
        labels.images, np.full_like(labels.keypoints, np.nan), labels.skeleton,
        sources=labels.sources,
    )  # fmt: skip
    with pytest.raises(ValidationError, match="nothing is labelled"):
        FORMAT.write(tmp_path / "a.nwb", empty)


# -- bad input ------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    FORMAT.write(tmp_path / "a.nwb", PoseStream.of(poses()))
    return tmp_path / "a.nwb"


SERIES = "processing/SLEAP_VIDEO_000_video/track=anna/head"


def _replace(file: h5py.File, key: str, value: object) -> None:
    attributes = dict(file[key].attrs)
    del file[key]
    file[key] = value
    file[key].attrs.update(attributes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: _replace(f, f"{SERIES}/data", np.zeros((3, 2))), "positions and .* times"),
        (lambda f: _replace(f, f"{SERIES}/data", f[f"{SERIES}/data"][:, :1]), "expected x and y"),
        (lambda f: _replace(f, f"{SERIES}/data", h5py.Empty("f4")), "is empty"),
        (lambda f: f[f"{SERIES}/data"].attrs.update(unit="cm"), "in 'cm', not in pixels"),
        (
            lambda f: _replace(f, f"{SERIES}/timestamps", f[f"{SERIES}/timestamps"][()][::-1]),
            "do not rise",
        ),
        (lambda f: _replace(f, f"{SERIES}/confidence", np.zeros(2)), "do not fit"),
        (
            lambda f: _replace(f, "processing/behavior/Skeletons/skeleton/edges", [[0, 9]]),
            "not between two keypoints",
        ),
        (
            lambda f: _replace(
                f, "processing/behavior/Skeletons/skeleton/nodes", ["head", "head", "a"]
            ),
            "unique",
        ),
    ],
)
def test_a_damaged_file_says_what(file: Path, change: Callable, message: str) -> None:
    with h5py.File(file, "a") as stored:
        change(stored)
    with pytest.raises(DpkError, match=message):
        FORMAT.read(file).read()


@pytest.mark.parametrize("key", [f"{SERIES}/data", f"{SERIES}/timestamps", "processing"])
def test_links_out_of_the_file_are_not_followed(file: Path, tmp_path: Path, key: str) -> None:
    other = tmp_path / "other.nwb"
    other.write_bytes(file.read_bytes())
    with h5py.File(file, "a") as stored:
        del stored[key]
        stored[key] = h5py.ExternalLink(str(other), key)
    with pytest.raises(FileFormatError, match=r"link|not in the file"):
        FORMAT.read(file).read()


def test_infinite_coordinates_and_scores_out_of_range(file: Path) -> None:
    with h5py.File(file, "a") as stored:
        data = stored[f"{SERIES}/data"]
        row = int(np.flatnonzero(np.isfinite(data[:, 0]))[0])
        stored[f"{SERIES}/confidence"][row] = -2
    report = LossReport()
    FORMAT.read(file, report=report).read()
    assert lost(report)["scores"] == 1
    with h5py.File(file, "a") as stored:
        stored[f"{SERIES}/data"][row] = np.inf
    stream = FORMAT.read(file)
    with pytest.raises(FileFormatError, match=r"keypoint 'head' in frame .* infinitely"):
        stream.read()


def test_poses_that_it_cannot_hold(file: Path, tmp_path: Path) -> None:
    two = Poses(np.zeros((2, 3, 2)), np.ones((2, 3)), SKELETON, [4, 4], [1, 1])
    with pytest.raises(ValidationError, match=r"frame 4 .* twice"):
        FORMAT.write(tmp_path / "b.nwb", PoseStream.of(two))
    with pytest.raises(OutputExistsError):
        FORMAT.write(file, PoseStream.of(poses()))
    with pytest.raises(ValidationError, match="session_start"):
        FORMAT.write(tmp_path / "b.nwb", PoseStream.of(poses()), session_start="yesterday")
    alike = Poses(np.zeros((1, 2, 2)), np.ones((1, 2)), Skeleton(("a/b", "a:b")), [0], [0])
    with pytest.raises(ValidationError, match="are the same"):
        FORMAT.write(tmp_path / "b.nwb", PoseStream.of(alike))
    with pytest.raises(ValidationError, match="reads poses"):
        FORMAT.read(file, "annotations")
    with pytest.raises(ValidationError, match="no options colour"):
        FORMAT.read(file, colour=1)


def test_several_videos_must_be_told_apart(file: Path) -> None:
    with h5py.File(file, "a") as stored:
        stored.copy("processing/SLEAP_VIDEO_000_video", "processing/other")
        for name in stored["processing/other"]:
            _replace(stored, f"processing/other/{name}/original_videos", ["films/b.mp4"])
    with pytest.raises(FileFormatError, match=r"video=NAME"):
        FORMAT.read(file)
    found = FORMAT.read(file, video="b.mp4")
    assert found.provenance["video"] == "films/b.mp4"
    same(poses(), found.read())
    with pytest.raises(ValidationError, match="no video 'c'"):
        FORMAT.read(file, video="c")


def test_damaged_bytes(file: Path, tmp_path: Path, damaged: Callable[..., Iterator[bytes]]) -> None:
    refused = 0
    for i, part in enumerate(damaged(file.read_bytes(), 150, 1)):
        path = tmp_path / f"d{i}.nwb"
        path.write_bytes(part)
        try:
            if FORMAT.sniff(path):
                FORMAT.read(path).read()
            else:
                refused += 1
        except DpkError:
            refused += 1
        path.unlink()
    assert refused > 20


def test_keypoints_are_not_looked_for_behind_links(tmp_path):
    """Of a file without a skeleton the series tell the keypoints: only those in the file."""
    path = tmp_path / "a.nwb"
    FORMAT.write(path, PoseStream.of(poses(8)))
    with h5py.File(path, "r+") as file:
        module = next(m for name, m in file["processing"].items() if name != "behavior")
        for group in module.values():
            for key in list(group):
                if isinstance(group.get(key, getlink=True), h5py.SoftLink):
                    del group[key]  # the skeleton
            group["eye"] = h5py.ExternalLink("nowhere.nwb", "/processing")
            group["nose"] = h5py.SoftLink("/nothing")
    found = FORMAT.read(path).read()
    assert set(found.skeleton.names) == {"head", "wing_l", "Größe"}
