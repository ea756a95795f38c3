"""What an image is, told by its bytes alone: neither a header nor a name is believed.

Only the structure is walked, nothing is decoded. A body that is cut off raises `CutShort`, which another try may mend;
anything that is not one of the types kept raises `NotAnImage`.

Sources: PNG third edition (https://www.w3.org/TR/png-3/), GIF89a (https://www.w3.org/Graphics/GIF/spec-gif89a.txt),
WebP container (RFC 9649), AVIF (https://aomediacodec.github.io/av1-avif/) in ISO/IEC 14496-12 boxes, JPEG (ITU T.81).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vodkeep.chat.vault.model import ImageFacts, ImageType

MAX_SIDE_PX = 2048
"""Emotes have at most some hundred pixels; a small file that claims more would exhaust whoever draws it."""


class NotAnImage(ValueError):
    """Not an image of a type that is kept; the text says what it is instead."""


class CutShort(NotAnImage):
    """An image whose end is missing."""


def inspect(data: bytes) -> ImageFacts:
    """Type, size and whether it moves. Raises `NotAnImage`, or `CutShort` when the end is missing."""
    try:
        facts = _inspect(data)
    except (struct.error, IndexError) as error:
        raise CutShort("its end is missing") from error
    if not (1 <= facts.width <= MAX_SIDE_PX and 1 <= facts.height <= MAX_SIDE_PX):
        raise NotAnImage(f"it claims {facts.width} x {facts.height} pixels, and {MAX_SIDE_PX} is the most")
    return facts


def _inspect(data: bytes) -> ImageFacts:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    if data[4:8] == b"ftyp":
        return _avif(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    raise NotAnImage("it is not a PNG, GIF, WebP, AVIF or JPEG")


def _png(data: bytes) -> ImageFacts:
    size: tuple[int, int] | None = None
    animated = has_pixels = False
    position = 8
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        body = position + 8
        position = body + length + 4  # and the checksum
        if position > len(data):
            raise CutShort("its end is missing")
        if size is None:
            if kind != b"IHDR" or length != 13:
                raise NotAnImage("it is a PNG without a header")
            size = struct.unpack_from(">II", data, body)
        elif kind == b"acTL":
            animated = True
        elif kind == b"IDAT":
            has_pixels = True
        elif kind == b"IEND":
            break
    if not has_pixels:
        raise NotAnImage("it is a PNG without a picture")
    return ImageFacts(ImageType.PNG, *size, animated)


def _gif(data: bytes) -> ImageFacts:
    width, height, packed = struct.unpack_from("<HHB", data, 6)
    position = 13 + _colour_table(packed)
    pictures = 0
    # Some encoders leave the trailer out, so the end of the data between two blocks is an end too.
    while position < len(data) and data[position] != 0x3B:
        if data[position] == 0x21:
            position = _after_sub_blocks(data, position + 2)
        elif data[position] == 0x2C:
            position = _after_sub_blocks(data, position + 10 + _colour_table(data[position + 9]) + 1)
            pictures += 1
        else:
            raise NotAnImage("it is a damaged GIF")
    if not pictures:
        raise CutShort("it is a GIF without a picture")
    return ImageFacts(ImageType.GIF, width, height, pictures > 1)


def _colour_table(packed: int) -> int:
    """Bytes of the colour table that a packed field announces."""
    return 3 * 2 ** ((packed & 7) + 1) if packed & 0x80 else 0


def _after_sub_blocks(data: bytes, position: int) -> int:
    while length := data[position]:
        position += 1 + length
    return position + 1


def _webp(data: bytes) -> ImageFacts:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise CutShort("its end is missing")
    size: tuple[int, int] | None = None
    animated = has_pixels = False
    position = 12
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        body = position + 8
        if body + length > end:
            raise NotAnImage("it is a damaged WebP")
        if kind == b"VP8X":
            flags, size = data[body], (_uint24(data, body + 4) + 1, _uint24(data, body + 7) + 1)
            animated = bool(flags & 0x02)
        elif kind in (b"VP8 ", b"VP8L"):
            has_pixels = True
            size = size or (_vp8_size(data, body) if kind == b"VP8 " else _vp8l_size(data, body))
        elif kind == b"ANMF":
            has_pixels = True
        position = body + length + (length & 1)
    if size is None or not has_pixels:
        raise NotAnImage("it is a WebP without a picture")
    return ImageFacts(ImageType.WEBP, *size, animated)


def _uint24(data: bytes, position: int) -> int:
    return data[position] | data[position + 1] << 8 | data[position + 2] << 16


def _vp8_size(data: bytes, body: int) -> tuple[int, int]:
    """RFC 6386 section 9.1: a key frame's start code and two 14-bit sides."""
    if data[body + 3 : body + 6] != b"\x9d\x01\x2a":
        raise NotAnImage("it is a WebP that does not begin with a key frame")
    width, height = struct.unpack_from("<HH", data, body + 6)
    return width & 0x3FFF, height & 0x3FFF


