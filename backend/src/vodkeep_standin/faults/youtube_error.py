"""YouTube refuses in its own words."""

from __future__ import annotations

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply
from vodkeep_standin.youtube.problems import problem


class YouTubeError(Fault, frozen=True, tag="youtube_error"):
    """Answer with the error of ``reason``, such as ``quotaExceeded``; ``status`` and ``message`` change its form."""

    reason: str
    status: int | None = None
    message: str | None = None
    retry_after: str | None = None

    async def before(self, call: Call, firing: Firing) -> Reply | None:
        """Answer in place of the resource."""
        reply = problem(self.reason, status=self.status, message=self.message)
        if self.retry_after is not None:
            reply.headers["Retry-After"] = self.retry_after
        return reply
