"""The index of a video: which packet holds which frame, and where decoding may begin.

One pass over the packets, without decoding. Packets are known by their position in decoding order
(0, 1, 2, ... over the non-empty packets of the stream); frames by their number in display order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property

import attrs
import av
import av.error
import av.video
import numpy as np

from dpk_core.errors import VideoError
from dpk_core.services.video.entries import Entry, EntryRule
from dpk_core.services.video.source import VideoSource, codec_name, describe, video_stream
from dpk_core.services.video.structure import find_break

NO_FRAME = -1
_Row = tuple[int, int, int, int, int, bool, bool]
_NO_TIME = np.iinfo(np.int64).min


@attrs.frozen(eq=False)
class Packets:
    """What a demuxer tells of each packet, in decoding order.

    All are arrays (m,): ``pts`` and ``dts`` int64 in units of the time base with `_NO_TIME` for
    unknown; ``position`` and ``size`` int64 in bytes of the file; ``entry`` int64 `Entry` where
    decoding may begin; ``shown`` bool, False where an edit list or the codec hides the picture;
    ``whole`` bool, False where bytes are missing.
    """

    pts: np.ndarray
    dts: np.ndarray
    position: np.ndarray
    size: np.ndarray
    entry: np.ndarray
    shown: np.ndarray
    whole: np.ndarray

    def __len__(self) -> int:
        return len(self.pts)

    def before(self, packet: int) -> Packets:
        """Only the packets before ``packet``."""
        return Packets(*(getattr(self, field.name)[:packet] for field in attrs.fields(Packets)))


@attrs.frozen(eq=False)
class StreamFacts:
    """What the container says about the stream as a whole."""

    codec: str
    time_base: float
    average_rate: float
    announced_frames: int
    keeps_order: bool
    has_table: bool  # of all frames, so that missing ones have their numbers


@attrs.frozen(eq=False, slots=False)
class FrameIndex:
    """Packets, frames and entries of one video.

    Attributes
    ----------
    packet_of : (n,) int64
        The packet that holds each frame; -1 for frames that are announced but not in the file.
    number_of : (m,) int64
        The frame that each packet holds; -1 for none.
    display : (m,) int64
        The place of each packet in display order, hidden ones included.
    entries : sorted list of int
        Packets where decoding may begin; the first is where the video begins.
    by_count : bool
        True when frames can only be told apart by counting them from the beginning.
    seekable : bool
        True when a packet can be recognised by its place in the file.
    cut : str
        Why the video ends earlier than it should, or "".
    """

    packets: Packets
    facts: StreamFacts
    packet_of: np.ndarray
    number_of: np.ndarray
    display: np.ndarray
    entries: Sequence[int]
    by_count: bool
    seekable: bool
    cut: str

    def __len__(self) -> int:
        return len(self.packet_of)

    def entry_for(self, number: int) -> int:
        """The latest packet from which decoding gives frame ``number`` exactly.

        It must come before the frame both in decoding and in display order: pictures that are
        shown before the entry but stored after it (open GOP) need the pictures before it.
        """
        packet = int(self.packet_of[number])
        if packet == NO_FRAME:
            return self.entries[-1]
        at = bisect_right(self.entries, packet) - 1
        while at > 0 and self.display[self.entries[at]] > self.display[packet]:
            at -= 1
        return self.entries[max(at, 0)]

    def resets(self, entry: int) -> bool:
        """Whether nothing from before ``entry`` can matter to a decoder that begins there."""
        return entry == self.entries[0] or bool(self.packets.entry[entry] == Entry.RESET)

    def next_entry(self, packet: int) -> int:
        """The first entry after ``packet``; the number of packets when there is none."""
        at = bisect_right(self.entries, packet)
        return self.entries[at] if at < len(self.entries) else len(self.packets)

    def entry_of(self, packet: int) -> int:
        """The last entry at or before ``packet`` in decoding order."""
        return self.entries[max(bisect_right(self.entries, packet) - 1, 0)]

    def leads(self, packet: int, entry: int) -> bool:
        """Whether ``packet`` follows ``entry`` in decoding order and is shown before it."""
        return entry != NO_FRAME and entry < packet and self.display[packet] < self.display[entry]

    def depending_on(self, packet: int) -> np.ndarray:
        """(j,) packets that may need ``packet`` to decode, itself included.

        All up to the next entry, and those that lead that entry; of a packet that leads its own
        entry, only the others that do so too.
        """
        entry = self.next_entry(packet)
        after = np.arange(entry, self.next_entry(entry))
        leading = after[self.display[after] < self.display[entry]] if len(after) else after
        needing = np.arange(packet, entry)
        own = self.entry_of(packet)
        if self.leads(packet, own):
            return needing[self.display[needing] < self.display[own]]
        return np.concatenate([needing, leading])

    def lost_with(self, packet: int) -> np.ndarray:
        """(j,) sorted numbers of the frames that may need ``packet`` to decode."""
        numbers = self.number_of[self.depending_on(packet)]
        return np.sort(numbers[numbers != NO_FRAME])

    def packet_at(self, position: int | None) -> int | None:
        """The packet at a byte of the file, or None."""
        return None if position is None else self._places.get(position)

    @cached_property
    def has_frame_in_each_packet(self) -> bool:
        """Whether packets and frames are the same thing, up to those that are not to be seen."""
        first = self.entries[0]
        known = (self.number_of[first:] != NO_FRAME) | ~self.packets.shown[first:]
        return not self.by_count and bool(known.all())

    @cached_property
    def _places(self) -> dict[int, int]:
        return {place: packet for packet, place in enumerate(self.packets.position.tolist())}

    def times(self) -> np.ndarray:
        """(n,) seconds of each frame; NaN where the container gives none."""
        known = self.packet_of != NO_FRAME
        times = np.full(len(self), np.nan)
        pts = self.packets.pts[self.packet_of[known]]
        times[known] = np.where(pts == _NO_TIME, np.nan, pts * self.facts.time_base)
        return times


def scan(source: VideoSource, *, ignore_damage: bool = False) -> tuple[Packets, StreamFacts, str]:
    """Read all packets of a video; the string says why reading ended early, or is "".

    Packets after a break in the file's structure are left out, as their frames' numbers are not
    known, unless ``ignore_damage``.

    Raises
    ------
    VideoError
        When the file is not a video.
    """
    rows: list[_Row] = []
    places: list[int] = []
    problem = ""
    with source.open() as container:
        stream = video_stream(container, source.path)
        rule = EntryRule(stream.codec_context.codec, stream.codec_context.extradata)
        streams = () if source.is_fragmented else (stream,)
        try:
            for packet in container.demux(*streams):
                if packet.size == 0:
                    continue
                row = _row(packet, rule, source)
                places.append(row[2])
                if packet.stream_index == stream.index:
                    rows.append(row)
        except av.error.FFmpegError as error:
            problem = f"the container is damaged after packet {len(rows) - 1} ({describe(error)})"
        facts = _facts(stream, rule, source)
    if not ignore_damage:
        broken = find_break(source, places)
        if broken is not None:
            rows = [row for row in rows if row[2] < broken[0]]
            problem = broken[1]
        rows, problem = _up_to_loss(source, rows, problem)
    packets = _packets(rows, source)
    if source.is_truncated and not problem:
        problem = (
            f"the file is cut short ({source.size} of {source.announced_size} bytes are there)"
        )
    return packets, facts, problem


def _row(packet: av.Packet, rule: EntryRule, source: VideoSource) -> _Row:
    data = memoryview(packet) if packet.is_keyframe or rule.keeps_order else None
    position = -1 if packet.pos is None else packet.pos
    return (
        _NO_TIME if packet.pts is None else packet.pts,
        _NO_TIME if packet.dts is None else packet.dts,
        position,
        packet.size,
        rule.kind(data) if data is not None and packet.is_keyframe else Entry.NONE,
        not packet.is_discard and (data is None or rule.shows_picture(data)),
        not packet.is_corrupt and position + packet.size <= source.size,
    )


def _facts(
    stream: av.video.stream.VideoStream, rule: EntryRule, source: VideoSource
) -> StreamFacts:
    rate = stream.average_rate or getattr(stream, "guessed_rate", None) or 0
    return StreamFacts(
        codec=codec_name(stream.codec_context.codec),
        time_base=float(stream.time_base or 1),
        average_rate=float(rate),
        announced_frames=int(stream.frames),
        keeps_order=rule.keeps_order,
        has_table=source.family == "mp4",
    )


def _up_to_loss(source: VideoSource, rows: list[_Row], problem: str) -> tuple[list[_Row], str]:
    """Packets before the first that a container without a table of frames marks as damaged.

    Others may have been lost with it, and nobody knows how many. The last packet of a file that
    was cut short is the exception: nothing comes after it.
    """
    if source.family == "mp4":
        return rows, problem
    for at, row in enumerate(rows[:-1]):
        if not row[-1]:
            return rows[: at + 1], (
                f"packet {at} is marked as damaged and it is not known how many were lost there"
            )
    return rows, problem


def index_by_time(packets: Packets, facts: StreamFacts, problem: str) -> FrameIndex | None:
    """The index by the packets' timestamps, or None where these do not tell the order."""
    first = _first_entry(packets)
    order = _display_order(packets, facts, first)
    if order is None:
        return None
    display = np.full(len(packets), -1, dtype=np.int64)
    display[order] = np.arange(len(order))
    return _assemble(packets, facts, problem, display, order[packets.shown[order]], first)