def _vp8l_size(data: bytes, body: int) -> tuple[int, int]:
    """RFC 9649 section 3.4: a signature byte and two 14-bit sides, less one."""
    signature, bits = struct.unpack_from("<BI", data, body)
    if signature != 0x2F:
        raise NotAnImage("it is a damaged WebP")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _avif(data: bytes) -> ImageFacts:
    boxes = dict(_boxes(data, 0, len(data)))
    start, end = boxes[b"ftyp"]
    brands = {data[start : start + 4], *(data[at : at + 4] for at in range(start + 8, end - 3, 4))}
    if not brands & {b"avif", b"avis"}:
        raise NotAnImage("it is a film or another picture in MP4 boxes, not an AVIF")
    if b"meta" not in boxes or b"mdat" not in boxes:
        raise CutShort("it is an AVIF without a picture")
    start, end = boxes[b"meta"]
    for name in (b"iprp", b"ipco"):
        # `meta` is a full box: version and flags come first.
        inner = dict(_boxes(data, start + (4 if name == b"iprp" else 0), end))
        if name not in inner:
            raise NotAnImage("it is an AVIF that does not tell its size")
        start, end = inner[name]
    sizes = [struct.unpack_from(">II", data, at + 4) for kind, (at, _) in _boxes(data, start, end) if kind == b"ispe"]
    if not sizes:
        raise NotAnImage("it is an AVIF that does not tell its size")
    width, height = max(sizes)
    return ImageFacts(ImageType.AVIF, width, height, b"avis" in brands and b"moov" in boxes)


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Kind, and start and end of the content, of each box from ``position`` to ``end``."""
    while position < end:
        length, kind = struct.unpack_from(">I4s", data, position)
        body = position + 8
        if length == 1:
            length, body = struct.unpack_from(">Q", data, body)[0], body + 8
        elif length == 0:
            length = end - position
        if length < body - position:
            raise NotAnImage("it has damaged MP4 boxes")
        if position + length > end:
            raise CutShort("its end is missing")
        yield kind, (body, position + length)
        position += length


# Start of frame: all of C0 to CF but for tables (C4), JPEG extensions (C8) and arithmetic conditioning (CC).
_FRAME_STARTS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA


def _jpeg(data: bytes) -> ImageFacts:
    position = 2
    size: tuple[int, int] | None = None
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:  # fill bytes
            position += 1
        if data[position] != 0xFF:
            raise NotAnImage("it is a damaged JPEG")
        marker = data[position + 1]
        if marker == _START_OF_SCAN:
            break
        (length,) = struct.unpack_from(">H", data, position + 2)
        if length < 2:
            raise NotAnImage("it is a damaged JPEG")
        if marker in _FRAME_STARTS:
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = (width, height)
        position += 2 + length
    if size is None:
        raise NotAnImage("it is a JPEG without a picture")
    if data.find(b"\xff\xd9", position) < 0:
        raise CutShort("its end is missing")
    return ImageFacts(ImageType.JPEG, *size, animated=False)
