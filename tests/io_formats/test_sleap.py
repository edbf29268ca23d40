"""SLEAP files: what sleap-io reads in ours, what we read in sleap-io's, and nothing lost unsaid."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from dpk_core.annotations import HIDDEN, AnnotationSet, Source
from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.services.formats import identify
from dpk_core.services.individuals import crop_individuals
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.testing import check_format
from dpk_core.workflow.convert import LossError, convert
from dpk_io_formats.sleap import SleapFormat

sio = pytest.importorskip("sleap_io")
hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
settings = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)

FORMAT = SleapFormat()
NAMES = ["head", "wing_l", "wing_r", "Größe"]


def lost(report: LossReport) -> dict[str, int]:
    found: dict[str, int] = {}
    for loss in report:
        found[loss.what] = found.get(loss.what, 0) + loss.count
    return found


def sleap_skeleton(edges: list | None = None, symmetries: list | None = None) -> object:
    return sio.Skeleton(
        nodes=list(NAMES), edges=edges if edges is not None else [(0, 1), (0, 2), (2, 3)],
        symmetries=symmetries if symmetries is not None else [(1, 2)], name="Skeleton-0",
    )  # fmt: skip


def points(xy: np.ndarray, visible: object = True, complete: object = True) -> object:
    from sleap_io.model.instance import PointsArray

    array = PointsArray.empty(len(xy))
    array["xy"], array["visible"], array["complete"] = xy, visible, complete
    array["name"] = NAMES
    return array


def instance(skeleton: object, xy: np.ndarray, track: object = None, **fields: object) -> object:
    known = {k: fields.pop(k) for k in ("visible", "complete") if k in fields}
    known.setdefault("visible", np.isfinite(xy).all(axis=1))
    return sio.Instance(points(xy, **known), skeleton=skeleton, track=track, **fields)


def picture_video(folder: Path, n: int = 6, size: tuple[int, int] = (24, 32)) -> object:
    """A sequence of PNG images, told apart by their gray, with a bright pixel at (5 + i, 7)."""
    names = []
    for i in range(n):
        image = np.full((*size, 3), (10 * i, 20, 40), np.uint8)
        image[7, 5 + i] = (250, 200, 150)
        names.append(str(folder / f"im{i}.png"))
        assert cv2.imwrite(names[-1], image)
    return sio.Video.from_filename(names)


def save(labels: object, path: Path, **options: object) -> Path:
    sio.save_slp(labels, str(path), verbose=False, **options)
    return path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Two animals with names, dots labelled, embedded by sleap-io."""
    (tmp_path / "images").mkdir()
    video = picture_video(tmp_path / "images")
    skeleton = sleap_skeleton()
    anna, bert = sio.Track("anna"), sio.Track("bert")
    frames = []
    for i in (0, 2, 5):
        first = np.array([[5 + i, 7], [1, 2], [3.25, 4.5], [np.nan, np.nan]])
        second = np.array([[9, 9], [-4, 2], [3000, 4], [1, 1]], float)
        frames.append(sio.LabeledFrame(
            video, i, [instance(skeleton, first, anna), instance(skeleton, second, bert)]
        ))  # fmt: skip
    labels = sio.Labels(frames, tracks=[anna, bert], skeletons=[skeleton])
    return save(labels, tmp_path / "made.pkg.slp", embed=True)


# -- real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("flies-clip/clip.slp", None),
        ("formats/small_robot_minimal.slp", None),
        ("formats/minimal_instance.slp", "formats/small_robot.mp4"),
    ],
)
def test_a_real_file_comes_back_as_it_was(
    test_data: Path, tmp_path: Path, name: str, video: str | None
) -> None:
    path = test_data / name
    before = sio.load_slp(str(path), open_videos=False)
    options = {}
    if video is not None:
        target = tmp_path / "centered_pair_low_quality.mp4"
        target.write_bytes((test_data / video).read_bytes())
        options["videos"] = tmp_path
    labels = FORMAT.read(path, **options)
    assert labels.skeleton.names == tuple(before.skeleton.node_names)
    assert {(p, c) for c, p in labels.skeleton.edges} == set(before.skeleton.edge_inds)
    stored = [(f.frame_idx, i) for f in before.labeled_frames for i in f.instances]
    assert len(labels) == len(stored)
    for row, (frame, theirs) in enumerate(stored):
        np.testing.assert_array_equal(labels.keypoints[row], theirs.numpy())
        assert labels.sources[row].frame == frame
        if theirs.track is not None:
            assert labels.sources[row].individual == theirs.track.name
    FORMAT.write(tmp_path / "again.slp", labels)
    after = sio.load_slp(str(tmp_path / "again.slp"))
    assert len(after.labeled_frames) == len(before.labeled_frames)
    for a, b in zip(before.labeled_frames, after.labeled_frames, strict=True):
        assert a.frame_idx == b.frame_idx
        for x, y in zip(a.instances, b.instances, strict=True):
            np.testing.assert_array_equal(x.numpy(), y.numpy())
            assert (x.track and x.track.name) == (y.track and y.track.name)
    assert set(after.skeleton.edge_names) == set(before.skeleton.edge_names)
    assert after.video[0].ndim == 3


def test_kinds_are_what_is_in_it(test_data: Path, tmp_path: Path) -> None:
    assert identify(test_data / "flies-clip/clip.slp").kinds == ("annotations", "tracks")
    assert identify(test_data / "formats/minimal_instance.slp").kinds == ("annotations",)
    save(sio.Labels([], [sio.Video("a.mp4")], [sleap_skeleton()]), tmp_path / "none.slp")
    assert FORMAT.kinds(tmp_path / "none.slp") == ("annotations",)


