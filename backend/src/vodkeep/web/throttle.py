"""How many requests one address may send before a password is even looked at."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from datetime import timedelta

# Bounds the memory that a flood from many addresses can take.
_MOST_CLIENTS = 10_000


@dataclass(slots=True)
class _Window:
    ends_at: float
    seen: int = 0


class Throttle:
    """Counts requests per client in fixed windows; a client is an IPv4 address or an IPv6 network of 64 bits."""

    def __init__(self, most: int, window: timedelta) -> None:
        self._most = most
        self._window_s = window.total_seconds()
        self._windows: dict[str, _Window] = {}

    def wait_s(self, address: str, now: float) -> int | None:
        """Count a request at ``now`` (monotonic seconds); ``None`` lets it in, else wait that many seconds."""
        client = _client(address)
        window = self._windows.get(client)
        if window is None or now >= window.ends_at:
            self._make_room(now)
            # Taken out first, so that the order of the dictionary is the order of age.
            self._windows.pop(client, None)
            window = self._windows[client] = _Window(now + self._window_s)
        window.seen += 1
        return None if window.seen <= self._most else max(1, math.ceil(window.ends_at - now))

    def _make_room(self, now: float) -> None:
        if len(self._windows) < _MOST_CLIENTS:
            return
        for client in [client for client, window in self._windows.items() if now >= window.ends_at]:
            del self._windows[client]
        while len(self._windows) >= _MOST_CLIENTS:
            del self._windows[next(iter(self._windows))]


def _client(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        # One household has a whole network of these.
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)
