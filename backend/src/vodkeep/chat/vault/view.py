"""What chat looked like during one broadcast, from what was written down about the sets. Plain values only.

A set of which nothing was known when the broadcast ran is taken as it was first seen, and the view says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vodkeep.chat.vault.model import GLOBAL, Entry, Kind, Provider, SetKey, Span, StoredImage

_ORDER = {Provider.FFZ: 0, Provider.BTTV: 1, Provider.SEVENTV: 2, Provider.TWITCH: 3}
"""Whose emote a code is when several have it; a channel's own come before the global ones. As in Chatterino."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code or a badge stands for."""

    provider: Provider
    entry: Entry


@dataclass(frozen=True, slots=True)
class Change:
    """A code that means something else from ``at_ms`` on; None: nothing any more."""

    at_ms: int
    code: str
    meaning: Meaning | None


@dataclass(frozen=True, slots=True)
class SetSeen:
    """How well a set is known for the broadcast."""

    key: SetKey
    as_of_ms: int  # the start of the broadcast, or a later time at which the set was first seen
    exact: bool  # whether something was known of it while the broadcast ran


@dataclass(frozen=True, slots=True)
class View:
    """One broadcast. Times in Unix milliseconds."""

    codes: Mapping[str, Meaning]  # third parties' emotes by what is typed, at the start or, if later, when they came
    changes: tuple[Change, ...]  # in order of time
    twitch: Mapping[str, Meaning]  # Twitch's emotes by id
    badges: Mapping[str, Meaning]  # by "<set>/<version>"
    sets: tuple[SetSeen, ...]


@dataclass(frozen=True, slots=True)
class ItemEmotes:
    """A view with what else belongs to the broadcast."""

    view: View
    used: Mapping[str, Entry]  # Twitch's emotes in its messages, by id
    images: Mapping[str, StoredImage]  # those that are kept, by their address at the provider


def view_of(firsts: Mapping[SetKey, int], spans: Iterable[Span], *, start_ms: int, end_ms: int) -> View:
    """The view of a broadcast from ``start_ms`` to ``end_ms``.

    ``firsts`` says when each set was first seen, ``spans`` are all that overlap the broadcast or, of a set first seen
    after its start, hold at that time.
    """
    codes: dict[str, list[Span]] = {}
    badges: dict[str, list[Span]] = {}
    twitch: dict[str, Meaning] = {}
    for span in spans:
        widened = _widened(span, firsts.get(span.set))
        if span.set.kind is Kind.BADGE:
            badges.setdefault(span.entry.code, []).append(widened)
        elif span.set.provider is Provider.TWITCH:
            twitch[span.entry.ref] = Meaning(span.set.provider, span.entry)
        else:
            codes.setdefault(span.entry.code, []).append(widened)
    told: dict[str, Meaning] = {}
    changes: list[Change] = []
    for code, candidates in codes.items():
        first, *rest = _course(candidates, start_ms, end_ms) or [Change(start_ms, code, None)]
        if first.meaning is not None:
            told[code] = first.meaning
        changes += rest
    shown: dict[str, Meaning] = {}
    for code, candidates in badges.items():
        course = _course(candidates, start_ms, end_ms)
        if course and course[0].meaning is not None:
            shown[code] = course[0].meaning
    sets = (
        SetSeen(key, max(start_ms, first_ms), first_ms <= max(start_ms, end_ms))
        for key, first_ms in sorted(
            firsts.items(), key=lambda item: (item[0].provider, item[0].kind, item[0].channel_id)
        )
    )
    ordered = tuple(sorted(changes, key=lambda change: (change.at_ms, change.code)))
    return View(told, ordered, twitch, shown, tuple(sets))


def _widened(span: Span, first_ms: int | None) -> Span:
    """Before a set was first seen, what was seen then is the best that is known."""
    if first_ms is not None and span.valid_from_ms <= first_ms:
        return Span(span.set, span.entry, 0, span.valid_to_ms)
    return span


def _course(candidates: list[Span], start_ms: int, end_ms: int) -> list[Change]:
    """What a code meant at the start, or when it first came, and each change after that until the end."""
    times = {start_ms}
    for span in candidates:
        times |= {at for at in (span.valid_from_ms, span.valid_to_ms) if at is not None and start_ms < at < end_ms}
    course: list[Change] = []
    for at_ms in sorted(times):
        meaning = _meaning(candidates, at_ms)
        if (course and course[-1].meaning != meaning) or (not course and meaning is not None):
            course.append(Change(at_ms, candidates[0].entry.code, meaning))
    return course


def _meaning(candidates: list[Span], at_ms: int) -> Meaning | None:
    holding = [
        span
        for span in candidates
        if span.valid_from_ms <= at_ms and (span.valid_to_ms is None or at_ms < span.valid_to_ms)
    ]
    if not holding:
        return None
    best = min(holding, key=lambda span: (span.set.channel_id == GLOBAL, _ORDER[span.set.provider]))
    return Meaning(best.set.provider, best.entry)
