"""The body is far larger than it should be."""

from __future__ import annotations

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, FileBody, Reply


class Oversized(Fault, frozen=True, tag="oversized"):
    """Follow the body of a good reply with ``extra_bytes`` zeros, announced in its length."""

    extra_bytes: int = 64 * 1024 * 1024

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Grow the body; what is served from a file stays as it is."""
        if reply.status < 300 and not isinstance(reply.body, FileBody):
            reply.body += bytes(self.extra_bytes)
        return reply
