"""Where videos and poses of a set are found, and what becomes of a video that is replaced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dpk_annotator import reviews
from dpk_annotator.context import Context
from dpk_annotator.film_places import FilmPlaces
from dpk_annotator.films import Films
from dpk_annotator.growing import grow
from dpk_annotator.server import create_app
from dpk_annotator.set_source import prepare_set
from dpk_annotator.store import Store
from dpk_core import Poses, VideoReader, VideoWriter
from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import FileMissingError, ValidationError
from dpk_core.services.storage import write_annotations, write_poses

TOKEN = "a-token-that-nobody-guesses"
SIZE = (48, 64)


def write_video(path: Path, seed: int = 0, n: int = 40) -> Path:
    """A blob on a bright ground; other seeds are other videos."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.uniform(40, 200, (6, 8)).astype(np.float32), SIZE[::-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=10, overwrite=True) as writer:
        for i in range(n):
            frame = ground.astype(np.uint8)
            cv2.circle(frame, (5 + i, 20), 6, 255, -1)
            writer.write(np.repeat(frame[..., None], 3, axis=2))
    return path


def write_set(path: Path, skeleton: Any, name: str, pixels_of: Path) -> Path:
    """Three frames of a video, which the set knows by a name."""
    frames = (3, 11, 30)
    with VideoReader(pixels_of, grayscale=True) as reader:
        images = reader[list(frames)]
    keypoints = np.full((3, len(skeleton), 2), np.nan)
    sources = tuple(Source(name, frame) for frame in frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_annotations(path, AnnotationSet(images, keypoints, skeleton, sources=sources))
    return path


def write_model_poses(path: Path, skeleton: Any, **provenance: Any) -> None:
    keypoints = np.full((40, len(skeleton), 2), 7.0, np.float32)
    scores = np.full((40, len(skeleton)), 0.5, np.float32)
    made = Poses(keypoints, scores, skeleton, frames=np.arange(40), provenance=provenance)
    write_poses(path, made)


@pytest.fixture
def serve(client_of) -> Iterator[Callable[..., Any]]:
    """Serves a set, with folders in which videos are looked for besides the usual ones."""
    stores, films = [], []

    def make(path: Path, folders: tuple[Path, ...] = ()) -> Any:
        stores.append(Store.open(path, background=False))
        context = Context(stores[-1], films=Films(stores[-1], folders))
        client = client_of(create_app(context, TOKEN))
        films.append(context.films)
        return client

    yield make
    for one in (*films, *stores):
        one.close()


def names(client: Any) -> list[tuple[int, str, bool]]:
    videos = client.get("api/videos").json["videos"]
    return [(video["id"], video["name"], video["present"]) for video in videos]


def shown(client: Any, video: int, frame: int) -> np.ndarray:
    answer = client.get(f"api/videos/{video}/frames/{frame}")
    assert answer.status == 200, answer.body
    return cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_GRAYSCALE)


# -- where they are -------------------------------------------------------------------------------


