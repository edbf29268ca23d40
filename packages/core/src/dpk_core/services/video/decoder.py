"""Decoding from an entry on, with every picture known by the packet it came from.

Each packet is stamped with its position in decoding order before it goes to the decoder, which
hands the stamp on to the picture. Frames are thus identified without relying on timestamps that
may be missing, repeated or wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import av.error

from dpk_core.errors import VideoError
from dpk_core.services.video.damage import DamageLog
from dpk_core.services.video.feed import PacketFeed
from dpk_core.services.video.index import NO_FRAME, FrameIndex
from dpk_core.services.video.source import VideoSource, describe


class MisplacedError(Exception):
    """Several decoder threads met a problem, and only a single one can tell where it is."""


class HasteError(Exception):
    """Something is wrong, and packets were left out: only with all of them can be told what."""


class DisorderError(VideoError):
    """The decoder gives frames in another order than the timestamps say."""


class Decoder:
    """Gives the pictures of one video in order, from any frame on.

    Frames that do not decode are left out and noted in the damage log: a number that is skipped
    is always in the log. One decoder belongs to one thread.
    """

    def __init__(
        self,
        source: VideoSource,
        index: FrameIndex,
        damage: DamageLog,
        *,
        n_threads: int,
        strict: bool,
    ) -> None:
        self._source = source
        self._index = index
        self._damage = damage
        self._strict = strict
        self._feed = PacketFeed(source, index, n_threads=n_threads, strict=strict)
        self._hasty = strict and index.has_frame_in_each_packet
        self._wanted = NO_FRAME  # frames before it are decoded for those after them alone
        self._left_out = False  # whether any packet was, since the entry
        self.failed: set[int] = set()  # packets given up, in decoding order
        self.position = NO_FRAME  # the packet that went to the decoder last
        self._is_voucher = False
        self._voucher: Decoder | None = None
        self._vouching: Iterator[tuple[int, av.VideoFrame]] = iter(())
        self._vouched_to = -1  # in display order

    def close(self) -> None:
        """Close the file."""
        self._feed.close()
        if self._voucher is not None:
            self._voucher.close()

    def pictures(self, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """(number, picture) of all frames from ``start`` on that decode, in order."""
        wanted = start
        while wanted < len(self._index):
            self._wanted = wanted if self._hasty else NO_FRAME
            try:
                for number, picture in self._pictures(wanted):
                    wanted = number + 1
                    yield number, picture
                return
            except MisplacedError:
                self._damage.careful = True
            except HasteError:
                self._hasty = False

    @property
    def is_hasty(self) -> bool:
        """Whether pictures on the way to the wanted one may be left out."""
        return self._hasty and self._feed.tells_needless

    def stamped(self, entry: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """(packet, picture) as they leave the decoder, beginning at packet ``entry``.

        After an error the pictures that cannot be trusted are noted, and decoding goes on at the
        next entry.
        """
        if self._damage.careful:
            self._feed.use_one_thread()
        begun = entry
        given: set[int] = set()
        while begun < len(self._index.packets):
            stuck = NO_FRAME
            undisturbed = self._index.resets(begun)
            for position, pictures, problem in self._decoded(begun):
                if problem:
                    stuck = position
                    break
                undisturbed = undisturbed or self._index.resets(position)
                for stamp, picture in _stamps(pictures):
                    given.add(stamp)
                    if undisturbed:
                        self._damage.sound.add(stamp)
                    yield stamp, picture
            if stuck == NO_FRAME:
                return
            if self._left_out:
                raise HasteError
            if not undisturbed and not self._is_voucher:
                # The decoder may only complain about pictures from before the entry.
                yield from (s for s in self._vouched(begun) if s[0] not in given)
                return
            if self._feed.n_threads != 1:
                raise MisplacedError
            self._give_up(stuck, problem)
            own = self._index.entry_of(stuck)
            only_lead = self._index.leads(stuck, own)
            # An error takes pictures that were still on their way out with it: once more, up to
            # just before it.
            for _, pictures, problem in self._decoded(begun, stuck):
                for stamp, picture in _stamps(pictures):
                    kept = not only_lead or self._index.leads(stamp, own) or stamp < own
                    if kept and not problem and stamp not in given:
                        yield stamp, picture
            given.clear()
            # When a picture that leads its entry is damaged, what is shown from the entry on isn't.
            begun = own if only_lead else self._index.next_entry(stuck)

    def _vouched(self, entry: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """As `stamped`, ignoring complaints; another decoder, that began earlier, has the say.

        That one goes through the video once, however often and wherever decoding begins.
        """
        lenient = Decoder(
            self._source,
            self._index,
            self._damage,
            n_threads=self._feed.n_threads,
            strict=False,
        )
        try:
            for stamp, picture in lenient.stamped(entry):
                self.position = lenient.position
                self._ask_voucher(stamp)
                if stamp in self._damage.sound:
                    yield stamp, picture
        finally:
            lenient.close()

    def _ask_voucher(self, packet: int) -> None:
        """Decode from the beginning until ``packet`` is known to be sound or is passed."""
        if self._voucher is None:
            self._voucher = Decoder(
                self._source, self._index, self._damage, n_threads=1, strict=True
            )
            self._voucher._is_voucher = True
            self._vouching = self._voucher.stamped(self._index.entries[0])
        display = self._index.display
        while packet not in self._damage.sound and self._vouched_to < display[packet]:
            found = next(self._vouching, None)
            self._vouched_to = len(display) if found is None else int(display[found[0]])
            if found is not None:
                self._damage.sound.add(found[0])

    def _decoded(
        self, entry: int, stop: int | None = None
    ) -> Iterator[tuple[int, list[av.VideoFrame], str]]:
        """(packet, pictures that came out, problem or "") from ``entry`` to before ``stop``."""
        self._left_out = False
        for position, packet in self._feed.packets_from(entry):
            if stop is not None and position >= stop:
                break
            if self._is_orphan(position, entry):
                continue
            self.position = position
            if self._is_needless(position, packet):
                self._left_out = True
                continue
            yield position, *self._decode(position, packet)
        yield self.position, self._drain(), ""

    def _is_orphan(self, position: int, begun: int) -> bool:
        """Whether a packet needs pictures from before the entry that decoding began at."""
        if not self._index.leads(position, begun):
            return False
        number = self._index.number_of[position]
        at_beginning = begun == self._index.entries[0]
        return not at_beginning or number == NO_FRAME or number in self._damage

    def _is_needless(self, position: int, packet: av.Packet) -> bool:
        """Whether a packet holds nothing but a frame before the wanted ones, needed by no other."""
        rule = self._feed.rule
        if rule is None or self._index.number_of[position] >= self._wanted:
            return False
        data = memoryview(packet)
        return (
            rule.is_needless(data)
            and bool(self._index.packets.whole[position])
            and rule.is_intact(data)
        )

    def _pictures(self, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
        expected = start
        for number, picture in self._numbered(start):
            if number < start or number in self._damage:
                continue
            if number < expected:
                if self._left_out:
                    raise HasteError
                raise DisorderError(
                    f"{self._source.path}: the decoder gives frame {number} after frame "
                    f"{expected - 1}, so the file's timestamps are wrong; open it with "
                    'VideoReader(..., index="decode")'
                )
            self._note_missing(expected, number)
            expected = number + 1
            if number not in self._damage:
                yield number, picture
        self._note_missing(expected, len(self._index))

    def _numbered(self, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
        if self._index.by_count:
            for number, (_, picture) in enumerate(self.stamped(self._index.entries[0])):
                yield number, picture
            return
        for packet, picture in self.stamped(self._index.entry_for(start)):
            number = int(self._index.number_of[packet])
            if number != NO_FRAME:
                yield number, picture

    def _decode(self, position: int, packet: av.Packet) -> tuple[list[av.VideoFrame], str]:
        """The pictures that a packet brings out, and what is wrong with it or ""."""
        if self._strict and not self._index.packets.whole[position]:
            return [], self._index.cut or "its data is incomplete"
        rule = self._feed.rule
        if self._strict and rule is not None and not rule.is_intact(memoryview(packet)):
            return [], "its data is damaged (bytes that no encoder writes)"
        packet.pts = position
        try:
            pictures = list(self._feed.decoder.decode(packet))
        except av.error.FFmpegError as error:
            return [], f"its data is damaged ({describe(error)})" if self._strict else ""
        if self._strict and any(picture.is_corrupt for picture in pictures):
            return [p for p in pictures if not p.is_corrupt], "its data is damaged"
        return pictures, ""

    def _drain(self) -> list[av.VideoFrame]:
        """What the decoder still holds."""
        try:
            held = list(self._feed.decoder.decode(None))
        except av.error.FFmpegError:
            return []
        return [p for p in held if not (self._strict and p.is_corrupt)]

    def _give_up(self, packet: int, problem: str) -> None:
        own = int(self._index.number_of[packet])
        self.failed.update(self._index.depending_on(packet))
        if own != NO_FRAME:
            self._damage.add([own], problem)
            problem = f"it is stored as a difference to frame {own}, which is damaged: {problem}"
        self._damage.add(self._index.lost_with(packet), problem)

    def _note_missing(self, first: int, end: int) -> None:
        """Note frames ``first`` to ``end - 1``, which the decoder did not give."""
        for number in range(first, end):
            if number in self._damage:
                continue
            if self._left_out:
                raise HasteError
            packet = int(self._index.packet_of[number])
            if packet == NO_FRAME:
                self._damage.add([number], self._index.cut)
                continue
            if self._strict and self._feed.n_threads != 1 and not self._index.by_count:
                raise MisplacedError
            lost = self._index.lost_with(packet) if self._strict else [number]
            self._damage.add(
                [n for n in lost if n >= number],
                "the decoder gives no picture for it (if the video plays well elsewhere, open it "
                'with VideoReader(..., index="decode"))',
            )


def _stamps(pictures: list[av.VideoFrame]) -> Iterator[tuple[int, av.VideoFrame]]:
    for picture in pictures:
        if picture.pts is not None:
            yield int(picture.pts), picture
