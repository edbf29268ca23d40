"""Videos and poses around a set: listed, looked at, taken into the set, identities mended."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import attrs
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_annotator import growing
from dpk_annotator.context import Context
from dpk_annotator.growing import grow
from dpk_annotator.reviews import noted_exchanges, standing
from dpk_annotator.server import create_app
from dpk_annotator.store import Store
from dpk_core import Poses, VideoReader, VideoWriter
from dpk_core.services.storage import (
    exchange_tracks,
    read_annotations,
    read_poses,
    write_poses,
)
from dpk_core.workflow.add_frames import add_frames

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture
def video(labels_file):
    """Beside the set, and the one that its images name."""
    path = labels_file.parent / "day1.mp4"
    with VideoWriter(path, fps=10) as writer:
        for i in range(60):
            frame = np.full((24, 32, 3), 4 * i, np.uint8)
            frame[5:9, i % 20 : i % 20 + 4] = 255
            writer.write(frame)
    return path


@pytest.fixture
def poses(labels_file, video, skeleton):
    n, k = 120, len(skeleton)
    rng = np.random.default_rng(2)
    frames, ids = np.repeat(np.arange(60), 2), np.tile([0, 1], 60)
    keypoints = rng.uniform(5, 6, (n, k, 2)).astype(np.float32)
    keypoints[ids == 1] += 10
    keypoints[41, 2] = np.nan
    scores = np.full((n, k), 0.75, np.float32)
    scores[80] = 0.25
    keypoints[100] += 5
    made = Poses(
        keypoints, scores, skeleton, frames=frames, track_ids=ids, provenance={"video": "day1.mp4"}
    )
    path = labels_file.parent / "day1.poses.h5"
    write_poses(path, made)
    return path


def test_videos_of_the_set_and_beside_it(client, served, video) -> None:
    (video.parent / "other.avi").write_bytes(b"no video")
    (video.parent / ".hidden.mp4").write_bytes(b"")
    found = client.get("api/videos").json["videos"]
    assert found == [
        {"id": 0, "name": "day1.mp4", "present": True},
        {"id": 1, "name": "other.avi", "present": True},
    ]
    facts = client.get("api/videos/0").json
    assert (facts["n_frames"], facts["height"], facts["width"]) == (60, 24, 32)
    assert facts["in_set"] == [[i, 10 * i] for i in range(6)]
    broken = client.get("api/videos/1")
    assert broken.status == 400
    assert "other.avi" in broken.json["error"]


def test_exactly_the_frame_that_was_asked_for(client, served, video) -> None:
    with VideoReader(video) as reader:
        for number in (59, 0, 31):
            answer = client.get(f"api/videos/0/frames/{number}")
            assert answer.headers["content-type"] == "image/jpeg"
            shown = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
            off = np.abs(shown[..., ::-1].astype(int) - reader[number].astype(int))
            assert off.mean() < 4
    for place in ("api/videos/0/frames/60", "api/videos/0/frames/-1", "api/videos/9"):
        assert client.get(place).status in (400, 404)


def test_frames_come_to_the_set_with_what_the_model_found(client, served, video, poses) -> None:
    answer = client.post("api/videos/0/add", {"frames": [33, 7, 10]})
    assert answer.json == {"rows": [6, 7]}
    assert client.get("api/rows").json["frame"][-2:] == [7, 33]
    row = client.get("api/rows/7").json
    assert row["guess"]["model"] == "day1.poses.h5"
    assert all(value is None for value in row["points"]["head"][:2])
    with VideoReader(video) as reader:
        shown = read_annotations(served.store.path).images[7]
        assert np.abs(shown[..., 0].astype(int) - reader[33][..., 0].astype(int)).max() <= 3
    assert client.post("api/videos/0/add", {"frames": [7]}).json == {"rows": []}
    assert client.post("api/videos/0/add", {"frames": [600]}).status == 400
    assert client.post("api/videos/0/add", {"frames": []}).status == 400


def test_frames_that_come_change_no_guesses_of_other_images(client, served, video, poses) -> None:
    store = served.store
    store.put_guesses([2], np.ones((1, 5, 2)), np.full((1, 5), 0.9), "the better net")
    assert client.post("api/videos/0/add", {"frames": [7]}).json == {"rows": [6]}
    assert store.guess(2).model == "the better net"
    assert store.guess(6).model == "day1.poses.h5"


def test_frames_come_while_others_do_and_while_the_file_is_brought_up_to_date(
    served, video, monkeypatch
) -> None:
    store, first_is_there = served.store, threading.Event()

    def slowly(*arguments):
        added = add_frames(*arguments)
        first_is_there.set()
        time.sleep(0.2)
        return added

    monkeypatch.setattr(growing, "add_frames", slowly)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(grow, store, video, [7, 33])
        assert first_is_there.wait(300)
        pool.submit(store.save)
        second = pool.submit(grow, store, video, [8, 33])
        assert (first.result(), second.result()) == ([6, 7], [8])
    assert [source.frame for source in store.sources[6:]] == [7, 33, 8]


def test_frames_that_another_program_adds_meanwhile_are_not_taken_for_ours(
    served, video, monkeypatch
) -> None:
    def after_another(*arguments):
        add_frames(served.store.path, video, [51, 52])
        return add_frames(*arguments)

    monkeypatch.setattr(growing, "add_frames", after_another)
    assert grow(served.store, video, [7, 8]) == [8, 9]


def test_labels_made_before_frames_come_stay(client, served, video) -> None:
    edit = {"kind": "move", "keypoint": "head", "x": 3.0, "y": 4.0}
    client.post(
        "api/edit",
        {"client": "me", "base": 0, "token": "t", "changes": [{"row": 4, "edit": edit}]},
    )
    assert client.post("api/videos/0/add", {"frames": [1]}).json == {"rows": [6]}
    assert client.get("api/rows/4").json["points"]["head"][:2] == [3.0, 4.0]
    assert client.post("api/undo", {"client": "me", "base": 2, "token": "u"}).status == 200
    assert client.get("api/rows/4").json["points"]["head"][0] is None


def test_a_video_that_vanishes_and_comes_back_is_one_video(client, served, video) -> None:
    def listed() -> list[dict]:
        return client.get("api/videos").json["videos"]

    other = video.parent / "other.avi"
    other.write_bytes(b"no video")
    there = {"id": 0, "name": "day1.mp4", "present": True}
    assert listed() == [there, {"id": 1, "name": "other.avi", "present": True}]
    away = video.with_suffix(".away")
    video.rename(away)
    other.unlink()
    assert listed() == [there | {"present": False}]
    assert client.post("api/videos/0/add", {"frames": [1]}).status == 507
    away.rename(video)
    assert listed() == [there]
    assert client.get("api/videos/0").json["in_set"] == [[i, 10 * i] for i in range(6)]


def test_a_video_that_has_vanished_says_so(client, served) -> None:
    assert client.get("api/videos").json["videos"] == [
        {"id": 0, "name": "day1.mp4", "present": False}
    ]
    for answer in (client.get("api/videos/0"), client.post("api/videos/0/add", {"frames": [1]})):
        assert answer.status == 507
        assert "dpk relink" in answer.json["error"]


def test_a_timeline_of_confidence_and_speed(client, served, poses) -> None:
    (found,) = client.get("api/poses").json["poses"]
    assert (found["name"], found["video"], found["n_frames"]) == ("day1.poses.h5", 0, 60)
    assert found["individuals"] == [0, 1]
    columns = client.get("api/poses/0/columns?bins=60").json
    assert columns["frames_per_bin"] == 1
    lowest = columns["confidence"]
    assert (lowest[20], lowest[40]) == (0.6, 0.25), "a keypoint that is missing has score 0"
    assert lowest[:20] + lowest[21:40] + lowest[41:] == [0.75] * 58
    speeds = columns["speed"]
    assert speeds[0] is None
    assert int(np.argmax(speeds[1:])) + 1 in (50, 51)
    columns = client.get("api/poses/0/columns?bins=7").json
    assert columns["frames_per_bin"] == 9
    assert len(columns["confidence"]) == columns["bins"] == 7
    assert columns["confidence"][4] == 0.25
    closer = client.get("api/poses/0/columns?bins=5&start=38&stop=43").json
    assert (closer["start"], closer["bins"], closer["frames_per_bin"]) == (38, 5, 1)
    assert closer["confidence"] == [0.75, 0.75, 0.25, 0.75, 0.75]
    assert closer["speed"] == speeds[38:43]
    assert client.get("api/poses/0/columns?start=70").json["bins"] == 0
    assert client.get("api/poses/0/columns?start=58&stop=90").json["bins"] == 2
    rows = client.get("api/poses/0/frames?start=20&stop=22").json["rows"]
    assert [(frame, track) for frame, track, _ in rows] == [(20, 0), (20, 1), (21, 0), (21, 1)]
    assert rows[1][2][2] == [None, None, 0.0]


def test_identities_are_exchanged_from_here_on(client, served, poses) -> None:
    body = {"frame": 58, "first": 0, "second": 1}
    answer = client.post("api/poses/0/swap", body).json
    assert answer == {"rows": 4, "exchanges": [[58, 0, 1]]}
    assert read_poses(poses).track_ids[-6:].tolist() == [0, 1, 1, 0, 1, 0]
    rows = client.get("api/poses/0/frames?start=58&stop=59").json["rows"]
    assert [track for _, track, _ in rows] == [1, 0]
    assert client.post("api/poses/0/swap", {**body, "second": 5}).status == 400
    assert client.get("api/poses/3/columns").status == 404


def test_the_file_knows_its_exchanges_and_the_last_is_taken_back_first(client, served, poses):
    def known() -> list[list[int]]:
        (found,) = client.get("api/poses").json["poses"]
        return found["exchanges"]

    before = read_poses(poses).track_ids
    assert known() == []
    early, late = {"frame": 20, "first": 0, "second": 1}, {"frame": 58, "first": 1, "second": 0}
    for body in (early, late):
        client.post("api/poses/0/swap", body)
    assert known() == [[20, 0, 1], [58, 1, 0]]
    exchange_tracks(poses, 30, 0, 1)  # by another program
    refused = client.post("api/poses/0/swap", {**late, "back": True})
    assert refused.status == 400
    assert "of 0 and 1 from frame 30 on, not of 1 and 0 from frame 58" in refused.json["error"]
    for body in ({**early, "frame": 30}, {**late, "first": 0, "second": 1}, early):
        assert client.post("api/poses/0/swap", {**body, "back": True}).status == 200
    assert known() == []
    np.testing.assert_array_equal(read_poses(poses).track_ids, before)
    refused = client.post("api/poses/0/swap", {**early, "back": True})
    assert refused.status == 400
    assert "the last exchange there is none" in refused.json["error"]


@pytest.mark.parametrize("noted", ["much", [[1, 2]], [[1, 2, "3"]], [[1, 2, True]], {"a": 1}])
def test_exchanges_that_another_program_noted_in_its_own_way_are_left_alone(noted, poses) -> None:
    read = read_poses(poses)
    changed = attrs.evolve(read, provenance={**read.provenance, "exchanges": noted})
    assert noted_exchanges(changed) == []


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), max_size=12))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_what_stands_of_exchanges_does_the_same_as_all_of_them(done) -> None:
    def apply(exchanges) -> list[list[int]]:
        ids = [[0, 1, 2] for _ in range(3)]
        for frame, first, second in exchanges:
            turn = {first: second, second: first}
            ids[frame:] = [[turn.get(i, i) for i in row] for row in ids[frame:]]
        return ids

    left = standing(done)
    assert apply(left) == apply(done)
    assert len(left) % 2 == len(done) % 2


def test_a_damaged_file_of_poses_is_listed_with_its_reason(client, served, poses) -> None:
    poses.write_bytes(poses.read_bytes()[:900])
    (found,) = client.get("api/poses").json["poses"]
    assert "day1.poses.h5" in found["error"]


def test_nothing_is_added_to_a_set_that_is_only_looked_at(labels_file, video, client_of) -> None:
    with Store.open(labels_file, read_only=True) as store:
        client = client_of(create_app(Context(store), TOKEN))
        answer = client.post("api/videos/0/add", {"frames": [1]})
    assert answer.status == 423
