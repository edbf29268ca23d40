"""What `dpk info` says of other programs' files, also of those that cannot be converted as yet."""

from __future__ import annotations

import shutil

import pytest

from dpk_core.errors import FileFormatError, VideoError
from dpk_core.services.formats import get_format, identify
from dpk_core.testing import sample_of
from dpk_core.workflow.describe import describe_file


def test_labels_whose_video_is_elsewhere(test_data, tmp_path):
    path = shutil.copy(test_data / "formats/minimal_instance.slp", tmp_path / "a.slp")
    facts = describe_file(path)
    assert facts["kind"].startswith("sleap ")
    assert facts["content"] == "annotations"
    (missing,) = facts["not there"]
    assert "centered_pair_low_quality.mp4" in missing
    assert "dpk convert --source-set videos=FOLDER" in missing


def test_losses_are_told_for_each_kind(test_data):
    facts = describe_file(test_data / "flies-clip/clip.slp")
    lost = facts["dpk cannot hold"]
    assert "as tracks: 32220 keypoints: tracks have a centre and a box of each animal" in lost
    assert any(loss.startswith("as annotations: ") for loss in lost)
    assert "not there" not in facts


def test_a_file_of_one_kind_needs_no_such_word(tmp_path):
    get_format("csv")[1].write(tmp_path / "a.csv", sample_of("poses"))
    facts = describe_file(tmp_path / "a.csv")
    assert facts["content"].startswith("PoseStream(")


def test_nwb_without_poses_is_told_as_such(tmp_path):
    pytest.importorskip("pynwb")
    path = tmp_path / "a.nwb"
    get_format("nwb")[1].write(path, sample_of("annotations"))
    for look in (identify, describe_file):
        with pytest.raises(FileFormatError, match=r"a\.nwb is a nwb file without poses"):
            look(path)


def test_a_file_that_nothing_knows_need_not_be_a_video(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(FileFormatError, match=r"a\.pkl is in no format that is known here"):
        describe_file(path)
    path = path.rename(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match=r"a\.mp4"):
        describe_file(path)
