"""The header lies about what the body is."""

from __future__ import annotations

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply


class ContentType(Fault, frozen=True, tag="content_type"):
    """Send the body under another media type."""

    media_type: str = "text/html"

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Swap the header."""
        reply.headers["Content-Type"] = self.media_type
        return reply
