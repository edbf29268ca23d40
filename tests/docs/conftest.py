"""The files that the examples in README and docs work on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dpk_core.services.storage import write_annotations
from dpk_core.testing import dot_annotations


@pytest.fixture
def example_files() -> Callable[[Path], None]:
    """Writes ``data.h5``, labelled images as the README's five lines expect them."""

    def write(folder: Path) -> None:
        write_annotations(folder / "data.h5", dot_annotations(8, size=(48, 48)))

    return write
