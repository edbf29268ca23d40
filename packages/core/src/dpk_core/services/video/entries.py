"""What packets tell without being decoded: where decoding may begin, and some damage.

Decoding may begin at a packet when that gives exactly the frames it would give anyway. A
container's keyframe flag is not enough for that: encoders flag pictures after which earlier ones
may still be referenced, or that take several frames to recover.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import av.codec

from dpk_core.services.video.source import codec_name

# Every flagged keyframe of these resets the decoder, seen from the keyframe's display time on.
_RESETTING_CODECS = {
    "mpeg4",
    "mpeg2video",
    "mpeg1video",
    "vp8",
    "vp9",
    "av1",
    "ffv1",
    "png",
    "theora",
    "flv1",
    "h263",
    "msmpeg4v2",
    "msmpeg4v3",
    "wmv1",
    "wmv2",
}
_HEAD = 65536  # parameter sets and messages come before the first slice
_H264_SLICE, _H264_IDR, _H264_SEI = 1, 5, 6
_H264_RECOVERY_POINT = 6
_HEVC_IRAP = range(16, 22)
_HEVC_FIRST_NON_SLICE = 32
_H264_REFERENCE = 0b01100000  # nal_ref_idc
_HEVC_LAST_OF_LAYER = 14  # even types up to this one are of pictures that their layer never needs
_HEVC_PARAMETERS = range(32, 35)
_START_CODE = b"\x00\x00\x01"
_NEVER_IN_A_UNIT = (b"\x00\x00\x00", _START_CODE, b"\x00\x00\x02")


class Entry(IntEnum):
    """What a packet is to a decoder that begins there."""

    NONE = 0
    RECOVERY = 1
    """The pictures come out right, but the decoder may complain about earlier ones it misses."""
    RESET = 2
    """Nothing from before matters."""


class EntryRule:
    """Decides for the keyframes of one stream whether decoding may begin there.

    And for all packets of H.264 and H.265 in MP4 and Matroska, whether they are intact as far as
    that shows without decoding.
    """

    def __init__(self, codec: av.codec.Codec, extradata: bytes | None) -> None:
        self._codec = codec_name(codec)
        self._length_size = _length_size(self._codec, extradata)
        self.tells_needless = self._codec == "h264" or (
            self._codec == "hevc" and _is_one_layer(extradata)
        )
        self._intra_only = bool(codec.intra_only)

    @property
    def keeps_order(self) -> bool:
        """Whether the codec shows its frames in the order it stores them."""
        return self._intra_only or self._codec in {"vp8", "vp9", "av1", "ffv1", "png"}

    def kind(self, packet: memoryview) -> Entry:
        """Whether decoding may begin at this keyframe packet."""
        if self._codec == "h264":
            return self._h264_kind(packet)
        if self._codec == "hevc":
            return self._hevc_kind(packet)
        resets = self._intra_only or self._codec in _RESETTING_CODECS
        return Entry.RESET if resets else Entry.NONE

    def is_needless(self, packet: memoryview) -> bool:
        """Whether no other picture of H.264 or H.265 is decoded from what is in this packet.

        Both standards have encoders say so for every unit (7.4.1: nal_ref_idc of 0 in H.264;
        7.4.2.2: sub-layer non-reference pictures in H.265, where there is a single sub-layer) and
        let whoever passes pictures on leave such units out: all others decode to the same pixels.
        False where it is not certain.
        """
        if self.tells_needless and self._codec == "h264":
            heads = list(_first_bytes(packet, self._length_size))
            is_slice = any(head & 31 == _H264_SLICE for head in heads)
            return is_slice and not any(head & _H264_REFERENCE for head in heads)
        if self.tells_needless:
            kinds = [head >> 1 & 63 for head in _first_bytes(packet, self._length_size)]
            slices = [kind for kind in kinds if kind < _HEVC_FIRST_NON_SLICE]
            return (
                bool(slices)
                and all(k <= _HEVC_LAST_OF_LAYER and k % 2 == 0 for k in slices)
                and not any(k in _HEVC_PARAMETERS for k in kinds)
            )
        return False

    def shows_picture(self, packet: memoryview) -> bool:
        """False for a packet that only serves as a reference (VP8's alternate frames)."""
        return self._codec != "vp8" or bool(packet[0] >> 4 & 1)

    def is_intact(self, packet: memoryview) -> bool:
        """False where a packet's units do not fill it, or hold what encoders never write.

        Within a unit two zero bytes are never followed by a third, or by 1 or 2: encoders insert
        a 3. Decoders end the unit there and fill the rest of the picture without an error, so
        that a block of zeros, the usual trace of lost sectors, would go unnoticed.
        """
        if not self._length_size:
            return True
        at, end = 0, len(packet)
        while at < end:
            begin = at + self._length_size
            at = begin + int.from_bytes(packet[at:begin], "big")
            if begin > end or at > end:
                return False
            if at > begin and self._is_slice(packet[begin]):
                unit = bytes(packet[begin:at]).rstrip(b"\x00")
                if any(code in unit for code in _NEVER_IN_A_UNIT):
                    return False
        return True

    def _is_slice(self, first_byte: int) -> bool:
        if self._codec == "h264":
            return _H264_SLICE <= first_byte & 31 <= _H264_IDR
        return (first_byte >> 1 & 63) < _HEVC_FIRST_NON_SLICE

    def _h264_kind(self, packet: memoryview) -> Entry:
        for unit in _units(packet, self._length_size):
            kind = unit[0] & 31
            if kind == _H264_IDR:
                return Entry.RESET
            if kind == _H264_SEI and _recovers_at_once(unit):
                return Entry.RECOVERY
            if _H264_SLICE <= kind < _H264_IDR:
                return Entry.NONE
        return Entry.NONE

    def _hevc_kind(self, packet: memoryview) -> Entry:
        for unit in _units(packet, self._length_size):
            kind = unit[0] >> 1 & 63
            if kind < _HEVC_FIRST_NON_SLICE:
                return Entry.RESET if kind in _HEVC_IRAP else Entry.NONE
        return Entry.NONE


def _length_size(codec: str, extradata: bytes | None) -> int:
    """Bytes of the length before each unit; 0 when start codes separate them (Annex B)."""
    if not extradata or extradata[0] != 1:
        return 0
    if codec == "h264" and len(extradata) > 4:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 21:
        return (extradata[21] & 3) + 1
    return 0


def _is_one_layer(extradata: bytes | None) -> bool:
    """Whether an H.265 configuration record says that there is one temporal sub-layer."""
    if not _length_size("hevc", extradata):
        return False
    assert extradata is not None
    return extradata[21] >> 3 & 7 == 1


def _first_bytes(packet: memoryview, length_size: int) -> Iterator[int]:
    """The first byte of each unit, all through the packet."""
    if not length_size:
        data = bytes(packet)
        at = data.find(_START_CODE)
        while 0 <= at < len(data) - len(_START_CODE):
            yield data[at + len(_START_CODE)]
            at = data.find(_START_CODE, at + len(_START_CODE))
        return
    at, end = 0, len(packet)
    while at + length_size < end:
        begin = at + length_size
        at = begin + int.from_bytes(packet[at:begin], "big")
        if at > begin:
            yield packet[begin]


def _units(packet: memoryview, length_size: int) -> Iterator[bytes]:
    if length_size:
        yield from _prefixed_units(packet, length_size)
    else:
        yield from _start_code_units(bytes(packet[:_HEAD]))


def _prefixed_units(packet: memoryview, length_size: int) -> Iterator[bytes]:
    at = 0
    while at + length_size < len(packet):
        length = int.from_bytes(packet[at : at + length_size], "big")
        at += length_size
        unit = bytes(packet[at : at + min(length, 1024)])
        if unit:
            yield unit
        at += max(length, 0)
        if length == 0:
            return


def _start_code_units(head: bytes) -> Iterator[bytes]:
    at = head.find(_START_CODE)
    while at >= 0:
        following = head.find(_START_CODE, at + 3)
        unit = head[at + 3 : following if following >= 0 else len(head)]
        if unit:
            yield unit[:1024]
        at = following


def _recovers_at_once(unit: bytes) -> bool:
    """Whether an H.264 SEI unit promises exact pictures from this very one on (D.2.8)."""
    data = unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")
    at = 0
    while at + 2 <= len(data) and data[at:] != b"\x80":
        kind, at = _sei_number(data, at)
        size, at = _sei_number(data, at)
        if kind == _H264_RECOVERY_POINT and at < len(data):
            # recovery_frame_cnt is an Exp-Golomb number: a leading 1 bit means 0 frames; the
            # next bit is exact_match_flag.
            return data[at] & 0b11000000 == 0b11000000
        at += size
    return False


def _sei_number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    while at < len(data) and data[at] == 255:
        value += 255
        at += 1
    return (value + data[at], at + 1) if at < len(data) else (value, at)
