"""An upload breaks in the middle."""

from __future__ import annotations

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply
from vodkeep_standin.serving.incoming import Break, Cut


class UploadBreak(Fault, frozen=True, tag="upload_break"):
    """End a body that comes in after ``after_bytes``: ``reset``, ``close``, ``stall`` or an answer with ``status``.

    Of what came until then whole units of 256 KiB are kept, up to ``keeps_bytes`` of the whole upload; what earlier
    requests brought is never lost.
    """

    after_bytes: int = 0
    ending: Break = "reset"
    status: int = 503
    keeps_bytes: int | None = None

    async def before(self, call: Call, firing: Firing) -> Reply | None:
        """Plan the end. Questions, which have no body, pass."""
        if call.incoming is not None and call.headers.get("Content-Length", "0") != "0":
            call.incoming.cut = Cut(self.after_bytes, self.ending, self.status, self.keeps_bytes)
        return None
