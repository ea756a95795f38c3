"""The answer comes late."""

from __future__ import annotations

import asyncio

from vodkeep_standin.faults.base import Fault, Firing
from vodkeep_standin.serving.call import Call, Reply


class Latency(Fault, frozen=True, tag="latency"):
    """Wait ``delay_ms`` plus up to ``jitter_ms`` before answering."""

    delay_ms: float
    jitter_ms: float = 0.0

    async def before(self, call: Call, firing: Firing) -> Reply | None:
        """Wait."""
        await asyncio.sleep((self.delay_ms + firing.random.uniform(0.0, self.jitter_ms)) / 1000)
        return None