def test_real_tracks_are_boxes_around_the_keypoints(test_data: Path) -> None:
    path = test_data / "flies-clip/clip.slp"
    report = LossReport()
    tracks = FORMAT.read(path, "tracks", report=report)
    before = sio.load_slp(str(path), open_videos=False)
    assert tracks.provenance["track_names"] == {"0": "female", "1": "male"}
    for row in (0, 1, 999, 2499):
        frame = before.labeled_frames[int(tracks.frame[row])]
        name = tracks.provenance["track_names"][str(tracks.id[row])]
        (theirs,) = [i for i in frame.instances if i.track.name == name]
        xy = theirs.numpy()
        low, high = np.nanmin(xy, axis=0), np.nanmax(xy, axis=0)
        np.testing.assert_allclose([tracks.x[row], tracks.y[row]], (low + high) / 2)
        np.testing.assert_allclose([tracks.width[row], tracks.height[row]], high - low)
    assert lost(report)["keypoints"] == sum(
        np.isfinite(i.numpy()).all(axis=1).sum() for f in before for i in f
    )
    mean = FORMAT.read(path, "tracks", center="mean")
    assert mean.x[0] == pytest.approx(
        np.nanmean(next(i for i in before[0] if i.track.name == "female").numpy()[:, 0])
    )


# -- the contract, and both ways ------------------------------------------------------------------


def test_contract() -> None:
    check_format("sleap")


def test_a_label_lies_on_its_pixel(package: Path) -> None:
    labels = FORMAT.read(package)
    assert labels.image_shape == (24, 32, 3)
    for row in range(len(labels)):
        if labels.sources[row].individual != "anna":
            continue
        x, y = labels.keypoints[row, 0].astype(int)
        assert labels.images[row][y, x].tolist() == [150, 200, 250]  # RGB of what OpenCV wrote
        assert (labels.images[row] == 150).sum() == 1


def test_images_written_are_seen_by_sleap(package: Path, tmp_path: Path) -> None:
    labels = FORMAT.read(package)
    path = tmp_path / "mine.pkg.slp"
    FORMAT.write(path, labels)
    theirs = sio.load_slp(str(path))
    assert [f.frame_idx for f in theirs.labeled_frames] == [0, 1, 2]  # images of a sequence
    for i, frame in enumerate(theirs.labeled_frames):
        np.testing.assert_array_equal(frame.image, labels.images[2 * i])
        x, y = frame.instances[0].numpy()[0].astype(int)
        assert frame.image[y, x].tolist() == [150, 200, 250]
    again = FORMAT.read(path)
    np.testing.assert_array_equal(again.images[:], labels.images[:])
    np.testing.assert_array_equal(again.keypoints, labels.keypoints)


def test_old_colours_and_old_corners(package: Path) -> None:
    """Below 1.4 red and blue are exchanged, below 1.1 users' points count from the corner."""
    new = FORMAT.read(package)
    image = np.array(new.images[0])
    with h5py.File(package, "a") as file:
        assert file["video0/video"].attrs["channel_order"] in ("BGR", "RGB")
        was_bgr = file["video0/video"].attrs["channel_order"] == "BGR"
        del file["video0/video"].attrs["channel_order"]
        file["metadata"].attrs["format_id"] = 1.0
    old = FORMAT.read(package)
    np.testing.assert_array_equal(old.keypoints, new.keypoints - 0.5)
    expected = image if was_bgr else image[..., ::-1]
    np.testing.assert_array_equal(old.images[0], expected)


def test_predictions_of_the_first_format_are_not_shifted(tmp_path: Path) -> None:
    """SLEAP shifts users' points alone (sleap/io/format/hdf5.py)."""
    path = tmp_path / "p.slp"
    FORMAT.write(path, sample_poses())
    before = FORMAT.read(path, "poses").read()
    with h5py.File(path, "a") as file:
        file["metadata"].attrs["format_id"] = 1.0
    np.testing.assert_array_equal(FORMAT.read(path, "poses").read().keypoints, before.keypoints)


def test_labels_there_and_back(made_labels: Callable[..., AnnotationSet], tmp_path: Path) -> None:
    labels = made_labels(video="")
    report = LossReport()
    FORMAT.write(tmp_path / "a.slp", labels, report=report)
    again = FORMAT.read(tmp_path / "a.slp", report=report)
    assert len(again) == len(labels)
    np.testing.assert_array_equal(again.keypoints, labels.keypoints)
    assert again.skeleton == labels.skeleton
    assert [s.individual for s in again.sources] == [s.individual for s in labels.sources]
    hidden = np.isfinite(labels.keypoints).all(axis=2) & (labels.visibility == HIDDEN)
    assert lost(report)["visibilities"] == hidden.sum() > 0
    for i in range(len(labels)):
        size = labels.sources[i].size or labels.image_shape[:2]
        found = again.images[i][: size[0], : size[1]]
        np.testing.assert_array_equal(found, labels.images[i][: size[0], : size[1]])
        assert (again.sources[i].size or again.image_shape[:2]) == size


def test_whole_frames_keep_video_and_number(
    made_labels: Callable[..., AnnotationSet], tmp_path: Path
) -> None:
    labels = made_labels()
    FORMAT.write(tmp_path / "a.pkg.slp", labels)
    again = FORMAT.read(tmp_path / "a.pkg.slp")

    def place(s: Source) -> tuple[str, int, str]:
        return s.video, s.frame, s.individual

    # frames of two sizes are two videos to SLEAP, of one name
    assert sorted(map(place, again.sources)) == sorted(map(place, labels.sources))
    with pytest.raises(FileMissingError, match=r"walk.mp4"):
        FORMAT.write(tmp_path / "b.slp", labels, embed=False)


