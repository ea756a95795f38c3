"""Small images of one colour, made in memory: every browser draws them, and each id has its own colour.

Sources: PNG third edition, GIF89a, RFC 9649 (WebP); the AVIF was made once with ffmpeg and SVT-AV1.
"""

from __future__ import annotations

import base64
import struct
import zlib
from functools import cache
from hashlib import blake2b

from vodkeep_standin.emotes.model import Form

MEDIA_TYPES: dict[Form, str] = {
    "png": "image/png",
    "apng": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "awebp": "image/webp",
    "avif": "image/avif",
}

_AVIF = base64.b64decode(
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUIAAAD5bWV0YQAAAAAAAAAvaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAFBpY3R1cmVI"
    "YW5kbGVyAAAAAA5waXRtAAAAAAABAAAAHmlsb2MAAAAARAAAAQABAAAAAQAAASEAAAAkAAAAKGlpbmYAAAAAAAEAAAAaaW5mZQIAAAAAAQAAYXYw"
    "MUNvbG9yAAAAAGppcHJwAAAAS2lwY28AAAAUaXNwZQAAAAAAAABAAAAAQAAAABBwaXhpAAAAAAMICAgAAAAMYXYxQ4EADAAAAAATY29scm5jbHgA"
    "AgACAAIAAAAAF2lwbWEAAAAAAAAAAQABBAECgwQAAAAsbWRhdAoLAgAABVV//Gr5gEAyFRAAugIIIEEBAAAIAJXYLIc6YNLQcA=="
)


def image(form: Form, name: str, side: int = 32) -> bytes:
    """A square image in the colour of ``name``; those that move show two colours in turn."""
    first, second = _colour(name), _colour(name + "'")
    if form in ("png", "apng"):
        return _png([first] if form == "png" else [first, second], side)
    if form == "gif":
        return _gif([first, second], side)
    if form == "webp":
        return _riff(_chunk(b"VP8L", _vp8l(first, side)))
    if form == "awebp":
        return _animated_webp([first, second], side)
    # A box that readers skip tells one from another.
    return _AVIF + struct.pack(">I4s", 8 + len(name.encode()), b"free") + name.encode()


def _colour(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=3).digest()


def _png(colours: list[bytes], side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def pixels(colour: bytes) -> bytes:
        return zlib.compress((b"\0" + colour * side) * side)

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    if len(colours) == 1:
        return head + chunk(b"IDAT", pixels(colours[0])) + chunk(b"IEND", b"")
    parts = [head, chunk(b"acTL", struct.pack(">II", len(colours), 0))]
    serial = 0
    for number, colour in enumerate(colours):
        parts.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", serial, side, side, 0, 0, 1, 2, 0, 0)))
        serial += 1
        if number == 0:
            parts.append(chunk(b"IDAT", pixels(colour)))
        else:
            parts.append(chunk(b"fdAT", struct.pack(">I", serial) + pixels(colour)))
            serial += 1
    return b"".join([*parts, chunk(b"IEND", b"")])


def _gif(colours: list[bytes], side: int) -> bytes:
    parts = [b"GIF89a", struct.pack("<HHBBB", side, side, 0xF0, 0, 0), colours[0], colours[1]]
    parts.append(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")
    for index in range(len(colours)):
        parts.append(b"\x21\xf9\x04\0" + struct.pack("<H", 50) + b"\0\0")
        parts.append(b"\x2c" + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02" + _gif_pixels(index, side * side))
    return b"".join([*parts, b"\x3b"])


@cache
def _gif_pixels(index: int, count: int) -> bytes:
    """Uncompressed LZW: three-bit codes, and a clear code often enough that codes never grow."""
    codes = []
    for start in range(0, count, 2):
        codes += [4, *[index] * min(2, count - start)]
    bits = sum(code << 3 * place for place, code in enumerate([*codes, 5]))
    packed = bits.to_bytes((3 * (len(codes) + 1) + 7) // 8, "little")
    blocks = [packed[at : at + 255] for at in range(0, len(packed), 255)]
    return b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def _vp8l(colour: bytes, side: int) -> bytes:
    """A lossless picture whose five prefix codes have one symbol each, so that its pixels take no bits at all."""
    fields = [(side - 1, 14), (side - 1, 14), (0, 1), (0, 3), (0, 1), (0, 1), (0, 1)]
    red, green, blue = colour
    for symbol in (green, red, blue, 255):
        fields += [(1, 1), (0, 1), (1, 1), (symbol, 8)]
    fields += [(1, 1), (0, 1), (0, 1), (0, 1)]
    bits = place = 0
    for value, width in fields:
        bits |= value << place
        place += width
    return b"\x2f" + bits.to_bytes((place + 7) // 8, "little")


def _animated_webp(colours: list[bytes], side: int) -> bytes:
    sides = (side - 1).to_bytes(3, "little") * 2
    parts = [_chunk(b"VP8X", b"\x02\0\0\0" + sides), _chunk(b"ANIM", b"\0\0\0\0\0\0")]
    for colour in colours:
        head = b"\0" * 6 + sides + (500).to_bytes(3, "little") + b"\x02"
        parts.append(_chunk(b"ANMF", head + _chunk(b"VP8L", _vp8l(colour, side))))
    return _riff(b"".join(parts))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


def _riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
