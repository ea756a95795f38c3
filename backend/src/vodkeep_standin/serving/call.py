"""One request and one reply, free of the HTTP library, so that resources and faults are plain functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from multidict import CIMultiDictProxy, MultiDictProxy

from vodkeep_standin.serving.incoming import Incoming
from vodkeep_standin.serving.pacing import Pacer
from vodkeep_standin.world import World

Ending = Literal["whole", "close", "reset", "stall"]


@dataclass(slots=True)
class Call:
    """A request as the resources see it."""

    world: World
    method: str
    host: str
    """Host header without port, lower case; a loopback address when a client came directly."""
    path: str
    query: MultiDictProxy[str]
    headers: CIMultiDictProxy[str]
    body: bytes
    connection: int
    """The client's TCP port, which tells its connections apart."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Named parts of the route's pattern."""
    incoming: Incoming | None = None
    """The body of a route that reads it itself; ``body`` is empty then."""
    operations: tuple[str, ...] = ()
    """GQL operations in the body: operation names, or root fields of plain queries."""


@dataclass(frozen=True, slots=True)
class FileBody:
    """A part of a file as a body."""

    path: Path
    offset: int
    size: int


@dataclass(slots=True)
class Delivery:
    """How the body goes out; faults change it."""

    cut_after: int | None = None
    """Bytes of the body after which ``ending`` happens; ``None`` sends all."""
    ending: Ending = "whole"
    declared_extra: int = 0
    """Added to the Content-Length that is announced."""
    drip_interval_s: float | None = None
    """While stalled, one more byte every so often."""
    pacers: list[Pacer] = field(default_factory=list)


@dataclass(slots=True)
class Reply:
    """An answer; mutable because faults bend it."""

    status: int = 200
    body: bytes | FileBody = b""
    headers: dict[str, str] = field(default_factory=dict)
    delivery: Delivery = field(default_factory=Delivery)

    @property
    def size(self) -> int:
        """Bytes in the body."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.size


def json_reply(document: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; keyword ``Retry_After`` becomes header ``Retry-After``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, body, {"Content-Type": "application/json; charset=utf-8", **named})


def text_reply(text: str, content_type: str = "text/plain; charset=utf-8", status: int = 200) -> Reply:
    """A text answer."""
    return Reply(status, text.encode(), {"Content-Type": content_type})


def helix_problem(status: int, error: str, message: str) -> Reply:
    """An error in the form Helix and GQL use: error, status, message."""
    return json_reply({"error": error, "status": status, "message": message}, status)
