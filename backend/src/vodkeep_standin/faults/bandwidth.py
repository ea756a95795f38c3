"""The line is narrow."""

from __future__ import annotations

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply
from vodkeep_standin.serving.pacing import Pacer


class Bandwidth(Fault, frozen=True, tag="bandwidth"):
    """Cap the rate of reply bodies, per connection and for all matched requests together (bytes per second)."""

    per_connection: float | None = None
    total: float | None = None

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Put the caps on the reply."""
        for rate, key in ((self.per_connection, f"connection {call.connection}"), (self.total, "total")):
            if rate is not None:
                pacer = firing.remember(key, lambda rate=rate: Pacer(rate))  # type: ignore[misc]
                reply.delivery.pacers.append(pacer)
        return reply
