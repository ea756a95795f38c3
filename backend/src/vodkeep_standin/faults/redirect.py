"""The answer sends the client elsewhere."""

from __future__ import annotations

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply, text_reply


class Redirect(Fault, frozen=True, tag="redirect"):
    """Answer with a redirect to ``location``, whatever that is."""

    location: str
    status: int = 302

    async def before(self, call: Call, firing: Firing) -> Reply | None:
        """Answer in place of the resource."""
        reply = text_reply("", status=self.status)
        reply.headers["Location"] = self.location
        return reply
