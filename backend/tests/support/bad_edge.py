"""A media server that misbehaves on the wire: it writes whatever bytes it is told to, and no library corrects them.

Everything that nobody has spoiled is served well, with ranges and connections that stay open.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True)
class Asked:
    """One request."""

    name: str  # the last part of its path
    path: str
    headers: Mapping[str, str]  # names in lower case

    @property
    def range(self) -> tuple[int, int] | None:
        """First and last byte asked for."""
        match = _RANGE.fullmatch(self.headers.get("range", ""))
        return (int(match.group(1)), int(match.group(2))) if match else None


class Line:
    """The connection on which an answer goes out."""

    def __init__(self, sock: socket.socket, ended: threading.Event) -> None:
        self._sock = sock
        self._ended = ended
        self.is_open = True

    def send(self, content: bytes) -> None:
        self._sock.sendall(content)

    def head(self, status: int, *headers: str, length: int | None = None) -> None:
        """Send the head of an answer."""
        lines = [f"HTTP/1.1 {status} Whatever", *headers]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        self.send("\r\n".join([*lines, "", ""]).encode())

    def answer(self, status: int, content: bytes, *headers: str) -> None:
        """A whole and orderly answer."""
        self.head(status, *headers, length=len(content))
        self.send(content)

    def hang_up(self) -> None:
        """Close in an orderly way."""
        self.is_open = False

    def reset(self) -> None:
        """Close with RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.is_open = False

    def be_silent(self) -> None:
        """Say nothing more until the other side hangs up."""
        with suppress(OSError):
            self._sock.settimeout(None)
            while self._sock.recv(4096):
                pass
        self.is_open = False

    def drip(self, content: bytes, interval_s: float) -> None:
        """Send one byte now and then, until the other side hangs up."""
        for position in range(len(content)):
            self.send(content[position : position + 1])
            if self._ended.wait(interval_s):
                break
        self.is_open = False


Answer = Callable[[Line, Asked, bytes], None]  # with the resource's true content


def serve_well(line: Line, asked: Asked, content: bytes) -> None:
    """As a media server should."""
    if asked.range is None:
        line.answer(200, content)
        return
    first, last = asked.range[0], min(asked.range[1], len(content) - 1)
    line.answer(206, content[first : last + 1], f"Content-Range: bytes {first}-{last}/{len(content)}")


class BadEdge:
    """What is served, what is spoiled, and what was asked for. May be changed from any thread."""

    def __init__(self, url: str) -> None:
        self.url = url  # with a slash at the end
        self.contents: dict[str, bytes] = {}
        self.ended = threading.Event()
        self.connections = 0  # that came about, as far as the first byte
        self._lock = threading.Condition(threading.RLock())
        self._spoiled: dict[str, Iterator[Answer]] = {}
        self._every: tuple[Answer, int] | None = None
        self._asked: list[Asked] = []

    def spoil(self, name: str, *answers: Answer) -> None:
        """Answer the next requests for ``name`` so, one after the other."""
        with self._lock:
            self._spoiled[name] = iter(answers)

    def spoil_for_good(self, name: str, answer: Answer) -> None:
        """Answer every request for ``name`` so."""
        with self._lock:
            self._spoiled[name] = repeat(answer)

    def spoil_all(self, answer: Answer, *, after: int = 0) -> None:
        """Answer all requests for segments so, once ``after`` more of them have come."""
        with self._lock:
            self._every = (answer, len(self.segments_asked()) + after)

    def heal(self) -> None:
        """Serve everything well again."""
        with self._lock:
            self._spoiled.clear()
            self._every = None

    def segments_asked(self) -> list[str]:
        """The names of all requests but those for playlists, in order."""
        with self._lock:
            return [asked.name for asked in self._asked if not asked.name.endswith(".m3u8")]

    def counts(self, since: int = 0) -> Counter[str]:
        """How often each segment was asked for."""
        return Counter(self.segments_asked()[since:])

    @property
    def requests(self) -> list[Asked]:
        """All requests in order."""
        with self._lock:
            return list(self._asked)

    def wait_for_requests(self, count: int, timeout_s: float = 10.0) -> None:
        """Block until so many requests for segments have come."""
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.segments_asked()) >= count, timeout_s)

    def reply(self, line: Line, asked: Asked) -> None:
        """Answer one request."""
        with self._lock:
            self._asked.append(asked)
            number = len(self.segments_asked())
            self._lock.notify_all()
            answer = next(self._spoiled.get(asked.name, iter(())), serve_well)
            is_segment = not asked.name.endswith(".m3u8")
            if self._every is not None and is_segment and number > self._every[1]:
                answer = self._every[0]
        if answer is serve_well and asked.name not in self.contents:
            line.answer(404, b"")
            return
        answer(line, asked, self.contents.get(asked.name, b""))


def playlist_of(uris: Sequence[str], *, segment_s: float = 2.0, init: str | None = None) -> bytes:
    """A finished media playlist."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:0"]
    if init is not None:
        lines.append(f'#EXT-X-MAP:URI="{init}"')
    for uri in uris:
        lines += [f"#EXTINF:{segment_s:.3f},", uri]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()


def _read_request(file: socket.SocketIO) -> Asked | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = file.read(1)
        if not byte:
            return None
        head += byte
    first, *rest = head.decode("latin-1").split("\r\n")
    path = first.split(" ")[1]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
    return Asked(path.split("?", 1)[0].rsplit("/", 1)[-1], path, headers)


def _converse(sock: socket.socket, edge: BadEdge, context: ssl.SSLContext | None) -> None:
    with suppress(OSError):
        if context is not None:
            sock.settimeout(5)
            sock = context.wrap_socket(sock, server_side=True)
        with sock, sock.makefile("rb", buffering=0) as file:
            assert isinstance(file, socket.SocketIO)
            line = Line(sock, edge.ended)
            while line.is_open and (asked := _read_request(file)) is not None:
                edge.reply(line, asked)


@contextmanager
def running_bad_edge(context: ssl.SSLContext | None = None, *, port: int = 0) -> Iterator[BadEdge]:
    """A `BadEdge` for the time of the block, without ``port`` on one of its own; with ``context`` it speaks TLS."""
    sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", port), backlog=128) as server:
        edge = BadEdge(f"{'https' if context else 'http'}://127.0.0.1:{server.getsockname()[1]}/vod/")

        def accept() -> None:
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                edge.connections += 1
                sockets.append(sock)
                threads.append(threading.Thread(target=_converse, args=(sock, edge, context), daemon=True))
                threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield edge
        finally:
            edge.ended.set()
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            accepting.join(10)
            for sock in sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
            for thread in threads:
                thread.join(10)


@contextmanager
def deaf_port(*, accepts: bool) -> Iterator[str]:
    """An address at which nobody ever answers.

    Without ``accepts`` connecting takes for ever as well, as at a machine behind a wall that swallows everything.
    """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64 if accepts else 0)
        host, port = server.getsockname()
        # Linux lets whoever comes to a full queue wait.
        waiting = [socket.socket() for _ in range(0 if accepts else 4)]
        for sock in waiting:
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect((host, port))
        try:
            yield f"http://{host}:{port}/vod/"
        finally:
            for sock in waiting:
                sock.close()


def closed_port() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/vod/"
