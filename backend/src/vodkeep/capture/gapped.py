"""Bytes with gaps: a stream as it lies between the headers of its container.

Taking the headers out by copying would cost as much as everything else that is done with a segment, so the bytes stay
where they are and the gaps are remembered. A *place* counts from the start of the buffer, an *offset* from the start of
the stream, without the gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True, eq=False)
class GappedStream:
    """A stream that lies in ``octets`` but for gaps, which begin at ``at`` (ascending) and are ``size`` bytes long.

    Gaps are not empty and do not overlap. The buffer belongs to the stream: whoever uses the stream up may write to it.
    """

    octets: NDArray[np.uint8]
    at: NDArray[np.int64]
    size: NDArray[np.int64]
    _before: NDArray[np.int64] = field(init=False)  # bytes in gaps up to and including each gap; first 0 for none
    _offset: NDArray[np.int64] = field(init=False)  # where in the stream each gap is

    def __post_init__(self) -> None:
        self._before = np.concatenate((np.zeros(1, np.int64), np.cumsum(self.size)))
        self._offset = self.at - self._before[:-1]

    def __len__(self) -> int:
        return len(self.octets) - int(self._before[-1])

    @classmethod
    def of(cls, body: bytes | bytearray) -> GappedStream:
        """A stream without gaps; the buffer is a copy."""
        none = np.zeros(0, np.int64)
        return cls(np.frombuffer(bytearray(body), np.uint8), none, none)

    @property
    def gap_offsets(self) -> NDArray[np.int64]:
        """Where in the stream the gaps are; several may be at one offset."""
        return self._offset

    def offsets(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Offsets of bytes at these places. A place in a gap counts as the gap's beginning and onwards: do not ask."""
        return places - self._before[np.searchsorted(self.at, places, side="right")]

    def places(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the bytes at these offsets lie."""
        return offsets + self._before[np.searchsorted(self._offset, offsets, side="right")]

    def read(self, begin: int, end: int) -> bytes:
        """The stream's bytes from one offset to another."""
        return self.octets[self.places(np.arange(begin, end))].tobytes()

    def joined(self) -> bytearray:
        """The stream without its gaps."""
        view = self.octets.data
        begins = [0, *(self.at + self.size).tolist()]
        ends = [*self.at.tolist(), len(view)]
        return bytearray().join([view[begin:end] for begin, end in zip(begins, ends, strict=True)])
