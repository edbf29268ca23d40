"""The ``dpk`` command: parse, call the workflow, show progress."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Run ``dpk``; the exit code is 0, 1 for an error, 2 for wrong usage, 130 when interrupted."""
    # TensorFlow tells of its every optimization; who wants that sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signal.signal(signal.SIGTERM, _interrupt)
    from dpk_core.cli.app import app

    app(prog_name="dpk")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End on SIGTERM as on Ctrl-C: with files that are whole."""
    raise KeyboardInterrupt
