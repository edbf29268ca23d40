"""Walking the structure of a container, to find damage that demuxers pass over in silence.

When a header between the frames of a file is damaged, demuxers carry on at the next one that they
understand, or end there. The frames between are gone, and all later ones would be numbered too
low. Every container here can be followed from header to header without decoding anything.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from dpk_core.services.video.source import VideoSource

_BLOCK = 1 << 16
_MATROSKA_TOP = frozenset(
    {
        0x1A45DFA3,  # EBML header
        0x18538067,  # Segment
        0x114D9B74,  # SeekHead
        0x1549A966,  # Info
        0x1654AE6B,  # Tracks
        0x1F43B675,  # Cluster
        0x1C53BB6B,  # Cues
        0x1254C367,  # Tags
        0x1043A770,  # Chapters
        0x1941A469,  # Attachments
        0xEC,  # Void
        0xBF,  # CRC-32
    }
)
_MATROSKA_SIMPLE_BLOCK, _MATROSKA_BLOCK_GROUP, _MATROSKA_BLOCK = 0xA3, 0xA0, 0xA1
_MATROSKA_SMALL = frozenset({0xE7, 0xA7, 0xAB})  # Timestamp, Position, PrevSize
_MATROSKA_TRACKS = range(0x81, 0x90)  # as they stand at the beginning of a block
_MATROSKA_SEGMENT, _MATROSKA_CLUSTER = 0x18538067, 0x1F43B675
_MATROSKA_OPENED = frozenset(
    {_MATROSKA_SEGMENT, _MATROSKA_CLUSTER}
)  # what they hold is walked through
_EMPTY_BOX = 16
_AVI_SLACK = 16  # by which headers are commonly wrong
_TS_PACKET, _TS_SYNC, _TS_NULL = 188, 0x47, 0x1FFF


class Walk:
    """Reads small pieces of a file at growing positions."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._begin = 0
        self._data = b""

    def at(self, position: int, length: int) -> bytes:
        """Up to ``length`` bytes at ``position``."""
        offset = position - self._begin
        if offset < 0 or offset + length > len(self._data):
            self._file.seek(position)
            self._begin, offset = position, 0
            self._data = self._file.read(max(length, _BLOCK if length > 16 else 64))
        return self._data[offset : offset + length]


def find_break(source: VideoSource, packets: Sequence[int]) -> tuple[int, str] | None:
    """Where the structure of a file breaks, in bytes, and a sentence on it; None where it holds.

    ``packets`` are the places in the file of all packets that were found, of all streams where
    the file is fragmented. Those at the break or after it cannot be numbered. Files that were cut
    short hold up to where they end.
    """
    if source.family == "mp4":
        position = _mp4_break(source, packets)
        return None if position is None else (position, _sentence(position))
    with source.path.open("rb") as file:
        if source.family == "matroska":
            position = _matroska_break(Walk(file), source.size, source.announced_size)
        elif source.family == "avi":
            position = _avi_break(Walk(file), source.size, source.announced_size)
        else:
            position = _ts_break(file, source.size)
    return None if position is None else (position, _sentence(position))


def _sentence(position: int) -> str:
    return (
        f"the file is damaged around byte {position} and it is not known how many frames were there"
    )


def _mp4_break(source: VideoSource, packets: Sequence[int]) -> int | None:
    boxes = source.boxes()
    if not any(kind == b"moof" for _, _, kind in boxes):
        return None  # one table lists all frames
    places = np.sort(np.array(packets, dtype=np.int64))
    for begin, end, kind in boxes:
        if not kind.isalnum():
            return None if source.is_blank_from(begin) else begin
        holds_packets = np.searchsorted(places, begin) < np.searchsorted(places, end)
        # Media without a packet: what listed the frames of this fragment is damaged.
        if kind == b"mdat" and end - begin > _EMPTY_BOX and not holds_packets:
            return begin
    return None


def _matroska_break(walk: Walk, size: int, announced: int) -> int | None:
    previous = position = 0
    while position < size:
        head = walk.at(position, 16)
        found = _element(head)
        if found is None or not _is_known(found, head):
            # Fewer bytes than a header has may be left where a file was cut.
            return previous if len(head) == 16 else None
        identity, length, header = found
        if identity == _MATROSKA_SEGMENT and length is not None:
            size = min(size, position + header + length)  # what follows is not the video's
        previous = position
        position += header + (0 if identity in _MATROSKA_OPENED or length is None else length)
    # An element that ends where the file should not is none.
    return previous if announced and position > announced else None


