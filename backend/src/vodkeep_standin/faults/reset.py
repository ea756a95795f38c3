"""The connection breaks."""

from __future__ import annotations

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply


class Reset(Fault, frozen=True, tag="reset"):
    """Reset the connection (RST): before any answer, or once ``after_bytes`` of the body have gone out."""

    after_bytes: int | None = None

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Plan the reset."""
        reply.delivery.ending = "reset"
        reply.delivery.cut_after = self.after_bytes
        return reply
