"""Tells people about breakers: the log lines and the gauge, each change once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from vodkeep.pipeline.breaker import CLOSED, Breaker, BreakerPhase
from vodkeep.pipeline.metrics import PipelineMetrics
from vodkeep.telemetry.log import Logger


class Circuits:
    """Remembers which breakers are known to be open; ``kv`` stays the truth."""

    def __init__(self, *, log: Logger, metrics: PipelineMetrics) -> None:
        self._log = log
        self._metrics = metrics
        self._open: dict[str, bool] = {}
        self._changes = 0
        self._changed: dict[str, int] = {}

    def mark(self) -> int:
        """Where the telling stands; take one before reading ``kv`` for :meth:`observe`."""
        return self._changes

    def attempt_ended(self, channel: str, before: Breaker, after: Breaker, now: datetime) -> None:
        """An attempt took the channel's breaker from ``before`` to ``after``, committed."""
        self._changes += 1
        self._changed[channel] = self._changes
        probe_failed = (
            before.phase is BreakerPhase.HALF_OPEN
            and after.phase is BreakerPhase.OPEN
            and after.open_until is not None
            and after.open_until > now
        )
        if probe_failed or (after.is_open and not before.is_open):
            self._metrics.circuit_opened(channel)
        self._show(channel, after, again=probe_failed, by="attempt", tell=True)

    def observe(
        self, breakers: Mapping[str, Breaker], channels: Collection[str], *, mark: int, tell: bool = True
    ) -> None:
        """Show what ``kv`` says, also when an operator changed it; ``channels`` always have a gauge.

        What an attempt has told since ``mark`` is newer than what was read and stays. Without ``tell`` only the gauge
        moves: another process writes the log lines.
        """
        for channel in {*channels, *breakers, *self._open}:
            if self._changed.get(channel, 0) <= mark:
                self._show(channel, breakers.get(channel, CLOSED), again=False, by="kv", tell=tell)

    def _show(self, channel: str, breaker: Breaker, *, again: bool, by: str, tell: bool) -> None:
        self._metrics.circuit_open(channel, breaker.is_open)
        if not tell:
            return
        known = self._open.get(channel, False)
        self._open[channel] = breaker.is_open
        if breaker.is_open and (again or not known):
            self._log.warning(
                "circuit opened",
                channel=channel,
                failures=breaker.failures,
                open_until=breaker.open_until,
                by=by,
                remedy="Look for the error that repeats: network, Twitch, or the client id and secret.",
            )
        elif known and not breaker.is_open:
            self._log.info("circuit closed", channel=channel, by=by)
