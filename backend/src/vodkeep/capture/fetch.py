"""Fetches the segments of a playlist with a few persistent connections in threads.

How the parts work together: each worker thread takes the next wanted segment, downloads it through the shared
connection pool, has it checked, and hands it to the work folder, which makes it count. Whatever goes wrong with one
segment is answered here by a bounded number of tries; what is left over is told apart:

- *holes*: the server answered, and the answer is that the segment cannot be had (404, damaged every time, ...);
- an *outage*: a run of failures with no success between them, which says nothing about any segment. Fetching stops
  and the cause is raised; everything kept so far stays kept.
"""

from __future__ import annotations

import contextvars
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import urllib3
from urllib3.util import Timeout

from vodkeep.capture.model import ByteRange, FetchedSegment, Hole, HoleCause, MediaPlaylist, Segment
from vodkeep.capture.playlist import is_muted_name, muted_alternatives
from vodkeep.capture.probe import SegmentDamagedError, probe_segment
from vodkeep.capture.rate import RateLimiter
from vodkeep.capture.workfolder import WorkFolder
from vodkeep.errors import NetworkError, RateLimited, ServerError, TransientError, VodkeepError
from vodkeep.telemetry.log import Logger

_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 15.0
_CHUNK_BYTES = 64 * 1024
# A body that brings less than this in this time (waits of our own rate limit apart) is a slow loris.
_STALL_WINDOW_S = 20.0
_STALL_BYTES = 16 * 1024
# 48 h at 2 s a segment with long signed URLs stays below this.
_MAX_PLAYLIST_BYTES = 64 * 1024 * 1024
_MAX_SEGMENT_BYTES = 256 * 1024 * 1024
_MAX_RETRY_AFTER_S = 60.0

_TRIES_UNREACHABLE = 4
_TRIES_THROTTLED = 8
_TRIES_GONE = 2
_TRIES_DAMAGED = 3
_BACKOFF_BASE_S = 0.25
_BACKOFF_CAP_S = 8.0


class CanceledError(Exception):
    """The capture was told to stop; nothing is wrong."""


