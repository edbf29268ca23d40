"""Conversions: right format, whole or not at all, losses said, memory flat."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import attrs
import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core import (
    PoseFormat,
    Source,
    TrainingGenerator,
    read_annotations,
    read_poses,
    read_tracks,
    write_annotations,
    write_poses,
    write_tracks,
)
from dpk_core.cli.app import app
from dpk_core.errors import (
    FileFormatError,
    MissingDependencyError,
    OutputError,
    OutputExistsError,
    PluginError,
    ValidationError,
)
from dpk_core.services import formats
from dpk_core.services.formats import identify, target_spec
from dpk_core.services.plugins import registry
from dpk_core.specs import FormatSpec
from dpk_core.streams import PoseStream
from dpk_core.testing import sample_of
from dpk_core.workflow.convert import LossError, convert


class Lines(PoseFormat):
    """A text file of one line for each pose: its frame. Everything else is lost."""

    def sniff(self, path):
        path = Path(path)
        return path.is_file() and path.read_bytes().startswith(b"frames\n")

    def kinds(self, path):
        return ("poses",)

    def read(self, path, kind="annotations", *, report=None):
        frames = [int(line) for line in Path(path).read_text().split()[1:]]
        sample = sample_of("poses").read()
        return PoseStream.of(
            attrs.evolve(
                sample[: len(frames)], frames=np.array(frames), provenance={"read": "lines"}
            )
        )

    def write(self, path, data, *, report=None, end="\n", fail=False):
        with Path(path).open("w") as file:
            file.write(f"frames{end}")
            for piece in data:
                file.writelines(f"{frame}{end}" for frame in piece.frames)
                report.add("coordinates", len(piece), "lines have none")
                if fail:
                    raise KeyboardInterrupt


class Folder(Lines):
    """Writes a folder."""

    def sniff(self, path):
        return (Path(path) / "frames.txt").exists()

    def write(self, path, data, *, report=None):
        Path(path).mkdir()
        super().write(Path(path) / "frames.txt", data, report=report)


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    """Our own format and those above; one is broken, one needs what is not installed."""
    here = "formats_of_this_test"
    monkeypatch.setitem(sys.modules, here, SimpleNamespace(Lines=Lines, Folder=Folder))
    dpk = registry().get("formats", "dpk")
    specs = {
        "dpk": dpk,
        "lines": FormatSpec("lines", "x", f"{here}:Lines", ["poses"], ["poses"], [".txt"]),
        "folder": FormatSpec("folder", "x", f"{here}:Folder", ["poses"], ["poses"]),
        "twin": FormatSpec("twin", "x", f"{here}:Lines", [], ["poses"], [".pose.txt", ".foo"]),
        "absent": FormatSpec(
            "absent", "x", f"{here}:Lines", ["poses"], ["poses"], [".no"],
            requires=["no_such_module"], install="python -m pip install no-such",
        ),
    }  # fmt: skip

    def get(kind, name):
        if name not in specs:
            raise PluginError(f"no format {name}")
        return specs[name]

    fake = SimpleNamespace(specs=lambda kind: list(specs.values()), get=get)
    monkeypatch.setattr(formats, "registry", lambda: fake)
    return specs


@pytest.fixture
def poses(tmp_path):
    path = tmp_path / "walk.h5"
    write_poses(path, sample_of("poses").read())
    return path


@pytest.mark.parametrize("kind", ["annotations", "poses", "tracks"])
def test_our_own_files_are_told_apart(tmp_path, kind):
    path = tmp_path / "a.h5"
    data = sample_of(kind)
    {"annotations": write_annotations, "tracks": write_tracks}.get(
        kind, lambda path, data: write_poses(path, data.read())
    )(path, data)
    assert identify(path).kinds == (kind,)
    done = convert(path, tmp_path / "b.h5", individuals="frames" if kind == "annotations" else None)
    assert (done.source_format, done.target_format, done.kind) == ("dpk", "dpk", kind)
    assert not done.losses
    read = {"annotations": read_annotations, "poses": read_poses, "tracks": read_tracks}[kind]
    assert repr(read(tmp_path / "b.h5")) == repr(read(path))


def test_there_and_back_with_the_losses_said(poses, tmp_path):
    done = convert(poses, tmp_path / "walk.txt")
    assert [str(loss) for loss in done.losses] == ["40 coordinates: lines have none"]
    assert (done.source_format, done.target_format) == ("dpk", "lines")
    convert(tmp_path / "walk.txt", tmp_path / "again.h5")
    np.testing.assert_array_equal(
        read_poses(tmp_path / "again.h5").frames, read_poses(poses).frames
    )


def test_strict_writes_nothing(poses, tmp_path):
    with pytest.raises(LossError, match=r"walk\.txt was not written(.|\n)*40 coordinates"):
        convert(poses, tmp_path / "walk.txt", strict=True)
    assert [p.name for p in tmp_path.iterdir()] == ["walk.h5"]


def test_what_is_there_is_kept(poses, tmp_path):
    target = tmp_path / "walk.txt"
    target.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"walk\.txt exists already"):
        convert(poses, target)
    with pytest.raises(KeyboardInterrupt):
        convert(poses, target, overwrite=True, target_options={"fail": True})
    assert target.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["walk.h5", "walk.txt"]
    convert(poses, target, overwrite=True)
    assert target.read_text().startswith("frames\n5\n5\n6")
    with pytest.raises(OutputExistsError, match="is the source itself"):
        convert(poses, poses, overwrite=True)


def test_folders_are_replaced_whole(poses, tmp_path):
    target = tmp_path / "out"
    convert(poses, target, target_format="folder")
    (target / "frames.txt").write_text("old")
    with pytest.raises(OutputExistsError, match="exists already and is not empty"):
        convert(poses, target, target_format="folder")
    convert(poses, target, target_format="folder", overwrite=True)
    assert (target / "frames.txt").read_text() != "old"
    assert [p.name for p in target.iterdir()] == ["frames.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "walk.h5"]
    with pytest.raises(OutputError, match="is a folder"):
        convert(poses, target, target_format="lines", overwrite=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        convert(poses, tmp_path / "file", target_format="folder", overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", ["file", "deep", "link", "folder link"])
def test_a_folder_with_anything_else_in_it_is_not_replaced(poses, tmp_path, kind):
    """Whoever forces `convert labels.slp .` does not mean to delete his videos."""
    target = tmp_path / "out"
    convert(poses, target, target_format="folder")
    (target / "frames.txt").write_text("old")
    mine = target / "sub" / "mine.mp4" if kind == "deep" else target / "mine.mp4"
    mine.parent.mkdir(exist_ok=True)
    if "link" in kind:
        mine.symlink_to(tmp_path if kind == "folder link" else poses)
    else:
        mine.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"out holds 1 file .*mine\.mp4.*move"):
        convert(poses, target, target_format="folder", overwrite=True)
    assert (target / "frames.txt").read_text() == "old"
    assert mine.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "walk.h5"]


def test_a_folder_that_the_source_lies_in_is_not_replaced(poses, tmp_path, monkeypatch):
    target = tmp_path / "out"
    convert(poses, target, target_format="folder")
    for source in (target, target / "frames.txt"):
        with pytest.raises(OutputExistsError, match=r"is the source itself|the source .*lies in"):
            convert(source, target, target_format="folder", overwrite=True)
    monkeypatch.chdir(target)
    for here in (".", "..", "../out/."):
        with pytest.raises(OutputExistsError, match="lies in"):
            convert("frames.txt", here, target_format="folder", overwrite=True)
    assert [p.name for p in target.iterdir()] == ["frames.txt"]


def test_the_working_folder_is_no_target(poses, tmp_path, monkeypatch):
    """Replaced, it would be gone for the shell that stands in it."""
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    for here in (".", "../out", tmp_path / "out"):
        with pytest.raises(OutputError, match="is the working folder"):
            convert(poses, here, target_format="folder")
    convert(poses, "../new", target_format="folder")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["frames.txt"]


def test_which_format_a_name_means():
    assert target_spec("a.txt", "poses").name == "lines"
    assert target_spec("a.pose.txt", "poses").name == "twin"
    assert target_spec("a.H5", "poses").name == "dpk"
    with pytest.raises(ValidationError, match=r"a\.bar does not say.*--to dpk, lines, folder"):
        target_spec("a.bar", "poses")
    with pytest.raises(ValidationError, match="lines writes poses; for tracks there are dpk"):
        target_spec("a.txt", "tracks", "lines")


def test_a_suffix_of_another_kind_says_what_it_is_for(poses, plugins, tmp_path):
    with pytest.raises(ValidationError) as caught:
        target_spec("a.txt", "annotations")
    assert str(caught.value) == (
        "a.txt would be lines, which holds poses and no annotations; add one of --to dpk for "
        "another format"
    )
    # the source has poses as well as labels, and this target would take those
    with pytest.raises(ValidationError, match=r"no annotations; take the poses with --kind poses"):
        target_spec("a.txt", "annotations", kinds=("annotations", "poses"))
    with pytest.raises(ValidationError, match=r"take the poses with --kind poses"):
        target_spec("a.bar", "annotations", "lines", kinds=("annotations", "poses"))
    with pytest.raises(ValidationError) as caught:
        target_spec("a.txt", "annotations", kinds=("annotations", "tracks"))
    assert "--kind" not in str(caught.value)


def test_formats_that_are_not_known_not_installed_or_not_meant(poses, tmp_path):
    (tmp_path / "a.foo").write_text("?")
    with pytest.raises(FileFormatError, match=r"a\.foo is in no format that is known here"):
        convert(tmp_path / "a.foo", tmp_path / "b.h5")
    with pytest.raises(
        MissingDependencyError, match=r"needs no_such_module; .*pip install no-such"
    ):
        convert(poses, tmp_path / "b.no")
    with pytest.raises(ValidationError, match="only writes"):
        convert(poses, tmp_path / "b.txt", source_format="twin")
    with pytest.raises(ValidationError, match="no tracks in this dpk file; it holds poses"):
        convert(poses, tmp_path / "b.txt", kind="tracks")
    with pytest.raises(ValidationError, match="lines has no option 'ends' to write with"):
        convert(poses, tmp_path / "b.txt", target_options={"ends": "\n"})
    with pytest.raises(ValidationError, match="only labels have a choice"):
        convert(poses, tmp_path / "b.txt", individuals="crop")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.foo", "walk.h5"]


def test_two_formats_that_claim_a_file(poses, plugins, tmp_path):
    plugins["other"] = attrs.evolve(plugins["lines"], name="other")
    convert(poses, tmp_path / "a.txt", target_format="lines")
    with pytest.raises(FileFormatError, match="may be any of lines, other; say which with --from"):
        identify(tmp_path / "a.txt")
    assert identify(tmp_path / "a.txt", "other").spec.name == "other"


@pytest.fixture
def two_animals(tmp_path):
    path = tmp_path / "labels.h5"
    write_annotations(path, sample_of("annotations"))
    return path


def test_animals_that_share_a_frame(two_animals, tmp_path):
    convert(two_animals, tmp_path / "crops.h5")
    crops = read_annotations(tmp_path / "crops.h5")
    assert crops.image_shape == (64, 64, 3)
    assert all(source.crop is not None for source in crops.sources)
    convert(two_animals, tmp_path / "small.h5", crop_size=48)
    assert read_annotations(tmp_path / "small.h5").image_shape == (48, 48, 3)
    convert(two_animals, tmp_path / "bert.h5", individuals="bert")
    assert [s.frame for s in read_annotations(tmp_path / "bert.h5").sources] == [3, 9]
    with pytest.raises(ValidationError, match=r"name of an animal \(anna, bert\), found 'carl'"):
        convert(two_animals, tmp_path / "carl.h5", individuals="carl")


def test_a_model_can_learn_from_any_labelled_source(two_animals, plugins, tmp_path, monkeypatch):
    class Copy(PoseFormat):
        def sniff(self, path):
            return Path(path).suffix == ".copy"

        def read(self, path, kind="annotations", *, report=None):
            return read_annotations(path)

    monkeypatch.setitem(sys.modules, "copy_format", SimpleNamespace(Copy=Copy))
    plugins["copy"] = FormatSpec("copy", "x", "copy_format:Copy", ["annotations"])
    (tmp_path / "labels.copy").write_bytes(two_animals.read_bytes())
    generator = TrainingGenerator(tmp_path / "labels.copy", augmenter=None)
    assert generator.dataset.image_shape == (64, 64, 3)
    assert isinstance(generator.dataset.sources[0], Source)


def test_progress_is_told(poses, two_animals, tmp_path):
    told = []
    convert(poses, tmp_path / "a.txt", progress=lambda *event: told.append(event))
    assert told[-1] == (40, 40, "converting poses")
    convert(two_animals, tmp_path / "b.h5", progress=lambda *event: told.append(event))
    assert told[-1] == (5, 5, "converting images")


def test_on_the_command_line(poses, tmp_path):
    run = CliRunner().invoke
    done = run(app, ["convert", str(poses), str(tmp_path / "a.txt")])
    assert done.exit_code == 0, done.output
    assert "dpk -> lines" in done.output
    assert "40 coordinates: lines have none" in done.output
    done = run(app, ["convert", str(poses), str(tmp_path / "b.txt"), "--strict"])
    assert done.exit_code == 1
    done = run(app, ["convert", str(poses), str(tmp_path / "b.h5")])
    assert "Nothing was lost." in done.output
    assert "needs: python -m pip install no-such" in " ".join(run(app, ["formats"]).output.split())
    assert "fail" in run(app, ["formats", "lines"]).output