def test_videos_and_poses_are_found_around_the_set(serve, skeleton, tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project" / "labels", tmp_path / "disk 2"
    places = {
        "at home.mp4": project,
        "in it.mp4": project / "videos",
        "beside it.AVI": project.parent / "videos",
        "of its name.mp4": project / "day1" / "videos",
        "elsewhere.mp4": elsewhere,
    }
    for seed, (name, folder) in enumerate(places.items()):
        write_video(folder / name, seed)
    write_video(project / "videos" / "deeper" / "unseen.mp4")
    (project / "videos" / ".hidden.mp4").write_bytes(b"")
    path = write_set(project / "day1.labels.h5", skeleton, "at home.mp4", project / "at home.mp4")
    write_model_poses(elsewhere / "elsewhere.poses.h5", skeleton, video="elsewhere.mp4")
    write_model_poses(project / "videos" / "in it.poses.h5", skeleton, video="in it.mp4")

    client = serve(path, (elsewhere,))
    assert [name for _, name, _ in names(client)] == [
        "at home.mp4", "elsewhere.mp4", "in it.mp4", "beside it.AVI", "of its name.mp4",
    ]  # fmt: skip
    found = client.get("api/poses").json["poses"]
    assert [(one["name"], one["video"]) for one in found] == [
        ("elsewhere.poses.h5", 1), ("in it.poses.h5", 2),
    ]  # fmt: skip
    assert client.get("api/videos/1/frames/39").status == 200
    assert client.post("api/videos/1/add", {"frames": [5]}).json == {"rows": [3]}
    assert client.get("api/rows/3").json["guess"]["model"] == "elsewhere.poses.h5"


def test_poses_that_name_no_video_are_of_the_one_whose_name_they_have(
    serve, skeleton, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "day1.mp4")
    path = write_set(tmp_path / "set.h5", skeleton, "day1.mp4", video)
    write_model_poses(tmp_path / "day1.poses.h5", skeleton, track_names={"0": "anna"})
    write_model_poses(tmp_path / "day2.poses.h5", skeleton)
    found = serve(path).get("api/poses").json["poses"]
    assert [(one["video"], one["called"]) for one in found] == [(0, {"0": "anna"}), (None, {})]


def test_poses_of_other_videos_are_not_read(serve, skeleton, tmp_path: Path, monkeypatch) -> None:
    """A video is opened at once, however many others have been predicted."""
    for name in ("day1", "day2"):
        video = write_video(tmp_path / f"{name}.mp4")
        write_model_poses(tmp_path / f"{name}.poses.h5", skeleton, video=video.name)
    (tmp_path / "day3.poses.h5").write_bytes(b"not HDF5")
    client = serve(write_set(tmp_path / "set.h5", skeleton, "day1.mp4", video))
    everything = client.get("api/poses").json["poses"]
    assert [one["name"] for one in everything] == [f"day{i}.poses.h5" for i in (1, 2, 3)]
    read: list[str] = []
    real = reviews.read_poses

    def noted(path: Path) -> Poses:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(reviews, "read_poses", noted)
    for number, name, _ in names(client):
        read.clear()
        found = client.get(f"api/poses?video={number}").json["poses"]
        assert found == [everything[number], everything[2]]  # what is broken may be of any video
        assert read == [name.replace(".mp4", ".poses.h5")]
    (broken,) = client.get("api/poses?video=7").json["poses"]
    assert broken == everything[2]
    assert "day3.poses.h5" in broken["error"]
    assert client.get("api/poses?video=day1").status == 400


def test_a_folder_that_is_named_twice_is_looked_into_once(skeleton, tmp_path: Path) -> None:
    video = write_video(tmp_path / "project" / "videos" / "a.mp4")
    (tmp_path / "link").symlink_to(video.parent, target_is_directory=True)
    set_path = tmp_path / "project" / "set.h5"
    places = FilmPlaces(set_path, [video.parent, tmp_path / "link"])
    assert places.files((".mp4",)) == [video]
    assert places.folders == [tmp_path / "project", video.parent]


def test_what_cannot_be_looked_at_is_passed_over(serve, skeleton, tmp_path: Path) -> None:
    """As in a folder whose files may be listed and not opened."""
    video = write_video(tmp_path / "day1.mp4")
    path = write_set(tmp_path / "set.h5", skeleton, "day1.mp4", video)
    write_model_poses(tmp_path / "day1.poses.h5", skeleton, video="day1.mp4")
    (tmp_path / "videos").mkdir()
    unseen = [tmp_path / "videos" / "other.mp4", video, tmp_path / "day1.poses.h5"]
    client = serve(path)
    assert names(client) == [(0, "day1.mp4", True)]
    assert len(client.get("api/poses").json["poses"]) == 1
    for one in unseen:
        one.unlink(missing_ok=True)
        one.symlink_to("x" * 300)  # which no file can be called: to look at it is an OSError
    assert [one["present"] for one in client.get("api/set").json["videos"]] == [False]
    assert client.get("api/videos/0").status == 507
    assert names(client) == [(0, "day1.mp4", False)]
    assert client.get("api/poses").json["poses"] == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"no such folder.*expected a folder"):
        FilmPlaces(tmp_path / "set.h5", [tmp_path / "no such folder"])


