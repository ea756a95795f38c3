"""A player without any cleverness: token, usher, playlist, segments."""

from __future__ import annotations

import io
from dataclasses import dataclass
from urllib.parse import quote, urljoin

import av
import urllib3

from vodkeep_standin.server import Standin


@dataclass(frozen=True, slots=True)
class EdgePlayer:
    """The best quality of one video, opened once."""

    http: urllib3.PoolManager
    playlist_url: str

    def playlist(self) -> str:
        return self.http.request("GET", self.playlist_url).data.decode()

    def names(self) -> list[str]:
        return [line for line in self.playlist().splitlines() if line and not line.startswith("#")]

    def url(self, name: str) -> str:
        return urljoin(self.playlist_url, name)

    def get(self, name: str, *, method: str = "GET", **headers: str) -> urllib3.BaseHTTPResponse:
        return self.http.request(method, self.url(name), headers=headers)

    def first_video_timestamp(self, name: str) -> int:
        with av.open(io.BytesIO(self.get(name).data), mode="r") as container:
            stamps = [packet.pts for packet in container.demux(video=0) if packet.size and packet.pts is not None]
        return min(stamps)


def open_video(http: urllib3.PoolManager, standin: Standin, video_id: str) -> EdgePlayer:
    """Ask GQL and usher, as a player does."""
    query = f'query{{videoPlaybackAccessToken(id:"{video_id}",params:{{platform:"web"}}){{value signature}}}}'
    answer = http.request("POST", f"{standin.http_url}/gql", json={"query": query}, headers={"Client-ID": "player"})
    token = answer.json()["data"]["videoPlaybackAccessToken"]
    reply = http.request(
        "GET",
        f"{standin.http_url}/vod/{video_id}.m3u8?sig={token['signature']}&token={quote(token['value'])}",
    )
    assert reply.status == 200, reply.data
    return EdgePlayer(http, next(line for line in reply.data.decode().splitlines() if line.startswith("http")))
