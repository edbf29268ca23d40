"""Tags through time: ids once in a frame, doubtful readings where expected, gaps filled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.detections import Detections
from dpk_core.errors import ValidationError
from dpk_core.tracks import Tracks
from dpk_trackers.assignment import join
from dpk_trackers.barcode_detector import BarcodeDetector
from dpk_trackers.barcodes import TagDictionary
from dpk_trackers.barcodes.soft_reader import SoftReader
from dpk_trackers.barcodes.synthetic import draw_tag, tag_homography
from dpk_trackers.barcodes.tracking import BarcodeTracker

TAGS = TagDictionary.generate(5, distance=7, count=40, seed=1)


def read(*rows: tuple[int, float, float, float], angle: float = 0.0) -> Detections:
    """Readings of (id, x, y, score)."""
    ids, x, y, score = np.array(rows, float).reshape(-1, 4).T
    m = len(x)
    return Detections(
        x, y, np.full(m, 20.0), np.full(m, 20.0), np.full(m, angle), score, ids.astype(int)
    )


def soiled_film(n: int = 24) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames in which tag 3 walks to the right and is soiled from the eighth on, with its places;
    in the twelfth another one, soiled as well, is put down far from it."""
    frames, places = [], np.array([(40 + 3.0 * i, 60 + 0.5 * i) for i in range(n)])
    for i, place in enumerate(places):
        picture = np.full((220, 200), 150, np.float32)
        shown = [place, (100.0, 180.0)] if i == 12 else [place]
        for x, y in shown:
            matrix = tag_homography((x, y), 36, turn=0.2, tilt=0.0, towards=0.0, distance=20.0)
            draw_tag(picture, TAGS.picture(3), matrix, white=225, black=25, paper=0.1)
            if i >= 8:
                picture[int(y) - 8 : int(y) + 5, int(x) - 5 : int(x) + 11] = 128
        frames.append(np.round(picture).astype(np.uint8)[..., None])
    return frames, places


def test_soiled_tags_are_followed_where_they_are_expected_and_nowhere_else():
    frames, places = soiled_film()
    counts = {}
    for doubtful in (False, True):
        detector, tracker = BarcodeDetector(TAGS, doubtful=doubtful), BarcodeTracker()
        found = [detector.detect(frame) for frame in frames]
        tracks = join([tracker.update(n, seen) for n, seen in enumerate(found)])
        counts[doubtful] = len(tracks)
        assert set(tracks.id.tolist()) == {3}
        away = np.hypot(*(places[tracks.frame].T - np.stack([tracks.x, tracks.y])))
        assert away.max() < 1.0
    assert counts == {False: 8, True: 24}
    assert len(found[12]) == 2  # the other one was seen, and left out


def hide(tracker: BarcodeTracker, hidden: int) -> None:
    """Show tag 4 at (100 + 3 i, 50), then nothing for some frames."""
    for i in range(10):
        tracker.update(i, read((4, 100 + 3 * i, 50, 0.9)))
    for i in range(10, 10 + hidden):
        tracker.update(i, read())


def test_a_doubtful_reading_far_away_counts_no_more_after_a_long_gap():
    for away, counts in ((40.0, True), (200.0, False)):
        tracker = BarcodeTracker()
        hide(tracker, 12)
        rows = tracker.update(22, read((4, 166 + away, 50, 0.3)))
        assert (len(rows) == 1) is counts


def test_a_certain_reading_elsewhere_counts_before_a_doubtful_one_that_is_expected():
    tracker = BarcodeTracker()
    hide(tracker, 0)
    rows = tracker.update(10, read((4, 130, 50, 0.3), (4, 400, 50, 0.9)))
    assert rows.x.tolist() == [400.0]


def run(tracker: BarcodeTracker, stream: dict[int, Detections]) -> Tracks:
    return tracker.finish(join([tracker.update(n, found) for n, found in stream.items()]))


def test_an_id_stands_once_in_a_frame_and_the_expected_one_counts():
    tracker = BarcodeTracker()
    tracker.update(0, read((4, 100, 50, 0.9)))
    rows = tracker.update(1, read((4, 400, 50, 0.99), (4, 101, 50, 0.82)))
    assert (rows.id.tolist(), rows.x.tolist()) == ([4], [101.0])


def test_of_several_unexpected_ones_the_most_certain_counts():
    rows = BarcodeTracker().update(0, read((4, 400, 50, 0.9), (4, 100, 50, 0.95), (2, 5, 5, 0.85)))
    assert (rows.id.tolist(), rows.x.tolist()) == ([2, 4], [5.0, 100.0])


def test_a_doubtful_reading_counts_only_where_its_own_tag_is_expected():
    tracker = BarcodeTracker(certain=0.8, doubtful=0.5)
    assert len(tracker.update(0, read((1, 10, 10, 0.7)))) == 0
    tracker.update(1, read((1, 10, 10, 0.9), (2, 200, 10, 0.9)))
    rows = tracker.update(2, read((1, 11, 10, 0.6), (1, 200, 11, 0.7), (2, 240, 240, 0.7)))
    assert (rows.id.tolist(), rows.x.tolist()) == ([1], [11.0])
    assert len(tracker.update(3, read((1, 12, 10, 0.4)))) == 0