@pytest.mark.parametrize("name", ["day1", "day1.mp4", "C:\\lab\\day1.mp4", "/mnt/lab/day1.mp4"])
def test_a_video_that_was_moved_is_known_by_its_name_and_pixels(
    serve, skeleton, tmp_path: Path, name: str
) -> None:
    video = write_video(tmp_path / "project" / "videos" / "day1.mp4")
    client = serve(write_set(tmp_path / "project" / "set.h5", skeleton, name, video))
    assert names(client) == [(0, "day1.mp4", True)]
    assert [one["present"] for one in client.get("api/set").json["videos"]] == [True]
    assert client.get("api/videos/0").json["in_set"] == [[0, 3], [1, 11], [2, 30]]
    # The same frames are not added under its other name.
    assert client.post("api/videos/0/add", {"frames": [3, 4, 11]}).json == {"rows": [3]}
    assert client.get("api/videos/0").json["in_set"][-1] == [3, 4]


@pytest.mark.parametrize("frames_first", [True, False])
def test_another_video_of_the_same_name_is_not_taken_for_it(
    serve, skeleton, tmp_path: Path, frames_first: bool
) -> None:
    right = write_video(tmp_path / "right.mp4", seed=1)
    project = tmp_path / "project"
    path = write_set(project / "set.h5", skeleton, "/mnt/lab/day1.mp4", right)
    write_video(project / "videos" / "day1.mp4", seed=2)
    client = serve(path)
    assert names(client) == [(0, "day1.mp4", True)]
    refused = client.get("api/videos/0/frames/3" if frames_first else "api/videos/0")
    assert refused.status == 400
    assert "its frame 3 is not the labelled image" in refused.json["error"]
    assert names(client) == [(0, "day1.mp4", True), (1, "day1.mp4", False)]
    assert client.get("api/videos/0").json["in_set"] == []
    assert client.get("api/videos/1").status == 507
    assert client.post("api/videos/1/add", {"frames": [1]}).status == 507

    right.replace(project / "videos" / "day1.mp4")
    listed = names(client)
    assert [present for _, _, present in listed] == [True]
    number = listed[0][0]
    assert client.get(f"api/videos/{number}").json["in_set"] == [[0, 3], [1, 11], [2, 30]]


def test_a_video_without_images_to_compare_is_refused_when_too_short(
    serve, skeleton, tmp_path: Path
) -> None:
    right = write_video(tmp_path / "right.mp4")
    project = tmp_path / "project"
    path = write_set(project / "set.h5", skeleton, "day1", right)
    write_video(project / "videos" / "day1.mp4", n=20)
    client = serve(path)
    names(client)
    answer = client.post("api/videos/0/add", {"frames": [1]})
    assert answer.status == 400
    assert "it has 20 frames, the labels go to frame 30" in answer.json["error"]


def test_videos_of_a_real_project_are_found(serve, test_data: Path, tmp_path: Path) -> None:
    project = tmp_path / "openfield"
    project.symlink_to(test_data / "openfield", target_is_directory=True)
    prepared = prepare_set(project)
    assert prepared.path.parent == tmp_path
    client = serve(prepared.path)
    # Of another mouse than the labelled one, whose video is not in the demo project.
    assert names(client) == [(0, "m4s1", False), (1, "m3v1mp4.mp4", True)]
    facts = client.get("api/videos/1").json
    assert (facts["width"], facts["height"], facts["in_set"]) == (640, 480, [])


