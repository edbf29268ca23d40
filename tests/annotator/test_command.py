"""``dpk annotate`` as a person runs it: a real server, a real end."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import pytest

from dpk_annotator.serving import Address, listen
from dpk_core.errors import OutputError
from dpk_core.services.storage import read_annotations

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals differ there")


class Annotating:
    """A running ``dpk annotate``."""

    def __init__(self, *arguments: object) -> None:
        code = "from dpk_core.cli import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "annotate", *map(str, arguments), "--no-browser"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)(/\S+/)", line)
        assert found, line + self.process.communicate()[1]
        self.port, self.path = int(found[1]), found[2]

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def ask(self, method: str, path: str, value: object = None) -> tuple[int, object]:
        connection = self.connection()
        body = None if value is None else json.dumps(value)
        headers = {"content-type": "application/json"}
        connection.request(method, self.path + path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, json.loads(content)

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(number)
        _, told = self.process.communicate(timeout=300)
        return self.process.returncode, told


def flagged(row: int, base: int = 0, client: str = "me") -> dict:
    edit = {"kind": "move", "keypoint": "head", "x": row, "y": 9}
    return {
        "client": client, "base": base, "token": f"{client} {row}",
        "changes": [{"row": row, "edit": edit}],
    }  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_edits_are_in_the_file_after_the_end(labels_file: Path, number: int) -> None:
    running = Annotating(labels_file)
    status, found = running.ask("GET", "api/set")
    assert (status, found["n"]) == (200, 6)
    stream = running.connection()
    stream.request("GET", running.path + "api/events?client=me")
    events = stream.getresponse()
    assert events.readline() == b"retry: 1000\n"
    assert running.ask("POST", "api/edit", flagged(3))[0] == 200
    # Among them are pings, the more the longer it took.
    assert b"event: changed\n" in (events.readline() for _ in range(100))
    code, told = running.stop(number)
    assert code == 0
    assert "is up to date" in told
    assert "Traceback" not in told
    assert urllib.parse.unquote(running.path.strip("/")) not in told
    stream.close()
    assert read_annotations(labels_file).keypoints[3, 0].tolist() == [3, 9]


def test_two_servers_on_one_set_share_the_journal(labels_file: Path) -> None:
    one, two = Annotating(labels_file), Annotating(labels_file)
    assert one.port != two.port
    stream = two.connection()
    stream.request("GET", two.path + "api/events")
    events = stream.getresponse()
    heard: list[bytes] = []
    changed = threading.Event()

    def hear() -> None:
        for line in events:
            heard.append(line)
            if b'"anna"' in line:
                changed.set()

    thread = threading.Thread(target=hear)
    thread.start()
    assert one.ask("POST", "api/edit", flagged(2, client="anna"))[0] == 200
    assert changed.wait(300), heard
    row = two.ask("GET", "api/rows/2")[1]
    assert row["points"]["head"] == [2, 9, 2, True]
    assert two.ask("POST", "api/edit", flagged(4, 1, "ben"))[0] == 200
    assert one.ask("GET", "api/rows/4")[1]["points"]["head"] == [4, 9, 2, True]
    assert one.stop()[0] == 0
    assert two.ask("POST", "api/edit", flagged(5, 2, "ben"))[0] == 200
    assert two.stop()[0] == 0
    thread.join()
    stream.close()
    keypoints = read_annotations(labels_file).keypoints
    assert [keypoints[row, 0].tolist() for row in (2, 4, 5)] == [[2, 9], [4, 9], [5, 9]]


def test_read_only_serves_and_writes_nothing(labels_file: Path) -> None:
    content = labels_file.read_bytes()
    running = Annotating(labels_file, "--read-only")
    assert running.ask("GET", "api/set")[1]["read_only"]
    assert running.ask("POST", "api/edit", flagged(3))[0] == 423
    assert running.stop()[0] == 0
    assert labels_file.read_bytes() == content


def test_a_file_that_cannot_be_updated_is_told_of_at_the_end(labels_file: Path) -> None:
    labels_file.chmod(0o444)
    running = Annotating(labels_file)
    assert running.ask("POST", "api/edit", flagged(3))[0] == 200
    code, told = running.stop()
    assert code == 0
    assert "no label is lost" in told


def test_what_is_missing_is_one_sentence(tmp_path: Path) -> None:
    code = "from dpk_core.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "annotate", str(tmp_path / "no.h5")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "nothing is at" in done.stderr
    assert "Traceback" not in done.stderr


def test_small_answers_are_sent_at_once() -> None:
    """asyncio asks the socket for its protocol before it turns off Nagle's waiting."""
    with (
        listen("127.0.0.1", None) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.proto == socket.IPPROTO_TCP


def test_a_taken_port_is_told_of_and_a_free_one_is_found() -> None:
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        port = first.getsockname()[1]
        assert second.getsockname()[1] != port
        with pytest.raises(OutputError, match=f"port {port}.*choose another --port"):
            listen("127.0.0.1", port)
    with pytest.raises(OutputError, match="cannot listen on"):
        listen("203.0.113.77", 8800)
    with pytest.raises(OutputError, match="cannot listen on"):
        listen("no.such.host.invalid", None)


def test_addresses_for_here_and_for_afar(monkeypatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "lab7")
    monkeypatch.setattr("getpass.getuser", lambda: "anna")
    address = Address("127.0.0.1", 8710, "T")
    assert address.url == "http://127.0.0.1:8710/T/"
    assert address.tunnel == "ssh -N -L 8710:127.0.0.1:8710 anna@lab7"
    assert Address("::1", 8710, "T").url == "http://[::1]:8710/T/"
    assert Address("0.0.0.0", 8710, "T").url == "http://127.0.0.1:8710/T/"
    assert address.network_url is None
    assert Address("0.0.0.0", 8710, "T").network_url == "http://lab7:8710/T/"
    assert Address("192.168.1.7", 80, "T").url == "http://192.168.1.7:80/T/"
