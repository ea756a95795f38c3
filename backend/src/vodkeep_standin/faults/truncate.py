"""The body ends early."""

from __future__ import annotations

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply


class Truncate(Fault, frozen=True, tag="truncate"):
    """Announce the whole body, send a part and close the connection in an orderly way.

    The part is ``after_bytes``, else ``fraction`` of the body.
    """

    after_bytes: int | None = None
    fraction: float = 0.5

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Plan the cut."""
        cut = self.after_bytes if self.after_bytes is not None else int(reply.size * self.fraction)
        # Something must be missing, or it would not be this fault.
        reply.delivery.cut_after = max(0, min(cut, reply.size - 1))
        reply.delivery.ending = "close"
        return reply
