"""Readers: the right ids and corners whatever a tag's turn, size and tilt; bad frames."""

from __future__ import annotations

import contextlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import MissingDependencyError, ValidationError
from dpk_trackers.barcodes import Readings, TagDictionary, TagReader, make_reader
from dpk_trackers.barcodes.soft_reader import SoftReader
from dpk_trackers.barcodes.synthetic import (
    UNIT,
    SceneSettings,
    draw_tag,
    render_scene,
    tag_homography,
)

TAGS = TagDictionary.generate(5, distance=7, count=40, seed=1)
SINGLE = TagDictionary.predefined("DICT_APRILTAG_36h11")
SOFT = {"double": SoftReader(TAGS), "single": SoftReader(SINGLE)}


def painted(
    tags: TagDictionary,
    tag_id: int,
    side: float,
    turn: float,
    tilt: float = 0.0,
    *,
    towards: float = 0.7,
    shift: tuple[float, float] = (0.0, 0.0),
    ground: float = 150.0,
    paper: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A clean picture of one tag, its true corners and centre."""
    size = int(side * 1.9) + 24
    centre = (size / 2 + shift[0], size / 2 + shift[1])
    matrix = tag_homography(centre, side, turn=turn, tilt=tilt, towards=towards, distance=12.0)
    picture = np.full((size, size), ground, np.float32)
    draw_tag(
        picture,
        tags.picture(tag_id),
        matrix,
        white=225,
        black=25,
        paper=paper / tags.modules,
        supersample=8,
    )
    points = np.column_stack([np.vstack([UNIT, [[0, 0]]]), np.ones(5)]) @ matrix.T
    places = points[:, :2] / points[:, 2:]
    return np.round(picture).astype(np.uint8), places[:4], places[4]


@given(
    st.sampled_from(["double", "single"]),
    st.integers(0, 39),
    st.floats(50, 240),
    st.floats(0, 2 * np.pi),
    st.floats(0, np.radians(40)),
    st.floats(0, 2 * np.pi),
    st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_clean_large_tag_is_read_whatever_its_turn_size_and_tilt(
    rings, tag_id, side, turn, tilt, towards, shift
):
    tags = TAGS if rings == "double" else SINGLE
    image, corners, centre = painted(tags, tag_id, side, turn, tilt, towards=towards, shift=shift)
    readings = SOFT[rings].read(image)
    assert readings.id.tolist() == [tag_id]
    np.testing.assert_allclose(readings.corners[0], corners, atol=0.1)
    np.testing.assert_allclose(readings.centre[0], centre, atol=0.05)


@given(st.integers(0, 39), st.floats(18, 50), st.floats(0, 2 * np.pi), st.floats(0, 0.5))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_clean_small_tag_is_read_too(tag_id, side, turn, tilt):
    image, corners, centre = painted(TAGS, tag_id, side, turn, tilt)
    readings = SOFT["double"].read(image)
    assert readings.id.tolist() == [tag_id]
    np.testing.assert_allclose(readings.corners[0], corners, atol=0.3)
    np.testing.assert_allclose(readings.centre[0], centre, atol=0.06)


@pytest.mark.parametrize("ground", [10.0, 60.0, 150.0, 250.0])
@pytest.mark.parametrize("side", [20.0, 45.0, 150.0])
def test_double_rings_need_no_paper_whatever_they_lie_on(ground, side):
    image, corners, _ = painted(TAGS, 5, side, 0.4, 0.2, ground=ground, paper=0.0)
    readings = SOFT["double"].read(image)
    assert readings.id.tolist() == [5]
    np.testing.assert_allclose(readings.corners[0], corners, atol=0.3)


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("name", ["soft", "aruco", "apriltag"])
def test_corners_begin_at_the_tag_s_top_left_and_run_clockwise(name: str, quarter: int):
    if name == "apriltag":
        pytest.importorskip("pyapriltags")
    # Drawn by OpenCV, on whole pixels: the black square covers columns 30 to 109 and rows 20 to 99.
    tag = cv2.aruco.generateImageMarker(cv2.aruco.getPredefinedDictionary(20), 7, 80)
    image = np.full((140, 150), 255, np.uint8)
    image[20:100, 30:110] = tag
    corners = np.array([[29.5, 19.5], [109.5, 19.5], [109.5, 99.5], [29.5, 99.5]])
    for _ in range(quarter):  # a quarter turn clockwise: (x, y) -> (height - 1 - y, x)
        corners = np.column_stack([image.shape[0] - 1 - corners[:, 1], corners[:, 0]])
        image = np.ascontiguousarray(np.rot90(image, -1))
    options = {"cornerRefinementMethod": cv2.aruco.CORNER_REFINE_SUBPIX} if name == "aruco" else {}
    readings = make_reader(name, SINGLE, **options).read(image)
    assert readings.id.tolist() == [7]
    np.testing.assert_allclose(readings.corners[0], corners, atol=0.1)
    turned = (readings.angle[0] - quarter * np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
    assert abs(turned) < 0.01


@pytest.mark.parametrize("name", ["soft", "aruco"])
def test_ids_are_those_of_the_dictionary(name: str):
    named = TagDictionary(TAGS.codes, ids=TAGS.ids * 10 + 3)
    image, _, _ = painted(named, 73, 90, 0.3)
    assert make_reader(name, named).read(image).id.tolist() == [73]


def test_only_chosen_tags_are_read():
    few = TAGS.choose([3, 9, 21])
    reader = SoftReader(few)
    assert reader.read(painted(TAGS, 21, 60, 1.0)[0]).id.tolist() == [21]
    assert len(reader.read(painted(TAGS, 5, 60, 1.0)[0])) == 0


def test_opencv_reads_the_tags_that_we_convert():
    image, corners, _ = painted(TAGS, 11, 120, 0.0)
    theirs, ids, _ = cv2.aruco.ArucoDetector(TAGS.to_opencv()).detectMarkers(image)
    assert ids.ravel().tolist() == [11]
    np.testing.assert_allclose(theirs[0][0], corners, atol=1.0)


@pytest.mark.parametrize("side", [24.0, 18.0, 16.0])
def test_small_tags_in_clutter_are_read_and_nothing_else(side: float):
    scene = render_scene(TAGS, SceneSettings(size=(700, 700), count=40, side=side), seed=4)
    readings = SOFT["double"].read(scene.image)
    apart = np.linalg.norm(readings.centre[:, None] - scene.centres[None], axis=-1)
    nearest = apart.argmin(axis=1)
    assert (apart.min(axis=1) < 0.5).all()
    np.testing.assert_array_equal(readings.id, scene.ids[nearest])
    assert len(set(nearest)) == len(readings) >= 39
    assert apart.min(axis=1).mean() < 0.06


def test_pictures_without_tags_give_nothing():
    for seed in range(4):
        scene = render_scene(TAGS, SceneSettings(size=(700, 700), count=0), seed)
        assert scene.ids.shape == (0,)
        assert len(SOFT["double"].read(scene.image)) == 0


def test_a_soiled_tag_is_doubtful_and_no_reading_unless_asked_for():
    soiled = []
    for tag_id in range(12):
        image, _, centre = painted(TAGS, tag_id, 40, 0.3)
        x, y = (round(float(v)) for v in centre)
        image[y - 10 : y + 6, x - 6 : x + 12] = 128
        soiled.append(image)
    hopeful = SoftReader(TAGS, doubtful=True)
    doubted = 0
    for tag_id, image in enumerate(soiled):
        strict, all_of_them = SOFT["double"].read(image), hopeful.read(image)
        sure = all_of_them.score >= hopeful.score
        np.testing.assert_array_equal(all_of_them.id[sure], strict.id)
        assert (all_of_them.score[~sure] < 0.5 * hopeful.score).all()
        doubted += int((all_of_them.id[~sure] == tag_id).sum())
    assert doubted >= 10


def test_the_drawn_truth_is_the_centre_of_gravity():
    # A white square without ink: its centre of gravity is known without any reader.
    matrix = tag_homography((40.3, 35.8), 21.0, turn=0.5, tilt=0.0, towards=0.0, distance=20.0)
    picture = np.zeros((80, 80), np.float32)
    draw_tag(picture, np.ones((9, 9)), matrix, white=200, supersample=12)
    ys, xs = np.mgrid[:80, :80]
    mass = picture.sum()
    np.testing.assert_allclose(mass, 200 * 21.0**2, rtol=2e-3)
    centre = ((picture * xs).sum() / mass, (picture * ys).sum() / mass)
    np.testing.assert_allclose(centre, (40.3, 35.8), atol=5e-3)


def test_a_moving_tag_s_truth_is_where_it_is_at_mid_exposure():
    matrix = tag_homography((40.0, 40.0), 15.0, turn=0.2, tilt=0.0, towards=0.0, distance=20.0)
    picture = np.zeros((80, 80), np.float32)
    draw_tag(picture, np.ones((9, 9)), matrix, white=200, moved=(6.0, 3.0), supersample=6)
    ys, xs = np.mgrid[:80, :80]
    centre = ((picture * xs).sum() / picture.sum(), (picture * ys).sum() / picture.sum())
    np.testing.assert_allclose(centre, (40.0, 40.0), atol=0.02)


def test_the_same_frame_gives_the_same_readings_with_any_number_of_threads():
    scene = render_scene(TAGS, SceneSettings(size=(600, 800), count=20), seed=2)
    before = scene.image.copy()
    first = SOFT["double"].read(scene.image)
    SOFT["double"].read(painted(TAGS, 3, 60, 1.0)[0])
    for reader in (SOFT["double"], SoftReader(TAGS, threads=1), SoftReader(TAGS, threads=3)):
        again = reader.read(scene.image)
        np.testing.assert_array_equal(again.id, first.id)
        np.testing.assert_array_equal(again.corners, first.corners)
    np.testing.assert_array_equal(scene.image, before)


def test_a_tag_that_stands_twice_is_read_twice():
    image = painted(TAGS, 8, 60, 0.3)[0]
    assert SOFT["double"].read(np.hstack([image, image])).id.tolist() == [8, 8]


def test_a_tag_cut_by_the_border_makes_no_trouble():
    image, _, _ = painted(TAGS, 8, 60, 0.3)
    for cut in (image[:, 40:], image[50:], image[:50, :60]):
        readings = SOFT["double"].read(np.ascontiguousarray(cut))
        assert set(readings.id.tolist()) <= {8}


def readers() -> list[TagReader]:
    made: list[TagReader] = [SOFT["single"], make_reader("aruco", SINGLE)]
    with contextlib.suppress(MissingDependencyError):
        made.append(make_reader("apriltag", SINGLE))
    return made


@pytest.mark.parametrize(
    "shape",
    [
        (0, 0),
        (0, 50),
        (50, 0),
        (0, 0, 3),
        (1, 1),
        (1, 1, 3),
        (1, 300),
        (300, 1),
        (2, 2),
        (7, 9),
        (3, 3, 1),
        (40, 33, 3),
    ],
)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_empty_tiny_and_uniform_frames_give_nothing(shape, level):
    for reader in readers():
        readings = reader.read(np.full(shape, level, np.uint8))
        assert len(readings) == 0
        assert readings.corners.shape == (0, 4, 2)
        assert readings.centre.shape == (0, 2)


def test_colour_and_gray_frames_give_the_same():
    image, _, _ = painted(SINGLE, 4, 80, 0.3)
    for reader in readers():
        gray = reader.read(image)
        assert gray.id.tolist() == [4]
        for other in (image[..., None], np.dstack([image] * 3), np.asfortranarray(image)):
            np.testing.assert_allclose(reader.read(other).corners, gray.corners, atol=1e-6)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((9, 9), np.uint16),
        np.zeros((9, 9)),
        np.zeros((9, 9), bool),
        np.zeros(9, np.uint8),
        np.zeros((9, 9, 2), np.uint8),
        np.zeros((2, 9, 9, 3), np.uint8),
        [[1, 2]],
        None,
    ],
)
def test_other_frames_are_refused_in_words(frame):
    for reader in readers():
        with pytest.raises(ValidationError, match=r"frame: expected"):
            reader.read(frame)


def test_uint16_says_what_to_do():
    with pytest.raises(ValidationError, match=r"found uint16; .*astype\('uint8'\)"):
        SOFT["single"].read(np.zeros((9, 9), np.uint16))


def test_noise_alone_makes_no_tags():
    random = np.random.default_rng(0)
    for _ in range(3):
        noise = random.integers(0, 256, (300, 400)).astype(np.uint8)
        assert len(SOFT["double"].read(noise)) == 0


@pytest.mark.parametrize(
    ("name", "options", "wrong"),
    [
        ("soft", {"smallest": 50, "largest": 20}, "smallest"),
        ("soft", {"smallest": 1}, "smallest"),
        ("soft", {"threads": 0}, "threads"),
        ("aruco", {"nonsense": 1}, "nonsense"),
        ("other", {}, "soft"),
    ],
)
def test_wrong_options_are_refused(name, options, wrong):
    with pytest.raises(ValidationError, match=wrong):
        make_reader(name, TAGS, **options)


def test_apriltag_refuses_dictionaries_that_are_none_of_its_families():
    pytest.importorskip("pyapriltags")
    for tags in (TAGS, TagDictionary.generate(5, 7, 3, rings="single")):
        with pytest.raises(ValidationError, match="tag36h11"):
            make_reader("apriltag", tags)
    with pytest.raises(ValidationError, match="apriltag"):
        make_reader("apriltag", SINGLE, nonsense=1)


def test_apriltag_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyapriltags", None)
    with pytest.raises(MissingDependencyError, match=r"dpk-trackers\[apriltag\]"):
        make_reader("apriltag", SINGLE)


PHOTOGRAPHS = {
    "33369213973_9d9bb4cc96_c": (12, {"soft": 10, "aruco": 10, "apriltag": 11}),
    "34085369442_304b6bafd9_c": (25, {"soft": 20, "aruco": 18, "apriltag": 21}),
    "34139872896_defdb2f8d9_c": (10, {"soft": 7, "aruco": 8, "apriltag": 9}),
}
"""How many tags are labelled, and how many of them each reader finds at least."""


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
@pytest.mark.parametrize("name", ["soft", "aruco", "apriltag"])
def test_photographs_of_apriltags_are_read(test_data, name: str, photograph: str):
    if name == "apriltag":
        pytest.importorskip("pyapriltags")
    path = test_data / "apriltag" / photograph
    image = cv2.cvtColor(cv2.imread(f"{path}.jpg"), cv2.COLOR_BGR2RGB)
    rows = [
        line.replace("(", "").replace(")", "").replace(",", "").split()
        for line in path.with_suffix(".txt").read_text().splitlines()
        if line
    ]
    truth = np.array(rows, float)[:, 1:].reshape(-1, 4, 2) - 0.5
    labelled, least = PHOTOGRAPHS[photograph]
    assert len(truth) == labelled
    readings = make_reader(name, SINGLE).read(image)
    assert set(readings.id.tolist()) == {0}  # all tags in these are number 0
    middle = Readings(*(np.zeros(labelled), truth, np.ones(labelled), np.ones(labelled))).centre
    apart = np.linalg.norm(middle[:, None] - readings.centre[None], axis=-1).min(axis=1)
    assert (apart < 2).sum() >= least[name]


def test_a_doubtful_reading_finds_another_slanted_tag_in_a_photograph(test_data):
    path = test_data / "apriltag" / "34139872896_defdb2f8d9_c.jpg"
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    found = SoftReader(SINGLE, doubtful=True).read(image)
    sure = found.score >= 0.8
    assert found.id[~sure].tolist() == [0]
    np.testing.assert_array_equal(found.id[sure], SOFT["single"].read(image).id)


def test_readings_check_their_columns_and_describe_themselves():
    corners = np.array([[[0.0, 0], [10, 0], [10, 10], [0, 10]], [[5, 5], [5, 9], [1, 9], [1, 5]]])
    readings = Readings(np.array([4, 9]), corners, np.array([0.9, 0.8]), np.array([0.5, 0.6]))
    np.testing.assert_allclose(readings.centre, [[5, 5], [3, 7]])
    np.testing.assert_allclose(readings.angle, [0, np.pi / 2])
    np.testing.assert_allclose(readings.side, [10, 4])
    one = list(readings)[1]
    assert (one.id, one.score, one.margin) == (9, 0.8, 0.6)
    assert repr(readings) == "Readings(2 of 2 tags)"
    with pytest.raises(ValidationError, match="corners"):
        Readings(np.array([1]), corners, np.ones(1), np.ones(1))