def index_by_decoding(
    packets: Packets,
    facts: StreamFacts,
    problem: str,
    decoded: Sequence[int],
    failed: Sequence[int],
) -> FrameIndex:
    """The index from the pictures that decoding the whole video gave.

    ``decoded`` holds the packet of each picture in the order of the decoder, and ``failed`` the
    packets that could not be decoded; their frames are placed before the first picture that
    decoding gave after them.
    """
    first = _first_entry(packets)
    unique = len(set(decoded)) == len(decoded)
    if not unique:  # the decoder does not say which packet a picture came from
        order = np.arange(len(decoded), dtype=np.int64)
        display = np.arange(len(packets), dtype=np.int64)
        return attrs.evolve(
            _assemble(packets, facts, problem, display, order, first),
            by_count=True,
            entries=[first],
        )
    order = np.array(_with_failed(decoded, failed), dtype=np.int64)
    display = _fill_display(order, len(packets))
    return _assemble(packets, facts, problem, display, order, first)


def _with_failed(decoded: Sequence[int], failed: Sequence[int]) -> list[int]:
    merged: list[int] = []
    waiting = list(failed)
    for packet in decoded:
        while waiting and waiting[0] < packet:
            merged.append(waiting.pop(0))
        merged.append(packet)
    return merged + waiting


