"""What YouTube is told about a broadcast: templates filled in, and cut to what YouTube takes. Pure.

The limits are those of developers.google.com/youtube/v3/docs/videos (``snippet``, read in November 2026): a title has
1 to 100 characters, a description 5,000 bytes of UTF-8, all tags together 500 characters as `tags_length` counts them.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from vodkeep.publish.chapters import Chapter, chapters_text, youtube_chapters
from vodkeep.publish.model import Privacy, VideoMetadata
from vodkeep.publish.publication import watch_url
from vodkeep.publish.split import Part
from vodkeep.publish.text import clean_line, clean_text, cut_bytes, cut_units, units

LONGEST_TITLE = 100  # UTF-16 units
LONGEST_DESCRIPTION = 5_000  # bytes
LONGEST_TAGS = 500  # as `tags_length` counts
_LONGEST_CHAPTER = 100  # UTF-16 units; the page shows fewer
_MOST_STRETCHES = 8  # of each kind that a description names one by one


@dataclass(frozen=True, slots=True)
class PublishTemplates:
    """What an operator wants to be said; the settings have checked the placeholders."""

    title: str = "{title}"
    description: str = "{description}\n\n{chapters}\n\n{provenance}"
    tags: tuple[str, ...] = ()
    playlist: str | None = None  # YouTube's id of it
    privacy: Privacy = "private"
    category_id: str = "20"
    made_for_kids: bool = False
    language: str | None = None
    channel_playlists: Mapping[str, str] = field(default_factory=dict)  # by login, instead of `playlist`
    channel_privacies: Mapping[str, Privacy] = field(default_factory=dict)
    channel_categories: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the broadcast's timeline."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class PublishSubject:
    """The broadcast."""

    vod_id: str
    channel: str  # login
    name: str  # display name
    title: str
    date: datetime | None  # start, with a time zone
    duration_ms: int
    url: str  # at Twitch; empty when it has no page there
    chapters: tuple[Chapter, ...] = ()
    missing: tuple[Stretch, ...] = ()  # nothing was to be had of it
    muted: tuple[Stretch, ...] = ()  # Twitch had taken its sound away
    description: str = ""  # what a person wrote for it, else what Twitch had


@dataclass(frozen=True, slots=True)
class Rendering:
    """What is sent to YouTube for one video."""

    metadata: VideoMetadata
    playlist: str | None  # the playlist it is put into
    notes: tuple[str, ...] = ()  # sentences on what had to be cut or left out


def render(
    templates: PublishTemplates,
    subject: PublishSubject,
    *,
    marker: str,
    part: Part | None = None,
    links: Mapping[int, str] | None = None,
) -> Rendering:
    """What YouTube is told about ``subject``, or about one ``part`` of it.

    ``marker`` (`publication.marker_of`) is the description's last line, whatever else has to give way. ``links`` are
    YouTube's ids of the parts that are there already, by number.
    """
    part = part if part is not None and part.parts > 1 else None
    notes: list[str] = []
    values = _values(subject)
    return Rendering(
        VideoMetadata(
            title=_title(templates, values, part, notes),
            description=_description(templates, subject, values, part, links or {}, marker, notes),
            tags=_tags(templates, values, notes),
            category_id=templates.channel_categories.get(subject.channel, templates.category_id),
            privacy=templates.channel_privacies.get(subject.channel, templates.privacy),
            made_for_kids=templates.made_for_kids,
            recorded_at=_began(subject, part),
            language=templates.language,
        ),
        templates.channel_playlists.get(subject.channel, templates.playlist),
        tuple(notes),
    )


def tags_length(tags: Iterable[str]) -> int:
    """The length of a list of tags as YouTube counts it: with commas between, and quotes around one with a space."""
    lengths = [units(tag) + (2 if " " in tag else 0) for tag in tags]
    return sum(lengths) + max(0, len(lengths) - 1)


def _values(subject: PublishSubject) -> dict[str, str]:
    """The placeholders that every template knows, each on one line."""
    date = subject.date.astimezone(UTC) if subject.date is not None else None
    return {
        "title": clean_line(subject.title),
        "channel": clean_line(subject.channel),
        "name": clean_line(subject.name) or clean_line(subject.channel),
        "date": date.date().isoformat() if date is not None else "",
        "time": f"{date:%H:%M}" if date is not None else "",
        "id": subject.vod_id,
    }


def _began(subject: PublishSubject, part: Part | None) -> datetime | None:
    if subject.date is None or part is None:
        return subject.date
    return subject.date + timedelta(milliseconds=part.start_ms)


def _fill(template: str, values: Mapping[str, str]) -> str:
    return string.Formatter().vformat(template, (), values)


# --- the title -----------------------------------------------------------------------------------------------------


def _title(templates: PublishTemplates, values: Mapping[str, str], part: Part | None, notes: list[str]) -> str:
    """The filled template; what the broadcast is called gives way first, the number of the part never."""
    ending = f" ({part.number}/{part.parts})" if part is not None else ""
    room = LONGEST_TITLE - units(ending)
    whole = clean_line(_fill(templates.title, values))
    title = whole
    if units(title) > room:
        excess = units(title) - room
        kept = max(1, units(values["title"]) - excess)
        title = clean_line(_fill(templates.title, {**values, "title": cut_units(values["title"], kept)}))
        title = cut_units(title, room)
        notes.append(f"The title has {units(whole) + units(ending)} characters and was cut to {LONGEST_TITLE}.")
    return (title or cut_units(f"{values['name']} {values['date']}".strip() or values["id"], room)) + ending


# --- the description -----------------------------------------------------------------------------------------------


def _description(
    templates: PublishTemplates,
    subject: PublishSubject,
    values: Mapping[str, str],
    part: Part | None,
    links: Mapping[int, str],
    marker: str,
    notes: list[str],
) -> str:
    """The filled template and the marker; a person's text gives way first, then the last chapters, then the rest."""
    start_ms, end_ms = (part.start_ms, part.end_ms) if part is not None else (0, subject.duration_ms)
    named = tuple(
        Chapter(chapter.start_ms, cut_units(clean_line(chapter.title), _LONGEST_CHAPTER))
        for chapter in subject.chapters
    )
    chapters = list(youtube_chapters(named, start_ms, end_ms))
    fixed = {
        **values,
        "url": subject.url,
        "duration": spoken(end_ms - start_ms),
        "provenance": _provenance(subject, values, start_ms, end_ms),
        "parts": _parts_lines(part, links),
    }
    own = clean_text(subject.description).strip()

    def filled(text: str) -> str:
        body = _fill(templates.description, {**fixed, "description": text, "chapters": chapters_text(chapters)})
        if part is not None and "{parts}" not in templates.description:
            body = f"{fixed['parts']}\n\n{body}"
        return _tidy(clean_text(body))

    ending = f"\n\n{marker}"
    room = LONGEST_DESCRIPTION - len(ending.encode())
    text, body = own, filled(own)
    if len(body.encode()) > room:
        size = len(f"{body}{ending}".encode())
        notes.append(f"The description has {size} bytes and was cut to {LONGEST_DESCRIPTION}.")
        text = cut_bytes(own, max(0, len(own.encode()) - (len(body.encode()) - room)))
        body = filled(text)
        while len(body.encode()) > room and chapters:
            chapters = chapters[: -1 - len(chapters) // 20]
            if len(chapters) < 3:
                chapters = []
            body = filled(text)
        body = cut_bytes(body, room)
    return f"{body}{ending}".strip()


def _tidy(text: str) -> str:
    """Without space at the ends of lines, and with one empty line where a placeholder left several."""
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub("\n{3,}", "\n\n", lines).strip()


def _parts_lines(part: Part | None, links: Mapping[int, str]) -> str:
    if part is None:
        return ""
    lines = [f"Part {part.number} of {part.parts} of one broadcast."]
    lines += [
        f"Part {number}: {watch_url(links[number])}"
        for number in range(1, part.parts + 1)
        if number in links and number != part.number
    ]
    return "\n".join(lines)


def _provenance(subject: PublishSubject, values: Mapping[str, str], start_ms: int, end_ms: int) -> str:
    """Where the broadcast comes from, and what is not in it."""
    when = f" on {values['date']} at {values['time']} UTC" if values["date"] else ""
    where = f": {subject.url}" if subject.url else "."
    lines = [f"Broadcast on Twitch by {values['name']}{when}{where}"]
    for word, stretches in (("Missing", subject.missing), ("Without sound", subject.muted)):
        here = _within(stretches, start_ms, end_ms)
        if here:
            lines.append(f"{word}: {_listed(here)}.")
    return "\n".join(lines)


def _within(stretches: Iterable[Stretch], start_ms: int, end_ms: int) -> list[Stretch]:
    return [
        Stretch(max(stretch.start_ms, start_ms) - start_ms, min(stretch.end_ms, end_ms) - start_ms)
        for stretch in stretches
        if stretch.start_ms < end_ms and stretch.end_ms > start_ms
    ]


def _listed(stretches: list[Stretch]) -> str:
    named = [f"{spoken(stretch.start_ms)} to {spoken(stretch.end_ms)}" for stretch in stretches[:_MOST_STRETCHES]]
    rest = stretches[_MOST_STRETCHES:]
    if rest:
        lasting = sum(stretch.end_ms - stretch.start_ms for stretch in rest)
        named.append(f"and {len(rest)} more, {spoken(lasting)} together")
    return ", ".join(named)


def spoken(duration_ms: int) -> str:
    """A time such as ``1h02m03s``; with a colon YouTube would take it for the beginning of a chapter."""
    minutes, seconds = divmod(duration_ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m{seconds:02}s" if hours else f"{minutes}m{seconds:02}s"


# --- the tags ------------------------------------------------------------------------------------------------------


def _tags(templates: PublishTemplates, values: Mapping[str, str], notes: list[str]) -> tuple[str, ...]:
    """The tags that fit, in their order; one that does not fit is left out whole."""
    tags: list[str] = []
    for template in templates.tags:
        # A comma would make two of one, and a quote would end it early.
        tag = clean_line(_fill(template, values).replace(",", " ").replace('"', " "))
        if not tag or tag.casefold() in {known.casefold() for known in tags}:
            continue
        if tags_length([*tags, tag]) > LONGEST_TAGS:
            notes.append(
                f"The tag {cut_units(tag, 40)} was left out: all tags together have {LONGEST_TAGS} characters."
            )
            continue
        tags.append(tag)
    return tuple(tags)
