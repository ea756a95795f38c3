"""The faults in force."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import dataclass, field
from typing import Any

from vodkeep_standin.faults.base import Firing
from vodkeep_standin.faults.rule import AnyFault, Match, Rule
from vodkeep_standin.serving.call import Call


@dataclass(slots=True)
class ActiveRule:
    """A rule and what it has seen so far."""

    id: int
    rule: Rule
    random: random.Random
    matched: int = 0
    applied: int = 0
    memory: dict[str, object] = field(default_factory=dict)


class Faults:
    """Rules in the order they were added. May be used from any thread."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._ids = itertools.count(1)
        self._rules: list[ActiveRule] = []
        self._lock = threading.Lock()

    def add(
        self,
        fault: AnyFault,
        *,
        method: str = "*",
        host: str = "*",
        path: str = "*",
        operation: str = "*",
        count: int | None = None,
        after: int = 0,
        probability: float = 1.0,
    ) -> int:
        """Put a fault in force for requests that match the globs, and return its id; see ``Rule``."""
        match = Match(method=method, host=host, path=path, operation=operation)
        return self.add_rule(Rule(fault=fault, match=match, count=count, after=after, probability=probability))

    def add_rule(self, rule: Rule) -> int:
        """Put a rule in force and return its id."""
        with self._lock:
            number = next(self._ids)
            self._rules.append(ActiveRule(number, rule, random.Random(f"{self._seed}/{number}")))
            return number

    def remove(self, rule_id: int) -> bool:
        """Take one rule out; whether there was one."""
        with self._lock:
            before = len(self._rules)
            self._rules = [active for active in self._rules if active.id != rule_id]
            return len(self._rules) < before

    def clear(self) -> None:
        """Take all rules out."""
        with self._lock:
            self._rules.clear()

    def applied(self, rule_id: int) -> int:
        """How often a rule has been applied; 0 when it is unknown."""
        with self._lock:
            return next((active.applied for active in self._rules if active.id == rule_id), 0)

    def describe(self) -> list[dict[str, Any]]:
        """The rules with their counters, for the control interface."""
        with self._lock:
            return [
                {"id": active.id, "rule": active.rule, "matched": active.matched, "applied": active.applied}
                for active in self._rules
            ]

    def match(self, call: Call) -> list[Firing]:
        """The faults this request meets; counts it."""
        firings = []
        with self._lock:
            for active in self._rules:
                rule = active.rule
                if not rule.match.applies(call):
                    continue
                active.matched += 1
                if active.matched <= rule.after or (rule.count is not None and active.applied >= rule.count):
                    continue
                if rule.probability < 1.0 and active.random.random() >= rule.probability:
                    continue
                firings.append(Firing(rule.fault, active.random, active.applied, active.memory))
                active.applied += 1
        return firings
