"""Videos around a set: those that its images come from, and those that lie beside it.

The page names a video by a number that the server gave it, never by a path.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from dpk_annotator.images import ByteCache, jpeg
from dpk_annotator.store import Store
from dpk_core.errors import FileMissingError, ValidationError
from dpk_core.services.storage.video_links import read_video_facts
from dpk_core.services.video_paths import file_name, locate

if TYPE_CHECKING:
    from dpk_core.services.video import VideoReader

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg", ".h264", ".ts")
POSES_SUFFIX = ".poses.h5"
_OPEN = 3
_FRAME_BYTES = 48 * 2**20


@attrs.frozen
class Film:
    """A video that the page may ask for.

    Parameters
    ----------
    number
        Its name in requests.
    name
        The last part of its path.
    path
        Where it is; None when it is not there.
    """

    number: int
    name: str
    path: Path | None


@attrs.frozen
class FilmFacts:
    """What is known of a video once it was opened: frames, frames a second, height, width."""

    n_frames: int
    fps: float
    height: int
    width: int


class Films:
    """The videos of a set, opened when they are asked for. May be used from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._films: list[Film] = []
        self._by_name: dict[tuple[str, Path], int] = {}
        self._by_path: dict[Path, int] = {}
        self._readers: OrderedDict[int, VideoReader] = OrderedDict()
        self._frames = ByteCache(_FRAME_BYTES)

    def all(self) -> list[Film]:
        """Every video, those of the set first; numbers stay while the server runs."""
        folder = self._store.path.parent
        with self._lock:
            named = dict.fromkeys(s.video for s in self._store.sources if s.frame >= 0)
            of_set = {self._note(video, folder).number for video in named if video}
            for path in self._beside(folder):
                self._note(path.name, folder)
            for film in self._films:
                if film.path is not None and not film.path.exists():
                    self._films[film.number] = attrs.evolve(film, path=None)
            return [film for film in self._films if film.number in of_set or film.path is not None]

    def get(self, number: int) -> Film:
        """A video by its number; ValidationError when there is none."""
        known = self._films[number] if 0 <= number < len(self._films) else None
        if known is not None and known.path is not None and known.path.exists():
            return known  # asked for with every frame
        self.all()
        if not 0 <= number < len(self._films):
            raise ValidationError(f"there is no video {number}")
        return self._films[number]

    def of_poses(self, poses: Path) -> Film | None:
        """The video that a file of poses was predicted from; None when it is not here."""
        video = read_video_facts(poses).get("video", "")
        found = locate(video, poses.parent) or locate(file_name(video), self._store.path.parent)
        if found is None:
            return None
        self.all()
        with self._lock:
            return self._note(str(found), poses.parent)

    def is_of(self, film: Film, video: str) -> bool:
        """Whether a name that stands in the set is that of a video."""
        with self._lock:
            number = self._by_name.get((video, self._store.path.parent))
            if number is None and video:
                number = self._note(video, self._store.path.parent).number
        return number == film.number

    def path_of(self, number: int) -> Path:
        """Where a video is; FileMissingError when it is not there."""
        film = self.get(number)
        if film.path is None:
            raise FileMissingError(
                f"the video {film.name} is not where it was; put it beside the set, or tell the "
                "set where it is with dpk relink"
            )
        return film.path

    def facts(self, number: int) -> FilmFacts:
        """Length and size of a video, which is opened for that.

        Raises
        ------
        FileMissingError, VideoError
        """
        reader = self._reader(number)
        height, width = reader.shape[:2]
        return FilmFacts(len(reader), float(reader.fps), height, width)

    def frame(self, number: int, frame: int) -> bytes:
        """Exactly that frame as JPEG.

        Raises
        ------
        ValidationError
            When there is no such frame.
        FileMissingError, VideoError
        """
        reader = self._reader(number)
        if not 0 <= frame < len(reader):
            raise ValidationError(f"frame: expected 0 to {len(reader) - 1}, found {frame}")
        return self._frames.get((number, frame), lambda: jpeg(reader[frame]))

    def close(self) -> None:
        """Close all videos."""
        with self._lock:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()

    # -- small parts ------------------------------------------------------------------------------

    def _note(self, video: str, folder: Path) -> Film:
        """The video of that name, with the number that it has by this name, or by its place."""
        path = locate(video, folder)
        place = None if path is None else path.resolve()
        number = self._by_name.get((video, folder))
        if number is None and place is not None:
            number = self._by_path.get(place)
        if number is None:
            number = len(self._films)
            self._films.append(Film(number, file_name(video), path))
        self._by_name[video, folder] = number
        if place is not None:
            self._by_path[place] = number
            # One that was not there may have been put back.
            self._films[number] = attrs.evolve(self._films[number], path=path)
        return self._films[number]

    def _beside(self, folder: Path) -> list[Path]:
        try:
            found = sorted(folder.iterdir())
        except OSError:
            return []
        return [
            p
            for p in found
            if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".") and p.is_file()
        ]

    def _reader(self, number: int) -> VideoReader:
        from dpk_core.services.video import VideoReader

        path = self.path_of(number)
        with self._lock:
            reader = self._readers.get(number)
            if reader is not None:
                self._readers.move_to_end(number)
                return reader
            reader = VideoReader(path)
            self._readers[number] = reader
            if len(self._readers) > _OPEN:
                # Whoever reads from it now has it still; it is closed when nobody has.
                self._readers.popitem(last=False)
            return reader
