"""How the processes that watch share the channels among them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from vodkeep.db.leases import PROCESS_PREFIX, Lease
from vodkeep.pipeline.roles import ProcessNote, Role, fingerprint, share_of


class ChannelShares:
    """Which of ``channels`` the process ``holder`` should watch, from what all live processes say of themselves.

    Processes with the same channels share them evenly. One with other channels in its settings is not reckoned with:
    of what both know, each leaves the other what that has.
    """

    def __init__(self, channels: Collection[str], holder: str) -> None:
        self._channels = tuple(channels)
        self._holder = holder
        self._fingerprint = fingerprint(channels)
        self._live: Collection[Lease] | None = None
        self._share: frozenset[str] = frozenset()

    def wants(self, channel: str) -> Callable[[Collection[Lease]], bool]:
        """Whether the channel is ours to watch, as a question to all that others hold at a moment."""

        def wanted(live: Collection[Lease]) -> bool:
            # Asked for each channel with the same leases, and there may be a thousand of both.
            if live is not self._live:
                self._live, self._share = live, share_of(self._channels, self._holder, self._watchers(live))
            return channel in self._share

        return wanted

    def _watchers(self, live: Collection[Lease]) -> list[str]:
        notes = [
            (lease.holder, ProcessNote.read(lease.detail)) for lease in live if lease.name.startswith(PROCESS_PREFIX)
        ]
        return [holder for holder, note in notes if Role.WATCH in note.roles and note.channels == self._fingerprint]
