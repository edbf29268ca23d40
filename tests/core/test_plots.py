"""Plots: they are written whole, hold what they should, and refuse what they can't show."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest

from dpk_core import Poses, Skeleton
from dpk_core.errors import (
    FileFormatError,
    FileMissingError,
    OutputExistsError,
    ValidationError,
)
from dpk_core.workflow.plots import plot_errors, plot_training, plot_trajectories, read_log

SKELETON = Skeleton.from_rows(
    [("head", None, None), ("earL", "head", "earR"), ("earR", "head", "earL")]
)


@pytest.fixture
def log(tmp_path):
    """A training run whose learning rate drops twice; its first epoch has no validation."""
    path = tmp_path / "log.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["epoch", "loss", "val_loss", "val_error_px", "learning_rate", "seconds", "extra"]
        )
        for e in range(1, 31):
            rate = 1e-3 if e < 10 else 2e-4 if e < 20 else 4e-5
            validation = ["", ""] if e == 1 else [20 / e, 30 / e]
            writer.writerow([e, 10 / e, *validation, rate, 2.5 * e, 0])
    return path


def make_poses(n=50, n_tracks=1):
    rng = np.random.default_rng(0)
    keypoints = 40 + np.cumsum(rng.normal(0, 1, (n * n_tracks, 3, 2)), axis=0)
    keypoints[3:4, 1] = np.nan
    return Poses(
        keypoints,
        rng.uniform(0, 1, (n * n_tracks, 3)),
        SKELETON,
        frames=np.repeat(np.arange(n), n_tracks),
        track_ids=np.tile(np.arange(n_tracks), n) if n_tracks > 1 else None,
        provenance={"fps": 25.0, "height": 90, "width": 120},
    )


def svg_text(path):
    return path.read_text(encoding="utf-8")


def test_training_curve_shows_losses_errors_and_drops(log, tmp_path):
    plot_training(tmp_path, tmp_path / "training.svg")
    text = svg_text(tmp_path / "training.svg")
    for expected in ("validation error, px", "1.00 px in epoch 30", "minutes", "0.0002", "4e-05"):
        assert expected in text


def test_a_log_of_one_epoch_without_validation(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss,val_loss,val_error_px,learning_rate,seconds\n1,5,nan,nan,0.001,3\n")
    plot_training(path, tmp_path / "training.svg")
    assert "no validation images" in svg_text(tmp_path / "training.svg")


def test_read_log(log):
    columns = read_log(log.parent)
    assert columns["epoch"].tolist() == list(range(1, 31))
    assert np.isnan(columns["val_loss"][0])
    assert columns["val_error_px"][-1] == 1.0


def test_trajectories_name_keypoints_and_use_seconds(tmp_path):
    plot_trajectories(make_poses(), tmp_path / "t.svg")
    text = svg_text(tmp_path / "t.svg")
    for expected in ("earL", "earR", "seconds", "path of the body"):
        assert expected in text


@pytest.mark.parametrize(
    "poses",
    [
        make_poses(n=1),
        make_poses(n=20, n_tracks=3),
        make_poses(n=20_000),
        make_poses(n=60)[[0, 1, 2, 40, 41, 59]],
        Poses(np.full((4, 3, 2), np.nan), np.zeros((4, 3)), SKELETON),
    ],
    ids=["one row", "three tracks", "long", "gaps", "nothing found"],
)
def test_trajectories_of_any_poses(poses, tmp_path):
    plot_trajectories(poses, tmp_path / "t.png")
    assert (tmp_path / "t.png").stat().st_size > 10_000


def test_errors_show_medians_of_visible_and_hidden(tmp_path):
    errors = np.tile([[0.5, 1.0, 2.0]], (9, 1))
    errors[0, 2] = np.nan
    visibility = np.full((9, 3), 2)
    visibility[4:, 1] = 1
    plot_errors(errors, SKELETON, tmp_path / "e.svg", visibility=visibility, title="a title")
    text = svg_text(tmp_path / "e.svg")
    for expected in ("a title", "hidden", "0.50", "1.00", "2.00", "earR"):
        assert expected in text
    plot_errors(errors, SKELETON, tmp_path / "e2.svg")
    assert "hidden" not in svg_text(tmp_path / "e2.svg")


def test_a_keypoint_without_labels_and_errors_of_zero(tmp_path):
    errors = np.zeros((5, 3))
    errors[:, 1] = np.nan
    plot_errors(errors, SKELETON, tmp_path / "e.svg")
    assert "no label" in svg_text(tmp_path / "e.svg")


def test_refusals(log, tmp_path):
    with pytest.raises(FileMissingError, match="no training log"):
        plot_training(tmp_path / "nowhere", tmp_path / "a.png")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="expected the columns epoch"):
        plot_training(tmp_path / "other.csv", tmp_path / "a.png")
    log.write_text(log.read_text().replace("0.001", "fast"))
    with pytest.raises(FileFormatError, match="expected a number"):
        plot_training(log, tmp_path / "a.png")
    with pytest.raises(ValidationError, match="ends in"):
        plot_trajectories(make_poses(), tmp_path / "a.doc")
    with pytest.raises(ValidationError, match="at least one row"):
        plot_trajectories(make_poses()[:0], tmp_path / "a.png")
    with pytest.raises(ValidationError, match="errors: expected shape"):
        plot_errors(np.ones((4, 2)), SKELETON, tmp_path / "a.png")
    with pytest.raises(ValidationError, match="at least one number"):
        plot_errors(np.full((4, 3), np.nan), SKELETON, tmp_path / "a.png")
    assert not list(tmp_path.glob("a.*"))


def test_nothing_is_overwritten_by_accident(tmp_path):
    output = tmp_path / "t.png"
    output.write_text("mine")
    with pytest.raises(OutputExistsError):
        plot_trajectories(make_poses(), output)
    assert output.read_text() == "mine"
    plot_trajectories(make_poses(), output, overwrite=True)
    assert output.read_bytes()[:4] == b"\x89PNG"


def test_plotting_leaves_the_users_matplotlib_alone(tmp_path):
    code = (
        "import sys, numpy as np; from dpk_core import Skeleton\n"
        "from dpk_core.workflow.plots import plot_errors\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"plot_errors(np.ones((3, 1)), Skeleton(('a',)), {str(tmp_path / 'e.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "import matplotlib; assert matplotlib.rcParams['axes.spines.top']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
