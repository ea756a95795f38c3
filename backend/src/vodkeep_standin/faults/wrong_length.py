"""Content-Length lies."""

from __future__ import annotations

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply


class WrongLength(Fault, frozen=True, tag="wrong_length"):
    """Announce ``extra`` bytes more than there are (fewer when negative), send all of them and close."""

    extra: int

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Plan the lie."""
        reply.delivery.declared_extra = self.extra
        return reply