def test_expectation_goes_with_the_motion():
    tracker = BarcodeTracker()
    for n in range(10):
        tracker.update(n, read((3, 50 + 8 * n, 20, 0.9)))
    # Three frames unseen: it is expected farther on, and no longer where it was.
    ahead, behind = read((3, 50 + 8 * 13, 20, 0.6)), read((3, 50 + 8 * 9 - 30, 20, 0.6))
    assert tracker.update(13, ahead).id.tolist() == [3]
    again = BarcodeTracker()
    for n in range(10):
        again.update(n, read((3, 50 + 8 * n, 20, 0.9)))
    assert len(again.update(13, behind)) == 0


def test_after_a_long_gap_nothing_is_expected():
    tracker = BarcodeTracker(max_gap=5)
    tracker.update(0, read((3, 50, 20, 0.9)))
    assert len(tracker.update(7, read((3, 50, 20, 0.6)))) == 0
    assert tracker.update(8, read((3, 50, 20, 0.9))).id.tolist() == [3]


def test_a_certain_reading_far_away_begins_anew_there():
    tracker = BarcodeTracker()
    tracker.update(0, read((3, 50, 20, 0.9)))
    assert tracker.update(1, read((3, 900, 700, 0.9))).x.tolist() == [900.0]
    assert tracker.update(2, read((3, 901, 700, 0.6))).x.tolist() == [901.0]


def test_only_ids_in_use_count_and_detections_without_a_tag_never():
    tracker = BarcodeTracker(ids=[1, 5])
    found = read((1, 10, 10, 0.9), (2, 50, 10, 0.9), (-1, 90, 10, 0.9), (5, 130, 10, 0.9))
    assert tracker.update(0, found).id.tolist() == [1, 5]


def test_gaps_are_filled_on_straight_lines_and_marked():
    stream = {
        0: read((7, 10, 20, 0.9), angle=3.0),
        1: Detections.none(),
        2: Detections.none(),
        3: read((7, 16, 26, 0.9), angle=-3.0),
        9: read((7, 20, 26, 0.9), angle=-3.0),
    }
    tracks = run(BarcodeTracker(fill_gap=4), stream)
    assert tracks.frame.tolist() == [0, 1, 2, 3, 9]  # the longer gap stays
    np.testing.assert_allclose(tracks.x[:4], [10, 12, 14, 16])
    np.testing.assert_allclose(tracks.y[:4], [20, 22, 24, 26])
    assert tracks.interpolated.tolist() == [False, True, True, False, False]
    # The shorter way from 3 to -3 radians leads over pi, not over 0.
    assert (np.abs(tracks.angle[1:3]) > 3.0).all()


def test_no_gap_is_filled_when_none_should_be():
    stream = {0: read((7, 10, 20, 0.9)), 2: read((7, 12, 20, 0.9))}
    assert len(run(BarcodeTracker(fill_gap=0), stream)) == 2


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_identities_are_held_through_noise_doubt_and_gaps(seed: int):
    random = np.random.default_rng(seed)
    tracker = BarcodeTracker(max_gap=30)
    start, speed = random.uniform(0, 2000, (30, 2)), random.normal(0, 4, (30, 2))
    parts = []
    for n in range(60):
        truth = start + n * speed
        rows = [
            (i, *(truth[i] + random.normal(0, 0.05, 2)), random.choice([0.95, 0.6]))
            for i in range(30)
            if random.uniform() < 0.8
        ]
        rows += [(int(random.integers(30)), *random.uniform(0, 2000, 2), 0.6) for _ in range(5)]
        rows = [rows[k] for k in random.permutation(len(rows))]
        parts.append(tracker.update(n, read(*rows)))
    tracks = join(parts)
    assert len(set(zip(tracks.frame, tracks.id, strict=True))) == len(tracks)
    away = np.hypot(
        *(start[tracks.id] + tracks.frame[:, None] * speed[tracks.id]).T
        - np.stack([tracks.x, tracks.y])
    )
    assert (away < 1).mean() > 0.998  # a random reading may by chance lie where one is expected
    assert len(tracks) > 0.9 * 0.8 * 30 * 60


def test_frames_must_come_in_order():
    tracker = BarcodeTracker()
    tracker.update(5, Detections.none())
    with pytest.raises(ValidationError, match="frame 5 after frame 5"):
        tracker.update(5, Detections.none())


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"certain": 2}, "certain"),
        ({"certain": 0.5, "doubtful": 0.6}, "doubtful"),
        ({"max_gap": -1}, "max_gap"),
        ({"ids": [-2]}, "ids"),
        ({"ids": [0.5]}, "ids"),
        ({"agility": float("nan")}, "agility"),
    ],
)
def test_wrong_settings_are_refused(options, wrong):
    with pytest.raises(ValidationError, match=wrong):
        BarcodeTracker(**options)


@pytest.mark.parametrize("setting", [{"max_gap": 1.5}, {"fill_gap": -1}, {"agility": np.inf}])
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(ValidationError, match=next(iter(setting))):
        BarcodeTracker(**setting)


@pytest.mark.parametrize("setting", [{"score": 5.0}, {"margin": -1.0}, {"contrast": -5.0}])
def test_settings_of_a_reader_that_make_no_sense_are_refused(setting):
    with pytest.raises(ValidationError, match=next(iter(setting))):
        SoftReader(TAGS, **setting)
