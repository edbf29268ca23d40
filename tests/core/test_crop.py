"""A video for each individual: frame numbers agree, and the table leads back."""

from __future__ import annotations

import csv

import attrs
import numpy as np
import pytest
from typer.testing import CliRunner

from dpk_core import Tracks, VideoReader, VideoWriter, read_tracks, write_tracks
from dpk_core.cli.app import app
from dpk_core.errors import OutputError, OutputExistsError, ValidationError
from dpk_core.services.cropper import Cropper
from dpk_core.testing import walking_dots
from dpk_core.workflow.crop import crop_video


@pytest.fixture
def film(tmp_path):
    frames, truth = walking_dots(20)
    with VideoWriter(tmp_path / "dots.mp4", fps=10) as writer:
        for frame in frames:
            writer.write(frame)
    rows = [
        (i, j, d.x[j], d.y[j]) for i, d in enumerate(truth) for j in range(3) if (i, j) != (7, 1)
    ]
    frame, ids, x, y = (np.array(column) for column in zip(*rows, strict=True))
    write_tracks(tmp_path / "dots.tracks.h5", Tracks(frame.astype(int), ids.astype(int), x, y))
    return tmp_path / "dots.mp4", tmp_path / "dots.tracks.h5"


@pytest.mark.parametrize("rotate", [False, True])
def test_every_individual_is_in_the_middle_of_its_video(film, tmp_path, rotate):
    done = crop_video(*film, tmp_path / "crops", size=24, rotate=rotate)
    assert sorted(done.videos) == [0, 1, 2]
    tracks = read_tracks(film[1])
    for individual, path in done.videos.items():
        with VideoReader(path) as reader:
            assert len(reader) == done.n_frames == 20
            crops = reader[list(range(20))]
        lit = crops[:, 11:13, 11:13].reshape(20, -1).mean(axis=1)
        if individual == 1:
            assert crops[7].max() < 40  # black: it has no position there
            lit = np.delete(lit, 7)
        assert lit.max() < 110  # the dots are dark
        with path.with_suffix(".csv").open() as file:
            table = list(csv.DictReader(file))
        mine = tracks[np.flatnonzero(tracks.id == individual)]
        assert [int(row["frame"]) for row in table] == mine.frame.tolist()
        matrices = np.array([[float(v) for v in list(row.values())[1:]] for row in table])
        middle = Cropper.apply(
            matrices.reshape(-1, 2, 3), np.stack([mine.x, mine.y], axis=1)[:, None]
        )
        assert np.abs(middle - 11.5).max() <= 0.5 + 1e-9


def test_some_individuals_in_some_frames(film, tmp_path):
    done = crop_video(*film, tmp_path / "crops", size=16, ids=[2], start=5, stop=9)
    assert list(done.videos) == [2]
    assert done.n_frames == 4
    with pytest.raises(OutputExistsError):
        crop_video(*film, tmp_path / "crops", size=16, ids=[2], start=5, stop=9)
    crop_video(*film, tmp_path / "crops", size=16, ids=[2], stop=3, overwrite=True)
    with VideoReader(done.videos[2]) as reader:
        assert len(reader) == 3


def test_of_tracks_of_an_excerpt_no_more_than_it_is_cropped(film, tmp_path):
    """Otherwise a minute out of a day would become a day of black frames."""
    tracks = read_tracks(film[1])
    here = np.flatnonzero((tracks.frame >= 5) & (tracks.frame < 9))
    job = {"start": 4, "stop": 9}
    part = attrs.evolve(tracks[here], provenance={"n_frames": 20, "job": job})
    write_tracks(tmp_path / "part.h5", part)
    done = crop_video(film[0], tmp_path / "part.h5", tmp_path / "a", size=16, ids=[2])
    assert (done.n_frames, done.start) == (5, 4)
    with VideoReader(done.videos[2]) as reader:
        assert len(reader) == 5
        assert reader[0].max() < 40 < reader[1].max()  # nobody in frame 4
    whole = crop_video(
        film[0], tmp_path / "part.h5", tmp_path / "b", size=16, ids=[2], start=0, stop=20
    )
    assert (whole.n_frames, whole.start) == (20, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 15}, "even numbers of pixels"),
        ({"size": 16, "ids": [5]}, "no individual 5; it has 0, 1, 2"),
    ],
)
def test_what_cannot_be_cropped(film, tmp_path, options, words):
    with pytest.raises(ValidationError, match=words):
        crop_video(*film, tmp_path / "crops", **options)
    assert not (tmp_path / "crops").exists()


def test_the_folder_is_made_with_those_around_it_and_a_file_is_none(film, tmp_path):
    done = crop_video(*film, tmp_path / "a" / "b" / "crops", size=16, ids=[0], stop=2)
    assert done.videos[0] == tmp_path / "a" / "b" / "crops" / "dots.0.mp4"
    for taken in (film[1], film[1] / "crops"):
        with pytest.raises(OutputError, match=r"dots\.tracks\.h5.* is a file; expected .* folder"):
            crop_video(*film, taken, size=16)


def test_nobody_is_there(film, tmp_path):
    write_tracks(tmp_path / "none.h5", Tracks([], [], [], []))
    with pytest.raises(ValidationError, match="no individual in the frames 0 to 19"):
        crop_video(film[0], tmp_path / "none.h5", tmp_path / "crops", size=16)


def test_on_the_command_line(film, tmp_path):
    folder = str(tmp_path / "crops")
    done = CliRunner().invoke(app, ["crop", *map(str, film), "--size", "16", "-o", folder])
    assert done.exit_code == 0, done.output
    assert "dots.2.mp4, 20 frames from 0 on" in "".join(done.output.split("\n"))


def test_interrupted_it_says_where_the_frames_are(film, tmp_path, monkeypatch):
    crop, calls = Cropper.crop, []

    def interrupted(self, *arguments):
        calls.append(len(calls))
        if len(calls) > 8:
            raise KeyboardInterrupt
        return crop(self, *arguments)

    monkeypatch.setattr(Cropper, "crop", interrupted)
    folder = tmp_path / "crops"
    done = CliRunner().invoke(app, ["crop", *map(str, film), "--size", "16", "-o", str(folder)])
    assert done.exit_code == 130
    assert "files named .partial.mp4" in " ".join(done.output.split())
    with VideoReader(folder / "dots.0.partial.mp4") as reader:
        assert len(reader) == 8
