"""Videos around a set: those that its images come from, and others near it.

The page names a video by a number that the server gave it, never by a path.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from dpk_annotator.film_places import VIDEO_SUFFIXES, FilmPlaces, alike
from dpk_annotator.images import ByteCache, jpeg
from dpk_annotator.store import Store
from dpk_core.errors import FileMissingError, ValidationError, VideoError
from dpk_core.services.storage import read_annotations
from dpk_core.services.storage.video_links import read_video_facts
from dpk_core.services.video_paths import file_name

if TYPE_CHECKING:
    from dpk_core.services.video import VideoReader

POSES_SUFFIX = ".poses.h5"
_OPEN = 3
_FRAME_BYTES = 16 * 2**20  # the page keeps what it has shown itself

Stamp = tuple[int, int, int, int]
"""Device, number, size and time of change of a file: another one, or a changed one, has others."""


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
    """The videos of a set, opened when they are asked for. May be used from several threads.

    Parameters
    ----------
    store
        The set.
    folders
        Where videos are looked for besides the usual places; see `film_places`.

    Raises
    ------
    FileMissingError
        When one of the folders is not there.
    """

    def __init__(self, store: Store, folders: Sequence[Path] = ()) -> None:
        self._store = store
        self.places = FilmPlaces(store.path, folders)
        self._lock = threading.Lock()
        self._films: list[Film] = []
        self._by_name: dict[tuple[str, Path], int] = {}
        self._by_path: dict[Path, int] = {}
        # Files that were found by a name alone, elsewhere than the set says:
        self._doubts: dict[int, set[str]] = {}
        self._is_it: dict[tuple[str, Stamp], bool] = {}
        self._opening = threading.Lock()
        self._readers: OrderedDict[int, tuple[Stamp, VideoReader]] = OrderedDict()
        self._frames = ByteCache(_FRAME_BYTES)

    def all(self) -> list[Film]:
        """Every video, those of the set first; numbers stay while the server runs."""
        home = self._store.path.parent
        with self._lock:
            files = self.places.files(VIDEO_SUFFIXES)
            named = dict.fromkeys(s.video for s in self._store.sources if s.frame >= 0)
            of_set = {self._note(video, home, files).number for video in named if video}
            for path in files:
                self._note(path.name, path.parent, None)
            for film in self._films:
                if film.path is not None and not os.path.exists(film.path):
                    self._films[film.number] = attrs.evolve(film, path=None)
            found = [f for f in self._films if f.number in of_set or self._is_listed(f)]
        self._forget_replaced()
        return found

    def get(self, number: int) -> Film:
        """A video by its number; ValidationError when there is none."""
        known = self._films[number] if 0 <= number < len(self._films) else None
        if known is not None and known.path is not None and os.path.exists(known.path):
            return known  # asked for with every frame
        self.all()
        if not 0 <= number < len(self._films):
            raise ValidationError(f"there is no video {number}")
        return self._films[number]

    def of_poses(self, poses: Path) -> Film | None:
        """The video that a file of poses was predicted from; None when it is not here.

        Where the file names none, as poses from elsewhere do not, it is the video whose name it
        has: ``day1.mp4`` for ``day1.poses.h5``.
        """
        video = read_video_facts(poses).get("video", "")
        if not video:
            files = self.places.files(VIDEO_SUFFIXES)
            beside = alike(poses.name.removesuffix(POSES_SUFFIX), files)
            video = str(beside[0].absolute()) if beside else ""
        found = self.places.where_named(video, poses.parent)
        if found is None and video:
            found = next(iter(alike(video, self.places.files(VIDEO_SUFFIXES))), None)
        if found is None:
            return None
        self.all()
        with self._lock:
            return self._note(str(found.absolute()), poses.parent, None)

    def is_of(self, film: Film, video: str) -> bool:
        """Whether a name that stands in the set is that of a video."""
        with self._lock:
            number = self._by_name.get((video, self._store.path.parent))
            if number is None and video:
                files = self.places.files(VIDEO_SUFFIXES)
                number = self._note(video, self._store.path.parent, files).number
        return number == film.number

    def in_set(self, film: Film) -> list[tuple[int, int]]:
        """(row, frame) of the images that come from a video."""
        sources = self._store.sources
        names = {name for name in {s.video for s in sources} if self.is_of(film, name)}
        return [
            (row, source.frame)
            for row, source in enumerate(sources)
            if source.frame >= 0 and source.video in names
        ]

    def path_of(self, number: int) -> Path:
        """Where a video is, which is the one that the set's images come from, if any do.

        Raises
        ------
        FileMissingError
            When it is not there.
        ValidationError
            When a video of that name is another one.
        """
        film = self.get(number)
        if film.path is None:
            raise FileMissingError(
                f"the video {film.name} is not where it was; put it beside the set, or tell the "
                "set where it is with dpk relink"
            )
        if self._doubts.get(number):
            with self._opening:
                self._make_certain(film, film.path)
        return film.path

    def facts(self, number: int) -> FilmFacts:
        """Length and size of a video, which is opened for that.

        Raises
        ------
        FileMissingError, VideoError
        ValidationError
            See `path_of`.
        """
        _, reader = self._reader(number)
        height, width = reader.shape[:2]
        return FilmFacts(len(reader), float(reader.fps), height, width)

    def version(self, number: int) -> str:
        """A text that is another one once the file is replaced or changed.

        Raises
        ------
        FileMissingError
        """
        return "-".join(f"{part:x}" for part in _stamp(self.path_of(number)))

    def frame(self, number: int, frame: int) -> bytes:
        """Exactly that frame as JPEG.

        Of a file that is replaced meanwhile, it is that of the new one.

        Raises
        ------
        ValidationError
            When there is no such frame, and as `path_of`.
        FileMissingError, VideoError
        """
        stamp, reader = self._reader(number)
        try:
            return self._frame_of(number, frame, stamp, reader)
        except (VideoError, ValidationError):
            stamp, now = self._reader(number)
            if now is reader:
                raise
            return self._frame_of(number, frame, stamp, now)  # it was closed or replaced meanwhile

    def close(self) -> None:
        """Close all videos."""
        with self._opening:
            for _, reader in self._readers.values():
                reader.close()
            self._readers.clear()

    # -- small parts ------------------------------------------------------------------------------

    def _frame_of(self, number: int, frame: int, stamp: Stamp, reader: VideoReader) -> bytes:
        if not 0 <= frame < len(reader):
            raise ValidationError(f"frame: expected 0 to {len(reader) - 1}, found {frame}")
        return self._frames.get((number, stamp, frame), lambda: jpeg(reader[frame]))

    def _note(self, video: str, folder: Path, files: Sequence[Path] | None) -> Film:
        """The video of that name, with the number that it has by this name, or by its place.

        Where it is not, ``files`` of the same name are taken for it until they are looked at; None
        for the name of a file that is there.
        """
        path = self.places.where_named(video, folder)
        is_doubtful = False
        if path is None and files is not None:
            path, is_doubtful = self._alike(video, files)
        place = None if path is None else path.resolve()
        number = self._by_name.get((video, folder))
        if number is None and place is not None:
            number = self._by_path.get(place)
        if number is None:
            number = len(self._films)
            name = file_name(video) if path is None else path.name
            self._films.append(Film(number, name, path))
        self._by_name[video, folder] = number
        if place is not None and path is not None:
            if files is not None or place not in self._by_path:
                self._by_path[place] = number  # a name in the set goes before that of the file
            known = self._films[number].path
            if known is None or known.resolve() != place:  # it may have been put back, or moved
                self._films[number] = Film(number, path.name, path)
        if is_doubtful:
            self._doubts.setdefault(number, set()).add(video)
        return self._films[number]

    def _is_listed(self, film: Film) -> bool:
        """Whether a file is here, and is not listed as the video of a name in the set already."""
        return film.path is not None and self._by_path.get(film.path.resolve()) == film.number

    def _alike(self, video: str, files: Sequence[Path]) -> tuple[Path | None, bool]:
        """A file that may be a video by its name, and whether that is all that is known."""
        for path in alike(video, files):
            try:
                is_it = self._is_it.get((video, _stamp(path)))
            except FileMissingError:  # it has gone since it was listed
                continue
            if is_it is not False:
                return path, is_it is None
        return None, False

    def _reader(self, number: int) -> tuple[Stamp, VideoReader]:
        """An open video as its file is now."""
        from dpk_core.services.video import VideoReader

        path = self.path_of(number)
        self._forget_replaced()
        with self._opening:
            found = self._readers.get(number)
            if found is not None:
                self._readers.move_to_end(number)
                return found
            stamp = _stamp(path)
            found = self._readers[number] = stamp, VideoReader(path)
            if len(self._readers) > _OPEN:
                _, (_, oldest) = self._readers.popitem(last=False)
                oldest.close()
            return found

    def _forget_replaced(self) -> None:
        """Let go of files that are no longer there, or were replaced or changed."""
        with self._opening:
            for number, (stamp, reader) in list(self._readers.items()):
                try:
                    is_same = stamp == _stamp(reader.path)
                except FileMissingError:
                    is_same = False
                if not is_same or self._films[number].path != reader.path:
                    del self._readers[number]
                    reader.close()  # the disk has the space of a removed file again

    def _make_certain(self, film: Film, path: Path) -> None:
        """Compare a video that was found by its name with the images that come from it."""
        from dpk_core.workflow.relink import why_other_video

        names = self._doubts.get(film.number, set())
        if not names:
            return
        stamp = _stamp(path)
        labels = read_annotations(self._store.path)
        try:
            rows = [i for i, source in enumerate(labels.sources) if source.video in names]
            reason = why_other_video(labels, rows, path)
        finally:
            close = getattr(labels.images, "close", None)
            if close is not None:
                close()
        with self._lock:
            self._is_it |= {(name, stamp): reason is None for name in names}
            self._doubts.pop(film.number, None)
            if reason is None:
                return
            for key in [key for key in self._by_name if key[0] in names]:
                del self._by_name[key]  # the number stays that of the file
        raise ValidationError(
            f"{path} has the name of a video that images of the set come from, but is another "
            f"one: {reason}. It is listed by itself now; dpk relink finds the right one elsewhere"
        )


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        raise FileMissingError(f"the video {path.name} is not where it was") from None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
