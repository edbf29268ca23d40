"""Settings of other programs: plain data alone, and never more than the file has room for."""

from __future__ import annotations

import pytest

from dpk_core.errors import FileFormatError
from dpk_io_formats.plain_yaml import read_settings

LEVELS = 9
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, LEVELS)
)
MERGES = "a0: &a0 {b: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, LEVELS)
)


def test_plain_settings_and_tuples(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("\ufeffa: [1, 2.5]\nb: !!python/tuple [x, y]\nc: &c [1]\nd: *c\n", "utf-8")
    assert read_settings(path) == {"a": [1, 2.5], "b": ["x", "y"], "c": [1], "d": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than .* values"),  # 300 bytes that unfold to gigabytes where they are shown
        (MERGES, "not readable YAML"),
        ("a: &a [*a]", "more than .* values"),
        ("a: !!python/object/apply:os.system [echo]", "not readable YAML"),
        ("a: [" * 3000, "not readable YAML"),
        ("a: 2024-99-99", "not readable YAML"),
        ("- a\n- b", "expected settings"),
        ("", "expected settings"),
        ("a: '" + "x" * 2**22 + "'", "larger than any settings"),
    ],
)
def test_what_is_no_plain_settings_is_refused(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=rf"config\.yaml.*{message}"):
        read_settings(path)


def test_text_of_another_encoding_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes("a: Größe".encode("latin-1"))
    with pytest.raises(FileFormatError, match="not readable YAML"):
        read_settings(path)
