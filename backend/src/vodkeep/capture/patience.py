"""How long a capture waits for what, and when it stops hoping."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Times in seconds; the defaults are for the internet."""

    connect_s: float = 5.0
    silence_s: float = 15.0  # no byte at all
    # An answer's head, and each 128 KiB of its body, has to be there within this: less is a slow loris.
    stall_s: float = 20.0
    backoff_base_s: float = 0.25
    backoff_cap_s: float = 8.0
    retry_after_cap_s: float = 60.0
    # Failures without any success between them for this long are an outage. A restart of an edge takes about ten.
    outage_s: float = 15.0
    # A host that could not be reached is left alone for so long.
    given_up_s: float = 60.0
