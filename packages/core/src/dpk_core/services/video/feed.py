"""Packets of a video from any entry on, each with its position in decoding order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

import av
import av.container
import av.error
import av.video

from dpk_core.errors import VideoError
from dpk_core.services.video.entries import EntryRule
from dpk_core.services.video.index import FrameIndex
from dpk_core.services.video.source import VideoSource, video_stream

_TRIES = 3  # entries to try before reading from the beginning, where a container seeks badly
_SMALLEST_TIME = -(2**62)


class PacketFeed:
    """An open video file and its decoder.

    Seeking never trusts the container: the packet that it leads to is recognised by its place in
    the file, and what comes before the wanted one is passed over. Where that fails, packets are
    read (not decoded) from the beginning.
    """

    def __init__(
        self, source: VideoSource, index: FrameIndex, *, n_threads: int, strict: bool
    ) -> None:
        self._source = source
        self._index = index
        self._strict = strict
        self._container: av.container.InputContainer | None = None
        self._stream: av.video.stream.VideoStream | None = None
        self._fresh = False
        self.n_threads = n_threads
        self.rule: EntryRule | None = None  # of the open stream

    @property
    def decoder(self) -> av.VideoCodecContext:
        """The decoder of the open stream."""
        assert self._stream is not None
        return self._stream.codec_context

    @property
    def tells_needless(self) -> bool:
        """Whether the codec says which pictures no other is decoded from."""
        return self.rule is not None and self.rule.tells_needless

    def close(self) -> None:
        """Close the file; the feed opens it again when asked for packets."""
        if self._container is not None:
            self._container.close()
        self._container = self._stream = None

    def use_one_thread(self) -> None:
        """From the next `packets_from` on, decode with a single thread."""
        if self.n_threads != 1:
            self.n_threads = 1
            self.close()

    def packets_from(self, entry: int) -> Iterator[tuple[int, av.Packet]]:
        """(position in decoding order, packet) from ``entry`` on, the decoder being reset."""
        found = self._seek(entry) if self._index.seekable else None
        if found is not None:
            return found
        self.close()
        self._open()
        return self._numbered(self._demux(), 0, entry)

    def _open(self) -> None:
        if self._container is not None:
            return
        self._container = self._source.open()
        self._stream = video_stream(self._container, self._source.path)
        context = self._stream.codec_context
        context.thread_count = self.n_threads
        context.thread_type = "NONE" if self.n_threads == 1 else "FRAME"
        if self._strict:
            context.options = {"err_detect": "crccheck+explode"}
        self.rule = EntryRule(context.codec, context.extradata)
        self._fresh = True

    def _seek(self, entry: int) -> Iterator[tuple[int, av.Packet]] | None:
        self._open()
        if self._fresh:
            self._prime()
        table = self._index.packets
        at = self._index.entries.index(entry)
        for target in self._index.entries[at : at - _TRIES if at >= _TRIES else None : -1]:
            for times in (table.dts, table.pts):
                if times[target] > _SMALLEST_TIME:
                    found = self._seek_time(int(times[target]), entry)
                    if found is not None:
                        return found
        return None

    def _seek_time(self, time: int, entry: int) -> Iterator[tuple[int, av.Packet]] | None:
        assert self._container is not None
        self.decoder.flush_buffers()
        self._fresh = False
        try:
            self._container.seek(time, stream=self._stream, backward=True)
        except av.error.FFmpegError:
            return None
        demuxed = self._demux()
        packet = next(demuxed, None)
        position = None if packet is None else self._index.packet_at(packet.pos)
        if packet is None or position is None or position > entry:
            return None
        return self._numbered(chain([packet], demuxed), position, entry)

    def _prime(self) -> None:
        """Show the decoder the first pictures of the video.

        What stands there may be needed throughout and nowhere be repeated: the name and version of
        the encoder, by which H.264 decoders recognise streams of encoders with known faults.
        """
        first = self._index.entries[0]
        for position, packet in self._numbered(self._demux(), 0, first):
            with suppress(av.error.FFmpegError):
                self.decoder.decode(packet)
            if position >= first + self.n_threads - 1:
                break
        with suppress(av.error.FFmpegError):
            self.decoder.decode(None)

    def _demux(self) -> Iterator[av.Packet]:
        """Packets that hold something; an empty one would tell the decoder that all is over."""
        assert self._container is not None
        self._fresh = False
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        except av.error.FFmpegError:
            return  # the index ends here too, and knows why

    def _numbered(
        self, packets: Iterator[av.Packet], first: int, entry: int
    ) -> Iterator[tuple[int, av.Packet]]:
        sizes = self._index.packets.size
        for position, packet in enumerate(packets, start=first):
            if position >= len(sizes):
                return
            if packet.size != sizes[position]:
                raise VideoError(
                    f"{self._source.path}: the file is not what it was when it was opened; "
                    "wait until it is completely written and open it again"
                )
            if position >= entry:
                yield position, packet
