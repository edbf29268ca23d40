"""Jobs: dpk's commands in processes of their own, with folders that outlive both sides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dpk_annotator import jobs as jobs_module
from dpk_annotator.jobs import DONE, FAILED, RUNNING, STOPPED, Job, Jobs
from dpk_core.errors import OutputError, ValidationError
from dpk_core.services.storage import write_annotations
from dpk_core.testing import dot_annotations


@pytest.fixture
def jobs(tmp_path):
    made = Jobs(tmp_path / "labels.h5.jobs")
    yield made
    made.close()


def wait_for(condition, seconds=300.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


def ended(jobs, job) -> Job:
    wait_for(lambda: jobs.get(job.number).state != RUNNING)
    return jobs.get(job.number)


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.h5"
    write_annotations(path, dot_annotations(8, size=(32, 32)))
    return path


TRAIN = (
    "--set", "growth_rate=4", "--sigma", "3", "--augmenter", "none", "--batch-size", "4",
    "--run-dir", "{folder}/model.run", "-o", "{folder}/model.keras",
)  # fmt: skip


def test_a_training_from_begin_to_end(jobs, labels):
    told = []
    jobs.on_change = told.append
    job = jobs.start("train", ["train", str(labels), *TRAIN, "--epochs", "3"], {"epochs": 3})
    assert (job.number, job.kind, job.state, job.settings) == (1, "train", RUNNING, {"epochs": 3})
    with pytest.raises(ValidationError, match=r"job 1 \(train\) is running"):
        jobs.start("train", ["train", str(labels), *TRAIN], {})
    job = ended(jobs, job)
    assert job.state == DONE, job.log()
    assert job.result is not None
    assert job.result.name == "model.keras"
    assert [row["epoch"] for row in job.curve()] == [1, 2, 3]
    assert all(row["loss"] > 0 for row in job.curve())
    assert job.progress["epochs"] == 3
    assert any("finished" in line for line in job.log())
    wait_for(lambda: told[-1].state == DONE)
    assert job.ended >= job.began


def test_a_training_that_is_stopped_keeps_its_best_model(jobs, labels):
    job = jobs.start("train", ["train", str(labels), *TRAIN, "--epochs", "100000"], {})
    wait_for(lambda: len(jobs.get(1).curve()) >= 2)
    jobs.stop(job.number)
    job = ended(jobs, job)
    assert job.state == STOPPED
    assert job.result is not None, job.log()
    assert jobs.stop(job.number).state == STOPPED, "again is no mistake"


def test_a_command_that_fails_says_why(jobs, tmp_path):
    job = ended(jobs, jobs.start("train", ["train", str(tmp_path / "absent.h5"), *TRAIN], {}))
    assert job.state == FAILED
    assert "absent.h5" in " ".join(job.log())
    assert (job.result, job.curve()) == (None, [])


def test_a_later_server_finds_the_jobs_of_an_earlier_one(jobs, labels):
    job = ended(jobs, jobs.start("train", ["plugins"], {"note": "é"}))
    later = Jobs(jobs.folder)
    assert [j.number for j in later.all()] == [1]
    assert later.get(1).state == job.state == DONE
    assert later.get(1).settings == {"note": "é"}
    assert later.start("predict", ["plugins"], {}).number == 2
    later.close()


def test_a_job_outlives_a_server_that_was_killed(tmp_path, monkeypatch):
    """It runs on; a later server sees it, and may not stop what it did not begin."""
    program = f"""
        import os, signal, subprocess, sys
        from pathlib import Path
        from dpk_annotator import jobs
        popen = subprocess.Popen
        sleep = [sys.executable, "-c", "import time; time.sleep(900)"]
        subprocess.Popen = lambda command, **options: popen(sleep, **options)
        made = jobs.Jobs(Path({str(tmp_path / "jobs")!r}))
        made.start("train", ["train"], {{}})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    lines = "\n".join(line.strip() for line in program.strip().splitlines())
    done = subprocess.run([sys.executable, "-c", lines], check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL
    jobs = Jobs(tmp_path / "jobs")
    number = json.loads((tmp_path / "jobs" / "1" / "job.json").read_text())["process"]
    try:
        assert jobs.get(1).state == RUNNING
        with pytest.raises(ValidationError, match=f"end process {number}"):
            jobs.stop(1)
    finally:
        os.kill(number, signal.SIGKILL)
    wait_for(lambda: jobs.get(1).state == FAILED)


def test_a_process_number_that_another_program_has_got_is_no_job(tmp_path):
    folder = tmp_path / "jobs" / "1"
    folder.mkdir(parents=True)
    facts = {"number": 1, "kind": "train", "began": 5.0, "process": os.getpid()}
    (folder / "job.json").write_text(json.dumps(facts))
    (folder / "log.txt").write_text("Epoch 1")
    jobs = Jobs(tmp_path / "jobs")
    assert jobs.get(1).state == FAILED
    jobs.stop(1)
    assert jobs.start("train", ["plugins"], {}).number == 2
    jobs.close()


@pytest.fixture
def deaf(monkeypatch):
    """Every job is a process that runs on for long and hears no wish to end."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    monkeypatch.setattr(
        jobs_module,
        "_launch",
        lambda command, folder: subprocess.Popen(
            [sys.executable, "-c", code + "; print(1, flush=True); time.sleep(900)"],
            stdout=(folder / "log.txt").open("wb"),
            start_new_session=True,
        ),
    )


def test_asked_twice_it_ends_at_once(jobs, deaf):
    job = jobs.start("predict", [], {})
    wait_for(lambda: job.log())
    jobs.stop(1)
    assert jobs.get(1).state == RUNNING
    jobs.stop(1)
    assert ended(jobs, job).state == STOPPED


def test_two_threads_begin_one_training(jobs, deaf):
    failures = []

    def begin():
        try:
            jobs.start("train", ["plugins"], {})
        except ValidationError as error:
            failures.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(2):
        jobs.stop(1)
    assert len(failures) == 3


@pytest.mark.parametrize("number", [0, 7, -1])
def test_a_job_that_is_not_there(jobs, number):
    with pytest.raises(ValidationError, match=f"no job {number}"):
        jobs.get(number)


def test_damaged_notes_of_a_job_are_no_reason_to_fail(jobs):
    job = ended(jobs, jobs.start("train", ["plugins"], {}))
    for name in ("progress.json", "job.json"):
        (job.folder / name).write_bytes(b"\xff{")
    (jobs.folder / "notes").mkdir()
    assert jobs.all() == []
    assert jobs.start("train", ["plugins"], {}).number == 2
    assert [job.number for job in jobs.all()] == [2]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "jobs").write_text("a file")
    with pytest.raises(OutputError, match="cannot make the folder"):
        Jobs(tmp_path / "jobs").start("train", ["plugins"], {})
