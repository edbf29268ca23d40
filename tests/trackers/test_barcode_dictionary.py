"""Tag dictionaries: distances, files, pinpoint's pickles, OpenCV's dictionaries, printed sheets."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pickle
import re
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_core.errors import DpkWarning, FileFormatError, FileMissingError, ValidationError
from dpk_trackers.barcodes import TagDictionary, print_sheet
from dpk_trackers.barcodes.dictionary import minimum_distance

PINPOINT = {
    "3x3_2bit": (29, 2),
    "4x4_4bit": (121, 4),
    "4x4_5bit": (28, 5),
    "5x5_7bit": (279, 7),
    "5x5_8bit": (160, 8),
    "5x5_9bit": (38, 9),
    "5x5_10bit": (20, 10),
}


def slow_distance(codes: np.ndarray) -> int:
    """By the definition: all pairs, all rotations, one at a time."""
    apart = []
    for code in codes:
        apart += [int((code != np.rot90(code, k)).sum()) for k in (1, 2, 3)]
    for one, other in itertools.combinations(codes, 2):
        apart += [int((one != np.rot90(other, k)).sum()) for k in range(4)]
    return min(apart)


@given(st.integers(2, 5), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_distance_is_that_of_the_definition(n: int, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2, (count, n, n))
    assert minimum_distance(codes) == slow_distance(codes)


@pytest.mark.parametrize(
    ("n", "distance", "count"), [(3, 2, 20), (4, 4, 60), (5, 7, 40), (6, 11, 20)]
)
def test_generated_codes_differ_as_asked_and_are_the_same_again(n, distance, count):
    tags = TagDictionary.generate(n, distance, count, seed=3)
    assert len(tags) == count
    assert tags.distance == slow_distance(tags.codes) >= distance
    assert tags == TagDictionary.generate(n, distance, count, seed=3)
    assert tags != TagDictionary.generate(n, distance, count, seed=4)


def test_generated_codes_stay_the_same_from_release_to_release():
    tags = TagDictionary.generate(4, 5, 3, seed=0)
    assert ["".join(map(str, code.ravel())) for code in tags.codes] == GOLDEN


GOLDEN = ["1001010111110100", "1010001111011100", "0010000010110010"]


def test_asking_for_more_codes_than_there_are_says_how_many_were_found():
    with pytest.raises(ValidationError, match=r"found \d+ codes of 3x3 .* expected 500"):
        TagDictionary.generate(3, 4, 500)


@pytest.mark.parametrize(
    ("n", "distance", "count", "wrong"),
    [(1, 1, 1, "n:"), (4, 17, 1, "distance:"), (4, 4, 0, "count:")],
)
def test_impossible_wishes_are_refused(n, distance, count, wrong):
    with pytest.raises(ValidationError, match=wrong):
        TagDictionary.generate(n, distance, count)


def test_a_false_claim_is_an_error_that_says_the_truth():
    codes = TagDictionary.generate(4, 4, 30, seed=1).codes
    true = slow_distance(codes)
    with pytest.raises(ValidationError, match=rf"7 is claimed, .* differ in {true} modules"):
        TagDictionary(codes, 7)
    assert TagDictionary(codes, true).distance == true


def test_codes_that_cannot_be_told_apart_are_refused():
    code = np.array([[1, 0, 0], [0, 0, 1], [1, 1, 0]])
    with pytest.raises(ValidationError, match="distance of 0"):
        TagDictionary(np.stack([code, np.rot90(code)]))
    with pytest.raises(ValidationError, match="distance of 0"):  # the same upside down
        TagDictionary(np.array([[[1, 0], [0, 1]]]))


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((0, 4, 4)),
        np.zeros((3, 4, 5)),
        np.zeros((4, 4)),
        np.full((1, 3, 3), 2),
        [["a"]],
        np.zeros((1, 40, 40)),
        np.full((1, 3, 3), np.nan),
    ],
)
def test_what_is_no_codes_is_refused(codes):
    with pytest.raises(ValidationError, match="codes:"):
        TagDictionary(codes)


@pytest.mark.parametrize("ids", [[0, 0, 1], [0, 1], [-1, 0, 1], [0.5, 1, 2]])
def test_ids_stand_once_for_each_code(ids):
    with pytest.raises(ValidationError, match="ids:"):
        TagDictionary(TagDictionary.generate(4, 4, 3).codes, ids=np.array(ids))


@pytest.mark.parametrize("rings", ["double", "single"])
def test_json_brings_everything_back(tmp_path: Path, rings: str):
    made = TagDictionary.generate(5, 7, 12, seed=2, rings=rings)
    tags = TagDictionary(made.codes, ids=made.ids * 3 + 5, rings=rings, name="bees")
    tags.save(tmp_path / "tags.json")
    back = TagDictionary.load(tmp_path / "tags.json")
    assert back == tags
    assert (back.name, back.distance) == ("bees", tags.distance)


def test_json_with_a_false_claim_is_refused_with_the_true_distance(tmp_path: Path):
    tags = TagDictionary.generate(4, 4, 20, seed=1)
    path = tmp_path / "tags.json"
    tags.save(path)
    path.write_text(path.read_text().replace(f'"distance": {tags.distance}', '"distance": 9'))
    with pytest.raises(FileFormatError, match=rf"tags.json: .*9 is claimed.*in {tags.distance}"):
        TagDictionary.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 99},
        {"n": 5},
        {"n": "x"},
        {"n": -1},
        {"codes": "0101"},
        {"codes": [1, 2]},
        {"codes": ["01x1/0000/1111/0000"]},
        {"ids": None},
        {"rings": "none"},
        {"distance": "7"},
    ],
)
def test_damaged_json_is_refused_by_name(tmp_path: Path, change: dict):
    path = tmp_path / "tags.json"
    TagDictionary.generate(4, 4, 3).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FileFormatError, match=r"tags\.json"):
        TagDictionary.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00\xff", "[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "tags.json"
    path.write_text(text, encoding="latin1")
    with pytest.raises(FileFormatError, match=r"tags\.json"):
        TagDictionary.load(path)


def test_an_absent_file_is_named(tmp_path: Path):
    for name in ("tags.json", "tags.pkl"):
        with pytest.raises(FileMissingError, match=name):
            TagDictionary.load(tmp_path / name)


@pytest.mark.parametrize("name", PINPOINT)
def test_dictionaries_of_pinpoint_open_with_their_true_distance(test_data: Path, name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DpkWarning)
        tags = TagDictionary.load(test_data / "pinpoint" / f"{name}.pkl")
    assert (len(tags), tags.distance) == PINPOINT[name]
    assert tags.ids.tolist() == list(range(1, len(tags) + 1))
    assert tags.rings == "double"


def test_a_claim_of_pinpoint_that_is_too_large_is_said(test_data: Path):
    with pytest.warns(DpkWarning, match="differ in 7 modules; the closest two differ in 4"):
        TagDictionary.load(test_data / "pinpoint" / "4x4_4bit.pkl")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TagDictionary.load(test_data / "pinpoint" / "5x5_9bit.pkl")


def master_list(**changes) -> dict:
    codes = TagDictionary.generate(4, 4, 5, seed=8).codes
    turned = np.stack([[np.rot90(code, k).ravel() for k in range(4)] for code in codes])
    content = {
        "master_list": turned.reshape(-1, 16),
        "id_list": np.repeat(np.arange(1, 6), 4),
        "tag_shape": (4, 4),
        "distance": 4,
        "white_width": 1,
        "black_width": 1,
    }
    return {**content, **changes}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_the_printed_rotation_is_upright(tmp_path: Path, protocol: int):
    content = master_list()
    path = tmp_path / "master_list.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    tags = TagDictionary.load(path)
    np.testing.assert_array_equal(tags.codes.reshape(5, 16), content["master_list"][3::4])


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_a_malicious_pickle_is_refused_and_nothing_is_run(tmp_path: Path):
    trace = tmp_path / "was-here"
    path = tmp_path / "tags.pkl"
    for evil in (
        Evil(os.system, f"touch {trace}"),
        Evil(eval, f"open({str(trace)!r}, 'w')"),
        Evil(np.load, str(trace)),
        Evil(np.ndarray, (3,)),
    ):
        for content in (evil, master_list(id_list=evil)):
            path.write_bytes(pickle.dumps(content, 2))
            with pytest.raises(FileFormatError, match=r"tags\.pkl: (refused|expected)"):
                TagDictionary.load(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"master_list": np.zeros((20, 9), np.uint8)},
        {"id_list": np.arange(20)},
        {"tag_shape": (4, 5)},
        {"tag_shape": 4},
        {"white_width": 2},
        {"master_list": [1, 2]},
        {"master_list": None},
        {"master_list": np.random.default_rng(0).integers(0, 2, (20, 16)).astype(np.uint8)},
        {"master_list": np.full((20, 16), 3, np.uint8)},
        {"master_list": np.array([None] * 20)},
    ],
)
def test_other_pickles_are_refused_in_words(tmp_path: Path, changes: dict):
    path = tmp_path / "tags.pkl"
    path.write_bytes(pickle.dumps(master_list(**changes), 2))
    with pytest.raises(FileFormatError, match=r"tags\.pkl"):
        TagDictionary.load(path)


def test_pickles_cut_short_or_damaged_never_crash(tmp_path: Path):
    path = tmp_path / "tags.pkl"
    whole = pickle.dumps(master_list(), 2)
    random = np.random.default_rng(0)
    variants = [whole[:length] for length in range(0, len(whole), 37)]
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] = random.integers(256)
        variants.append(bytes(damaged))
    for content in variants:
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DpkWarning)
            # A changed id or bit may still be a dictionary; any other error fails the test.
            with contextlib.suppress(FileFormatError):
                TagDictionary.load(path)


@pytest.mark.parametrize("name", ["DICT_4X4_50", "DICT_APRILTAG_36h11", "DICT_APRILTAG_25h9"])
def test_opencv_s_dictionaries_are_what_opencv_draws(name: str):
    tags = TagDictionary.predefined(name)
    theirs = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
    for tag_id in (0, 7, len(tags) - 1):
        drawn = cv2.aruco.generateImageMarker(theirs, tag_id, tags.modules) // 255
        np.testing.assert_array_equal(tags.picture(tag_id), drawn)


def test_apriltag_families_have_the_distance_in_their_name():
    assert TagDictionary.predefined("DICT_APRILTAG_36h11").distance == 11
    assert TagDictionary.predefined("DICT_APRILTAG_25h9").distance == 9


@pytest.mark.parametrize("rings", ["double", "single"])
def test_opencv_draws_ours_as_we_do(rings: str):
    tags = TagDictionary.generate(4, 5, 8, seed=1, rings=rings)
    theirs = tags.to_opencv()
    for tag_id in range(8):
        drawn = cv2.aruco.generateImageMarker(theirs, tag_id, tags.modules) // 255
        np.testing.assert_array_equal(tags.picture(tag_id), drawn)
    assert theirs.maxCorrectionBits == (tags.distance - 1) // 2


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(ValidationError, match="DICT_4X4_50"):
        TagDictionary.predefined("DICT_NONE")


def test_choosing_keeps_ids_and_refuses_unknown_ones():
    tags = TagDictionary.generate(4, 4, 10, seed=1)
    few = tags.choose([7, 2])
    assert few.ids.tolist() == [7, 2]
    np.testing.assert_array_equal(few.codes, tags.codes[[7, 2]])
    with pytest.raises(ValidationError, match="no tag 99"):
        tags.choose([99])


def svg_boxes(text: str) -> np.ndarray:
    drawn = re.search(r'<path d="([^"]*)"', text)
    assert drawn
    numbers = re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)", drawn[1])
    return np.array(numbers, float)


def pdf_boxes(content: bytes, height: float) -> list[np.ndarray]:
    pages = []
    for stream in re.findall(rb"stream\n(.*?)\nendstream", content, re.DOTALL):
        rows = re.findall(
            r"([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+) re", zlib.decompress(stream).decode()
        )
        boxes = np.array(rows, float) / 72 * 25.4
        boxes[:, 1] = height - boxes[:, 1] - boxes[:, 3]
        pages.append(boxes)
    return pages


def test_a_sheet_has_the_tags_at_their_size(tmp_path: Path):
    tags = TagDictionary.generate(4, 4, 6, seed=1)
    for suffix in ("svg", "pdf"):
        (path,) = print_sheet(tags, tmp_path / f"sheet.{suffix}", side=20, paper=(100, 90), gap=5)
        boxes = (
            svg_boxes(path.read_text()) if suffix == "svg" else pdf_boxes(path.read_bytes(), 90)[0]
        )
        module = 20 / tags.modules
        painted = np.zeros((900, 1000))
        for x, y, w, h in np.round(boxes * 10).astype(int):
            painted[y : y + h, x : x + w] = 1
        left = boxes[:, 0].min()
        top = boxes[:, 1].min()
        for column in range(3):  # three fit side by side; the first row has ids 0 to 2
            axis = (np.arange(tags.modules) + 0.5) * module
            xs = np.round((left + column * 25 + axis) * 10).astype(int)
            ys = np.round((top + axis) * 10).astype(int)
            np.testing.assert_array_equal(1 - painted[np.ix_(ys, xs)], tags.picture(column))


def test_tags_that_do_not_fit_one_page_get_more(tmp_path: Path):
    tags = TagDictionary.generate(4, 4, 30, seed=1)
    names = print_sheet(tags, tmp_path / "tags.svg", side=40)
    assert [path.name for path in names] == ["tags.svg", "tags-2.svg", "tags-3.svg"]
    assert ">^ 29<" in names[2].read_text()
    (pdf,) = print_sheet(tags, tmp_path / "tags.pdf", side=40, numbers=False, gap=0)
    assert len(pdf_boxes(pdf.read_bytes(), 297)) == 2  # 4 x 6 on each


def test_the_pdf_s_table_points_at_its_objects(tmp_path: Path):
    (path,) = print_sheet(TagDictionary.generate(4, 4, 3), tmp_path / "a.pdf", side=10)
    content = path.read_bytes()
    start = int(content.rsplit(b"startxref\n", 1)[1].split()[0])
    places = re.findall(rb"(\d{10}) 00000 n", content[start:])
    assert len(places) == 5
    for number, place in enumerate(places, 1):
        assert content[int(place) :].startswith(f"{number} 0 obj".encode())


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"side": 0}, "side"),
        ({"side": 300}, "does not fit"),
        ({"side": 10, "ids": [77]}, "no tag 77"),
        ({"side": 10, "ids": []}, "at least one"),
        ({"side": 10, "paper": "b9"}, "paper"),
        ({"side": 10, "border": -1}, "border"),
        ({"side": float("nan")}, "side"),
        ({"side": 10, "gap": -1}, "gap"),
    ],
)
def test_sheets_that_cannot_be_are_refused(tmp_path: Path, options: dict, wrong: str):
    with pytest.raises(ValidationError, match=wrong):
        print_sheet(TagDictionary.generate(4, 4, 3), tmp_path / "a.pdf", **options)
    assert not list(tmp_path.iterdir())


def test_other_suffixes_are_refused(tmp_path: Path):
    with pytest.raises(ValidationError, match=r"\.pdf or \.svg"):
        print_sheet(TagDictionary.generate(4, 4, 3), tmp_path / "a.png", side=10)
