"""What is known of packets before they are in a file, small enough to be kept for a broadcast of two days.

The engine notes it while it fetches and plans; whoever reads the finished file compares. So a file is proven to hold
every packet that was fetched, byte for byte, at the time that was planned for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PacketCheck:
    """The packets of one track in one segment, in decoding order; at least one."""

    media_sequence: int
    packets: int
    payload: int  # CRC-32 of their bytes, back to back
    times: int  # CRC-32 of their `time_rows`


def time_rows(dts: NDArray[np.int64], pts: NDArray[np.int64], sync: NDArray[np.bool_]) -> bytes:
    """When packets are decoded and shown, and with which of them a decoder can begin: three numbers for each.

    ``dts`` are ticks from the first packet of the track in the film on, ``pts`` ticks of the movie's timeline.
    """
    return np.column_stack((dts, pts, sync)).astype("<i8").tobytes()
