"""The dpk command as a process of its own: streams, exit codes, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from dpk_core.services.storage import is_complete, read_poses

DPK = [sys.executable, "-c", "from dpk_core.cli import main; main()"]


def test_results_go_to_stdout_and_errors_to_stderr(fake_model, video):
    done = subprocess.run(
        [*DPK, "predict", str(fake_model), str(video)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "40 frames" in done.stdout
    assert done.stderr == ""
    done = subprocess.run(
        [*DPK, "predict", str(fake_model), "absent.mp4"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "Error: no video, labelled set or image folder at absent.mp4\n"


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_prediction_leaves_a_file_that_goes_on(fake_model, video, tmp_path, number):
    command = [*DPK, "predict", str(fake_model), str(video), "--batch-size", "2"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "FAKE_ENGINE_SECONDS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        # Tests that a shell runs in the background inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    output = tmp_path / "walk.poses.h5"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (output.exists() and len(read_poses(output))):
        time.sleep(0.05)
    process.send_signal(number)
    _, message = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "carries on" in message
    assert "Traceback" not in message
    stored = len(read_poses(output))
    assert 0 < stored < 40
    assert stored % 2 == 0
    assert not is_complete(output)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{stored} of them before" in done.stdout
    assert is_complete(output)
