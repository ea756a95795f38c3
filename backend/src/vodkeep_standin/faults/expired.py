"""The right to fetch a video runs out in the middle."""

from __future__ import annotations

from vodkeep_standin.edge.endpoints import refused
from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply


class ExpiredPlayback(Fault, frozen=True, tag="expired_playback"):
    """Refuse every playlist and segment with 403 whose link was handed out before this fault first applied.

    A client that asks GQL and usher again gets links that work. ``video`` limits it to one id. Combine with the
    rule's ``after`` to let some segments through first; leave the rule's ``count`` open.
    """

    video: str | None = None

    async def before(self, call: Call, firing: Firing) -> Reply | None:
        """Refuse old links."""
        elements = call.path.split("/")
        if len(elements) < 4 or elements[1] != "edge":
            return None
        grant = call.world.grants.get(elements[2])
        if grant is None or (self.video is not None and grant.video_id != self.video):
            return None
        expired_up_to = firing.remember("serial", lambda: len(call.world.grants))
        return refused() if grant.serial <= expired_up_to else None
