"""The answer is an error."""

from __future__ import annotations

from http import HTTPStatus

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply, helix_problem, json_reply, text_reply

_TWITCH_MESSAGES = {
    401: "Invalid OAuth token",
    429: "Request limit exceeded",
}


class Status(Fault, frozen=True, tag="status"):
    """Answer with ``status``; the body takes the form the resource uses for errors unless ``body`` is given."""

    status: int
    retry_after: str | None = None
    """Value of ``Retry-After``: seconds or an HTTP date."""
    ratelimit_reset_in_s: float | None = None
    """With it the reply carries Helix's rate-limit headers, empty until then."""
    message: str | None = None
    body: str | None = None
    content_type: str = "text/plain; charset=utf-8"

    async def before(self, call: Call, firing: Firing) -> Reply | None:
        """Answer in place of the resource."""
        reply = self._reply(call)
        if self.retry_after is not None:
            reply.headers["Retry-After"] = self.retry_after
        if self.ratelimit_reset_in_s is not None:
            reset = call.world.epoch_s() + self.ratelimit_reset_in_s
            reply.headers |= {
                "Ratelimit-Limit": str(call.world.scenario.rate_limit_points),
                "Ratelimit-Remaining": "0",
                "Ratelimit-Reset": str(int(reset + 0.999)),
            }
        return reply

    def _reply(self, call: Call) -> Reply:
        if self.body is not None:
            return text_reply(self.body, self.content_type, self.status)
        phrase = HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else "Unknown"
        message = self.message or _TWITCH_MESSAGES.get(self.status, "")
        if call.path.startswith("/oauth2/"):
            return json_reply({"status": self.status, "message": message or phrase.lower()}, self.status)
        if call.path.startswith(("/helix/", "/gql")):
            return helix_problem(self.status, phrase, message)
        return text_reply(f"<html><body><h1>{self.status} {phrase}</h1></body></html>\n", "text/html", self.status)
