"""The cache of converted models: made once, never wrong, never in the way."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from dpk_core.errors import (
    DeviceMemoryError,
    DpkError,
    MissingDependencyError,
    ModelFileError,
    OutputError,
)
from dpk_core.services import conversion as module
from dpk_core.services.conversion import KEPT, Conversion, cache_folder

_NOBODY = 65534
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX processes and permissions")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Writes a file and counts how often."""

    def __init__(self, content: bytes = b"a model") -> None:
        self.content = content
        self.calls = 0

    def __call__(self, path: Path) -> None:
        self.calls += 1
        path.write_bytes(self.content)


def never(path):
    pytest.fail("it was made again")


def in_fork(function, *arguments):
    """Start a function in a process of its own; it inherits the cache's place."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def test_the_users_cache_folder_unless_another_is_named(cache, monkeypatch):
    assert cache_folder() == cache
    monkeypatch.delenv("DPK_CACHE")
    assert cache_folder().parts[-2:] == ("dpk", "models")


def test_it_is_made_once(cache):
    make = Maker()
    first = Conversion("a hash", ".onnx")
    assert not first.is_made
    path = first.get(make)
    assert (path.parent, path.suffix) == (cache, ".onnx")
    assert path.read_bytes() == b"a model"
    assert first.is_made
    assert Conversion("a hash", ".onnx").get(never) == path
    assert make.calls == 1


def test_whatever_it_depends_on_is_in_its_name():
    paths = {
        Conversion("a hash", ".onnx").path,
        Conversion("another", ".onnx").path,
        Conversion("a hash", ".xml").path,
        Conversion("a hash", ".onnx", precision="int8").path,
        Conversion("a hash", ".onnx", precision="int8", calibration="images").path,
    }
    assert len({path.stem for path in paths}) == 5


def _slowly(folder: Path, path: Path) -> None:
    (folder / f"maker{os.getpid()}").touch()
    time.sleep(0.3)
    path.write_bytes(b"a model")


@posix
def test_of_several_processes_one_makes_it_and_the_others_wait(tmp_path):
    def ask():
        path = Conversion("a hash", ".onnx").get(lambda path: _slowly(tmp_path, path))
        os._exit(0 if path.read_bytes() == b"a model" else 1)

    processes = [in_fork(ask) for _ in range(4)]
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(list(tmp_path.glob("maker*"))) == 1


@posix
def test_waiting_has_an_end(monkeypatch):
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def hang():
        def make(path):
            sender.send("making")
            time.sleep(900)

        Conversion("a hash", ".onnx").get(make)

    process = in_fork(hang)
    assert receiver.poll(300)
    monkeypatch.setattr(module, "_LONGEST_WAIT", 0.1)
    with pytest.raises(OutputError, match="another process has been converting"):
        Conversion("a hash", ".onnx").get(never)
    process.kill()
    process.join()


def test_a_failure_is_remembered_until_it_goes_well():
    def fail(path):
        path.write_bytes(b"half of it")
        raise ModelFileError("ONNX has no equivalent of the operation Fancy")

    conversion = Conversion("a hash", ".onnx")
    assert conversion.failure is None
    with pytest.raises(ModelFileError, match="Fancy"):
        conversion.get(fail)
    assert not conversion.is_made
    assert not conversion.path.exists()
    assert "Fancy" in Conversion("a hash", ".onnx").failure
    assert Conversion("another", ".onnx").failure is None
    conversion.get(Maker())
    assert conversion.failure is None


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's, which is no MemoryError."""