# -- a file that is replaced ----------------------------------------------------------------------


@pytest.mark.parametrize("in_place", [True, False])
def test_frames_are_those_of_the_file_as_it_is_now(
    serve, skeleton, tmp_path: Path, in_place: bool
) -> None:
    video = write_video(tmp_path / "day1.mp4", seed=1)
    client = serve(write_set(tmp_path / "set.h5", skeleton, "day1.mp4", video))
    names(client)
    before = shown(client, 0, 20)
    new = write_video(tmp_path / "new.mkv", seed=5, n=25)
    with VideoReader(new) as reader:
        expected = reader[20][..., 0].astype(int)
    if in_place:
        video.write_bytes(new.read_bytes())
    else:
        new.replace(video)
    after = shown(client, 0, 20).astype(int)
    assert np.abs(after - expected).mean() < 4 < np.abs(after - before).mean()
    assert client.get("api/videos/0").json["n_frames"] == 25
    assert client.get("api/videos/0/frames/39").status == 400


def test_browsers_keep_frames_until_the_file_is_another(serve, skeleton, tmp_path: Path) -> None:
    video = write_video(tmp_path / "day1.mp4")
    client = serve(write_set(tmp_path / "set.h5", skeleton, "day1.mp4", video))
    names(client)
    place = "api/videos/0/frames/20"
    tag = client.get(place).headers["etag"]
    again = client.get(place, headers={"if-none-match": tag})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert again.headers["cache-control"] == "private, no-cache"
    write_video(video, seed=3)
    other = client.get(place, headers={"if-none-match": tag})
    assert other.status == 200
    assert other.headers["etag"] != tag


def test_a_file_that_is_replaced_while_a_frame_is_read_is_read_anew(
    serve, skeleton, tmp_path: Path, monkeypatch
) -> None:
    video = write_video(tmp_path / "day1.mp4", seed=1)
    client = serve(write_set(tmp_path / "set.h5", skeleton, "day1.mp4", video))
    names(client)
    shown(client, 0, 0)
    real, left = VideoReader.__getitem__, [1]

    def replaced_meanwhile(self: VideoReader, item: Any) -> np.ndarray:
        if left:
            left.pop()
            write_video(video, seed=2, n=30)
            raise ValidationError("what was open is no longer what it was")
        return real(self, item)

    monkeypatch.setattr(VideoReader, "__getitem__", replaced_meanwhile)
    assert shown(client, 0, 29).shape == SIZE
    assert client.get("api/videos/0").json["n_frames"] == 30


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_a_file_that_is_removed_is_let_go(serve, skeleton, tmp_path: Path) -> None:
    video = write_video(tmp_path / "day1.mp4")
    client = serve(write_set(tmp_path / "set.h5", skeleton, "day1.mp4", video))
    names(client)
    shown(client, 0, 30)

    def is_open() -> bool:
        links = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                links.append(os.readlink(entry))
            except OSError:
                continue
        return any(str(video) in link for link in links)

    assert is_open()
    video.unlink()
    answer = client.get("api/videos/0/frames/30")
    assert answer.status == 507
    assert "not where it was" in answer.json["error"]
    assert not is_open(), "the disk has the space again"
    write_video(video, seed=4)
    assert shown(client, 0, 30).shape == SIZE


def test_frames_added_from_a_video_elsewhere_get_its_poses(served, skeleton, tmp_path) -> None:
    place = tmp_path.parent / f"{tmp_path.name} videos"
    video = place / "far.mp4"
    place.mkdir()
    with VideoWriter(video, fps=10) as writer:
        for i in range(10):
            writer.write(np.full((24, 32, 3), 9 * i, np.uint8))
    poses = tmp_path / "poses"
    poses.mkdir()
    write_model_poses(poses / "far.poses.h5", skeleton, video=str(video))
    assert grow(served.store, video, [4], [poses]) == [6]
    assert served.store.guess(6).model == "far.poses.h5"
