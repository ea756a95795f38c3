"""Which runs show no sign of life: a rule over what was seen, without clocks of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Sign:
    """What was last heard of a run."""

    expires_at: datetime | None  # until when its lease holds; None: it has no lease
    has_run_out: bool  # by the database's clock; True without a lease


class Watchman:
    """Tells runs that died from runs that nobody could hear.

    A lease that has run out proves nothing by itself: while the database is away, or the process that looks is
    frozen, nobody's is renewed. So a run counts as dead only after it was *seen* to stay the same for ``limit_s``, in
    looks that are no more than ``longest_gap_s`` apart.
    """

    def __init__(self, *, limit_s: float, longest_gap_s: float) -> None:
        self._limit_s = limit_s
        self._longest_gap_s = longest_gap_s
        self._since: dict[str, tuple[datetime | None, float]] = {}
        self._looked_at_s: float | None = None

    def look(self, signs: Mapping[str, Sign], now_s: float) -> set[str]:
        """The item ids of the dead among ``signs``, seen at ``now_s`` of a clock that never goes backwards."""
        if self._looked_at_s is not None and now_s - self._looked_at_s > self._longest_gap_s:
            self.forget()
        self._looked_at_s = now_s
        known = self._since
        self._since = {
            item_id: known[item_id]
            if item_id in known and known[item_id][0] == sign.expires_at
            else (sign.expires_at, now_s)
            for item_id, sign in signs.items()
        }
        return {
            item_id
            for item_id, sign in signs.items()
            if sign.has_run_out and now_s - self._since[item_id][1] >= self._limit_s
        }

    def forget(self) -> None:
        """Start anew: nothing could be seen for a while."""
        self._since = {}
        self._looked_at_s = None