def test_crops_go_back_to_their_frames(test_data: Path, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    video = tmp_path / "films" / "robot.mp4"
    video.write_bytes((test_data / "formats/small_robot.mp4").read_bytes())
    whole = FORMAT.read(test_data / "formats/small_robot_minimal.slp", videos=test_data / "formats")
    sources = tuple(Source(str(video), s.frame, "robo") for s in whole.sources)
    labels = AnnotationSet(whole.images, whole.keypoints, whole.skeleton, sources=sources)
    crops = crop_individuals(labels, 64)
    assert all(s.crop is not None for s in crops.sources)
    report = LossReport()
    FORMAT.write(tmp_path / "back.slp", crops, report=report)
    assert lost(report)["crops"] == len(crops)
    with h5py.File(tmp_path / "back.slp") as file:
        stored = json.loads(file["videos_json"][0])
        assert stored["backend"]["filename"] == stored["filename"] == "films/robot.mp4"
    again = FORMAT.read(tmp_path / "back.slp")
    np.testing.assert_allclose(again.keypoints, whole.keypoints, atol=1e-9)
    np.testing.assert_array_equal(again.images[1], whole.images[1])
    assert [s.frame for s in again.sources] == [0, 79]
    FORMAT.write(tmp_path / "back.pkg.slp", crops)
    theirs = sio.load_slp(str(tmp_path / "back.pkg.slp"))
    np.testing.assert_array_equal(theirs[1].image, whole.images[1])
    np.testing.assert_allclose(theirs[1].instances[0].numpy(), whole.keypoints[1], atol=1e-9)


def test_crops_of_absent_videos_are_embedded_one_by_one(
    made_labels: Callable[..., AnnotationSet], tmp_path: Path
) -> None:
    crops = crop_individuals(made_labels(), 32)
    report = LossReport()
    FORMAT.write(tmp_path / "a.slp", crops, report=report)
    assert lost(report)["positions of crops"] == len(crops)
    again = FORMAT.read(tmp_path / "a.slp")
    np.testing.assert_array_equal(again.keypoints, crops.keypoints)
    np.testing.assert_array_equal(again.images[:], crops.images[:])


def test_gray_stays_gray(tmp_path: Path) -> None:
    image = np.arange(24 * 32, dtype=np.uint8).reshape(1, 24, 32, 1)
    labels = AnnotationSet(image, np.array([[[3.0, 4.0]]]), Skeleton(("nose",)))
    FORMAT.write(tmp_path / "gray.pkg.slp", labels)
    again = FORMAT.read(tmp_path / "gray.pkg.slp")
    np.testing.assert_array_equal(again.images[:], image)
    assert sio.load_slp(str(tmp_path / "gray.pkg.slp"))[0].image.shape == (24, 32, 1)


def test_files_and_embedded_images_in_one_set(package: Path, tmp_path: Path) -> None:
    labels = sio.load_slp(str(package))
    (tmp_path / "more").mkdir()
    more = picture_video(tmp_path / "more", 2, (30, 20))
    skeleton = labels.skeleton
    frames = [*labels.labeled_frames,
              sio.LabeledFrame(more, 1, [instance(skeleton, np.full((4, 2), 3.0))])]  # fmt: skip
    both = sio.Labels(frames, [*labels.videos, more], labels.skeletons, labels.tracks)
    path = save(both, tmp_path / "both.slp", embed=False, restore_original_videos=False)
    found = FORMAT.read(path)
    assert found.image_shape == (30, 32, 3)
    assert [s.size for s in found.sources] == [(24, 32)] * 6 + [(30, 20)]
    np.testing.assert_array_equal(found.images[0][:24], FORMAT.read(package).images[0])
    assert found.images[6][7, 6].tolist() == [150, 200, 250]


# -- what points, frames and tracks mean ----------------------------------------------------------


def test_points_that_are_not_visible_are_missing(package: Path) -> None:
    with h5py.File(package, "a") as file:
        table = file["points"][:]
        table["visible"][0], table["complete"][0] = False, True  # marked missing by a person
        table["visible"][1], table["complete"][1] = False, False  # never looked at
        file["points"][:] = table
    report = LossReport()
    labels = FORMAT.read(package, report=report)
    assert np.isnan(labels.keypoints[0, :2]).all()
    assert labels.annotated[0].tolist()[:2] == [True, False]
    assert lost(report)["coordinates of points that are not visible"] == 2
    kept = FORMAT.read(package, invisible="hidden")
    assert kept.keypoints[0, 0].tolist() == [5, 7]
    assert kept.visibility[0].tolist()[:3] == [1, 1, 2]
    with pytest.raises(ValidationError, match="invisible"):
        FORMAT.read(package, invisible="gone")


def test_frames_that_wait_and_negative_frames(tmp_path: Path) -> None:
    video, skeleton = picture_video(tmp_path), sleap_skeleton()
    frames = [
        sio.LabeledFrame(video, 0, [instance(skeleton, np.full((4, 2), 2.0))]),
        sio.LabeledFrame(video, 1, [], is_negative=True),
        sio.LabeledFrame(video, 2, []),
    ]
    suggestions = [sio.SuggestionFrame(video, 4), sio.SuggestionFrame(video, 0)]
    labels = sio.Labels(frames, [video], [skeleton], suggestions=suggestions)
    path = save(labels, tmp_path / "a.slp")
    report = LossReport()
    found = FORMAT.read(path, report=report)
    assert [Path(s.video).name for s in found.sources] == [f"im{i}.png" for i in (0, 1, 2, 4)]
    assert found.annotated.all(axis=1).tolist() == [True, True, False, False]
    assert lost(report)["suggestions"] == 1  # of a frame that is labelled
    assert lost(report)["frames without instances"] == 1
    FORMAT.write(tmp_path / "b.slp", found)
    again = sio.load_slp(str(tmp_path / "b.slp"))
    assert [len(f.instances) for f in again.labeled_frames] == [1, 0]
    assert [f.is_negative for f in again.labeled_frames] == [False, True]
    assert len(again.suggestions) == 2
    without = FORMAT.read(path, waiting="no")
    assert len(without) == 2


def test_animals_without_names_are_numbered_and_stay_nameless(tmp_path: Path) -> None:
    video, skeleton = picture_video(tmp_path), sleap_skeleton()
    frames = [sio.LabeledFrame(video, 0, [instance(skeleton, np.full((4, 2), 1.0 + i))
                                          for i in range(2)])]  # fmt: skip
    path = save(sio.Labels(frames, [video], [skeleton]), tmp_path / "a.slp")
    found = FORMAT.read(path)
    assert [s.individual for s in found.sources] == ["1", "2"]
    FORMAT.write(tmp_path / "b.slp", found)
    again = sio.load_slp(str(tmp_path / "b.slp"))
    assert not again.tracks
    assert len(again[0].instances) == 2


def test_two_of_a_frame_with_one_name_are_told_apart_and_reported(package: Path) -> None:
    with h5py.File(package, "a") as file:
        table = file["instances"][:]
        table["track"][1] = 0
        file["instances"][:] = table
    report = LossReport()
    labels = FORMAT.read(package, report=report)
    assert [s.individual for s in labels.sources][:4] == ["1", "2", "anna", "bert"]
    assert lost(report)["identities"] == 2
    with pytest.raises(FileFormatError, match="'anna' is in two places in frame 0"):
        FORMAT.read(package, "tracks")


def test_a_frame_that_stands_twice_is_joined(package: Path) -> None:
    with h5py.File(package, "a") as file:
        table = file["frames"][:]
        table["frame_idx"][1] = 0
        file["frames"][:] = table
        images = file["video0/frame_numbers"][:]
        assert images.tolist() == [0, 2, 5]
    report = LossReport()
    labels = FORMAT.read(package, report=report)
    assert len(labels) == 6
    assert lost(report)["frames"] == 1
    assert len({(s.video, s.frame, s.individual) for s in labels.sources}) == 6


def test_partners_are_guessed_where_a_file_has_no_symmetries_at_all(tmp_path: Path) -> None:
    """Otherwise mirrored images would teach a model that left is right."""
    for symmetries, guessed in (([], (-1, 2, 1, -1)), ([(0, 3)], (3, -1, -1, 0))):
        video, skeleton = picture_video(tmp_path), sleap_skeleton(symmetries=symmetries)
        frames = [sio.LabeledFrame(video, 0, [instance(skeleton, np.full((4, 2), 2.0))])]
        path = save(sio.Labels(frames, [video], [skeleton]), tmp_path / f"{len(symmetries)}.slp")
        assert FORMAT.read(path).skeleton.swap == guessed
    assert set(FORMAT.read(tmp_path / "0.slp", guess_swaps=False).skeleton.swap) == {-1}


def test_edges_that_no_tree_has_are_reported(tmp_path: Path) -> None:
    video = picture_video(tmp_path)
    skeleton = sleap_skeleton([(0, 1), (1, 2), (2, 0), (3, 2)], [(1, 2), (0, 3)])
    frames = [sio.LabeledFrame(video, 0, [instance(skeleton, np.full((4, 2), 2.0))])]
    path = save(sio.Labels(frames, [video], [skeleton]), tmp_path / "a.slp")
    report = LossReport()
    labels = FORMAT.read(path, report=report)
    assert len(labels.skeleton.edges) == 3
    assert labels.skeleton.swap == (3, 2, 1, 0)
    assert lost(report)["skeleton edges"] == 1
    assert lost(report)["directions of skeleton edges"] == 1


def test_what_else_is_in_a_file_is_counted(package: Path) -> None:
    with h5py.File(package, "a") as file:
        file["bboxes/x1"] = np.zeros(3)
        file["new_thing"] = np.zeros(2)
        table = file["instances"][:]
        table["from_predicted"][0], table["tracking_score"][1] = 1, 0.5
        file["instances"][:] = table
        file.pop("provenance_json", None)
        file["provenance_json"] = json.dumps({"model": "a", "filename": "b"})
    report = LossReport()
    FORMAT.read(package, report=report)
    found = lost(report)
    assert found["bounding boxes"] == 3
    assert found["unknown entries"] == 2
    assert found["links to predictions"] == found["tracking scores"] == 1
    assert found["provenance entries"] == 1


# -- poses ----------------------------------------------------------------------------------------


def sample_poses(n: int = 30, seed: int = 0, several: bool = True) -> PoseStream:
    rng = np.random.default_rng(seed)
    skeleton = Skeleton(NAMES, [-1, 0, 0, 2], [-1, 2, 1, -1])
    keypoints = rng.uniform(-5, 500, (n, 4, 2)).astype(np.float32)
    keypoints[rng.random((n, 4)) < 0.2] = np.nan
    frames = np.sort(rng.integers(0, 2 * n, n))
    tracks = rng.permutation(np.tile([NO_TRACK, 2, 7], n))[:n] if several else np.full(n, NO_TRACK)
    provenance = {"track_names": {"2": "anna", "7": "bert", "9": "nobody"}, "model": "m.keras",
                  "fps": 25.0}  # fmt: skip
    poses = Poses(keypoints, rng.random((n, 4)), skeleton, frames, tracks, provenance)
    return PoseStream.of(poses, 7)


def test_poses_there_and_back(tmp_path: Path) -> None:
    stream = sample_poses()
    report = LossReport()
    FORMAT.write(tmp_path / "a.slp", stream, report=report)
    found = FORMAT.read(tmp_path / "a.slp", "poses", report=report)
    before, after = stream.read(), found.read()
    assert not report, str(report)
    assert found.length == len(after)
    np.testing.assert_array_equal(after.keypoints, before.keypoints)
    np.testing.assert_array_equal(after.scores, before.scores)
    np.testing.assert_array_equal(after.frames, before.frames)
    names = after.provenance["track_names"]
    ours = {NO_TRACK: None, 2: "anna", 7: "bert"}
    assert [names.get(str(i)) for i in after.track_ids] == [ours[i] for i in before.track_ids]
    assert set(names.values()) == {"anna", "bert", "nobody"}
    assert after.provenance["model"] == "m.keras"
    assert after.skeleton == before.skeleton


def test_sleap_reads_our_poses(tmp_path: Path) -> None:
    poses = sample_poses().read()
    FORMAT.write(tmp_path / "a.slp", PoseStream.of(poses, 4))
    labels = sio.load_slp(str(tmp_path / "a.slp"))
    theirs = [(f.frame_idx, i) for f in labels.labeled_frames for i in f.instances]
    assert len(theirs) == len(poses)
    for row, (frame, predicted) in enumerate(theirs):
        assert frame == poses.frames[row]
        np.testing.assert_array_equal(predicted.numpy(), poses.keypoints[row])
        np.testing.assert_array_equal(predicted.points["score"], poses.scores[row])
        seen = np.isfinite(poses.keypoints[row]).all(axis=1)
        mean = poses.scores[row][seen].mean() if seen.any() else 0
        assert predicted.score == pytest.approx(mean, abs=1e-6)
    assert labels.skeleton.symmetry_names == [("wing_l", "wing_r")]


def test_poses_that_come_individual_by_individual_become_frames(tmp_path: Path) -> None:
    poses = sample_poses(several=False).read()
    frames, tracks = np.tile(np.arange(15), 2), np.repeat([0, 1], 15)
    by_track = Poses(poses.keypoints, poses.scores, poses.skeleton, frames, tracks)
    FORMAT.write(tmp_path / "a.slp", PoseStream.of(by_track, 4))
    labels = sio.load_slp(str(tmp_path / "a.slp"))
    assert [f.frame_idx for f in labels.labeled_frames] == list(range(15))
    for frame in labels.labeled_frames:
        for row, predicted in zip((frame.frame_idx, frame.frame_idx + 15), frame, strict=True):
            np.testing.assert_array_equal(predicted.numpy(), poses.keypoints[row])
    after = FORMAT.read(tmp_path / "a.slp", "poses").read()
    order = np.argsort(frames, kind="stable")
    np.testing.assert_array_equal(after.keypoints, poses.keypoints[order])


def test_scores_that_cannot_be_are_put_right_and_counted(tmp_path: Path) -> None:
    FORMAT.write(tmp_path / "a.slp", sample_poses())
    with h5py.File(tmp_path / "a.slp", "a") as file:
        table = file["pred_points"][:]
        (placed,) = np.nonzero(np.isfinite(table["x"]))
        table["score"][placed[:2]] = [1.25, -3]
        file["pred_points"][:] = table
        table = file["instances"][:]
        table["tracking_score"][5] = 2
        table["score"][9] = 17
        file["instances"][:] = table
    report = LossReport()
    stream = FORMAT.read(tmp_path / "a.slp", "poses", report=report)
    assert stream.read().scores.max() == 1
    once = lost(report)
    stream.read()
    assert lost(report) == once  # counted once, however often it is read
    assert (once["scores"], once["tracking scores"]) == (2, 1)
    assert once["instance scores"] >= 1


def test_no_more_than_a_piece_is_held(tmp_path: Path) -> None:
    n = 20_000
    skeleton = Skeleton(("a",))
    poses = Poses(np.zeros((n, 1, 2)), np.ones((n, 1)), skeleton, np.arange(n) // 2)
    FORMAT.write(tmp_path / "a.slp", PoseStream.of(poses))
    sizes = [len(piece) for piece in FORMAT.read(tmp_path / "a.slp", "poses")]
    assert sum(sizes) == n
    assert max(sizes) <= 8192


def test_several_videos_must_be_told_apart(tmp_path: Path) -> None:
    skeleton = sleap_skeleton()
    videos = [sio.Video("walk/a.mp4", open_backend=False), sio.Video("b.mp4", open_backend=False)]
    frames = [
        sio.LabeledFrame(video, i, [sio.PredictedInstance.from_numpy(
            np.full((4, 2), 10.0 * v), skeleton, point_scores=np.ones(4), score=1.0
        )])
        for v, video in enumerate(videos) for i in range(3)
    ]  # fmt: skip
    path = save(sio.Labels(frames, videos, [skeleton]), tmp_path / "a.slp")
    with pytest.raises(FileFormatError, match=r"walk/a.mp4, b.mp4"):
        FORMAT.read(path, "poses")
    report = LossReport()
    found = FORMAT.read(path, "poses", video="b.mp4", report=report).read()
    assert (found.keypoints == 10).all()
    assert found.provenance["video"] == "b.mp4"
    assert lost(report)["predicted instances"] == 3
    assert (FORMAT.read(path, "poses", video="a.mp4").read().keypoints == 0).all()
    with pytest.raises(ValidationError, match=r"no video 'c.mp4'"):
        FORMAT.read(path, "poses", video="c.mp4")


# -- any labels -----------------------------------------------------------------------------------

coordinate = st.one_of(
    st.floats(-1e4, 1e6, width=32), st.just(float("nan")), st.sampled_from([0.0, -0.5, 1e9])
)


@st.composite
def any_labels(draw: object) -> object:
    """Users' and predicted instances with and without tracks, suggestions, negative frames."""
    k = len(NAMES)
    pairs = [(a, b) for a in range(k) for b in range(k) if a != b]
    skeleton = sleap_skeleton(
        draw(st.lists(st.sampled_from(pairs), max_size=6, unique=True)),
        draw(st.sampled_from([[], [(0, 1)], [(1, 2)], [(0, 3), (1, 2)]])),
    )
    video = sio.Video("absent.mp4", open_backend=False)
    tracks = [sio.Track(name) for name in draw(st.lists(
        st.text("abß/ 1", min_size=1, max_size=4), max_size=3, unique=True
    ))]  # fmt: skip
    frames = []
    for number in draw(st.lists(st.integers(0, 10**6), max_size=4, unique=True)):
        instances = []
        for _ in range(draw(st.integers(0, 3))):
            xy = np.array(draw(st.lists(coordinate, min_size=2 * k, max_size=2 * k)))
            xy = xy.reshape(k, 2)
            xy[np.isnan(xy).any(axis=1)] = np.nan
            track = draw(st.sampled_from([None, *tracks]))
            seen = np.isfinite(xy).all(axis=1)
            flags = np.array(draw(st.lists(st.booleans(), min_size=k, max_size=k)))
            if draw(st.booleans()):
                instances.append(instance(skeleton, xy, track, visible=seen & (flags | True),
                                          complete=flags, tracking_score=0.0))  # fmt: skip
            else:
                scores = draw(st.lists(st.floats(0, 1, width=32), min_size=k, max_size=k))
                instances.append(sio.PredictedInstance.from_numpy(
                    xy, skeleton, point_scores=np.array(scores), score=draw(st.floats(0, 2)),
                    track=track, tracking_score=draw(st.sampled_from([0.0, 0.5])),
                ))  # fmt: skip
        frames.append(sio.LabeledFrame(video, number, instances))
    suggestions = [sio.SuggestionFrame(video, i) for i in draw(
        st.lists(st.integers(0, 20), max_size=2, unique=True))]  # fmt: skip
    return sio.Labels(frames, [video], [skeleton], tracks, suggestions=suggestions)


def _edges(skeleton: object) -> set:
    return set(skeleton.edge_inds)


@settings
@hypothesis.given(any_labels())
def test_any_predictions_of_sleap_come_back(labels: object) -> None:
    before = [(f.frame_idx, i) for f in sorted(labels.labeled_frames, key=lambda f: f.frame_idx)
              for i in f.predicted_instances]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = save(labels, Path(folder) / "a.slp")
        report = LossReport()
        stream = FORMAT.read(path, "poses", report=report)
        FORMAT.write(Path(folder) / "b.slp", stream, report=report)
        found = sio.load_slp(str(Path(folder) / "b.slp"), open_videos=False)
    after = [(f.frame_idx, i) for f in found.labeled_frames for i in f.instances]
    what = lost(report)
    assert len(before) == len(after)
    scores = tracking = 0
    for (f, x), (g, y) in zip(before, after, strict=True):
        assert f == g
        np.testing.assert_array_equal(x.numpy().astype(np.float32), y.numpy())
        seen = x.points["visible"]
        np.testing.assert_allclose(x.points["score"][seen], y.points["score"][seen], rtol=1e-6)
        assert (x.track and x.track.name) == (y.track and y.track.name)
        scores += abs(x.score - y.score) > 1e-4
        tracking += x.tracking_score != y.tracking_score
    assert scores <= what.get("instance scores", 0)
    assert tracking == what.get("tracking scores", 0)
    assert [t.name for t in found.tracks] == [t.name for t in labels.tracks]
    changed = _edges(labels.skeleton) ^ _edges(found.skeleton)
    named = what.get("skeleton edges", 0) + 2 * what.get("directions of skeleton edges", 0)
    assert len(changed) <= named
    symmetries = {tuple(sorted(s)) for s in labels.skeleton.symmetry_inds}
    assert symmetries == {tuple(sorted(s)) for s in found.skeleton.symmetry_inds}
    assert len(labels.suggestions) == what.get("suggestions", 0)
    users = sum(len(f.user_instances) for f in labels.labeled_frames)
    assert users == what.get("users' instances", 0)


@settings
@hypothesis.given(any_labels())
def test_any_labels_of_sleap_come_back(labels: object) -> None:
    """Images are embedded, for nobody has the video."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = _embedded(labels, folder / "a.pkg.slp")
        report = LossReport()
        users = [(f.frame_idx, i) for f in labels.labeled_frames for i in f.user_instances]
        waiting = [f for f in labels.labeled_frames if not f.instances]
        if not users and not waiting and not labels.suggestions:
            with pytest.raises(FileFormatError, match="no labels"):
                FORMAT.read(path)
            return
        FORMAT.write(folder / "b.pkg.slp", FORMAT.read(path, report=report), report=report)
        found = sio.load_slp(str(folder / "b.pkg.slp"), open_videos=False)
    what = lost(report)
    after = {f.frame_idx: f.instances for f in found.labeled_frames}
    gone = 0
    for frame in labels.labeled_frames:
        mine, theirs = list(frame.user_instances), list(after.get(frame.frame_idx, []))
        full = [i for i in mine if np.isfinite(i.numpy()).any() or len(mine) > 1]
        for x, y in zip(full, theirs, strict=False):
            np.testing.assert_array_equal(x.numpy(), y.numpy())
            same = (x.track and x.track.name) == (y.track and y.track.name)
            assert same or what.get("identities", 0) or what.get("rows", 0)
        gone += len(mine) - len(theirs)
    empty = sum(not np.isfinite(i.numpy()).any() for _, i in users)
    assert gone <= empty
    assert gone == 0 or what.get("instances without points", 0) or what.get("rows", 0)
    predicted = sum(len(f.predicted_instances) for f in labels.labeled_frames)
    assert predicted == what.get("predicted instances", 0)


def test_an_animal_without_a_track_is_not_taken_for_one_whose_track_is_a_number() -> None:
    skeleton, track = sio.Skeleton(["head"]), sio.Track("1")
    video = sio.Video("absent.mp4", open_backend=False)
    found = [(0, [(3.0, track)]), (1, [(4.0, None), (5.0, None)])]
    frames = [
        sio.LabeledFrame(
            video,
            number,
            [sio.Instance.from_numpy(np.array([[x, x]]), skeleton, track=t) for x, t in animals],
        )
        for number, animals in found
    ]
    with tempfile.TemporaryDirectory() as name:
        path = _embedded(sio.Labels(frames, [video], [skeleton], [track]), Path(name) / "a.pkg.slp")
        report = LossReport()
        annotations = FORMAT.read(path, report=report)
    assert [s.individual for s in annotations.sources] == ["1", "2", "3"]
    assert lost(report)["identities"] == 2


def _embedded(labels: object, path: Path) -> Path:
    """As sleap-io saves it, with gray images for the absent video."""
    from dpk_io_formats.sleap_images import write_stored

    save(labels, path)
    numbers = sorted(
        {f.frame_idx for f in labels.labeled_frames} | {s.frame_idx for s in labels.suggestions}
    )
    with h5py.File(path, "a") as file:
        images = (np.full((8, 8, 1), n % 200, np.uint8) for n in numbers)
        write_stored(file, 0, images, numbers, None)
        del file["videos_json"]
        backend = {"type": "HDF5Video", "filename": ".", "dataset": "video0/video"}
        file["videos_json"] = [json.dumps({"filename": ".", "backend": backend})]
    return path


# -- bad input ------------------------------------------------------------------------------------


def test_missing_videos_are_named_and_the_rest_is_there(
    test_data: Path, tmp_path: Path, package: Path
) -> None:
    alone = tmp_path / "alone.slp"
    alone.write_bytes((test_data / "formats/minimal_instance.slp").read_bytes())
    with pytest.raises(FileMissingError, match=r"centered_pair_low_quality.mp4"):
        FORMAT.read(alone)
    with pytest.raises(FileMissingError, match=r"centered_pair_low_quality.mp4"):
        FORMAT.read(alone, missing="skip")  # nothing would be left
    labels = sio.load_slp(str(package))
    absent = sio.Video("gone/away.mp4", open_backend=False)
    frames = [
        *labels.labeled_frames,
        sio.LabeledFrame(absent, 3, [instance(labels.skeleton, np.full((4, 2), 3.0))]),
    ]
    both = sio.Labels(frames, [*labels.videos, absent], labels.skeletons, labels.tracks)
    path = save(both, tmp_path / "both.slp", embed=False, restore_original_videos=False)
    with pytest.raises(FileMissingError, match=r"away.mp4.*missing=skip"):
        FORMAT.read(path)
    report = LossReport()
    assert len(FORMAT.read(path, missing="skip", report=report)) == 6
    assert lost(report)["labelled instances"] == 1
    tracks = FORMAT.read(path, "tracks", video=0)  # which needs no image
    assert len(tracks) == 6


def _change(path: Path, table: str, row: int, column: str, value: object) -> None:
    with h5py.File(path, "a") as file:
        rows = file[table][:]
        rows[column][row] = value
        file[table][:] = rows


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "message"),
    [
        ("points", 0, "x", np.inf, "keypoint 'head' of instance 0 in frame 0 is infinitely"),
        ("points", 1, "y", -np.inf, "'wing_l'"),
        ("frames", 1, "instance_id_end", 99, "frame 2 .* 99 of 6"),
        ("frames", 1, "instance_id_start", 0, "frames 0 and 2 .* share an instance"),
        ("frames", 1, "video", 7, "belongs to video 7"),
        ("frames", 1, "instance_id_end", 2**63, "no index|of 6"),
        ("instances", 3, "point_id_end", 99, "another number of points"),
        ("instances", 3, "point_id_start", 2**62, "no index|another number"),
        ("instances", 2, "skeleton", 5, "instance 2 in frame 2 has a skeleton"),
        ("instances", 2, "track", 9, "a track that is not there"),
        ("instances", 2, "instance_type", 3, "neither a user's nor predicted"),
    ],
)
def test_a_damaged_table_says_where(
    package: Path, table: str, row: int, column: str, value: object, message: str
) -> None:
    _change(package, table, row, column, value)
    with pytest.raises(FileFormatError, match=message):
        FORMAT.read(package)


def test_points_beyond_the_table(package: Path) -> None:
    with h5py.File(package, "a") as file:
        rows = file["points"][:5]
        del file["points"]
        file["points"] = rows
    with pytest.raises(FileFormatError, match="points 4 to 8 of 5"):
        FORMAT.read(package)


def test_nan_negative_and_far_away_are_kept(package: Path) -> None:
    labels = FORMAT.read(package)
    assert np.isnan(labels.keypoints[0, 3]).all()
    assert labels.keypoints[1, 1].tolist() == [-4, 2]
    assert labels.keypoints[1, 2].tolist() == [3000, 4]


@pytest.mark.parametrize("key", ["points", "frames", "video0", "tracks_json", "metadata"])
def test_links_out_of_the_file_are_not_followed(package: Path, tmp_path: Path, key: str) -> None:
    other = tmp_path / "other.slp"
    package.rename(other)
    with h5py.File(other) as source, h5py.File(package, "w") as file:
        for name in source:
            if name == key:
                file[name] = h5py.ExternalLink(str(other), name)
            else:
                source.copy(name, file)
    with pytest.raises(FileFormatError, match="link"):
        FORMAT.read(package)


def test_data_in_other_files_are_not_read(package: Path, tmp_path: Path) -> None:
    with h5py.File(package, "a") as file:
        shape, kind = file["points"].shape, file["points"].dtype
        del file["points"]
        file.create_dataset("points", shape, kind, external=[(str(tmp_path / "raw"), 0, 10**6)])
    with pytest.raises(FileFormatError, match="other files"):
        FORMAT.read(package)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["nodes"][1].update(name="head"), "'head' stands twice"),
        (lambda m: m["nodes"][1].update(name=""), "empty name"),
        (lambda m: m["nodes"][1].update(name=3), "skeletons cannot be read"),
        (lambda m: m["skeletons"].clear(), "no skeleton|skeleton that is not there"),
        (lambda m: m["skeletons"][0]["links"][0].update(target=99), "skeletons cannot be read"),
        (lambda m: m.pop("nodes"), "skeletons cannot be read"),
    ],
)
def test_a_damaged_skeleton(package: Path, change: Callable, message: str) -> None:
    with h5py.File(package, "a") as file:
        metadata = json.loads(file["metadata"].attrs["json"])
        change(metadata)
        file["metadata"].attrs["json"] = json.dumps(metadata)
    with pytest.raises(DpkError, match=message):
        FORMAT.read(package)


@pytest.mark.parametrize(
    "text", ["", "[", "[" * 100_000, '{"skeletons": {}}', "null", '{"a": ' * 9000]
)
def test_metadata_that_are_no_skeleton(package: Path, text: str) -> None:
    with h5py.File(package, "a") as file:
        del file["metadata"].attrs["json"]
        group = file["metadata"]
        group.attrs["json"] = np.bytes_(text[:60_000])
    with pytest.raises(FileFormatError, match=r"made.pkg.slp"):
        FORMAT.read(package)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[]", "video 1"),
        ('{"backend": 3}', "backend"),
        ('{"backend": {"filename": 3}}', "expected a text"),
        ('{"backend": {"filename": "a\\u0000.mp4"}}', "expected a text"),
        ('{"backend": {"filename": "."}}', "not there|no file|is a folder"),
        ('{"backend": {"filename": ".", "dataset": "video7/video"}}', "no images at"),
        ('{"backend": {"filename": ".", "dataset": "points/video"}}', "no images at"),
        ('{"backend": {"filename": ".", "dataset": "points"}}', "images"),
        ('{"backend": {"filename": ".", "dataset": "../../etc/video"}}', "no images at"),
        ('{"backend": {"filename": "https://a.org/b.mp4"}}', "not there: https"),
        ('{"backend": {"filename": "C:\\\\films\\\\b.mp4"}}', "not there"),
        ('{"backend": {"filename": "' + "x" * 5000 + '.mp4"}}', "not there"),
    ],
)
def test_videos_that_cannot_be(package: Path, row: str, message: str) -> None:
    with h5py.File(package, "a") as file:
        del file["videos_json"]
        file["videos_json"] = [row]
    with pytest.raises(DpkError, match=message):
        FORMAT.read(package)


def test_a_table_that_promises_too_much(package: Path) -> None:
    with h5py.File(package, "a") as file:
        kind = file["points"].dtype
        del file["points"]
        file.create_dataset("points", (2**40,), kind, chunks=(1024,))
    with pytest.raises(FileFormatError, match="rows, and has"):
        FORMAT.read(package)


def test_cropped_views_and_newer_formats_are_refused(package: Path) -> None:
    with h5py.File(package, "a") as file:
        file["video_crops"] = [json.dumps({"video": 0, "crop": [0, 0, 5, 5]})]
    with pytest.raises(FileFormatError, match="cropped views"):
        FORMAT.read(package)
    with h5py.File(package, "a") as file:
        file["metadata"].attrs["format_id"] = 3.0
    with pytest.raises(FileFormatError, match="newer"):
        FORMAT.read(package)


def test_images_that_are_damaged(package: Path) -> None:
    labels = FORMAT.read(package)
    with h5py.File(package, "a") as file:
        stored = file["video0/video"]
        if stored.ndim == 2:
            stored[0, 40:] = 0
        else:
            stored[0] = stored[0][:40]
    with pytest.raises(FileFormatError, match="image 1 in 'video0/video' is damaged"):
        FORMAT.read(package).images[0]
    assert labels.images[2].shape == (24, 32, 3)


def test_options_that_are_not_known(package: Path, tmp_path: Path) -> None:
    for kind in ("annotations", "poses", "tracks"):
        with pytest.raises(ValidationError, match="no option 'colour'"):
            FORMAT.read(package, kind, colour=1)
    with pytest.raises(ValidationError, match="found 'things'"):
        FORMAT.read(package, "things")
    with pytest.raises(ValidationError, match="no option 'colour'"):
        FORMAT.write(tmp_path / "b.slp", sample_poses(), colour=1)
    with pytest.raises(ValidationError, match="embed: expected yes or no"):
        FORMAT.write(tmp_path / "b.slp", FORMAT.read(package), embed="maybe")
    with pytest.raises(ValidationError, match="no tracks"):
        FORMAT.write(tmp_path / "b.slp", FORMAT.read(package, "tracks"))
    with pytest.raises(DpkError, match="exists already"):
        FORMAT.write(package, sample_poses())
    poses = sample_poses().read()
    bad = Poses(poses.keypoints, poses.scores, poses.skeleton, poses.frames - 10**6)
    with pytest.raises(ValidationError, match="counts frames from 0"):
        FORMAT.write(tmp_path / "b.slp", PoseStream.of(bad))


def test_a_skeleton_or_video_that_is_not_there_is_the_callers_mistake(package: Path) -> None:
    for kind in ("annotations", "tracks"):
        option = {"skeleton": "fish"} if kind == "annotations" else {"video": "b.mp4"}
        with pytest.raises(ValidationError, match=r"has no (skeleton 'fish'|video 'b.mp4')"):
            FORMAT.read(package, kind, **option)
    with pytest.raises(ValidationError, match="missing: expected"):
        FORMAT.read(package, missing="maybe")
    with pytest.raises(ValidationError, match="center: expected"):
        FORMAT.read(package, "tracks", center="nose")


def test_convert_makes_a_package_and_strict_refuses_losses(package: Path, tmp_path: Path) -> None:
    done = convert(package, tmp_path / "again.pkg.slp")
    assert (done.source_format, done.target_format, done.kind) == ("sleap", "sleap", "annotations")
    with h5py.File(tmp_path / "again.pkg.slp") as file:
        assert len(file["video0/video"]) == 3
        assert str(tmp_path) not in str(file["videos_json"][0])
    with h5py.File(package, "a") as file:
        file["new_thing"] = np.zeros(2)
    with pytest.raises(LossError, match="2 unknown entries"):
        convert(package, tmp_path / "strict.slp", strict=True)


# -- damaged bytes --------------------------------------------------------------------------------


def _read_all(path: Path) -> None:
    if not FORMAT.sniff(path):
        return
    for kind in FORMAT.kinds(path):
        found = FORMAT.read(path, kind)
        if isinstance(found, PoseStream):
            found.read()
        elif isinstance(found, AnnotationSet):
            found.images[len(found) - 1]


def test_damaged_files_raise_an_error_of_ours_or_are_right(
    package: Path, tmp_path: Path, damaged: Callable[..., Iterator[bytes]]
) -> None:
    poses = tmp_path / "poses.slp"
    FORMAT.write(poses, sample_poses())
    refused = 0
    for seed, whole in enumerate((package, poses)):
        for i, content in enumerate(damaged(whole.read_bytes(), 120, seed)):
            path = tmp_path / f"d{seed}{i}.slp"
            path.write_bytes(content)
            try:
                _read_all(path)
            except DpkError:
                refused += 1
            path.unlink()
    assert refused > 20


def test_damaged_text_raises_an_error_of_ours_or_is_right(
    package: Path, tmp_path: Path, damaged: Callable[..., Iterator[bytes]]
) -> None:
    with h5py.File(package) as file:
        stored = {
            "metadata": file["metadata"].attrs["json"],
            "videos_json": file["videos_json"][0],
            "tracks_json": file["tracks_json"][0],
        }
    refused = 0
    for key, value in stored.items():
        content = value if isinstance(value, bytes) else value.encode()
        for i, text in enumerate(damaged(content, 40, 3)):
            path = tmp_path / f"{key}{i}.slp"
            path.write_bytes(package.read_bytes())
            with h5py.File(path, "a") as file:
                if key == "metadata":
                    del file["metadata"].attrs["json"]
                    file["metadata"].attrs["json"] = np.bytes_(text or b" ")
                else:
                    rows = file[key][:]
                    del file[key]
                    file[key] = [text.replace(b"\0", b" ") or b" ", *rows[1:]]
            try:
                _read_all(path)
            except DpkError:
                refused += 1
            path.unlink()
    assert refused > 50
