"""The line to the other side is narrow."""

from __future__ import annotations

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply
from vodkeep_standin.serving.pacing import Pacer


class UploadBandwidth(Fault, frozen=True, tag="upload_bandwidth"):
    """Take bodies that come in at ``total`` bytes per second, all matched requests together."""

    total: float

    async def before(self, call: Call, firing: Firing) -> Reply | None:
        """Put the cap on the body."""
        if call.incoming is not None:
            call.incoming.pacers.append(firing.remember("total", lambda: Pacer(self.total)))
        return None
