"""Helix answers with 200 and a body that is not quite what the documentation says."""

from __future__ import annotations

import json
from typing import Any, Literal

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply, json_reply

HelixForm = Literal[
    "nulls",
    "unknown_fields",
    "wrong_types",
    "missing_fields",
    "data_null",
    "not_json",
    "array",
    "same_cursor",
]


class HelixBody(Fault, frozen=True, tag="helix_body"):
    """Bend the entries of ``data``.

    ``form``: ``nulls`` (``fields``, or all but the id, become null), ``unknown_fields`` (new fields, also nested),
    ``wrong_types`` (numbers as text, text as numbers, lists as objects), ``missing_fields``, ``data_null``,
    ``not_json``, ``array`` (a list instead of an object), ``same_cursor`` (the cursor never moves).
    ``entry`` limits it to one index of ``data``.
    """

    form: HelixForm
    fields: tuple[str, ...] = ()
    entry: int | None = None

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Rewrite the body."""
        if reply.status != 200 or not isinstance(reply.body, bytes):
            return reply
        if self.form == "not_json":
            reply.body = reply.body[:-1]
            return reply
        document = json.loads(reply.body)
        if self.form == "array":
            document = document["data"]
        elif self.form == "data_null":
            document["data"] = None
        elif self.form == "same_cursor":
            document["pagination"] = {"cursor": call.query.get("after") or "eyJiIjpudWxsLCJhIjp7Ik9mZnNldCI6MH19"}
        else:
            for index, entry in enumerate(document["data"]):
                if self.entry is None or self.entry == index:
                    self._bend(entry)
            if self.form == "unknown_fields":
                document["standin_total"] = {"nested": [1, None, "x"]}
        headers = reply.headers
        reply = json_reply(document)
        reply.headers = headers
        return reply

    def _bend(self, entry: dict[str, Any]) -> None:
        chosen = [name for name in entry if name in self.fields or (not self.fields and name != "id")]
        for name in chosen:
            if self.form == "nulls":
                entry[name] = None
            elif self.form == "missing_fields":
                del entry[name]
            elif self.form == "wrong_types":
                entry[name] = _other_type(entry[name])
        if self.form == "unknown_fields":
            entry["standin_new_field"] = {"since": "today", "values": [1, 2.5, None, {"deep": True}]}


def _other_type(value: Any) -> Any:
    if isinstance(value, str):
        return 12345
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return {"0": value}
    return [value]
