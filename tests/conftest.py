"""Fixtures that every package's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data: ``$DPK_TEST_DATA``, or ``shared/data`` beside the project."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("DPK_TEST_DATA", default))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set DPK_TEST_DATA to a folder that has it")
    return root


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Converted models of the tests never reach the cache of whoever runs them."""
    os.environ["DPK_CACHE"] = str(tmp_path_factory.mktemp("cache"))
