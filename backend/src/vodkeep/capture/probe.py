"""Cheap checks of a segment's container structure."""

from __future__ import annotations

from vodkeep.capture.samples import SegmentDamagedError as SegmentDamagedError

_TS_PACKET_BYTES = 188  # ISO/IEC 13818-1 section 2.4.3.2
_TS_SYNC_BYTE = 0x47


def check_transport_stream(body: bytes) -> None:
    """Whole packets, each with its sync byte (ISO/IEC 13818-1 section 2.4.3.2)."""
    packets, rest = divmod(len(body), _TS_PACKET_BYTES)
    if body[0] != _TS_SYNC_BYTE:
        raise SegmentDamagedError("it does not begin like a transport stream")
    if rest:
        raise SegmentDamagedError(f"it ends inside a transport stream packet ({len(body)} bytes)")
    synced = body[::_TS_PACKET_BYTES].count(_TS_SYNC_BYTE)
    if synced != packets:
        raise SegmentDamagedError(f"{packets - synced} of {packets} transport stream packets lost their sync byte")
