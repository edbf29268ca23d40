"""Training and prediction beside the annotator: dpk's own commands, each in a process of its own.

Everything about a job is in a folder of its own, ``labels.h5.jobs/1/``: ``job.json`` (what was
asked for, and how it ended), ``log.txt`` (what the command printed), ``progress.json`` (how far it
is, see `dpk_core.cli.progress_file`), and what it made (``model.keras`` and its run folder, or
``guesses.poses.h5``). So a job outlives a server that was killed, and its results outlive the job.
"""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from dpk_core.errors import OutputError, ValidationError
from dpk_core.services.storage import atomic_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

RUNNING, DONE, STOPPED, FAILED = "running", "done", "stopped", "failed"

_INTERRUPTED = 130
"""Exit code of a command that was ended by Ctrl-C and kept what it had."""

_TAIL = 64 * 1024
_POLL_S = 0.5
_PATIENCE_S = 60.0
"""For a command that was asked to stop; it finishes its step and keeps its results."""

MODEL, POSES, LOG = "model.keras", "guesses.poses.h5", "log.txt"


@attrs.frozen
class Job:
    """A job as it is now.

    Parameters
    ----------
    number
        From 1, in the order in which they began.
    kind
        "train", "predict", "sample" or "merge".
    state
        "running", "done", "stopped" (asked to, with what it had) or "failed".
    progress
        What the command tells of itself: message, done, total, elapsed_s, and of a training epoch,
        losses and error; empty before the first word.
    began, ended
        Seconds since 1970; ended is None while it runs.
    folder
        Where everything about it is.
    settings
        What was asked for.
    """

    number: int
    kind: str
    state: str
    progress: Mapping[str, Any]
    began: float
    ended: float | None
    folder: Path
    settings: Mapping[str, Any]

    @property
    def result(self) -> Path | None:
        """The file that it made; None when there is none (yet)."""
        path = self.folder / (MODEL if self.kind == "train" else POSES)
        return path if path.exists() else None

    def log(self, lines: int = 200) -> list[str]:
        """The last lines that the command printed."""
        try:
            with (self.folder / LOG).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return text.splitlines()[-lines:]

    def curve(self) -> list[dict[str, float | None]]:
        """Of a training, an entry an epoch: epoch, loss, val_loss, val_error_px; None if unknown.

        ``val_error_px`` is the mean distance on validation images, in pixels of the images.
        """
        path = self.folder / "model.run" / "log.csv"
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except (OSError, csv.Error, UnicodeDecodeError):
            return []
        names = ("epoch", "loss", "val_loss", "val_error_px")
        return [{name: _number(row.get(name)) for name in names} for row in rows]


