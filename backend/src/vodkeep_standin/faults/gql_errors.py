"""GQL fails inside a reply of status 200."""

from __future__ import annotations

import json
from typing import Any

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply, json_reply


class GqlErrors(Fault, frozen=True, tag="gql_errors"):
    """Answer every operation with ``errors`` and null data; a service fault, though yt-dlp calls it a deletion."""

    message: str = "service timeout"
    data_missing: bool = False
    """Leave ``data`` out altogether instead of ``{"video": null}``."""

    async def before(self, call: Call, firing: Firing) -> Reply | None:
        """Answer in place of GQL, in the shape (single or batch) of the request."""
        try:
            asked = json.loads(call.body)
        except ValueError:
            asked = {}
        if isinstance(asked, list):
            return json_reply([self._failed(entry) for entry in asked])
        return json_reply(self._failed(asked))

    def _failed(self, asked: Any) -> dict[str, Any]:
        name = asked.get("operationName") if isinstance(asked, dict) else None
        root = "videoPlaybackAccessToken" if "PlaybackAccessToken" in str(asked) else "video"
        failed: dict[str, Any] = {"errors": [{"message": self.message, "path": [root]}]}
        if not self.data_missing:
            failed["data"] = {root: None}
        if name:
            failed["extensions"] = {"durationMilliseconds": 3001, "operationName": name}
        return failed
