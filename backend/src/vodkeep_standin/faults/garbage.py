"""A clean 200 with rubbish in it."""

from __future__ import annotations

from typing import Literal

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, FileBody, Reply, text_reply

GarbageForm = Literal["html", "svg", "random", "empty", "flipped"]


class Garbage(Fault, frozen=True, tag="garbage"):
    """Replace the body of a good reply; status and headers stay believable.

    ``form``: ``html`` (a captive portal's page), ``svg`` (a drawing with a script in it), ``random`` (as many random
    bytes as the body had), ``empty``, or ``flipped`` (the body with one byte changed in the middle).
    """

    form: GarbageForm = "html"

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Swap the body."""
        if reply.status >= 300:
            return reply
        if self.form == "html":
            return text_reply("<!doctype html><title>Wi-Fi</title><h1>Please sign in</h1>\n", "text/html")
        if self.form == "svg":
            drawing = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>\n'
            return text_reply(drawing, "image/svg+xml")
        if self.form == "empty":
            reply.body = b""
        elif self.form == "random":
            reply.body = firing.random.randbytes(reply.size)
        else:
            body = bytearray(_bytes_of(reply))
            if body:
                body[len(body) // 2] ^= 0xFF
            reply.body = bytes(body)
        return reply


def _bytes_of(reply: Reply) -> bytes:
    if not isinstance(reply.body, FileBody):
        return reply.body
    with reply.body.path.open("rb") as file:
        file.seek(reply.body.offset)
        return file.read(reply.body.size)