class Jobs:
    """The jobs of a set. Every method may be called from any thread.

    Parameters
    ----------
    folder
        Of all jobs; made when the first one begins.
    on_change
        Called with a job whenever there is something new about it, from a thread of its own.
    """

    def __init__(self, folder: Path, on_change: Callable[[Job], None] = lambda job: None) -> None:
        self.folder = folder
        self.on_change = on_change
        self._lock = threading.Lock()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._stopped: set[int] = set()
        self._endings: dict[int, dict[str, Any]] = {}
        self._threads: list[threading.Thread] = []

    def all(self) -> list[Job]:
        """Every job that there is, the latest first."""
        found = []
        for number in sorted(self._numbers(), reverse=True):
            with suppress(ValidationError):  # whose notes are damaged
                found.append(self.get(number))
        return found

    def get(self, number: int) -> Job:
        """A job by its number; ValidationError when there is none."""
        folder = self.folder / str(number)
        facts = _read_json(folder / "job.json")
        if facts.get("number") != number:
            raise ValidationError(f"there is no job {number}")
        facts |= self._endings.get(number, {})
        return Job(
            number=number,
            kind=str(facts.get("kind", "")),
            state=self._state(facts),
            progress=_read_json(folder / "progress.json"),
            began=float(facts.get("began", 0.0)),
            ended=facts.get("ended"),
            folder=folder,
            settings=facts.get("settings", {}),
        )

    def start(self, kind: str, arguments: Sequence[str], settings: Mapping[str, Any]) -> Job:
        """Begin ``dpk ARGUMENTS`` in the background.

        Parameters
        ----------
        kind
            As of `Job`; of each kind one runs at a time.
        arguments
            Of the command, in the job's folder; "{folder}" within stands for that folder.
        settings
            What was asked for, to be shown; JSON values.

        Raises
        ------
        ValidationError
            When one of that kind is running already.
        OutputError
            When the folder cannot be written.
        """
        with self._lock:
            running = [job for job in self.all() if job.kind == kind and job.state == RUNNING]
            if running:
                raise ValidationError(
                    f"job {running[0].number} ({kind}) is running; wait for it, or stop it first"
                )
            number = max(self._numbers(), default=0) + 1
            folder = self.folder / str(number)
            try:
                folder.mkdir(parents=True)
            except OSError as error:
                raise OutputError(f"cannot make the folder {folder} ({error.strerror})") from None
            command = [part.replace("{folder}", str(folder)) for part in arguments]
            process = _launch(command, folder)
            self._processes[number] = process
            facts = {
                "number": number,
                "kind": kind,
                "arguments": command,
                "settings": dict(settings),
                "began": time.time(),
                "ended": None,
                "exit_code": None,
                "process": process.pid,
            }
            try:
                _write_json(folder / "job.json", facts)
            except OutputError:
                process.kill()
                raise
        watcher = threading.Thread(
            target=self._watch, args=(number, process, facts), name=f"dpk-job-{number}", daemon=True
        )
        self._threads.append(watcher)
        watcher.start()
        return self.get(number)

    def stop(self, number: int) -> Job:
        """Ask a job to end and keep what it has; asked again, it is ended at once."""
        job = self.get(number)
        process = self._processes.get(number)
        if job.state != RUNNING:
            return job
        if process is None:
            raise ValidationError(
                f"job {number} was begun by another server; stop it there, or end process "
                f"{_read_json(job.folder / 'job.json').get('process')}"
            )
        with self._lock:
            again = number in self._stopped
            self._stopped.add(number)
        if again:
            process.kill()
        else:
            _interrupt(process)
        return job

    def close(self) -> None:
        """Ask all jobs to end, and wait for them."""
        for number, process in list(self._processes.items()):
            if process.poll() is None:
                self._stopped.add(number)
                _interrupt(process)
        until = time.monotonic() + _PATIENCE_S
        for process in list(self._processes.values()):
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        for thread in self._threads:
            thread.join(timeout=10)

    # -- small parts ------------------------------------------------------------------------------

    def _watch(self, number: int, process: subprocess.Popen[bytes], facts: dict[str, Any]) -> None:
        before: Mapping[str, Any] = {}
        folder = self.folder / str(number)
        while True:
            try:
                process.wait(_POLL_S)
                break
            except subprocess.TimeoutExpired:
                now = _read_json(folder / "progress.json")
                if now != before:
                    before = now
                    self._tell(number)
        ending = {
            "ended": time.time(),
            "exit_code": process.returncode,
            "stopped": number in self._stopped,
        }
        with suppress(OutputError):  # a full disk: what it made is there all the same
            _write_json(folder / "job.json", facts | ending)
        self._endings[number] = ending
        self._tell(number)

    def _tell(self, number: int) -> None:
        with suppress(ValidationError):  # somebody has removed or damaged its notes
            self.on_change(self.get(number))

    def _state(self, facts: Mapping[str, Any]) -> str:
        number, code = int(facts["number"]), facts.get("exit_code")
        if code is None:
            # Ours runs until its watcher has noted how it ended: then all of it is known at once.
            alive = number in self._processes or (
                _is_alive(facts.get("process")) and _is_held(self.folder / str(number) / LOG)
            )
            return RUNNING if alive else FAILED  # it ended while no server took note
        if facts.get("stopped") or number in self._stopped:
            return STOPPED
        return {0: DONE, _INTERRUPTED: STOPPED}.get(code, FAILED)

    def _numbers(self) -> list[int]:
        try:
            names = [p.name for p in self.folder.iterdir()]
        except OSError:
            return []
        return [int(name) for name in names if name.isascii() and name.isdigit()]


def _launch(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "DPK_PROGRESS_FILE": str(folder / "progress.json"),
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    # A group of its own: Ctrl-C in the server's terminal is for the server, which then tells it.
    alone: dict[str, Any] = (
        {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
    with (folder / LOG).open("wb") as log:
        # The command inherits the lock with the file: it is held as long as the command runs.
        if fcntl is not None:
            with suppress(OSError):  # a disk without locks
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return subprocess.Popen(
            [sys.executable, "-m", "dpk_core", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            **alone,
        )


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C, which a command begun in the background by a shell may not hear."""
    if process.poll() is None:
        windows = sys.platform == "win32"
        process.send_signal(signal.CTRL_BREAK_EVENT if windows else signal.SIGTERM)


def _is_alive(number: Any) -> bool:
    if not isinstance(number, int) or sys.platform == "win32":
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _is_held(log: Path) -> bool:
    """Whether a command still writes its log; else its process number is another program's now.

    Source: flock(2): a lock belongs to the open file, which a child inherits, and goes with it.
    """
    if fcntl is None:
        return True
    try:
        with log.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:  # a disk without locks: the process number is all there is to go by
        return True
    return False


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
