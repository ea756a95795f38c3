"""Videos, channels, playlists and thumbnails (https://developers.google.com/youtube/v3/docs, read 2026-11)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from vodkeep_standin.serving.call import Call, Reply, json_reply
from vodkeep_standin.serving.routes import Route, route
from vodkeep_standin.youtube.gate import account_of, signed
from vodkeep_standin.youtube.metadata import RefusedError, details_of
from vodkeep_standin.youtube.model import Library, PublishedVideo, channel_id
from vodkeep_standin.youtube.problems import problem

HOSTS = ("www.googleapis.com", "youtube.googleapis.com")
_PAGE = 50
_LARGEST_THUMBNAIL_BYTES = 2 * 1024 * 1024


async def videos(call: Call) -> Reply:
    """Videos by id; those that are not there, or somebody else's secret, are left out."""
    library, account = call.world.youtube, account_of(call)
    wanted = [part for part in call.query.get("id", "").split(",") if part]
    if len(wanted) > _PAGE:
        return problem("invalidFilters")
    found = [video for each in wanted if (video := library.videos.get(each)) is not None and not video.vanished]
    shown = [video for video in found if video.account == account or video.details.privacy != "private"]
    items = [video_resource(library, video) for video in shown]
    return json_reply({"kind": "youtube#videoListResponse", "items": items, "pageInfo": _page_info(len(items))})


async def update(call: Call) -> Reply:
    """Change a video's metadata."""
    try:
        document = json.loads(call.body)
        video = call.world.youtube.videos.get(str(document.get("id")))
        if video is None or video.vanished:
            return problem("videoNotFound")
        if video.account != account_of(call):
            return problem("forbidden")
        video.details = details_of(document, video.details)
    except (ValueError, AttributeError):
        return problem("invalidVideoMetadata")
    except RefusedError as refused:
        return problem(str(refused))
    return json_reply(video_resource(call.world.youtube, video))


async def channels(call: Call) -> Reply:
    """The caller's own channel and its uploads playlist."""
    number = channel_id(account_of(call) or "")
    related = {"relatedPlaylists": {"likes": "LL", "uploads": "UU" + number[2:]}}
    item = {"kind": "youtube#channel", "id": number, "contentDetails": related}
    return json_reply({"kind": "youtube#channelListResponse", "pageInfo": _page_info(1), "items": [item]})


async def playlist_items(call: Call) -> Reply:
    """A playlist's videos, page by page; the uploads come newest first."""
    library, account = call.world.youtube, account_of(call) or ""
    number = call.query.get("playlistId", "")
    if number == "UU" + channel_id(account)[2:]:
        listed = library.uploads_of(account)
    elif number in library.playlists:
        listed = [library.videos[each] for each in library.playlists[number]]
    else:
        return problem("playlistNotFound")
    if only := call.query.get("videoId"):
        listed = [video for video in listed if video.id == only]
    offset = int(call.query.get("pageToken", "0"))
    count = min(_PAGE, int(call.query.get("maxResults", "5")))
    document: dict[str, Any] = {
        "kind": "youtube#playlistItemListResponse",
        "items": [_item(number, video) for video in listed[offset : offset + count]],
        "pageInfo": _page_info(len(listed)),
    }
    if offset + count < len(listed):
        document["nextPageToken"] = str(offset + count)
    return json_reply(document)


async def add_to_playlist(call: Call) -> Reply:
    """Put a video into a playlist; one that is there already is put there once more."""
    library = call.world.youtube
    try:
        snippet = json.loads(call.body)["snippet"]
        number, video_id = snippet["playlistId"], snippet["resourceId"]["videoId"]
    except (ValueError, KeyError, TypeError):
        return problem("invalidVideoMetadata")
    if number not in library.playlists:
        return problem("playlistNotFound")
    video = library.videos.get(video_id)
    if video is None or video.vanished:
        return problem("videoNotFound")
    library.playlists[number].append(video_id)
    return json_reply(_item(number, video))


