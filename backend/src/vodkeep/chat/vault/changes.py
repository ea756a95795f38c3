"""What an answer of a provider changes in a set, decided with plain values.

A provider that fails says nothing about its sets. What it says is believed only as far as it goes: an answer of which
some could not be read ends no entry, and a set that is suddenly empty is taken for empty when that is said again half
an hour later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vodkeep.chat.vault.model import Entry, SetAnswer

EMPTY_CONFIRMED_AFTER_MS = 30 * 60 * 1000
"""An outage at a provider lasts minutes; a set that was really emptied stays so."""


@dataclass(frozen=True, slots=True)
class SetChanges:
    """What to write down."""

    begin: tuple[Entry, ...] = ()
    end: tuple[str, ...] = ()  # codes; one that means something else now is in both
    end_ms: int = 0  # since when they do not hold
    empty_ms: int | None = None  # since when the set is said to be empty, not believed yet; None: it is not


def plan_changes(
    known: Mapping[str, Entry], answer: SetAnswer, *, at_ms: int, empty_ms: int | None = None
) -> SetChanges:
    """Compare what holds (``known``, by code) with an ``answer`` given at ``at_ms`` (Unix milliseconds).

    ``empty_ms`` is what the `SetChanges` of the answer before said.
    """
    if known and not answer.entries and answer.whole:
        if empty_ms is None:
            return SetChanges(empty_ms=at_ms)
        if at_ms - empty_ms < EMPTY_CONFIRMED_AFTER_MS:
            return SetChanges(empty_ms=empty_ms)
        return SetChanges(end=tuple(known), end_ms=empty_ms)
    said = {entry.code: entry for entry in answer.entries}
    begin = tuple(entry for code, entry in said.items() if code not in known or not _same(known[code], entry))
    other = tuple(entry.code for entry in begin if entry.code in known)
    gone = tuple(code for code in known if code not in said) if answer.whole else ()
    return SetChanges(begin, (*other, *gone), at_ms)


def _same(one: Entry, other: Entry) -> bool:
    """Whether both look the same; a badge's title may change without anybody seeing it."""
    return (one.ref, one.url, one.zero_width) == (other.ref, other.url, other.zero_width)
