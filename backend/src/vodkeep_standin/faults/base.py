"""What every fault is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

import msgspec

from vodkeep_standin.serving.call import Call, Reply

T = TypeVar("T")


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """Something that goes wrong. Settings only: what a rule must remember lives in its ``Firing``."""

    async def before(self, call: Call, firing: Firing) -> Reply | None:
        """Run before the resource answers; a reply returned here takes its place."""
        return None

    def after(self, call: Call, reply: Reply, firing: Firing) -> Reply:
        """Bend the reply, or how it is delivered."""
        return reply


@dataclass(slots=True)
class Firing:
    """One application of a rule's fault to one request."""

    fault: Fault
    random: random.Random
    """The rule's own generator, seeded by the scenario and the rule's number."""
    ordinal: int
    """How many times the rule had been applied before."""
    memory: dict[str, object] = field(default_factory=dict)
    """Shared by all firings of the rule."""

    @property
    def kind(self) -> str:
        """The fault's tag."""
        return str(self.fault.__struct_config__.tag)

    def remember(self, key: str, make: Callable[[], T]) -> T:
        """The value kept under ``key``, made by the first caller."""
        if key not in self.memory:
            self.memory[key] = make()
        return cast(T, self.memory[key])