async def set_thumbnail(call: Call) -> Reply:
    """The picture of a video, at most 2 MB of JPEG or PNG."""
    video = call.world.youtube.videos.get(call.query.get("videoId", ""))
    if video is None or video.vanished:
        return problem("videoNotFound")
    if len(call.body) > _LARGEST_THUMBNAIL_BYTES or not call.body.startswith((b"\xff\xd8", b"\x89PNG")):
        return problem("invalidImage")
    video.thumbnail = call.body
    return json_reply({"kind": "youtube#thumbnailSetResponse", "items": []})


def video_resource(library: Library, video: PublishedVideo) -> dict[str, Any]:
    """A video with every part we know; the real API leaves out those that were not asked for."""
    details, through = video.details, library.is_through(video)
    upload_status = video.outcome if through else "uploaded"
    status: dict[str, Any] = {
        "uploadStatus": upload_status,
        "privacyStatus": details.privacy,
        "license": "youtube",
        "embeddable": True,
        "madeForKids": details.made_for_kids,
        "selfDeclaredMadeForKids": details.made_for_kids,
    }
    if through and video.outcome == "failed":
        status["failureReason"] = video.reason or "conversion"
    if through and video.outcome == "rejected":
        status["rejectionReason"] = video.reason or "inappropriate"
    processing = {"processed": "succeeded", "failed": "failed", "rejected": "terminated"}
    has_duration = through and video.outcome == "processed" and video.duration_s is not None
    return {
        "kind": "youtube#video",
        "id": video.id,
        "snippet": {
            "publishedAt": _moment(video.uploaded_at),
            "channelId": channel_id(video.account),
            "title": details.title,
            "description": details.description,
            "tags": list(details.tags),
            "categoryId": details.category_id,
            **({"defaultLanguage": details.language} if details.language else {}),
        },
        "status": status,
        "contentDetails": {"duration": _iso_duration(video.duration_s or 0) if has_duration else "P0D"},
        "processingDetails": {"processingStatus": processing[video.outcome] if through else "processing"},
        "recordingDetails": {"recordingDate": details.recorded_at} if details.recorded_at else {},
    }


def _item(playlist: str, video: PublishedVideo) -> dict[str, Any]:
    return {
        "kind": "youtube#playlistItem",
        "id": f"{playlist}.{video.id}",
        "snippet": {
            "publishedAt": _moment(video.uploaded_at),
            "title": video.details.title,
            "description": video.details.description,
            "playlistId": playlist,
            "resourceId": {"kind": "youtube#video", "videoId": video.id},
        },
        "contentDetails": {"videoId": video.id, "videoPublishedAt": _moment(video.uploaded_at)},
    }


def _page_info(total: int) -> dict[str, int]:
    return {"totalResults": total, "resultsPerPage": _PAGE}


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _iso_duration(seconds: float) -> str:
    """Whole seconds as ISO 8601 has them, such as ``PT1H2M3S``."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    day, hour = divmod(hour, 24)
    date = f"{day}D" if day else ""
    time = "".join(f"{count}{unit}" for count, unit in ((hour, "H"), (minute, "M"), (second, "S")) if count)
    return f"P{date}T{time}" if time else f"P{date or '0D'}"


_API = "/youtube/v3"
ROUTES: list[Route] = [
    route("GET", HOSTS, f"{_API}/videos", signed(videos, units=1)),
    route("PUT", HOSTS, f"{_API}/videos", signed(update, units=50)),
    route("GET", HOSTS, f"{_API}/channels", signed(channels, units=1)),
    route("GET", HOSTS, f"{_API}/playlistItems", signed(playlist_items, units=1)),
    route("POST", HOSTS, f"{_API}/playlistItems", signed(add_to_playlist, units=50)),
    route("POST", HOSTS, f"/upload{_API}/thumbnails/set", signed(set_thumbnail, units=50)),
]
