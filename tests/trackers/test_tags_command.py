"""``dpk tags``: dictionaries made, shown, converted and printed on the command line."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core.cli.app import app
from dpk_core.errors import FileFormatError, OutputExistsError, ValidationError
from dpk_trackers.barcodes import TagDictionary, print_sheet
from dpk_trackers.barcodes.opencv_files import write_opencv


@pytest.fixture
def tags(tmp_path: Path, monkeypatch) -> TagDictionary:
    """Ten tags in tags.json, in the current folder."""
    monkeypatch.chdir(tmp_path)
    made = TagDictionary.generate(4, distance=4, count=10, seed=1)
    made.save("tags.json")
    return made


def dpk(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["tags", *words])
    return result.exit_code, result.output


def test_a_dictionary_is_made_and_never_replaced_unasked(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("generate", "t.json", "--modules", "4", "--distance", "5", "--count", "12")
    code, text = dpk(*words)
    assert (code, TagDictionary.load("t.json")) == (0, TagDictionary.generate(4, 5, 12))
    assert "12 codes of 4x4" in text
    before = Path("t.json").read_bytes()
    code, text = dpk(*words, "--seed", "3")
    assert code == 1
    assert "exists already" in text
    assert Path("t.json").read_bytes() == before
    assert dpk(*words, "--seed", "3", "--force")[0] == 0
    assert TagDictionary.load("t.json") == TagDictionary.generate(4, 5, 12, seed=3)


def test_a_dictionary_that_cannot_be_leaves_no_file(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = dpk("generate", "t.json", "--modules", "3", "--distance", "4", "--count", "500")
    assert code == 1
    assert "expected 500" in text
    assert not list(tmp_path.iterdir())


def test_tags_are_shown_as_they_are(tags):
    code, text = dpk("show", "tags.json", "--ids", "7")
    assert code == 0
    assert "distance\t4" in text
    drawn = text.split("\n7\n")[1].strip("\n").split("\n")
    ink = np.array([[line[i] == "\u2588" for i in range(0, len(line), 2)] for line in drawn])
    np.testing.assert_array_equal(ink, tags.picture(7) == 0)


def test_pinpoint_s_list_becomes_a_dictionary_of_ours(test_data, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = dpk("convert", str(test_data / "pinpoint" / "5x5_9bit.pkl"), "tags.json")
    assert code == 0, text
    tags = TagDictionary.load("tags.json")
    assert (len(tags), tags.distance, tags.ids[0]) == (38, 9, 1)


def test_a_list_that_wants_to_run_something_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Evil:
        def __reduce__(self):
            return os.system, ("touch was-here",)

    Path("evil.pkl").write_bytes(pickle.dumps({"master_list": Evil()}))
    code, text = dpk("convert", "evil.pkl", "tags.json")
    assert code == 1
    assert "refused" in text
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pkl"]


@pytest.mark.parametrize("suffix", ["yml", "xml"])
def test_opencv_reads_what_is_converted_for_it(tags, suffix: str):
    code, text = dpk("convert", "tags.json", f"out.{suffix}", "--ids", "3-5,9")
    assert code == 0, text
    assert "number 0 is tag 3" in text
    theirs = cv2.aruco.Dictionary()
    storage = cv2.FileStorage(f"out.{suffix}", cv2.FILE_STORAGE_READ)
    assert theirs.readDictionary(storage.root())
    picture = np.kron(tags.picture(4, paper=2), np.full((9, 9), 255)).astype(np.uint8)
    _, found, _ = cv2.aruco.ArucoDetector(theirs).detectMarkers(picture)
    assert found.ravel().tolist() == [1]
    # And back: a white ring counts as part of the code there.
    back = TagDictionary.named(f"out.{suffix}")
    for number, tag_id in enumerate((3, 4, 5, 9)):
        np.testing.assert_array_equal(back.picture(number), tags.picture(tag_id))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "%YAML:1.0\n---\nnmarkers: 3\n",
        '%YAML:1.0\n---\nnmarkers: 1\nmarkersize: 4\nmarker_0: "0101"\n',
        '%YAML:1.0\n---\nnmarkers: 1\nmarkersize: 2\nmarker_0: "01x1"\n',
        '%YAML:1.0\n---\nnmarkers: 1\nmarkersize: 2\nmarker_0: "1111"\n',
        "%YAML:1.0\n---\nnmarkers: -1\nmarkersize: 2000000\n",
        "%YAML:1.0\n---\nnmarkers: 0\nmarkersize: 4\n",
        "\x00\xff\x00",
    ],
)
def test_other_files_of_opencv_are_refused_by_name(tmp_path: Path, text: str):
    path = tmp_path / "tags.yml"
    path.write_text(text, encoding="latin1")
    with pytest.raises(FileFormatError, match=r"tags\.yml: .*expected"):
        TagDictionary.load(path)


def test_a_sheet_is_printed_with_copies(tags):
    words = ("print", "tags.json", "s.svg", "--side", "30", "--ids", "2,5", "--paper", "200x100")
    code, text = dpk(*words, "--copies", "2", "--gap", "8")
    assert code == 0, text
    drawn = Path("s.svg").read_text()
    assert [drawn.count(f">^ {tag_id}<") for tag_id in range(10)] == [0, 0, 2, 0, 0, 2, 0, 0, 0, 0]
    assert 'width="200.0mm" height="100.0mm"' in drawn
    assert dpk(*words)[0] == 1
    assert Path("s.svg").read_text() == drawn
    assert dpk(*words, "--force")[0] == 0


def test_no_page_is_written_where_one_is_in_the_way(tags):
    Path("s-2.svg").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"s-2\.svg"):
        print_sheet(tags, "s.svg", side=90)
    assert Path("s-2.svg").read_text() == "mine"
    assert not Path("s.svg").exists()
    with pytest.raises(OutputExistsError, match=r"tags\.json"):
        tags.save("tags.json")
    with pytest.raises(ValidationError, match=r"\.yml or \.xml"):
        write_opencv(tags, "tags.json")


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("show", "none.json"), "none.json"),
        (("show", "DICT_NONE"), "DICT_4X4_50"),
        (("show", "tags.json", "--ids", "99"), "no tag 99"),
        (("convert", "tags.json", "out.csv"), "out.csv"),
        (("print", "tags.json", "s.pdf", "--side", "0"), "side"),
        (("print", "tags.json", "s.pdf", "--side", "5", "--paper", "axb"), "paper"),
        (("print", "tags.json", "s.png", "--side", "5"), "s.png"),
    ],
)
def test_mistakes_are_said(tags, words, wrong):
    code, text = dpk(*words)
    assert code == 1
    assert wrong in text
    assert len(list(Path().iterdir())) == 1


@pytest.mark.parametrize("ids", ["", "a", "3-", "5-2", "1,,2", "0-99999999", "-1"])
def test_ids_that_are_no_numbers_are_wrong_usage(tags, ids):
    assert dpk("show", "tags.json", f"--ids={ids}")[0] == 2


def test_json_names_the_dictionary_s_own_facts(tags):
    content = json.loads(Path("tags.json").read_text())
    assert (content["n"], content["distance"], len(content["codes"])) == (4, 4, 10)