class GoneError(Exception):
    """The server says that the resource is not there, or not for us; ``status`` is its answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered with status {status}")
        self.status = status


class Meter:
    """What has been fetched so far; written by the workers, read by whoever reports."""

    def __init__(self, total_segments: int, total_us: int) -> None:
        self._lock = threading.Lock()
        self.total_segments = total_segments
        self.total_us = total_us
        self.segments = 0
        self.kept_bytes = 0
        self.kept_us = 0
        self.wire_bytes = 0  # everything received, thrown away or not: the base of the rate

    def received(self, amount_bytes: int) -> None:
        """Bytes came in from the network."""
        with self._lock:
            self.wire_bytes += amount_bytes

    def kept(self, size_bytes: int, duration_us: int) -> None:
        """A segment counts."""
        with self._lock:
            self.segments += 1
            self.kept_bytes += size_bytes
            self.kept_us += duration_us

    def estimated_total_bytes(self) -> int | None:
        """The size of the whole, judged by what is there; exact when all is there; None before the first segment."""
        if self.segments == self.total_segments:
            return self.kept_bytes
        return int(self.kept_bytes * self.total_us / self.kept_us) if self.kept_us else None


class MediaClient:
    """GETs of playlists, initialization sections and segments; blocking, for threads; one for each capture."""

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
                except (ValueError, OSError):  # Just finished, or not connected any more.
                    continue

    def fetch_text(self, url: str, cancel: threading.Event) -> str:
        """Fetch a playlist; raises like `fetch_bytes`."""
        return self.fetch_bytes(url, cancel, limit_bytes=_MAX_PLAYLIST_BYTES).decode("utf-8", "replace")

    def fetch_bytes(
        self,
        url: str,
        cancel: threading.Event,
        *,
        byte_range: ByteRange | None = None,
        limit_bytes: int = _MAX_SEGMENT_BYTES,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> bytes:
        """Fetch one resource whole.

        Raises `GoneError` for 4xx that say so, `RateLimited`, `ServerError` for 5xx and impossible answers,
        `NetworkError` for no or a broken answer, `CanceledError` soon after ``cancel`` is set.
        """
        headers = dict(self._headers)
        if byte_range is not None:
            headers["Range"] = f"bytes={byte_range.offset}-{byte_range.offset + byte_range.length - 1}"
        try:
            response = self._pool.request(
                "GET",
                url,
                headers=headers,
                preload_content=False,
                retries=urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=3),
                timeout=Timeout(connect=_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S),
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NetworkError(f"The media server gave no answer ({_reason(error)}).") from error
        assert isinstance(response, urllib3.HTTPResponse)
        with self._lock:
            self._open.add(response)
        try:
            _raise_for_status(response, wanted=206 if byte_range else 200)
            body = self._read_body(response, cancel, limit_bytes, on_bytes)
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
        return body

    def _read_body(
        self,
        response: urllib3.BaseHTTPResponse,
        cancel: threading.Event,
        limit_bytes: int,
        on_bytes: Callable[[int], None],
    ) -> bytes:
        body = bytearray()
        window_start, window_bytes = time.monotonic(), 0
        for chunk in response.stream(_CHUNK_BYTES, decode_content=False):
            body += chunk
            if len(body) > limit_bytes:
                raise ServerError(f"The media server sent more than {limit_bytes} bytes for one resource.")
            on_bytes(len(chunk))
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
        return bytes(body)


class SegmentFetcher:
    """Brings the wanted segments of one playlist into a work folder."""

    def __init__(
        self,
        client: MediaClient,
        folder: WorkFolder,
        meter: Meter,
        *,
        connections: int,
        cancel: threading.Event,
        inits: Mapping[tuple[str, ByteRange | None], bytes],
        refresh: Callable[[], MediaPlaylist],
        log: Logger,
    ) -> None:
        """``inits`` holds the bytes of every init section by its key.

        ``refresh`` resolves the playlist again (expired token); it is called from a worker, never twice at once.
        """
        self._client = client
        self._folder = folder
        self._meter = meter
        self._connections = connections
        self._cancel = cancel
        self._stop = threading.Event()
        self._log = log
        self._inits = inits
        self._addresses = _Addresses(refresh)
        self._lock = threading.Lock()
        self._queue: deque[Segment] = deque()
        self._holes: dict[int, Hole] = {}
        self._failures_in_a_row = 0
        self._outage: BaseException | None = None

    def fetch(self, segments: Iterable[Segment]) -> dict[int, Hole]:
        """Fetch ``segments``; blocks until all are kept, and returns the holes by media sequence.

        Raises the cause of an outage, or `CanceledError`.
        """
        self._queue.extend(segments)
        with ThreadPoolExecutor(self._connections, thread_name_prefix="segment") as workers:
            for _ in range(min(self._connections, len(self._queue))):
                # Each worker logs under the correlation id of the capture that it works for.
                workers.submit(contextvars.copy_context().run, self._work)
        if self._cancel.is_set():
            raise CanceledError
        if self._outage is not None:
            raise self._outage
        return self._holes

    def _work(self) -> None:
        while not self._cancel.is_set() and not self._stop.is_set():
            with self._lock:
                if not self._queue:
                    return
                segment = self._queue.popleft()
            try:
                hole = self._fetch_one(segment)
            except CanceledError:
                return
            except BaseException as error:  # noqa: BLE001  A thread ends here; fetch() raises it again.
                self._end_with(error)
                return
            if hole is not None:
                self._note_hole(hole)

    def _end_with(self, error: BaseException) -> None:
        with self._lock:
            self._outage = self._outage or error
        self._stop.set()

    def _note_hole(self, hole: Hole) -> None:
        self._log.warning("segment missing", media_sequence=hole.media_sequence, cause=hole.cause, reason=hole.sentence)
        with self._lock:
            self._holes[hole.media_sequence] = hole

    def _note_success(self) -> None:
        with self._lock:
            self._failures_in_a_row = 0

    def _note_failure(self, cause: VodkeepError) -> None:
        """Count a failed request; too many in a row, over all segments, are an outage."""
        with self._lock:
            self._failures_in_a_row += 1
            outage = self._failures_in_a_row >= max(12, 3 * self._connections)
        if outage:
            raise cause

    def _fetch_one(self, segment: Segment) -> Hole | None:
        """Try until the segment is kept (None) or its tries are used up (a hole)."""
        sequence = segment.media_sequence
        if segment.gap:
            return Hole(sequence, HoleCause.GAP, "the publisher marked it as absent")
        tries: dict[HoleCause | str, int] = {}
        alternative = 0
        while True:
            generation, uris = self._addresses.of(segment)
            uri = uris[min(alternative, len(uris) - 1)]
            try:
                self._download(segment, uri)
            except GoneError as error:
                if alternative + 1 < len(uris):
                    alternative += 1
                    continue
                if error.status == 403 and self._addresses.renew(generation):
                    alternative = 0
                    continue
                self._note_failure(_outage_of(error))
                if _used_up(tries, HoleCause.GONE, _TRIES_GONE):
                    return Hole(sequence, HoleCause.GONE, str(error))
                self._pause(tries[HoleCause.GONE], None)
            except SegmentDamagedError as error:
                self._note_failure(ServerError(f"The media server sends damaged segments: {error}."))
                if _used_up(tries, HoleCause.DAMAGED, _TRIES_DAMAGED):
                    return Hole(sequence, HoleCause.DAMAGED, str(error))
                self._pause(tries[HoleCause.DAMAGED], None)
            except RateLimited as error:
                if _used_up(tries, "throttled", _TRIES_THROTTLED):
                    raise
                self._pause(tries["throttled"], error.delay_s)
            except (NetworkError, ServerError) as error:
                self._note_failure(error)
                if _used_up(tries, HoleCause.UNREACHABLE, _TRIES_UNREACHABLE):
                    return Hole(sequence, HoleCause.UNREACHABLE, str(error))
                self._pause(tries[HoleCause.UNREACHABLE], error.delay_s)
            else:
                self._note_success()
                return None

    def _download(self, segment: Segment, uri: str) -> None:
        body = self._client.fetch_bytes(uri, self._cancel, byte_range=segment.byte_range, on_bytes=self._meter.received)
        probe = probe_segment(body, self._inits[segment.init.key] if segment.init else None)
        name = uri.split("?", 1)[0].rsplit("/", 1)[-1]
        kept = FetchedSegment(segment.media_sequence, name, len(body), probe.packets, muted=is_muted_name(name))
        if self._cancel.is_set():  # The folder may belong to somebody else by now.
            raise CanceledError
        self._folder.keep(kept, body)
        self._meter.kept(len(body), segment.duration_us)

    def _pause(self, tries: int, asked_s: float | None) -> None:
        # Full jitter keeps the workers from coming back in step.
        wait_s = min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**tries) * random.uniform(0.5, 1.0)
        if self._cancel.wait(max(wait_s, min(asked_s or 0.0, _MAX_RETRY_AFTER_S))) or self._stop.is_set():
            raise CanceledError


class _Addresses:
    """Where the segments are now: the playlist's addresses, renewed when the token in them has run out."""

    _MAX_RENEWALS = 3

    def __init__(self, refresh: Callable[[], MediaPlaylist]) -> None:
        self._refresh = refresh
        self._lock = threading.Lock()
        self._generation = 0
        self._renewed: dict[int, Segment] = {}

    def of(self, segment: Segment) -> tuple[int, tuple[str, ...]]:
        with self._lock:
            current = self._renewed.get(segment.media_sequence, segment)
            return self._generation, muted_alternatives(current)

    def renew(self, seen_generation: int) -> bool:
        """Resolve again unless another worker has just done so; False when that has been done often enough."""
        with self._lock:
            if seen_generation < self._generation:
                return True
            if self._generation >= self._MAX_RENEWALS:
                return False
            self._generation += 1
            self._renewed = {segment.media_sequence: segment for segment in self._refresh().segments}
            return True


def _used_up(tries: dict[HoleCause | str, int], kind: HoleCause | str, limit: int) -> bool:
    tries[kind] = tries.get(kind, 0) + 1
    return tries[kind] >= limit


def _outage_of(error: GoneError) -> TransientError:
    return ServerError(f"The media server refuses one segment after the other: {error}.")


def _raise_for_status(response: urllib3.BaseHTTPResponse, wanted: int) -> None:
    status = response.status
    if status == wanted:
        return
    if status == 429:
        raise RateLimited(
            "The media server asks to slow down (429).", delay_s=_retry_after_s(response.headers.get("Retry-After"))
        )
    if 400 <= status < 500:
        raise GoneError(status)
    raise ServerError(
        f"The media server answered with status {status}.", delay_s=_retry_after_s(response.headers.get("Retry-After"))
    )


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
