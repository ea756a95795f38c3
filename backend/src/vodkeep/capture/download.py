"""GETs of playlists, initialization sections and segment bodies; blocking, for threads."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import pairwise

import urllib3
from urllib3.util import Timeout

from vodkeep.capture.model import ByteRange
from vodkeep.capture.rate import RateLimiter
from vodkeep.errors import NetworkError, RateLimited, ServerError

_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 15.0
_CHUNK_BYTES = 256 * 1024
# A body that brings less than this in this time (waits of our own rate limit apart) is a slow loris.
_STALL_WINDOW_S = 20.0
_STALL_BYTES = 16 * 1024
# 48 h at 2 s a segment with long signed URLs stays below this.
_MAX_PLAYLIST_BYTES = 64 * 1024 * 1024
_MAX_BODY_BYTES = 256 * 1024 * 1024
# A broken body is continued so often from where it broke; each time it must have come this much further.
_CONTINUATIONS = 3
_LEAST_PROGRESS_BYTES = 64 * 1024

_CONTENT_RANGE = re.compile(r"^bytes (\d{1,15})-(\d{1,15})/(\d{1,15})$")

OnBytes = Callable[[int], None]


def _fresh(size: int) -> memoryview:
    return memoryview(bytearray(size))


class CanceledError(Exception):
    """The capture was told to stop; nothing is wrong."""


class GoneError(Exception):
    """The server says that the resource is not there, or not for us; ``status`` is its answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered with status {status}")
        self.status = status


@dataclass(slots=True)
class _Target:
    """Where the bytes of one GET go: ``view[start:end]`` of a body whose whole size is known."""

    view: memoryview
    start: int
    end: int


