"""A media server for tests of the capture engine: one playlist and its segments, both open to change at any time."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_RANGE = re.compile(r"^bytes=(\d+)-(\d+)$")


class Edge:
    """What is served, and what was asked for. May be changed from any thread."""

    def __init__(self) -> None:
        self.url = ""  # of the folder, with a slash at the end
        self.playlist = ""
        self.bodies: dict[str, bytes] = {}
        self.delay_s = 0.0
        self.refused_after: int | None = None  # so many requests for segments are answered, and then 403 is
        self.on_segment: Callable[[int], None] = lambda _: None  # is told how many were asked for before the reply
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._asked: list[str] = []

    @property
    def playlist_url(self) -> str:
        """Where the playlist is."""
        return f"{self.url}index.m3u8"

    @property
    def asked(self) -> list[str]:
        """The names of the segments that were asked for, in order; those that are not there too."""
        with self._lock:
            return list(self._asked)

    def counts(self, since: int = 0) -> Counter[str]:
        """How often each segment was asked for."""
        return Counter(self.asked[since:])

    def serve(self, bodies: Mapping[str, bytes], *, segment_s: float, gaps: Sequence[int] = ()) -> None:
        """Offer these segments in this order; before those at ``gaps`` the clock starts anew."""
        self.bodies.update(bodies)
        self.playlist = playlist_of(list(bodies), segment_s=segment_s, gaps=gaps)

    def note(self, name: str) -> int:
        """A segment is asked for; returns how many were, this one included."""
        with self._lock:
            self._asked.append(name)
            return len(self._asked)


def playlist_of(names: Sequence[str], *, segment_s: float, first: int = 0, gaps: Sequence[int] = ()) -> str:
    """The text of a finished media playlist."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{round(segment_s)}"]
    lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
    for number, name in enumerate(names):
        if number in gaps:
            lines.append("#EXT-X-DISCONTINUITY")
        lines += [f"#EXTINF:{segment_s:.3f},", name]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    edge: Edge

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1].split("?", 1)[0]
        if name == "index.m3u8":
            self._send(HTTPStatus.OK, self.edge.playlist.encode())
            return
        asked = self.edge.note(name)
        self.edge.on_segment(asked)
        if self.edge.refused_after is not None and asked > self.edge.refused_after:
            self._send(HTTPStatus.FORBIDDEN, b"")
            return
        if self.edge.delay_s:
            self.edge.stopped.wait(self.edge.delay_s)
        body = self.edge.bodies.get(name)
        if body is None:
            self._send(HTTPStatus.NOT_FOUND, b"")
            return
        wanted = _RANGE.match(self.headers.get("Range", ""))
        if wanted is None:
            self._send(HTTPStatus.OK, body)
            return
        start, end = int(wanted.group(1)), min(int(wanted.group(2)), len(body) - 1)
        self._send(HTTPStatus.PARTIAL_CONTENT, body[start : end + 1], f"bytes {start}-{end}/{len(body)}")

    def _send(self, status: HTTPStatus, body: bytes, content_range: str | None = None) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if content_range is not None:
                self.send_header("Content-Range", content_range)
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # Who asked is dead.
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """A client that was killed is no error here."""


@contextmanager
def running_edge() -> Iterator[Edge]:
    """An `Edge` on a port of its own for the time of the block."""
    edge = Edge()
    handler = type("Handler", (_Handler,), {"edge": edge})
    with _Server(("127.0.0.1", 0), handler) as server:
        edge.url = f"http://127.0.0.1:{server.server_port}/vod/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield edge
        finally:
            edge.stopped.set()
            server.shutdown()
            thread.join()
