"""GQL objects as plain dictionaries; a query picks from them what it selects."""

from __future__ import annotations

from typing import Any

from vodkeep_standin.edge.pictures import storyboard_url, thumbnail_url
from vodkeep_standin.helix.shapes import timestamp
from vodkeep_standin.scenario.model import Channel, Chapter, Video
from vodkeep_standin.world import World

BROADCAST_TYPES = {"archive": "ARCHIVE", "highlight": "HIGHLIGHT", "upload": "UPLOAD"}


def video_object(world: World, video: Video) -> dict[str, Any]:
    """A ``Video``."""
    recording = world.is_recording(video)
    chapters = chapters_of(video)
    return {
        "__typename": "Video",
        "id": video.id,
        "title": video.title,
        "description": video.description or None,
        "previewThumbnailURL": thumbnail_url(world, video, "320", "180"),
        "createdAt": timestamp(video.created_at),
        "publishedAt": timestamp(video.created_at),
        "recordedAt": timestamp(video.created_at),
        "viewCount": video.view_count,
        "lengthSeconds": int(world.duration_s(video)),
        "broadcastType": BROADCAST_TYPES.get(video.type, "ARCHIVE"),
        "status": "RECORDING" if recording else "RECORDED",
        "viewableAt": None,
        "language": video.language,
        "owner": user_object(world.owner(video)),
        "creator": user_object(world.owner(video)),
        "game": game_object(chapters[0]) if chapters else None,
        "seekPreviewsURL": storyboard_url(world, video),
        "muteInfo": mute_info(video),
        "moments": {"__typename": "VideoMomentConnection", "edges": moment_edges(world, video)},
    }


def user_object(channel: Channel) -> dict[str, Any]:
    """A ``User``."""
    return {
        "__typename": "User",
        "id": channel.id,
        "login": channel.login,
        "displayName": channel.display_name,
        "description": channel.description,
        "createdAt": timestamp(channel.created_at),
    }


def game_object(chapter: Chapter) -> dict[str, Any]:
    """A ``Game``."""
    return {
        "__typename": "Game",
        "id": chapter.game_id,
        "slug": chapter.title.lower().replace(" ", "-"),
        "name": chapter.title,
        "displayName": chapter.title,
        "boxArtURL": f"https://static-cdn.jtvnw.net/ttv-boxart/{chapter.game_id}-40x53.jpg",
    }


def chapters_of(video: Video) -> tuple[Chapter, ...]:
    """The chapters in order of time."""
    return tuple(sorted(video.chapters, key=lambda chapter: chapter.start_s))


def moment_edges(world: World, video: Video) -> list[dict[str, Any]]:
    """Chapters as moments. Like Twitch, a video with a single game has none and only names the game."""
    chapters = chapters_of(video)
    if len(chapters) < 2:
        return []
    total_s = world.duration_s(video)
    ends = [chapter.start_s for chapter in chapters[1:]] + [total_s]
    return [
        {
            "__typename": "VideoMomentEdge",
            "node": {
                "__typename": "VideoMoment",
                "id": f"{video.id}-{chapter.start_s}",
                "type": "GAME_CHANGE",
                "positionMilliseconds": chapter.start_s * 1000,
                "durationMilliseconds": int(max(0.0, end_s - chapter.start_s) * 1000),
                "description": chapter.title,
                "subDescription": "",
                "thumbnailURL": "",
                "moments": {"__typename": "VideoMomentConnection", "edges": []},
                "details": {"__typename": "GameChangeMomentDetails", "game": game_object(chapter)},
                "video": {"__typename": "Video", "id": video.id, "lengthSeconds": int(total_s)},
            },
        }
        for chapter, end_s in zip(chapters, ends, strict=True)
        if chapter.start_s < total_s
    ]


def mute_info(video: Video) -> dict[str, Any]:
    """Muted stretches as the player reads them."""
    nodes = [{"offset": span.start_s, "duration": span.duration_s} for span in video.recipe.muted]
    return {"mutedSegmentConnection": {"nodes": nodes} if nodes else None}