def _element(head: bytes) -> tuple[int, int | None, int] | None:
    """(identity, length or None for unknown, bytes of the header) of an EBML element."""
    if not head or not head[0]:
        return None
    id_width = 9 - head[0].bit_length()
    if id_width > 4 or len(head) <= id_width or not head[id_width]:
        return None
    width = 9 - head[id_width].bit_length()
    if len(head) < id_width + width:
        return None
    mask = (1 << (7 * width)) - 1
    length = int.from_bytes(head[id_width : id_width + width], "big") & mask
    identity = int.from_bytes(head[:id_width], "big")
    return identity, None if length == mask else length, id_width + width


def _is_known(element: tuple[int, int | None, int], head: bytes) -> bool:
    """Whether an element may stand at the top or in a cluster, by what it is and begins with."""
    identity, length, header = element
    if identity in _MATROSKA_TOP:
        return True
    if length is None:
        return False
    if identity == _MATROSKA_SIMPLE_BLOCK:
        return len(head) <= header or head[header] in _MATROSKA_TRACKS
    if identity == _MATROSKA_BLOCK_GROUP:
        return len(head) <= header or head[header] == _MATROSKA_BLOCK
    return identity in _MATROSKA_SMALL and length <= 8


def _avi_break(walk: Walk, size: int, announced: int) -> int | None:
    previous = position = 0
    in_frames = after_frames = False
    while position + 12 <= size:
        head = walk.at(position, 12)
        kind, length = head[:4], struct.unpack("<I", head[4:8])[0]
        if after_frames and kind != b"RIFF":
            return None  # what programs add at the end
        if in_frames and not _is_frame_chunk(kind):
            # Zeros fill the end of some files.
            return None if not any(head) and _only_zeros(walk, position, size) else previous
        previous = position
        opened = kind in (b"RIFF", b"LIST") and head[8:12] in (b"AVI ", b"AVIX", b"movi", b"rec ")
        in_frames = in_frames or head[8:12] == b"movi"
        after_frames = kind == b"idx1"
        position += 12 if opened else 8 + length + (length & 1)
    ends_beyond = announced and position > announced + _AVI_SLACK
    return previous if ends_beyond or not in_frames else None


def _is_frame_chunk(kind: bytes) -> bool:
    return (
        kind in (b"LIST", b"RIFF", b"JUNK", b"idx1")
        or (kind[:2].isdigit() and kind[2:].isalpha())
        or (kind[:2] == b"ix" and kind[2:].isdigit())
    )


def _only_zeros(walk: Walk, position: int, size: int) -> bool:
    return not any(walk.at(position, min(size - position, _BLOCK)))


def _ts_break(file: io.BufferedReader, size: int) -> int | None:
    """The first packet of an MPEG transport stream that is damaged or follows a lost one."""
    head = file.read(3 * _TS_PACKET)
    if head[::_TS_PACKET] != bytes([_TS_SYNC] * 3):
        return None
    last: dict[int, int] = {}
    for begin, packets in _ts_packets(file, size):
        pid = (packets[:, 1].astype(np.int64) & 31) << 8 | packets[:, 2]
        counter = packets[:, 3] & 15
        has_payload = packets[:, 3] & 16 > 0
        announced = (packets[:, 3] & 32 > 0) & (packets[:, 4] > 0) & (packets[:, 5] & 128 > 0)
        bad = (packets[:, 0] != _TS_SYNC) | (packets[:, 1] & 128 > 0)
        for at in np.flatnonzero(has_payload | bad | announced):
            number = int(pid[at])
            if bad[at]:
                return begin + int(at) * _TS_PACKET
            if number == _TS_NULL or not has_payload[at]:
                last.pop(number, None)
                continue
            expected = (last.get(number, int(counter[at]) - 1) + 1) & 15
            repeated = last.get(number) == int(counter[at])
            if expected != int(counter[at]) and not repeated and not announced[at]:
                return begin + int(at) * _TS_PACKET
            last[number] = int(counter[at])
    return None


def _ts_packets(file: io.BufferedReader, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """(position, (k, 188) bytes) of pieces of a transport stream."""
    step = _TS_PACKET * 4096
    for begin in range(0, size - size % _TS_PACKET, step):
        file.seek(begin)
        data = np.frombuffer(file.read(step), dtype=np.uint8)
        yield begin, data[: len(data) - len(data) % _TS_PACKET].reshape(-1, _TS_PACKET)