def _fill_display(order: np.ndarray, n_packets: int) -> np.ndarray:
    """Places of the packets that hold a frame; those without share the place of the one before."""
    display = np.full(n_packets, -1, dtype=np.int64)
    display[order] = np.arange(len(order))
    last = -1
    for packet in range(n_packets):
        last = display[packet] = display[packet] if display[packet] >= 0 else last
    return display


def _packets(rows: list[_Row], source: VideoSource) -> Packets:
    if not rows:
        detail = (
            f"it holds {source.size} of the {source.announced_size} bytes it announces"
            if source.is_truncated
            else "a recording that was never written to, or one that was cut off"
        )
        raise VideoError(f"{source.path}: expected a video, found one without frames ({detail})")
    columns = list(zip(*rows, strict=True))
    numbers = [np.array(column, dtype=np.int64) for column in columns[:5]]
    flags = [np.array(column, dtype=bool) for column in columns[5:]]
    return Packets(*numbers, *flags)


def _first_entry(packets: Packets) -> int:
    """Where the video begins: nothing before the first entry can be decoded by anyone."""
    found = np.flatnonzero(packets.entry)
    return int(found[0]) if len(found) else 0


def _display_order(packets: Packets, facts: StreamFacts, first: int) -> np.ndarray | None:
    """Packets from ``first`` on in display order; None when timestamps do not tell it."""
    pts = packets.pts[first:]
    in_order = np.arange(first, len(packets))
    if facts.keeps_order:
        return in_order
    if np.any(pts == _NO_TIME):
        return None
    if np.all(np.diff(pts) >= 0):
        return in_order
    if not _all_differ(pts):
        return None
    return first + np.argsort(pts, kind="stable")


def _assemble(
    packets: Packets,
    facts: StreamFacts,
    problem: str,
    display: np.ndarray,
    order: np.ndarray,
    first: int,
) -> FrameIndex:
    if problem and not facts.has_table:
        order = _certain(order, len(packets))
    packet_of = order.astype(np.int64)
    number_of = np.full(len(packets), NO_FRAME, dtype=np.int64)
    number_of[packet_of] = np.arange(len(packet_of))
    absent = max(0, facts.announced_frames - len(packets)) if problem else 0
    packet_of = np.concatenate([packet_of, np.full(absent, NO_FRAME, dtype=np.int64)])
    entries = sorted({first, *np.flatnonzero(packets.entry).tolist()})
    return FrameIndex(
        packets=packets,
        facts=facts,
        packet_of=packet_of,
        number_of=number_of,
        display=display,
        entries=[e for e in entries if e >= first],
        by_count=False,
        seekable=bool(np.all(packets.position >= 0)) and _all_differ(packets.position),
        cut=problem,
    )


def _all_differ(values: np.ndarray) -> bool:
    """Whether no value is there twice (sorting what is nearly in order is quick)."""
    return bool(np.all(np.diff(np.sort(values, kind="stable"))))


def _certain(order: np.ndarray, n_packets: int) -> np.ndarray:
    """Without the last frames, before which ones may belong that are missing."""
    delay = display_delay(order)
    uncertain = np.flatnonzero(order + delay >= n_packets)
    return order[: uncertain[0]] if delay and len(uncertain) else order


def display_delay(order: Sequence[int] | np.ndarray) -> int:
    """How many packets at most are decoded after a frame and shown before it.

    ``order`` are packets in display order.
    """
    if not len(order):
        return 0
    decoded = np.empty(len(order), dtype=np.int64)
    decoded[np.argsort(order, kind="stable")] = np.arange(len(order))
    return int((np.arange(len(order)) - decoded).max())
