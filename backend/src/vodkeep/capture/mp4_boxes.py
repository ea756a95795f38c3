"""Boxes, the bricks of an MP4 file (ISO/IEC 14496-12 section 4.2).

Writing puts bytes together; reading never trusts a size: a box that does not fit its parent is `SegmentDamagedError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vodkeep.capture.samples import SegmentDamagedError

HEADER_BYTES = 8
LARGE_HEADER_BYTES = 16  # With the size in 64 bits.

# Far more than any file has in one place; a list of millions of empty boxes is an attack on our memory.
_MOST_BOXES = 1 << 16


def header(kind: bytes, size: int) -> bytes:
    """The first 8 bytes of a box of ``size`` bytes, header included."""
    return size.to_bytes(4, "big") + kind


def large_header(kind: bytes, size: int) -> bytes:
    """The first 16 bytes of a box whose size may pass 4 GiB; ``size`` counts the header too."""
    return header(kind, 1) + size.to_bytes(8, "big")


def box(kind: bytes, *parts: bytes) -> bytes:
    """A whole box."""
    body = b"".join(parts)
    return header(kind, HEADER_BYTES + len(body)) + body


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """A whole box with version and flags (section 4.2)."""
    return box(kind, bytes((version,)), flags.to_bytes(3, "big"), *parts)


@dataclass(frozen=True, slots=True)
class Box:
    """Where a box lies: byte offsets into the buffer or file it was found in."""

    kind: bytes
    start: int  # of its header
    body: int  # behind its header
    end: int


def read_boxes(view: memoryview, start: int, end: int) -> Iterator[Box]:
    """The boxes that fill ``view[start:end]`` exactly, in order. Raises `SegmentDamagedError`."""
    return walk_boxes(lambda offset, size: view[offset : offset + size], start, end)


def walk_boxes(read: Callable[[int, int], bytes | memoryview], start: int, end: int) -> Iterator[Box]:
    """The boxes that fill the bytes from ``start`` to ``end`` exactly, in order; only their headers are read.

    ``read`` is given an offset and a number of bytes, and may return fewer where the bytes end. Raises
    `SegmentDamagedError`.
    """
    for _ in range(_MOST_BOXES):
        if start >= end:
            return
        body = start + HEADER_BYTES
        head = read(start, LARGE_HEADER_BYTES)
        if body > end or len(head) < HEADER_BYTES:
            raise SegmentDamagedError("it ends inside a box header")
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            body = start + LARGE_HEADER_BYTES
            size = int.from_bytes(head[HEADER_BYTES:], "big")
        elif size == 0:  # The last box reaches to the end.
            size = end - start
        stop = start + size
        if not body <= stop <= end:
            raise SegmentDamagedError(f"its box at byte {start} does not fit")
        yield Box(bytes(head[4:HEADER_BYTES]), start, body, stop)
        start = stop
    raise SegmentDamagedError("it consists of too many boxes")


class Fields:
    """Reads the numbers of a box one after the other; behind its end is `SegmentDamagedError`."""

    __slots__ = ("_box", "_view", "offset")

    def __init__(self, view: memoryview, box: Box) -> None:
        self._view, self._box = view, box
        self.offset = box.body

    def unsigned(self, size: int) -> int:
        """The next ``size`` bytes as a number, the highest byte first."""
        return int.from_bytes(self.take(size), "big")

    def signed(self, size: int) -> int:
        """The next ``size`` bytes as a number in two's complement."""
        return int.from_bytes(self.take(size), "big", signed=True)

    def take(self, size: int) -> memoryview:
        """The next ``size`` bytes."""
        start = self.offset
        self.offset += size
        if self.offset > self._box.end:
            raise SegmentDamagedError(f"its {self._box.kind.decode('latin-1')} box is too short")
        return self._view[start : self.offset]

    @property
    def left(self) -> int:
        """Bytes that are still unread."""
        return self._box.end - self.offset
