"""Reading frames of a video by number and in sequence."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import SupportsIndex

import av
import numpy as np

from dpk_core.errors import ValidationError, VideoError
from dpk_core.services.video.damage import VideoCheck
from dpk_core.services.video.decoder import Decoder
from dpk_core.services.video.opening import IndexMode, OpenedVideo, open_video
from dpk_core.services.video.pixels import PixelConverter, shows_no_colour
from dpk_core.services.video.prefetch import Prefetcher
from dpk_core.services.video.source import VideoSource

_CACHE_BYTES = 128 * 2**20
_CACHE_FRAMES = (4, 64)
_AHEAD_BYTES = 64 * 2**20
_AHEAD_FRAMES = (2, 16)
_BEHIND = 4  # frames before one that was leapt to, kept for a step back
_SHORT_WAY = 4  # frames that are decoded as quickly as a seek is made
_FINGERPRINT_BLOCK = 64 * 1024
_FINGERPRINT_BLOCKS = 16


class VideoReader:
    """The frames of a video, by number or in sequence.

    ``reader[i]`` is exactly the frame that decoding from the beginning gives as number i, for
    videos with B-frames, variable frame rate, open GOPs, edit lists, missing or repeated
    timestamps. A frame that cannot be decoded raises; frames never shift.

    Several threads may read from one reader; `frames` decodes in a thread of its own.

    Parameters
    ----------
    path : the video file. Audio and further video streams in it are ignored.
    grayscale : give (h, w, 1) luma instead of (h, w, 3) RGB. Luma is what the file stores,
        stretched to 0..255 where its range is limited; for files that store RGB it is
        0.299 R + 0.587 G + 0.114 B.
    n_threads : threads for decoding; 0 for as many as there are cores, at most 4.
    strict : True refuses frames with damaged data and all that are decoded from them. False gives
        them as players show them; only frames that the decoder leaves out raise.
    index : "auto" numbers frames by the container's timestamps where these are complete and agree
        with the decoder, and decodes the whole video once otherwise. "decode" always does the
        latter: slow to open, and right for any video.

    Notes
    -----
    Damage is found where the container's structure breaks, where the decoder reports an error or
    leaves a frame out, and where H.264 and H.265 hold bytes that no encoder writes. Codecs without
    checksums may decode noise in a picture's own data into a wrong picture of the right number.
    On the way to a frame of H.264 or H.265, pictures that no other is decoded from are left out;
    a frame is given although one of those is damaged.
    Streams without a container's structure (.h264, and .ts cut between its packets) do not tell
    how many frames were lost; record into .mp4, .mkv or .avi.

    Colours are converted by the matrix and range that the file names (BT.601, limited range where
    it names none). A rotation by quarter turns that the file asks for is applied, as players do.

    Raises
    ------
    FileMissingError
        When there is no file.
    VideoError
        When it is not a video, has no frames, or none of them decodes.

    Examples
    --------
    >>> with VideoReader("flies.mp4") as video:                     # doctest: +SKIP
    ...     print(len(video), video.shape, video.fps)
    ...     frame = video[120]
    ...     for frame in video.frames(start=100, stop=200):
    ...         ...
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        grayscale: bool = False,
        n_threads: int = 0,
        strict: bool = True,
        index: IndexMode = "auto",
    ) -> None:
        if n_threads < 0:
            raise ValidationError(f"n_threads: expected 0 or more, found {n_threads}")
        if index not in ("auto", "decode"):
            raise ValidationError(f'index: expected "auto" or "decode", found {index!r}')
        self._n_threads = n_threads or min(4, os.cpu_count() or 1)
        self._strict = strict
        self._grayscale = grayscale
        source = VideoSource.of(path)
        self._video: OpenedVideo = open_video(
            source, mode=index, n_threads=self._n_threads, strict=strict
        )
        self._convert = PixelConverter(self._video.first, grayscale=grayscale)
        self._decoder = self._new_decoder()
        self._pictures: Iterator[tuple[int, av.VideoFrame]] | None = None
        self._next = 0
        self._cache: OrderedDict[int, av.VideoFrame] = OrderedDict()
        self._cache_size = _within(_CACHE_BYTES // _stored_bytes(self._video.first), _CACHE_FRAMES)
        self._lock = threading.Lock()
        self._prefetchers: weakref.WeakSet[Prefetcher[np.ndarray]] = weakref.WeakSet()
        self._closed = False

    # What the video is

    def __len__(self) -> int:
        return len(self._video.index)

    @property
    def n_frames(self) -> int:
        """The number of frames in the container, readable or not."""
        return len(self)

    @property
    def path(self) -> Path:
        """The file."""
        return self._video.source.path

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every frame."""
        return self._convert.shape

    @property
    def codec(self) -> str:
        """The codec's short name, such as "h264"."""
        return self._video.index.facts.codec

    @property
    def is_grayscale(self) -> bool:
        """Whether the video shows no colour, judged by its format and its first frame."""
        return shows_no_colour(self._video.first)

    @property
    def fps(self) -> float:
        """The average number of frames per second; 0.0 where the file does not tell."""
        stated = self._video.index.facts.average_rate
        times = self._video.index.times()
        seen = times[~np.isnan(times)]
        if len(seen) < max(2, len(times)) or seen[-1] <= seen[0]:
            return stated
        measured = (len(seen) - 1) / float(seen[-1] - seen[0])
        # The stated rate is free of the rounding of timestamps, where it is not plain wrong.
        return stated if abs(stated - measured) <= 0.01 * measured else measured

    @property
    def timestamps(self) -> np.ndarray:
        """(n,) float64 seconds of each frame as the container gives them.

        The first may lie before or after 0. Where the container has none they are i / fps.
        """
        times = self._video.index.times()
        if np.isnan(times).any():
            rate = self.fps or 1.0
            return np.where(np.isnan(times), np.arange(len(times)) / rate, times)
        return times

    def __repr__(self) -> str:
        height, width, channels = self.shape
        return (
            f"VideoReader({str(self.path)!r}, {len(self)} frames of ({height}, {width}, "
            f"{channels}), {self.fps:.4g} fps, {self.codec})"
        )

    # Frames by number

    def __getitem__(self, item: SupportsIndex | slice | np.ndarray | list[int]) -> np.ndarray:
        """One frame (h, w, c), or (n, h, w, c) for a slice or an array of integers.

        Raises
        ------
        IndexError
            Outside the video.
        VideoError
            When the frame cannot be decoded.
        """
        if isinstance(item, slice):
            return self._stack(np.arange(*item.indices(len(self))))
        if isinstance(item, (np.ndarray, list, tuple)) and np.ndim(item) > 0:
            return self._stack(self._numbers(item))
        return self._frame(self._number(item))

    def _number(self, item: object) -> int:
        if isinstance(item, np.ndarray) and item.ndim == 0:
            item = item[()]
        if isinstance(item, (bool, np.bool_)) or not isinstance(item, SupportsIndex):
            raise TypeError(
                f"{self.path}: frames are chosen by integers, slices or arrays of integers, "
                f"found {type(item).__name__}"
            )
        number = item.__index__()
        if not -len(self) <= number < len(self):
            raise IndexError(
                f"{self.path}: frame {number} of a video with {len(self)} frames "
                f"(0 to {len(self) - 1})"
            )
        return number % len(self)

    def _numbers(self, item: np.ndarray | list[int] | tuple[int, ...]) -> np.ndarray:
        numbers = np.asarray(item)
        if numbers.size == 0:
            return np.empty(0, dtype=np.int64)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise TypeError(
                f"{self.path}: expected a one-dimensional array of frame numbers, "
                f"found {numbers.dtype} with shape {numbers.shape}"
            )
        return np.array([self._number(number) for number in numbers.tolist()])

    def _stack(self, numbers: np.ndarray) -> np.ndarray:
        """(n, h, w, c) frames, decoded in order and given in the order asked for."""
        stack = np.empty((len(numbers), *self.shape), dtype=np.uint8)
        wanted, places = np.unique(numbers, return_inverse=True)
        for at, number in enumerate(wanted.tolist()):
            stack[places == at] = self._frame(number)
        return stack

    def _frame(self, number: int) -> np.ndarray:
        with self._lock:
            picture = self._cache.get(number)
            if picture is None:
                picture = self._decode(number)
            self._cache.move_to_end(number)
            return self._convert(picture, f"{self.path}: frame {number}")

    def _decode(self, number: int) -> av.VideoFrame:
        """Decode until frame ``number``, keeping what comes by for those who step back."""
        self._check_open()
        if number in self._video.damage:
            raise self._video.damage.error(number)
        if self._pictures is None or not self._is_near(number):
            self._next = self._first_worth_keeping(number)
            self._pictures = self._decoder.pictures(self._next)
        for found, picture in self._pictures:
            self._next = found + 1
            self._keep(found, picture)
            if found == number:
                return picture
            if found > number:
                break
        else:
            self._pictures = None
        raise self._video.damage.error(number)

    def _is_near(self, number: int) -> bool:
        """Whether going on to decode reaches ``number`` without a detour."""
        if number < self._next:
            return False
        entry = self._video.index.entry_for(number)
        return number - self._next < _SHORT_WAY or entry <= self._decoder.position

    def _first_worth_keeping(self, number: int) -> int:
        """Where to begin to keep frames: those before ``number`` come by on the way to it.

        All that fit, unless the way is shorter without them; then all that fit when it turns out
        that somebody is stepping back.
        """
        index = self._video.index
        begin = int(index.number_of[index.entry_for(number)])
        is_back = number < self._next <= number + 2 * self._cache_size
        leaps = self._decoder.is_hasty and not is_back
        n_kept = min(self._cache_size, _BEHIND) if leaps else self._cache_size
        return number if begin < 0 else min(number, max(begin, number - n_kept + 1))

    def _keep(self, number: int, picture: av.VideoFrame) -> None:
        self._cache[number] = picture
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    # Frames in sequence

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.frames()

    def frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[np.ndarray]:
        """Every ``step``-th frame from ``start`` to before ``stop``, decoded ahead in a thread.

        Memory stays bounded however long the video is. The thread ends with the iteration, when
        the iterator is dropped, and when the reader is closed. Negative ``start`` and ``stop``
        count from the end, as in slices.

        Yields
        ------
        (h, w, c) uint8, an array of the caller's own.

        Raises
        ------
        VideoError
            After the last good frame, at the first one that cannot be decoded; and, without a
            ``stop``, at the end of a file that was cut short.
        """
        if step < 1:
            raise ValidationError(f"step: expected 1 or more, found {step}")
        self._check_open()
        first, end, _ = slice(start, stop, step).indices(len(self))
        return self._ahead(first, end, step, to_the_end=stop is None)

    def _ahead(
        self, start: int, stop: int, step: int, to_the_end: bool
    ) -> Generator[np.ndarray, None, None]:
        depth = _within(_AHEAD_BYTES // max(1, int(np.prod(self.shape))), _AHEAD_FRAMES)
        ahead = Prefetcher(lambda: self._sequence(start, stop, step), depth)
        self._prefetchers.add(ahead)
        try:
            yield from ahead
        finally:
            ahead.close()
        video = self._video
        if to_the_end and video.index.cut and self._strict:
            raise video.damage.end_error(len(self))

    def _sequence(self, start: int, stop: int, step: int) -> Generator[np.ndarray, None, None]:
        """What `frames` gives, in the thread that calls."""
        if start >= stop:
            return
        index, damage = self._video.index, self._video.damage
        convert = PixelConverter(self._video.first, grayscale=self._grayscale)
        decoder = self._new_decoder()
        wanted = start
        try:
            while True:
                for number, picture in decoder.pictures(wanted):
                    if number > wanted:
                        raise damage.error(wanted)
                    if number < wanted:
                        continue
                    yield convert(picture, f"{self.path}: frame {number}")
                    wanted += step
                    if wanted >= stop:
                        return
                    if step > _SHORT_WAY and index.entry_for(wanted) > decoder.position:
                        break
                else:
                    raise damage.error(wanted)
        finally:
            decoder.close()

    # Soundness and identity

    def check(self) -> VideoCheck:
        """Decode the whole video and report what can be read.

        Takes as long as reading every frame, with one thread where something is damaged.
        """
        self._check_open()
        decoder = self._new_decoder()
        try:
            for _ in decoder.pictures(0):
                pass
        finally:
            decoder.close()
        return self._video.damage.report()

    def fingerprint(self) -> str:
        """A short text that tells this video's content from others', wherever the file lies.

        Made of the size in bytes, the number of frames, and a SHA-256 over blocks spread evenly
        over the file: two videos that differ only between these blocks are taken for the same.
        """
        size = self._video.source.size
        last = max(0, size - _FINGERPRINT_BLOCK)
        places = sorted({last * i // (_FINGERPRINT_BLOCKS - 1) for i in range(_FINGERPRINT_BLOCKS)})
        digest = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                for place in places:
                    file.seek(place)
                    digest.update(file.read(_FINGERPRINT_BLOCK))
        except OSError as error:
            raise VideoError(f"{self.path}: the file can no longer be read ({error})") from error
        return f"{size}-{len(self)}-{digest.hexdigest()[:32]}"

    # Opening and closing

    def close(self) -> None:
        """Close the file and end all iterations over it."""
        self._closed = True
        for ahead in list(self._prefetchers):
            ahead.close()
        with self._lock:
            self._cache.clear()
            self._pictures = None
            self._decoder.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise VideoError(f"{self.path}: this reader was closed; open the video again")

    def _new_decoder(self) -> Decoder:
        return Decoder(
            self._video.source,
            self._video.index,
            self._video.damage,
            n_threads=self._n_threads,
            strict=self._strict,
        )


def _within(value: int, bounds: tuple[int, int]) -> int:
    return max(bounds[0], min(bounds[1], value))


def _stored_bytes(picture: av.VideoFrame) -> int:
    return max(1, sum(plane.buffer_size for plane in picture.planes))
