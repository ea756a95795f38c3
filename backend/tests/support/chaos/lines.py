"""What can be wrong with the line between the services and the pretended Twitch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from support.slow import SEGMENTS
from vodkeep_standin.faults.bandwidth import Bandwidth
from vodkeep_standin.faults.expired import ExpiredPlayback
from vodkeep_standin.faults.garbage import Garbage
from vodkeep_standin.faults.gql_errors import GqlErrors
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.rule import Match, Rule
from vodkeep_standin.faults.stall import Stall
from vodkeep_standin.faults.status import Status
from vodkeep_standin.faults.truncate import Truncate
from vodkeep_standin.faults.wrong_length import WrongLength

REVOKED = "tokens revoked"
"""The app tokens are taken back; that is no rule of the stand-in's."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that is wrong."""

    rules: tuple[Rule, ...]
    longest_s: float


def _on(path: str, *faults: Rule) -> tuple[Rule, ...]:
    return tuple(Rule(fault.fault, Match(path=path), fault.count, fault.after, fault.probability) for fault in faults)


# Bodies that are damaged although the status is 200 say something about the segment and not about the line: several in
# a row make a hole. So each of those is limited to a few, and only the others last. A single byte that flipped in the
# middle of a picture is left out: TLS notices it in life, and nothing else but a decoder could.
LINES: Mapping[str, Line] = {
    "slow": Line(_on(SEGMENTS, Rule(Latency(1200, 800), probability=0.7)), 15.0),
    "narrow": Line(_on(SEGMENTS, Rule(Bandwidth(per_connection=80_000.0))), 15.0),
    "resets": Line(_on("/edge/*", Rule(Reset(), probability=0.3)), 10.0),
    "resets in the body": Line(_on(SEGMENTS, Rule(Reset(after_bytes=30_000), probability=0.4)), 10.0),
    "bodies cut off": Line(_on(SEGMENTS, Rule(Truncate(), probability=0.4)), 10.0),
    "edge busy": Line(_on(SEGMENTS, Rule(Status(503), probability=0.6)), 10.0),
    "edge down": Line(_on("/edge/*", Rule(Status(500))), 10.0),
    "asked to slow down": Line(_on(SEGMENTS, Rule(Status(429, retry_after="1"), probability=0.5)), 8.0),
    "resolver gets 500": Line(_on("/gql", Rule(Status(500), probability=0.7)), 10.0),
    "resolver gets errors": Line(_on("/gql", Rule(GqlErrors(), probability=0.5)), 10.0),
    "usher busy": Line(_on("/vod/*", Rule(Status(503), probability=0.7)), 10.0),
    "catalog down": Line(_on("/helix/*", Rule(Status(503), probability=0.8)), 15.0),
    "catalog asks to slow down": Line(_on("/helix/*", Rule(Status(429, ratelimit_reset_in_s=2.0), count=3)), 8.0),
    "links expired": Line(_on("/edge/*", Rule(ExpiredPlayback())), 6.0),
    "stalls": Line(_on(SEGMENTS, Rule(Stall(after_bytes=20_000), count=2)), 6.0),
    "wrong lengths": Line(_on(SEGMENTS, Rule(WrongLength(1000), count=2)), 6.0),
    "rubbish": Line(
        _on(
            SEGMENTS,
            Rule(Garbage("random"), count=1),
            Rule(Garbage("html"), after=2, count=1),
            Rule(Garbage("empty"), after=4, count=1),
        ),
        6.0,
    ),
    REVOKED: Line((), 0.0),
}

LASTING: Mapping[str, float] = {name: line.longest_s for name, line in LINES.items()}
