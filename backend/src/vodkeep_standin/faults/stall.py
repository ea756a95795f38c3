"""The line is open and silent."""

from __future__ import annotations

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply


class Stall(Fault, frozen=True, tag="stall"):
    """Send ``after_bytes`` of the body, then nothing until the client gives up.

    With ``drip_interval_s`` one more byte trickles out at that interval (slow loris), which defeats timeouts that
    only watch for silence.
    """

    after_bytes: int = 0
    drip_interval_s: float | None = None

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Plan the silence."""
        reply.delivery.cut_after = self.after_bytes
        reply.delivery.ending = "stall"
        reply.delivery.drip_interval_s = self.drip_interval_s
        return reply
