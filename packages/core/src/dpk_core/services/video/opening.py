"""Opening a video: choose how its frames are numbered, and verify the choice."""

from __future__ import annotations

from itertools import islice
from typing import Literal

import attrs
import av
import numpy as np

from dpk_core.errors import VideoError
from dpk_core.services.video.damage import DamageLog
from dpk_core.services.video.decoder import Decoder, DisorderError
from dpk_core.services.video.index import (
    FrameIndex,
    Packets,
    StreamFacts,
    index_by_decoding,
    index_by_time,
    scan,
)
from dpk_core.services.video.source import VideoSource

IndexMode = Literal["auto", "decode"]
_VERIFIED_FRAMES = 32


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
    packets, facts, problem = scan(source, ignore_holes=not strict)
    if mode == "auto":
        packets = _without_undecodable_lead(source, packets, facts, problem)
        index = index_by_time(packets, facts, problem)
        if index is not None:
            opened = _verified(source, index, n_threads, strict)
            if opened is not None:
                return opened
    index = _decode_all(source, packets, facts, problem, strict)
    opened = _verified(source, index, n_threads, strict)
    if opened is None:
        raise VideoError(f"{source.path}: decoding this video twice gives different frames")
    return opened


def _verified(
    source: VideoSource, index: FrameIndex, n_threads: int, strict: bool
) -> OpenedVideo | None:
    """The opened video; None when the decoder contradicts the index."""
    if not len(index):
        raise _nothing_decodes(source, index.cut or "no picture comes out")
    damage = DamageLog(source.path, len(index), index.cut)
    decoder = Decoder(source, index, damage, n_threads=n_threads, strict=strict)
    first = None
    try:
        for _, picture in islice(decoder.pictures(0), _VERIFIED_FRAMES):
            first = first or picture
    except DisorderError:
        return None
    finally:
        decoder.close()
    if damage.silent:
        return None
    if first is None:
        raise _nothing_decodes(source, damage.reason(0))
    return OpenedVideo(source, index, damage, first)


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
) -> FrameIndex:
    """The index from one decoding of the whole video, by one thread so that no error is missed."""
    trial = index_by_decoding(packets, facts, problem, np.flatnonzero(packets.shown).tolist(), ())
    damage = DamageLog(source.path, len(trial), problem)
    decoder = Decoder(source, trial, damage, n_threads=1, strict=strict)
    try:
        decoded = [packet for packet, _ in decoder.stamped(trial.entries[0])]
    finally:
        decoder.close()
    lost = decoder.failed
    return index_by_decoding(
        packets, facts, problem, [p for p in decoded if p not in lost], sorted(lost)
    )
