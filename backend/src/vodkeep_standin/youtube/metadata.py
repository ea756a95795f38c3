"""What YouTube accepts as a video's metadata (https://developers.google.com/youtube/v3/docs/videos, read 2026-11)."""

from __future__ import annotations

from typing import Any

from vodkeep_standin.youtube.model import Details

CATEGORIES = frozenset(map(str, (1, 2, 10, *range(15, 31))))


class RefusedError(Exception):
    """The metadata breaks a rule; its text is Google's reason."""


def details_of(document: dict[str, Any], before: Details | None = None) -> Details:
    """The details in a video resource; parts that are missing stay as they were ``before``.

    Raises ``RefusedError``.
    """
    snippet, status = document.get("snippet"), document.get("status", {})
    kept = before or Details("")
    if snippet is None:
        if before is None:
            raise RefusedError("invalidTitle")
        snippet = {"title": kept.title, "description": kept.description, "tags": kept.tags,
                   "categoryId": kept.category_id, "defaultLanguage": kept.language}  # fmt: skip
    title = str(snippet.get("title", ""))
    description = str(snippet.get("description", ""))
    tags = tuple(map(str, snippet.get("tags") or ()))
    if not title.strip() or len(title) > 100 or _has_brackets(title):
        raise RefusedError("invalidTitle")
    if len(description.encode()) > 5000 or _has_brackets(description):
        raise RefusedError("invalidDescription")
    if _tags_size(tags) > 500 or any(_has_brackets(tag) for tag in tags):
        raise RefusedError("invalidTags")
    if str(snippet.get("categoryId", "22")) not in CATEGORIES:
        raise RefusedError("invalidCategoryId")
    privacy = str(status.get("privacyStatus", kept.privacy))
    if privacy not in ("private", "unlisted", "public"):
        raise RefusedError("invalidVideoMetadata")
    return Details(
        title,
        description,
        tags,
        str(snippet.get("categoryId", "22")),
        privacy,
        bool(status.get("selfDeclaredMadeForKids", kept.made_for_kids)),
        snippet.get("defaultLanguage"),
        (document.get("recordingDetails") or {}).get("recordingDate", kept.recorded_at),
    )


def _has_brackets(text: str) -> bool:
    return "<" in text or ">" in text


def _tags_size(tags: tuple[str, ...]) -> int:
    """Commas between tags count, and so do the quotes around those with a space."""
    return sum(len(tag) + (2 if " " in tag else 0) for tag in tags) + max(0, len(tags) - 1)
