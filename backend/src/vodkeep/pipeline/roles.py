"""What a process of the service does, and what it says about itself to the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """A part of the service's work that a process can have."""

    WEB = "web"  # the status page and the API
    WATCH = "watch"  # looks for broadcasts, decides what is due, does what is to be done now and then
    WORK = "work"  # captures


ALL_ROLES = frozenset(Role)


def parse_roles(text: str) -> frozenset[Role]:
    """The roles in a list such as ``web,watch``; raises ``ValueError`` with a sentence."""
    names = [name.strip().lower() for name in text.split(",")]
    unknown = [name for name in names if name not in [role.value for role in Role]]
    if unknown:
        known = ", ".join(Role)
        raise ValueError(f"--roles takes {known} with commas between them; there is no role {unknown[0]!r}.")
    return frozenset(Role(name) for name in names)


@dataclass(frozen=True, slots=True)
class ProcessNote:
    """What a live process says about itself."""

    host: str
    pid: int
    roles: tuple[Role, ...]
    slots: Mapping[str, int]  # jobs of each stage at once
    channels: str = ""  # a fingerprint of the channels that it watches

    def write(self) -> str:
        """As the detail of its lease holds it."""
        return json.dumps(
            {
                "host": self.host,
                "pid": self.pid,
                "roles": list(self.roles),
                "slots": dict(self.slots),
                "channels": self.channels,
            }
        )

    @classmethod
    def read(cls, detail: str) -> ProcessNote:
        """What `write` wrote; what another version says differently is left out."""
        try:
            told = json.loads(detail)
        except ValueError:
            told = {}
        if not isinstance(told, dict):
            told = {}
        roles, slots = told.get("roles"), told.get("slots")
        known = [role for role in Role if isinstance(roles, list) and role.value in roles]
        return cls(
            host=str(told.get("host", "")),
            pid=told["pid"] if isinstance(told.get("pid"), int) else 0,
            roles=tuple(known),
            slots={
                str(stage): count
                for stage, count in (slots.items() if isinstance(slots, dict) else ())
                if isinstance(count, int)
            },
            channels=str(told.get("channels", "")),
        )


def fingerprint(channels: Iterable[str]) -> str:
    """The same for the same channels, whatever their order."""
    return hashlib.sha256("\n".join(sorted(channels)).encode()).hexdigest()[:12]


def share_of(channels: Collection[str], holder: str, watchers: Collection[str]) -> frozenset[str]:
    """Which of ``channels`` are the process ``holder``'s to watch, of all the ``watchers`` of the same channels.

    Every watcher comes to the same result; each channel is one watcher's, and no one has two more than another.
    """
    order = sorted({*watchers, holder})
    mine = order.index(holder)
    return frozenset(login for place, login in enumerate(sorted(channels)) if place % len(order) == mine)