@pytest.mark.parametrize(
    "cause",
    [
        OSError(28, "No space left on device"),
        MemoryError(),
        ResourceExhaustedError("OOM"),
        ChildProcessError("exit code -9"),
        subprocess.CalledProcessError(-9, ["convert"]),
        ImportError("no tf2onnx"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_go_better_next_time_is_not_remembered(cause):
    def fail(path):
        try:
            raise cause
        except Exception as error:
            raise DpkError("the network could not be exported") from error

    conversion = Conversion("a hash", ".onnx")
    with pytest.raises(DpkError, match="could not be exported"):
        conversion.get(fail)
    assert conversion.failure is None


@pytest.mark.parametrize("error", [OutputError, MissingDependencyError, DeviceMemoryError])
def test_nor_are_our_own_errors_of_that_kind(error):
    def fail(path):
        raise error("not now")

    conversion = Conversion("a hash", ".onnx")
    with pytest.raises(error):
        conversion.get(fail)
    assert conversion.failure is None


def test_a_cause_within_the_network_is_remembered():
    def fail(path):
        raise DpkError("the network could not be exported") from ValueError("no such operation")

    conversion = Conversion("a hash", ".onnx")
    with pytest.raises(DpkError):
        conversion.get(fail)
    assert conversion.failure == "the network could not be exported"


def _cut(path):
    path.write_bytes(path.read_bytes()[:3])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [_cut, _flip, lambda p: p.write_bytes(b""), Path.unlink, lambda p: p.write_text("é\0")],
    ids=["cut", "a bit", "empty", "gone", "other"],
)
@pytest.mark.parametrize("which", [".onnx", ".hash"])
def test_what_was_damaged_is_made_again(damage, which):
    conversion = Conversion("a hash", ".onnx")
    path = conversion.get(Maker())
    damage(path.with_suffix(which))
    assert not conversion.is_made
    again = Maker()
    assert conversion.get(again) == path
    assert (path.read_bytes(), again.calls) == (b"a model", 1)
    assert conversion.is_made


def test_an_interrupted_making_leaves_nothing(cache):
    def interrupt(path):
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    conversion = Conversion("a hash", ".onnx")
    with pytest.raises(KeyboardInterrupt):
        conversion.get(interrupt)
    assert conversion.failure is None
    assert [p.suffix for p in cache.iterdir()] in ([".lock"], [])
    assert conversion.get(Maker()).read_bytes() == b"a model"


@posix
def test_a_killed_making_is_begun_anew(cache):
    def die():
        def make(path):
            path.write_bytes(b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)

        Conversion("a hash", ".onnx").get(make)

    process = in_fork(die)
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    conversion = Conversion("a hash", ".onnx")
    assert not conversion.is_made
    assert conversion.get(Maker()).read_bytes() == b"a model"
    assert not list(cache.glob("*partial*"))


def test_the_cache_stays_small_and_keeps_what_is_used(cache):
    used = Conversion("used", ".onnx")
    used.get(Maker())
    now = time.time()
    for i in range(KEPT + 5):
        path = Conversion(f"model {i}", ".onnx" if i % 2 else ".xml").get(Maker())
        for file in cache.glob(f"{path.stem}.*"):
            os.utime(file, (now - 1000 + i,) * 2)
        used.get(never)
    models = [*cache.glob("*.onnx"), *cache.glob("*.xml")]
    assert len(models) == KEPT
    assert used.is_made
    assert Conversion(f"model {KEPT + 4}", ".xml").is_made
    assert not Conversion("model 0", ".xml").is_made
    assert {p.stem for p in cache.iterdir()} == {p.stem for p in models}


def test_leftovers_of_the_killed_are_swept_away(cache):
    cache.mkdir()
    name = ".0123456789abcdef0123456789abcdef.a1b2c3-{}-01234567.partial.onnx"
    old, new = cache / name.format(1), cache / name.format(2)
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    Conversion("a hash", ".onnx").get(Maker())
    assert (old.exists(), new.exists()) == (False, True)


def test_what_the_user_keeps_in_the_folder_stays(cache):
    cache.mkdir()
    digest = "d41d8cd98f00b204e9800998ecf8427e"
    names = [f"results {i}.csv" for i in range(2 * KEPT)]
    names += [".bashrc", ".notes.partial.txt", f"{digest}.csv", "model.onnx", "model.hash"]
    for name in names:
        (cache / name).write_text("years of work")
        os.utime(cache / name, (time.time() - 30 * 86400,) * 2)
    (cache / ".git").mkdir()
    for i in range(KEPT + 2):
        Conversion(f"model {i}", ".swift").get(Maker())
    assert all((cache / name).read_text() == "years of work" for name in names)
    assert (cache / ".git").is_dir()
    assert len(list(cache.glob("*.swift"))) == KEPT


# -- where nothing may be written ----------------------------------------------------------------


@pytest.fixture
def open_folder():
    """A folder that everybody may look into; pytest's own are for their owner alone."""
    folder = Path(tempfile.mkdtemp(prefix="dpk-cache-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def _as_nobody(function):
    """What the function returns, or the error it raises, for a user without privileges."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def attempt():
        if os.geteuid() == 0:
            os.setuid(_NOBODY)
        try:
            sender.send(("done", function()))
        except DpkError as error:
            sender.send((type(error).__name__, str(error)))

    process = in_fork(attempt)
    assert receiver.poll(300), "the process died without a word"
    answer = receiver.recv()
    process.join()
    return answer


@posix
@pytest.mark.parametrize("place", ["", "deeper/cache"])
def test_a_cache_that_may_not_be_written_to(open_folder, monkeypatch, place):
    monkeypatch.setenv("DPK_CACHE", str(open_folder / place))
    open_folder.chmod(0o555)
    make = Maker()
    kind, message = _as_nobody(lambda: Conversion("a hash", ".onnx").get(make))
    assert kind == "OutputError"
    assert "no permission" in message
    assert make.calls == 0
    assert list(open_folder.iterdir()) == []


@posix
def test_what_lies_in_a_read_only_cache_is_used(open_folder, monkeypatch):
    monkeypatch.setenv("DPK_CACHE", str(open_folder))
    path = Conversion("a hash", ".onnx").get(Maker())
    for file in open_folder.iterdir():
        file.chmod(0o444)
    open_folder.chmod(0o555)
    assert _as_nobody(lambda: Conversion("a hash", ".onnx").get(Maker())) == ("done", path)


def test_a_file_where_the_folder_should_be(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("DPK_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="DPK_CACHE"):
        Conversion("a hash", ".onnx").get(Maker())
    assert (tmp_path / "file").read_text() == "not a folder"
