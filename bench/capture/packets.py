"""What a media file holds, whatever container it is in: so that outputs of different programs can be compared.

Two programs have kept the same broadcast when both files hold the same pictures and the same sound in the same order.
The containers differ by design: a transport stream has start codes before each part of a picture (ITU-T H.264 annex
B) and a header before each frame of sound (ADTS), an MP4 has lengths and keeps the decoder's parameters once for all.
So a packet's parts are compared without those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import av

# Not part of the pictures: parameter sets (an MP4 has them in its header), delimiters and stuffing (ITU-T H.264 table
# 7-1). Every muxer treats them in its own way.
_SPS, _PPS, _DELIMITER, _FILLER = 7, 8, 9, 12
_LEFT_OUT = frozenset({_SPS, _PPS, _DELIMITER, _FILLER})
_START_CODE = b"\0\0\1"
# Hashing a batch of this size outlasts the cost of handing it to a thread by far.
_BATCH_BYTES = 4 << 20
# A jump lands on the reference picture before the place; there is one every 2 s.
_BEFORE_THE_END_S = 3.0
_JUMP_MISSES_BY_S = 2.5


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Packets of picture and sound: how many there are, and a digest of what is in them."""

    video: int
    audio: int
    video_md5: str
    audio_md5: str

    def as_dict(self) -> dict[str, object]:
        """For a JSON file."""
        return asdict(self)

    def difference(self, expected: Fingerprint) -> str | None:
        """How it differs from ``expected``, in words; None when it does not."""
        found = []
        for kind in ("video", "audio"):
            count, wanted = getattr(self, kind), getattr(expected, kind)
            if count != wanted:
                found.append(f"{count} {kind} packets instead of {wanted}")
            elif getattr(self, f"{kind}_md5") != getattr(expected, f"{kind}_md5"):
                found.append(f"other {kind} packets")
        return ", ".join(found) or None


@dataclass(frozen=True, slots=True)
class Playability:
    """What a player meets when it opens the file."""

    index: str  # "front", "end" or "fragments": where an MP4 says what lies where
    duration_s: float
    problem: str | None  # why it does not play; None when it does


def fingerprint(path: str, container: str | None = None) -> Fingerprint:
    """Read every packet of a file (or of another address that FFmpeg's libraries know)."""
    digests = {"video": hashlib.md5(usedforsecurity=False), "audio": hashlib.md5(usedforsecurity=False)}
    counts = {"video": 0, "audio": 0}
    batches: dict[str, list[bytes]] = {"video": [], "audio": []}
    pending = {"video": 0, "audio": 0}
    with av.open(path, format=container) as file, ThreadPoolExecutor(1) as hashing:
        streams: list[av.VideoStream | av.AudioStream] = [*file.streams.video[:1], *file.streams.audio[:1]]
        splitters = {stream.index: _splitter(stream) for stream in streams}
        results = []

        def flush(kind: str) -> None:
            # One thread, so that the batches are hashed in order; hashing does not hold the interpreter's lock.
            results.append(hashing.submit(digests[kind].update, b"".join(batches[kind])))
            batches[kind], pending[kind] = [], 0

        for packet in file.demux(streams):
            if packet.size == 0:  # The end of a stream.
                continue
            kind = str(packet.stream.type)
            counts[kind] += 1
            for part in splitters[packet.stream.index](bytes(packet)):
                batches[kind] += [len(part).to_bytes(4, "big"), part]
                pending[kind] += len(part)
            if pending[kind] > _BATCH_BYTES:
                flush(kind)
        for kind in digests:
            flush(kind)
        for result in results:
            result.result()
    return Fingerprint(counts["video"], counts["audio"], digests["video"].hexdigest(), digests["audio"].hexdigest())