class MediaClient:
    """One for each capture; the connection pool and the rate limit are the process's."""

    def __init__(self, pool: urllib3.PoolManager, rate: RateLimiter, user_agent: str) -> None:
        self._pool = pool
        self._rate = rate
        self._headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
        self._lock = threading.Lock()
        self._open: set[urllib3.HTTPResponse] = set()

    def abort(self) -> None:
        """Wake every thread that waits for bytes; their reads end at once."""
        with self._lock:
            for response in self._open:
                try:
                    response.shutdown()
                except (ValueError, OSError, RuntimeError):  # Just finished, or not connected any more.
                    continue

    def fetch_text(self, url: str, cancel: threading.Event) -> str:
        """Fetch a playlist; raises like `fetch_body`."""
        return str(self.fetch_body(url, cancel, limit_bytes=_MAX_PLAYLIST_BYTES), "utf-8", "replace")

    def fetch_body(
        self,
        url: str,
        cancel: threading.Event,
        *,
        byte_range: ByteRange | None = None,
        limit_bytes: int = _MAX_BODY_BYTES,
        on_bytes: OnBytes = lambda _: None,
        parts: int = 1,
        expected_bytes: int = 0,
        executor: ThreadPoolExecutor | None = None,
        allocate: Callable[[int], memoryview] = _fresh,
    ) -> memoryview:
        """Fetch one resource, or ``byte_range`` of it, whole.

        With ``parts`` above 1, about so many ranges of it are fetched at the same time by ``executor``, each about
        ``expected_bytes / parts`` long; a server that does not know ranges is asked for the whole. A body that breaks
        off is continued from there where the server allows it. ``allocate`` gives the memory for so many bytes.

        Raises `GoneError` for 4xx that say so, `RateLimited`, `ServerError` for 5xx and impossible answers,
        `NetworkError` for no or a broken answer, `CanceledError` soon after ``cancel`` is set.
        """
        transfer = _Transfer(self, url, cancel, limit_bytes, on_bytes, allocate)
        if byte_range is not None:
            return transfer.fetch_range(byte_range)
        if parts > 1 and executor is not None:
            return transfer.fetch_in_parts(-(-expected_bytes // parts), executor)
        return transfer.fetch_whole()

    def open(self, url: str, cancel: threading.Event, extra: dict[str, str]) -> urllib3.HTTPResponse:
        """Send a GET and return its response, not read yet; see `fetch_body` for what is raised."""
        if cancel.is_set():
            raise CanceledError
        try:
            response = self._pool.request(
                "GET",
                url,
                headers={**self._headers, **extra},
                preload_content=False,
                retries=urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=3),
                timeout=Timeout(connect=_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S),
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NetworkError(f"The media server gave no answer ({_reason(error)}).") from error
        assert isinstance(response, urllib3.HTTPResponse)
        if not 200 <= response.status < 300:
            status, wait_s = response.status, _retry_after_s(response.headers.get("Retry-After"))
            _give_back(response)
            _raise_for_status(status, wait_s)
        return response

    def read(
        self,
        response: urllib3.HTTPResponse,
        cancel: threading.Event,
        on_chunk: Callable[[bytes], None],
    ) -> None:
        """Hand the body over chunk by chunk, at the process's rate; raises like `fetch_body`."""
        with self._lock:
            self._open.add(response)
        try:
            self._read(response, cancel, on_chunk)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            response.close()
            if cancel.is_set():
                raise CanceledError from error
            raise NetworkError(f"The media server's answer broke off ({_reason(error)}).") from error
        except BaseException:
            response.close()  # The rest of the body is not wanted, so the connection cannot be used again.
            raise
        finally:
            with self._lock:
                self._open.discard(response)
        response.release_conn()

    def _read(self, response: urllib3.HTTPResponse, cancel: threading.Event, on_chunk: Callable[[bytes], None]) -> None:
        window_start, window_bytes = time.monotonic(), 0
        for chunk in response.stream(_CHUNK_BYTES, decode_content=False):
            on_chunk(chunk)
            wait_s = self._rate.take(len(chunk))
            if cancel.wait(wait_s) if wait_s else cancel.is_set():
                raise CanceledError
            window_start += wait_s
            window_bytes += len(chunk)
            if time.monotonic() - window_start > _STALL_WINDOW_S:
                if window_bytes < _STALL_BYTES:
                    raise NetworkError(
                        f"The media server sent {window_bytes} bytes in {_STALL_WINDOW_S:g} s and was given up."
                    )
                window_start, window_bytes = time.monotonic(), 0


class _Transfer:
    """One body under way."""

    def __init__(
        self,
        client: MediaClient,
        url: str,
        cancel: threading.Event,
        limit_bytes: int,
        on_bytes: OnBytes,
        allocate: Callable[[int], memoryview],
    ) -> None:
        self._client = client
        self._url = url
        self._cancel = cancel
        self._limit = limit_bytes
        self._on_bytes = on_bytes
        self._allocate = allocate
        self._validator: str | None = None

    def fetch_whole(self) -> memoryview:
        return self._whole(self._client.open(self._url, self._cancel, {}))

    def fetch_range(self, wanted: ByteRange) -> memoryview:
        body = self._allocate(self._checked(wanted.length))
        response = self._open_range(wanted.offset, wanted.offset + wanted.length)
        if response.status != 206:
            response.close()
            raise ServerError("The media server ignores byte ranges, but the playlist needs them.")
        self._fill(response, _Target(body, 0, wanted.length), shift=wanted.offset)
        return body

    def fetch_in_parts(self, part_bytes: int, executor: ThreadPoolExecutor) -> memoryview:
        response = self._open_range(0, part_bytes)
        if response.status != 206:
            return self._whole(response)
        total = self._checked(_total_of(response))
        body = self._allocate(total)
        self._validator = response.headers.get("ETag")
        edges = [*range(0, total, part_bytes), total]
        futures: list[Future[None]] = [
            executor.submit(self._fetch_part, _Target(body, start, end)) for start, end in pairwise(edges[1:])
        ]
        try:
            self._fill(response, _Target(body, 0, min(part_bytes, total)), shift=0)
        finally:
            wait(futures)
        for future in futures:
            future.result()
        return body

    def _fetch_part(self, target: _Target) -> None:
        self._fill(self._open_range(target.start, target.end), target, shift=0)

    def _whole(self, response: urllib3.HTTPResponse) -> memoryview:
        """Read a plain 200 answer to its end."""
        self._validator = response.headers.get("ETag")
        length = response.headers.get("Content-Length", "")
        if length.isdecimal():
            size = self._checked(int(length))
            body = self._allocate(size)
            self._fill(response, _Target(body, 0, size), shift=0)
            return body
        grown = bytearray()

        def take(chunk: bytes) -> None:
            grown.extend(chunk)
            self._checked(len(grown))
            self._on_bytes(len(chunk))

        self._client.read(response, self._cancel, take)
        return memoryview(grown)

    def _fill(self, response: urllib3.HTTPResponse, target: _Target, *, shift: int) -> None:
        """Read ``response`` into ``target``, going on with a new request where it breaks off.

        ``shift`` is where the target's body begins in the resource.
        """
        position = target.start
        for _ in range(_CONTINUATIONS + 1):
            before = position

            def take(chunk: bytes) -> None:
                nonlocal position
                if position + len(chunk) > target.end:
                    raise ServerError("The media server sent more bytes than it had announced.")
                target.view[position : position + len(chunk)] = chunk
                position += len(chunk)
                self._on_bytes(len(chunk))

            try:
                if response.status == 206:
                    _check_range(response, position + shift)
                self._client.read(response, self._cancel, take)
                if position == target.end:
                    return
                broken = NetworkError("The media server's answer is shorter than it had announced.")
            except NetworkError as error:
                broken = error
            if position - before < _LEAST_PROGRESS_BYTES:
                raise broken
            try:
                response = self._open_range(position + shift, target.end + shift)
            except GoneError:  # There is no more of it than came, whatever was announced.
                raise broken from None
            if response.status != 206:  # It does not know ranges, or the resource has changed meanwhile.
                response.close()
                raise broken
        raise broken

    def _open_range(self, start: int, end: int) -> urllib3.HTTPResponse:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if self._validator and not self._validator.startswith("W/"):
            headers["If-Range"] = self._validator  # RFC 9110 section 13.1.5: strong validators only
        return self._client.open(self._url, self._cancel, headers)

    def _checked(self, size: int) -> int:
        if size > self._limit:
            raise ServerError(f"The media server sends more than {self._limit} bytes for one resource.")
        return size


def _total_of(response: urllib3.HTTPResponse) -> int:
    match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if match is None:
        response.close()
        raise ServerError("The media server sent a part without saying of what.")
    return int(match.group(3))


def _check_range(response: urllib3.HTTPResponse, start: int) -> None:
    match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if match is None or int(match.group(1)) != start:
        response.close()
        raise ServerError("The media server sent another part than it was asked for.")


def _give_back(response: urllib3.HTTPResponse) -> None:
    """Read the rest of an error page if it is short, so that its connection can be used again."""
    try:
        response.drain_conn() if int(response.headers.get("Content-Length", _CHUNK_BYTES)) < _CHUNK_BYTES else None
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        response.close()
        return
    response.release_conn()


def _raise_for_status(status: int, retry_after_s: float | None) -> None:
    if status == 429:
        raise RateLimited("The media server asks to slow down (429).", delay_s=retry_after_s)
    if 400 <= status < 500:
        raise GoneError(status)
    raise ServerError(f"The media server answered with status {status}.", delay_s=retry_after_s)


def _retry_after_s(value: str | None) -> float | None:
    """Seconds to wait (RFC 9110 section 10.2.3: a number or a date); None when absent or unreadable."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    return type(inner if isinstance(inner, BaseException) else error).__name__
