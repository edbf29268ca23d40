"""The page: HTML, scripts and styles that come with the package."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
}
INDEX = "index.html"


class PageFiles:
    """The files of the page by name. A name that a browser sends is looked up, never opened."""

    def __init__(self, folder: Traversable | None = None) -> None:
        self._folder = files("dpk_annotator") / "page" if folder is None else folder

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Content and type; None when the page has no such file."""
        found = self._listed().get(name)
        if found is None:
            return None
        return found.read_bytes(), _TYPES[name[name.rindex(".") :]]

    def _listed(self) -> dict[str, Traversable]:
        found: dict[str, Traversable] = {}
        if self._folder.is_dir():
            _gather(self._folder, "", found)
        return found


def _gather(folder: Traversable, prefix: str, found: dict[str, Traversable]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _gather(entry, f"{prefix}{entry.name}/", found)
        elif any(entry.name.endswith(suffix) for suffix in _TYPES):
            found[prefix + entry.name] = entry