class AnnexB:
    """The parts of a picture in a transport stream: each stands behind a start code (ITU-T H.264 annex B)."""

    def __call__(self, packet: bytes) -> Iterator[bytes]:
        """Each part that belongs to the picture."""
        start = packet.find(_START_CODE)
        while start >= 0:
            start += 3
            following = packet.find(_START_CODE, start)
            # Zero bytes before a start code belong to the code, not to the part before it.
            part = packet[start : following if following >= 0 else len(packet)].rstrip(b"\0")
            if part and part[0] & 31 not in _LEFT_OUT:
                yield part
            start = following


class LengthPrefixed:
    """The parts of a picture in an MP4: each has its length in front (ISO/IEC 14496-15 section 5.3.2)."""

    def __init__(self, length_bytes: int) -> None:
        self._length_bytes = length_bytes

    def __call__(self, packet: bytes) -> Iterator[bytes]:
        """Each part that belongs to the picture; raises `ValueError` where a length leads out of the packet."""
        position = 0
        while position < len(packet):
            begin = position + self._length_bytes
            position = begin + int.from_bytes(packet[position:begin], "big")
            if position > len(packet):
                raise ValueError("A part of a picture is longer than its packet.")
            part = packet[begin:position].rstrip(b"\0")
            if part and part[0] & 31 not in _LEFT_OUT:
                yield part


class Sound:
    """A frame of AAC without the header it has in a transport stream (ADTS, 7 bytes or 9 with a checksum)."""

    def __init__(self, *, adts: bool) -> None:
        self._adts = adts

    def __call__(self, packet: bytes) -> Iterator[bytes]:
        """The frame."""
        if self._adts:
            yield packet[7 if packet[1] & 1 else 9 :]
        else:
            yield packet


def _splitter(stream: av.VideoStream | av.AudioStream) -> AnnexB | LengthPrefixed | Sound:
    """How the packets of a stream are to be read; the decoder's configuration tells."""
    setup = bytes(stream.codec_context.extradata or b"")
    if isinstance(stream, av.AudioStream):
        # A configuration of its own (ISO/IEC 14496-3) comes with frames that have no header each.
        return Sound(adts=not setup)
    # An AVCDecoderConfigurationRecord begins with its version, 1 (ISO/IEC 14496-15 section 5.3.3.1).
    return LengthPrefixed((setup[4] & 3) + 1) if setup[:1] == b"\x01" else AnnexB()


def check_playable(path: Path, expected_s: float) -> Playability:
    """Open a file as a player does: first picture, a jump close to the end, a picture there."""
    index = _index_place(path)
    try:
        with av.open(str(path)) as file:
            duration_s = (file.duration or 0) / av.time_base
            video = file.streams.video[0]
            if next(file.decode(video), None) is None:
                return Playability(index, duration_s, "there is no first picture")
            wanted_s = expected_s - _BEFORE_THE_END_S
            file.seek(int(wanted_s * av.time_base))
            frame = next(file.decode(video), None)
            if frame is None or frame.time is None or abs(frame.time - wanted_s) > _JUMP_MISSES_BY_S:
                return Playability(index, duration_s, "it does not play after a jump close to its end")
    except (av.error.FFmpegError, IndexError) as error:
        return Playability(index, 0.0, f"it does not open: {error}")
    if abs(duration_s - expected_s) > 1:
        return Playability(index, duration_s, f"it lasts {duration_s:.1f} s instead of {expected_s:.1f} s")
    return Playability(index, duration_s, None)


def _index_place(path: Path) -> str:
    """Where the sample tables are: the order of the boxes at the top of the file (ISO/IEC 14496-12 section 4.2)."""
    order: list[bytes] = []
    with path.open("rb") as file:
        position, end = 0, path.stat().st_size
        while position + 8 <= end and len(order) < 64:
            file.seek(position)
            header = file.read(16)
            size = int.from_bytes(header[:4], "big")
            order.append(header[4:8])
            if size == 1:
                size = int.from_bytes(header[8:16], "big")
            if size < 8:  # 0: to the end of the file.
                break
            position += size
    if b"moof" in order:
        return "fragments"
    if b"moov" not in order:
        return "none"
    return "front" if b"mdat" not in order or order.index(b"moov") < order.index(b"mdat") else "end"
