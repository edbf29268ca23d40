"""Opening a video: choose how its frames are numbered, and verify the choice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Literal

import attrs
import av
import numpy as np

from dpk_core.errors import VideoError
from dpk_core.services.video.damage import DamageLog
from dpk_core.services.video.decoder import Decoder
from dpk_core.services.video.index import (
    NO_FRAME,
    FrameIndex,
    Packets,
    StreamFacts,
    display_delay,
    index_by_decoding,
    index_by_time,
    scan,
)
from dpk_core.services.video.source import VideoSource

IndexMode = Literal["auto", "decode"]
_VERIFIED_FRAMES = 32
_TINY = 20  # bytes


@attrs.frozen(eq=False)
class OpenedVideo:
    """What is known of a video once it is open."""

    source: VideoSource
    index: FrameIndex
    damage: DamageLog
    first: av.VideoFrame


def open_video(
    source: VideoSource, *, mode: IndexMode, n_threads: int, strict: bool
) -> OpenedVideo:
    """Number the frames of a video.

    The packets' timestamps give the numbers where they are complete and the first pictures that
    decoding gives agree with them. Otherwise, or with ``mode="decode"``, the whole video is
    decoded once, and the numbers are those of the pictures that come out.
    """
    packets, facts, problem = scan(source, ignore_damage=not strict)
    if mode == "auto":
        packets = _without_undecodable_lead(source, packets, facts, problem)
        index = index_by_time(packets, facts, problem)
        if index is not None:
            opened = _verified(source, index, n_threads, strict)
            if opened is not None:
                return opened
    index, doubtful = _decode_all(source, packets, facts, problem, strict)
    opened = _verified(source, index, n_threads, strict, doubtful)
    if opened is None:
        raise VideoError(f"{source.path}: decoding this video twice gives different frames")
    return opened


def _verified(
    source: VideoSource,
    index: FrameIndex,
    n_threads: int,
    strict: bool,
    doubtful: Sequence[int] = (),
) -> OpenedVideo | None:
    """The opened video; None when the decoder contradicts the index."""
    if not len(index):
        raise _nothing_decodes(source, index.cut or "no picture comes out")
    damage = DamageLog(source.path, len(index), index.cut)
    damage.add(doubtful, "frames next to it are damaged, and which of them it is is not certain")
    decoder = Decoder(source, index, damage, n_threads=1, strict=strict)
    first = None
    given: list[int] = []
    try:
        for stamp, picture in islice(decoder.stamped(index.entries[0]), _VERIFIED_FRAMES):
            given.append(stamp)
            first = first or picture
    finally:
        decoder.close()
    if first is None and decoder.failed:
        raise _nothing_decodes(source, damage.reason(0) if 0 in damage else "its data is damaged")
    if first is None or (not index.by_count and _contradicts(index, given, decoder.failed)):
        return None
    return OpenedVideo(source, index, damage, first)


def _contradicts(index: FrameIndex, given: list[int], failed: set[int]) -> bool:
    """Whether the decoder's first pictures are others than the index says, in number or order."""
    numbers = index.number_of[given]
    numbers = numbers[numbers != NO_FRAME]
    if not len(numbers) or np.any(np.diff(numbers) <= 0):
        return True
    expected = index.packet_of[: numbers[-1] + 1]
    silent = np.setdiff1d(expected, [*given, *failed])
    # A few frames that stay away are damaged; in sound videos whose packets aren't frames, every
    # second stays away, or tiny ones that mean "as before" do.
    return bool(len(silent) * 4 >= len(expected) or np.any(index.packets.size[silent] < _TINY))


def _nothing_decodes(source: VideoSource, reason: str) -> VideoError:
    return VideoError(
        f"{source.path}: none of the video's frames decodes: {reason}; "
        "copy the file again from where it was recorded"
    )


def _without_undecodable_lead(
    source: VideoSource, packets: Packets, facts: StreamFacts, problem: str
) -> Packets:
    """Without the pictures at the very beginning that need others from before the beginning.

    A video that was cut out of a longer one may begin at an open GOP: a few pictures are stored
    after its first keyframe, shown before it, and no decoder can give them.
    """
    index = index_by_time(packets, facts, problem)
    if index is None or not len(index):
        return packets
    first = index.entries[0]
    group = range(first, index.next_entry(first))
    lead = [p for p in group if index.leads(p, first) and packets.shown[p]]
    if not lead:
        return packets
    damage = DamageLog(source.path, len(index), index.cut)
    decoder = Decoder(source, index, damage, n_threads=1, strict=True)
    try:
        got = {packet for packet, _ in islice(decoder.stamped(first), len(lead))}
    finally:
        decoder.close()
    shown = packets.shown.copy()
    shown[[packet for packet in lead if packet not in got]] = False
    return attrs.evolve(packets, shown=shown)


def _decode_all(
    source: VideoSource, packets: Packets, facts: StreamFacts, problem: str, strict: bool
) -> tuple[FrameIndex, list[int]]:
    """The index from one decoding of the whole video, and frames whose numbers are in doubt.

    With a single thread, so that no error is missed.
    """
    trial = index_by_decoding(packets, facts, problem, np.flatnonzero(packets.shown).tolist(), ())
    damage = DamageLog(source.path, len(trial), problem)
    decoder = Decoder(source, trial, damage, n_threads=1, strict=strict)
    try:
        decoded = [packet for packet, _ in decoder.stamped(trial.entries[0])]
    finally:
        decoder.close()
    lost = sorted(decoder.failed | _vanished(packets, set(decoded), decoder.failed))
    if lost and source.family == "other":
        # Where nothing but the data itself tells frames apart, damage may hide any number of them.
        packets = packets.before(lost[0])
        problem = (
            "the data is damaged there, and this kind of file does not tell how many frames follow"
        )
    bad = set(lost)
    kept = [p for p in decoded if p not in bad and p < len(packets)]
    index = index_by_decoding(packets, facts, problem, kept, [p for p in lost if p < len(packets)])
    # Whether a lost picture came before or after those decoded just before it is not known.
    delay = display_delay(kept)
    doubtful = {p for p in kept if any(p < f <= p + delay for f in bad)} if delay else set()
    numbers = index.number_of[sorted(doubtful)]
    return index, numbers[numbers != NO_FRAME].tolist()


def _vanished(packets: Packets, decoded: set[int], failed: set[int]) -> set[int]:
    """Packets of a damaged video that ought to hold a frame and gave none.

    In sound videos such packets are the rule (second fields) or tiny (a frame repeats).
    """
    silent = {
        packet
        for packet in np.flatnonzero(packets.shown & (packets.size >= _TINY)).tolist()
        if packet not in decoded and packet not in failed
    }
    return silent if failed and len(silent) * 10 < len(packets) else set()
