"""The folder of a training run: what it is, its log, and checkpoints to continue from.

==================  ==============================================================================
``run.json``        what is trained on what: a resumed run must be the same
``split.json``      which images train and which validate
``log.csv``         a line an epoch, appended
``checkpoint.npz``  weights, best weights, optimizer, schedule and history, replaced whole
``record.json``     how the training ended
==================  ==============================================================================
"""

from __future__ import annotations

import csv
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from dpk_core.errors import FileFormatError, FileMissingError, OutputError, OutputExistsError
from dpk_core.services.storage import atomic_path
from dpk_core.services.storage.atomic import output_errors
from dpk_models.record import plain

FILES = ("run.json", "split.json", "log.csv", "checkpoint.npz", "record.json")
LOG_COLUMNS = (
    "epoch", "loss", "val_loss", "val_error_px", "learning_rate", "seconds", "wait_share",
)  # fmt: skip


@attrs.frozen(eq=False)
class RunState:
    """All that a training needs to go on as if nothing had happened."""

    network: list[np.ndarray]
    best: list[np.ndarray]
    optimizer: list[np.ndarray]
    schedule: dict[str, Any]
    record: dict[str, Any]


class RunFolder:
    """Reads and writes one run's folder.

    Parameters
    ----------
    path
        The folder.
    identity
        What is trained on what, as JSON values.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(identity, default=plain))
        self._last_checkpoint = time.monotonic()

    # -- beginning ------------------------------------------------------------------------------

    def create(self, *, overwrite: bool) -> None:
        """Begin a new run.

        Raises
        ------
        OutputExistsError
            When the folder holds a run already, or other files of the same names, and
            ``overwrite`` is False.
        OutputError
            When nothing can be written there.
        """
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} is a file; expected a folder for the training run")
        existing = [name for name in FILES if (self.path / name).exists()]
        if existing and not overwrite:
            if "run.json" not in existing:
                raise OutputExistsError(
                    f"{self.path} holds {', '.join(existing)} already; choose another folder, or "
                    "replace them with overwrite (--force)"
                )
            raise OutputExistsError(
                f"{self.path} holds a training run already; continue it with resume "
                "(--resume), replace it with overwrite (--force), or choose another folder"
            )
        with output_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for name in existing:
                (self.path / name).unlink()
            self._write_json("split.json", self.identity["split"])
            self.cut_log(0)
            self._write_json("run.json", self.identity)

    def resume(self) -> RunState | None:
        """The state to continue from; None when the run ended before its first checkpoint.

        Raises
        ------
        FileMissingError, FileFormatError
            When there is no run, it is another one, or its checkpoint is damaged.
        """
        stored = self._stored_identity()
        differing = [k for k in self.identity if stored.get(k) != self.identity[k]]
        if differing:
            details = "\n".join(
                f"  {k}: the run has {_short(stored.get(k))}, this is {_short(self.identity[k])}"
                for k in differing
            )
            raise FileFormatError(
                f"{self.path} is another training, it differs in:\n{details}\n"
                "use the same data and settings to continue it, or start a new run"
            )
        checkpoint = self.path / "checkpoint.npz"
        return _read_checkpoint(checkpoint) if checkpoint.exists() else None

    def cut_log(self, epochs: int) -> None:
        """Leave the header and so many epochs in the log: those after will be trained again."""
        path = self.path / "log.csv"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        header = ",".join(LOG_COLUMNS)
        with atomic_path(path, overwrite=True) as temporary:
            text = "\n".join([header, *lines[1 : epochs + 1]]) + "\n"
            Path(temporary).write_text(text, encoding="utf-8")

    # -- while it runs --------------------------------------------------------------------------

    def log(self, row: dict[str, float]) -> None:
        """Append an epoch to the log."""
        path = self.path / "log.csv"
        with output_errors(path), path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, LOG_COLUMNS, lineterminator="\n").writerow(row)

    def checkpoint(self, state: Callable[[], RunState], *, every: float) -> None:
        """Write a checkpoint if the last one is older than ``every`` seconds."""
        now = time.monotonic()
        if now - self._last_checkpoint < every:
            return
        _write_checkpoint(self.path / "checkpoint.npz", state())
        self._last_checkpoint = now

    def write_record(self, record: dict[str, Any]) -> None:
        """Note how the training ended."""
        self._write_json("record.json", record)

    # -- small parts ----------------------------------------------------------------------------

    def _stored_identity(self) -> dict[str, Any]:
        path = self.path / "run.json"
        if not path.is_file():
            raise FileMissingError(
                f"no training run in {self.path} (expected {path}); start it without resume first"
            )
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(stored, dict):
                raise ValueError(f"expected a mapping, found {type(stored).__name__}")
        except ValueError as error:
            raise FileFormatError(f"{path} is damaged ({error}); start a new run") from None
        return stored

    def _write_json(self, name: str, content: Any) -> None:
        with atomic_path(self.path / name, overwrite=True) as temporary:
            text = json.dumps(content, indent=1, default=plain)
            Path(temporary).write_text(text, encoding="utf-8")


def _write_checkpoint(path: Path, state: RunState) -> None:
    arrays = {
        f"{group}/{i}": array
        for group in ("network", "best", "optimizer")
        for i, array in enumerate(getattr(state, group))
    }
    notes = json.dumps({"schedule": state.schedule, "record": state.record}, default=plain)
    with atomic_path(path, overwrite=True) as temporary, Path(temporary).open("wb") as file:
        np.savez(file, notes=np.array(notes), **arrays)


def _read_checkpoint(path: Path) -> RunState:
    try:
        with np.load(path, allow_pickle=False) as archive:
            notes = json.loads(str(archive["notes"]))
            groups: dict[str, list[np.ndarray]] = {}
            for group in ("network", "best", "optimizer"):
                n = sum(name.startswith(f"{group}/") for name in archive.files)
                groups[group] = [archive[f"{group}/{i}"] for i in range(n)]
        return RunState(**groups, schedule=notes["schedule"], record=notes["record"])
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise damaged_checkpoint(path, error) from None


def damaged_checkpoint(path: Path, error: Exception) -> FileFormatError:
    """What to say of a checkpoint that training cannot go on from."""
    return FileFormatError(
        f"{path} is damaged ({error}); start a new run, or delete it to begin again in the same "
        "folder"
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."
