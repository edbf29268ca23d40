"""What the demo makes, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from dpk_core import __version__
from dpk_core.errors import ValidationError
from dpk_core.services.metrics import ErrorSummary

MODEL = "StackedDenseNet"
VIDEO, TRUTH, LABELS, RUN, TRAINED, POSES, LABELLED = (
    "demo.mp4", "truth.h5", "labels.h5", "model.run", "model.keras", "poses.h5", "labelled.mp4",
)  # fmt: skip
TRAINING_PLOT, TRAJECTORIES, ERRORS, PICTURE = (
    "training.png", "trajectories.png", "errors.png", "demo.png",
)  # fmt: skip
REPORT, NUMBERS = "report.txt", "report.json"


@attrs.frozen
class DemoSettings:
    """What the demo makes and how long it trains.

    Parameters
    ----------
    size
        (height, width) of the frames in pixels.
    n_frames, n_labels
        Length of the video, and how many of its frames are labelled.
    seed
        Of the animal, the sampling and the training.
    time_budget
        Seconds of training, at most.
    """

    size: tuple[int, int] = attrs.field(default=(128, 160), converter=lambda v: tuple(map(int, v)))
    n_frames: int = 500
    n_labels: int = 150
    seed: int = 0
    time_budget: float = 150.0

    def __attrs_post_init__(self) -> None:
        if not 5 <= self.n_labels < self.n_frames:
            raise ValidationError(
                "n_labels: expected at least 5 and fewer than n_frames, as the error is measured "
                f"on the rest; found {self.n_labels} of {self.n_frames}"
            )
        if not self.time_budget > 0:
            raise ValidationError(
                f"time_budget: expected seconds above 0, found {self.time_budget}"
            )


@attrs.frozen(repr=False, eq=False)
class DemoResult:
    """What came of the demo; `str` gives the report.

    Parameters
    ----------
    folder
        Where everything is.
    settings
        See `DemoSettings`.
    all_errors, visible, hidden
        Errors in pixels on the frames that were neither trained nor validated on: of all
        keypoints, of those in sight, and of those behind grass.
    n_unseen
        How many frames these are.
    training
        Of the epoch that was kept: "epochs", "seconds", "val_error_px", "stopped".
    seconds
        Of each step that was done in this call, by name.
    found
        Steps that an earlier call had done.
    """

    folder: Path
    settings: DemoSettings
    all_errors: ErrorSummary
    visible: ErrorSummary
    hidden: ErrorSummary
    n_unseen: int
    training: dict[str, Any]
    seconds: dict[str, float]
    found: tuple[str, ...]

    @property
    def mean_error_px(self) -> float:
        """Over all keypoints that lie in the image, visible and hidden."""
        return self.all_errors.overall["mean"]

    def __str__(self) -> str:
        return "\n".join([*self._what(), "", *self._table(), "", *self._files()])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "version": __version__,
            "settings": attrs.asdict(self.settings),
            "unseen_frames": self.n_unseen,
            "errors_px": {
                "all": self.all_errors.to_dict(),
                "visible": self.visible.to_dict(),
                "hidden": self.hidden.to_dict(),
            },
            "training": self.training,
            "seconds": self.seconds,
            "found": list(self.found),
        }

    def _what(self) -> list[str]:
        s, t = self.settings, self.training
        lines = [
            f"A made-up animal with {len(self.all_errors.names)} keypoints in {s.n_frames} frames "
            f"of {s.size[0]}x{s.size[1]} pixels;",
            f"{s.n_labels} of the frames, chosen by k-means, got labels.",
            f"{MODEL} learned from them in {t['epochs']} epochs, {t['seconds']:.0f} s "
            f"(ended: {t['stopped']}).",
        ]
        if self.found:
            lines.insert(0, f"Continued an earlier demo, which had made {', '.join(self.found)}.")
        if self.seconds:
            steps = ", ".join(f"{name} {s:.0f} s" for name, s in self.seconds.items())
            lines.append(f"Time: {sum(self.seconds.values()):.0f} s ({steps}).")
        return lines

    def _table(self) -> list[str]:
        lines = [
            f"Error in pixels on the {self.n_unseen} frames without labels:",
            f"{'':12}{'mean':>8}{'median':>8}{'95 %':>8}{'n':>8}",
        ]
        groups = {"all": self.all_errors, "visible": self.visible, "hidden": self.hidden}
        rows = [(name, summary.overall) for name, summary in groups.items()]
        rows += [(row["name"], row) for row in self.all_errors.to_rows()[:-1]]
        for name, row in rows:
            numbers = "".join(f"{row[c]:8.2f}" for c in ("mean", "median", "p95"))
            lines.append(f"{name:12}{numbers}{row['count']:8d}")
            if name == "hidden":
                lines.append("")
        return lines

    def _files(self) -> list[str]:
        return [
            f"In {self.folder}: {LABELLED} (look at this), {VIDEO}, {LABELS}, {TRAINED}, {POSES},",
            f"{TRAINING_PLOT}, {TRAJECTORIES}, {ERRORS}, {PICTURE}, {REPORT}, {NUMBERS}.",
        ]
