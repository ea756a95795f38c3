"""GETs of playlists, initialization sections and segment bodies; blocking, for threads."""

from __future__ import annotations

import http.client
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import pairwise
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import Timeout

from vodkeep.capture.model import ByteRange
from vodkeep.capture.patience import Patience
from vodkeep.errors import NetworkError, RateLimited, ServerError
from vodkeep.rate import RateLimiter

_CHUNK_BYTES = 128 * 1024
# The most that is received in one call: more lets the other threads wait while it is copied.
_GULP_BYTES = 1024 * 1024
# An error page up to this is read to its end, so that its connection can be used again.
_ERROR_PAGE_BYTES = 64 * 1024
_MOST_REDIRECTIONS = 3
_LONGEST_RETRY_AFTER_S = 86_400.0
# 48 h at 2 s a segment with long signed URLs stays below this.
_MAX_PLAYLIST_BYTES = 64 * 1024 * 1024
_MAX_BODY_BYTES = 256 * 1024 * 1024
# A broken body is continued so often from where it broke; each time it must have come this much further.
_CONTINUATIONS = 3
_LEAST_PROGRESS_BYTES = 64 * 1024

_CONTENT_RANGE = re.compile(r"^bytes (\d{1,15})-(\d{1,15})/(\d{1,15})$")

OnBytes = Callable[[int], None]
Turn = Callable[[], AbstractContextManager[None]]


def _fresh(size: int) -> memoryview:
    return memoryview(bytearray(size))


class CanceledError(Exception):
    """The capture was told to stop; nothing is wrong."""


class GoneError(Exception):
    """The server says that the resource is not there, or not for us; ``status`` is its answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered with status {status}")
        self.status = status


class HostUnreachableError(NetworkError):
    """No connection to ``host`` came about, a name and a port: nobody there, or nobody whom we trust."""

    def __init__(self, sentence: str, host: str) -> None:
        super().__init__(sentence)
        self.host = host


# Told apart from a connection that broke: that one says that somebody is there.
_NO_CONNECTION = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.SSLError,
)


class _Exchange:
    """One wait for the network that another thread can end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shutdown: Callable[[], object] | None = None
        self.is_cut = False
        self.url = ""  # what is asked for, after redirections
        self.waits_since = time.monotonic()  # what it waits for now; infinity: for something of our own

    def attach(self, shutdown: Callable[[], object]) -> None:
        """``shutdown`` is what wakes the thread."""
        with self._lock:
            self._shutdown = shutdown
            if self.is_cut:
                self._wake()

    def detach(self) -> None:
        """From here on the socket may belong to another request."""
        with self._lock:
            self._shutdown = None

    def cut(self) -> None:
        """End the wait, now or when it begins."""
        with self._lock:
            self.is_cut = True
            self._wake()

    def _wake(self) -> None:
        if self._shutdown is not None:
            # Just finished, or not connected any more.
            with suppress(ValueError, OSError, RuntimeError):
                self._shutdown()


# The request that this thread is sending. A connection learns here whom to tell about its socket: urllib3 hands out
# neither before the answer's head is there.
_sending = threading.local()


@contextmanager
def _told_of(sock: socket.socket | None) -> Iterator[None]:
    exchange: _Exchange | None = getattr(_sending, "exchange", None)
    if exchange is None or sock is None:
        yield
        return
    # Not SSLSocket's own method: it takes the socket apart under the thread that reads from it.
    exchange.attach(partial(socket.socket.shutdown, sock, socket.SHUT_RDWR))
    try:
        yield
    finally:
        exchange.detach()


class _Answer(http.client.HTTPResponse):
    """An answer whose body can be received where it is to lie."""

    def receive_into(self, view: memoryview) -> int:
        """Like `readinto`, but takes what is there and waits only if nothing is; 0 at the end.

        Not for chunked bodies.
        """
        if self.isclosed():
            return 0
        if self.length is not None:
            view = view[: self.length]
        amount = self.fp.readinto1(view)
        if self.length is not None:
            self.length -= amount
        # The connection can be used again once its answer is closed.
        if self.length == 0 or (view and not amount):
            self.close()
        return amount


class _Connection(HTTPConnection):
    response_class = _Answer

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        with _told_of(self.sock):
            return super().getresponse()


class _TlsConnection(HTTPSConnection):
    response_class = _Answer

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        with _told_of(self.sock):
            return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def media_pool(connections: int, **options: Any) -> urllib3.PoolManager:
    """The connections of a process to the media servers, ``connections`` kept for each host.

    Only with a pool from here a thread that waits for the head of an answer can be woken. ``options`` are urllib3's.
    """
    pool = urllib3.PoolManager(num_pools=32, maxsize=connections, block=False, **options)
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return pool


@dataclass(slots=True)
class _Target:
    """Where the bytes of one GET go: ``view[position:end]`` of a body whose whole size is known."""

    view: memoryview
    position: int  # grows as bytes come in
    end: int


class MediaClient:
    """One for each capture; the connection pool and the rate limit are the process's."""

    def __init__(
        self,
        pool: urllib3.PoolManager,
        rate: RateLimiter,
        user_agent: str,
        patience: Patience = Patience(),  # noqa: B008 - a value that never changes
    ) -> None:
        """``pool`` is one of `media_pool`."""
        self._pool = pool
        self._rate = rate
        self._headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
        self._patience = patience
        self._lock = threading.Lock()
        self._exchanges: set[_Exchange] = set()
        self._is_watched = False

    def abort(self) -> None:
        """Wake every thread that waits for an answer's head or for bytes; call it after setting its ``cancel``.

        Looking up a name, connecting and shaking hands cannot be cut short; they end by themselves.
        """
        with self._lock:
            exchanges = list(self._exchanges)
        for exchange in exchanges:
            exchange.cut()

    @contextmanager
    def _watched(self, cancel: threading.Event) -> Iterator[_Exchange]:
        exchange = _Exchange()
        with self._lock:
            self._exchanges.add(exchange)
            if not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._watch, name="media-watch", daemon=True).start()
        try:
            if cancel.is_set():  # `abort` may have come before the exchange was known.
                raise CanceledError
            yield exchange
        finally:
            with self._lock:
                self._exchanges.discard(exchange)

    def _watch(self) -> None:
        """Cut off what takes too long; ends when nothing is under way.

        No timeout of a socket does that: each byte that drips in begins it anew.
        """
        tick = threading.Event()
        while not tick.wait(min(1.0, self._patience.stall_s / 4)):
            with self._lock:
                if not self._exchanges:
                    self._is_watched = False
                    return
                exchanges = list(self._exchanges)
            now = time.monotonic()
            for exchange in exchanges:
                if now - exchange.waits_since > self._patience.stall_s:
                    exchange.cut()

    def fetch_text(self, url: str, cancel: threading.Event) -> str:
        """Fetch a playlist; raises like `fetch_body`."""
        # A playlist that is cut off lacks its end mark, and so counts as one that still grows.
        body = self.fetch_body(url, cancel, limit_bytes=_MAX_PLAYLIST_BYTES, length_needed=False)
        return str(body, "utf-8", "replace")

    def fetch_body(
        self,
        url: str,
        cancel: threading.Event,
        *,
        byte_range: ByteRange | None = None,
        limit_bytes: int = _MAX_BODY_BYTES,
        on_bytes: OnBytes = lambda _: None,
        part_bytes: int | None = None,
        turn: Turn = nullcontext,
        on_answer: Callable[[], None] = lambda: None,
        executor: ThreadPoolExecutor | None = None,
        allocate: Callable[[int], memoryview] = _fresh,
        length_needed: bool = True,
    ) -> memoryview:
        """Fetch one resource, or ``byte_range`` of it, whole.

        With ``part_bytes``, ranges of it of that length are fetched at the same time by ``executor``; a server that
        does not know ranges is asked for the whole. Each request is under way within a ``turn()``, and ``on_answer``
        is called when it is answered. A body that breaks off is continued from there where the server allows it.
        ``allocate`` gives the memory for so many bytes. With ``length_needed`` a body whose end is only the end of its
        connection is refused.

        Raises `GoneError` for 4xx that say so, `RateLimited`, `ServerError` for 5xx and impossible answers,
        `NetworkError` for no or a broken answer, `CanceledError` soon after ``cancel`` is set.
        """
        transfer = _Transfer(
            self, url, cancel, limit_bytes, on_bytes, allocate, turn, on_answer, length_needed=length_needed
        )
        if byte_range is not None:
            return transfer.fetch_range(byte_range)
        if part_bytes is not None and executor is not None:
            return transfer.fetch_in_parts(part_bytes, executor)
        return transfer.fetch_whole()

    def open(self, url: str, cancel: threading.Event, extra: dict[str, str]) -> urllib3.HTTPResponse:
        """Send a GET and return its response, not read yet; see `fetch_body` for what is raised."""
        with self._watched(cancel) as exchange:
            _sending.exchange = exchange
            try:
                response = self._request(url, {**self._headers, **extra}, exchange)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if cancel.is_set():
                    raise CanceledError from error
                if exchange.is_cut:
                    raise self._too_slow() from error
                if isinstance(error, _NO_CONNECTION):
                    host = urlsplit(exchange.url).netloc
                    raise HostUnreachableError(
                        f"The media server {host} cannot be reached ({_reason(error)}).", host
                    ) from error
                raise NetworkError(f"The media server gave no answer ({_reason(error)}).") from error
            finally:
                _sending.exchange = None
        if not 200 <= response.status < 300:
            status, wait_s = response.status, _retry_after_s(response.headers.get("Retry-After"))
            self._give_back(response, cancel)
            _raise_for_status(status, wait_s)
        return response

    def _request(self, url: str, headers: Mapping[str, str], exchange: _Exchange) -> urllib3.HTTPResponse:
        timeout = Timeout(connect=self._patience.connect_s, read=self._patience.silence_s)
        for _ in range(_MOST_REDIRECTIONS + 1):
            exchange.url = url
            response = self._pool.request(
                "GET", url, headers=headers, preload_content=False, redirect=False, retries=False, timeout=timeout
            )
            assert isinstance(response, urllib3.HTTPResponse)
            location = response.get_redirect_location()
            if not location:
                return response
            response.close()
            try:
                url = urljoin(url, location)
            except ValueError as error:
                raise ServerError("The media server sends us to an address that is none.") from error
        raise ServerError("The media server sends us from one address to the next.")

    def read(
        self,
        response: urllib3.HTTPResponse,
        cancel: threading.Event,
        on_chunk: Callable[[bytes], None],
    ) -> None:
        """Hand the body over chunk by chunk, at the process's rate; raises like `fetch_body`."""
        with self._reading(response, cancel) as exchange:
            for chunk in response.stream(_CHUNK_BYTES, decode_content=False):
                exchange.waits_since = math.inf
                on_chunk(chunk)
                self._pay(len(chunk), cancel, exchange)

    def receive(
        self, response: urllib3.HTTPResponse, cancel: threading.Event, target: _Target, on_bytes: OnBytes
    ) -> None:
        """Receive a body that fills ``target``, at the process's rate; raises like `fetch_body`.

        The length of the body is known. Each byte is copied once, by the kernel, and as many as are there with each
        call: what Python does for each of them is what a fast line is slowed down by.
        """
        answer = response._original_response
        assert isinstance(answer, _Answer), "the pool is one of media_pool"
        # Bytes are paid for once they are here, so much of them at a time would be more than the rate allows.
        gulp_bytes = _CHUNK_BYTES if self._rate.is_limited else _GULP_BYTES
        with self._reading(response, cancel) as exchange:
            counted = target.position
            while target.position < target.end:
                end = min(target.end, target.position + gulp_bytes)
                amount = answer.receive_into(target.view[target.position : end])
                if not amount:
                    raise urllib3.exceptions.IncompleteRead(target.position, target.end - target.position)
                target.position += amount
                fresh = target.position - counted
                if fresh >= _CHUNK_BYTES or target.position == target.end:
                    exchange.waits_since = math.inf
                    counted = target.position
                    on_bytes(fresh)
                    self._pay(fresh, cancel, exchange)

    @contextmanager
    def _reading(self, response: urllib3.HTTPResponse, cancel: threading.Event) -> Iterator[_Exchange]:
        """Around the reading of a body. A connection whose body was read to its end can be used again."""
        try:
            with self._watched(cancel) as exchange:
                exchange.attach(response.shutdown)
                try:
                    yield exchange
                except (urllib3.exceptions.HTTPError, OSError) as error:
                    if cancel.is_set():
                        raise CanceledError from error
                    if exchange.is_cut:
                        raise self._too_slow() from error
                    raise NetworkError(f"The media server's answer broke off ({_reason(error)}).") from error
                finally:
                    exchange.detach()
                if exchange.is_cut:  # The end of a body that has no length: where we cut it off.
                    raise CanceledError if cancel.is_set() else self._too_slow()
        except BaseException:
            response.close()  # The rest of the body is not wanted, so the connection cannot be used again.
            raise
        response.release_conn()

    def _pay(self, amount_bytes: int, cancel: threading.Event, exchange: _Exchange) -> None:
        """Wait for as long as the rate of the process demands after so many bytes."""
        wait_s = self._rate.take(amount_bytes)
        if cancel.wait(wait_s) if wait_s else cancel.is_set():
            raise CanceledError
        exchange.waits_since = time.monotonic()

    def _too_slow(self) -> NetworkError:
        return NetworkError(f"The media server was too slow and was given up after {self._patience.stall_s:g} s.")

    def _give_back(self, response: urllib3.HTTPResponse, cancel: threading.Event) -> None:
        """Read an error page if it is short, so that its connection can be used again."""
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) <= _ERROR_PAGE_BYTES:
            with suppress(NetworkError):
                self.read(response, cancel, lambda _: None)
        else:
            response.close()


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
        turn: Turn,
        on_answer: Callable[[], None],
        *,
        length_needed: bool,
    ) -> None:
        self._client = client
        self._url = url
        self._cancel = cancel
        self._limit = limit_bytes
        self._on_bytes = on_bytes
        self._allocate = allocate
        self._turn = turn
        self._on_answer = on_answer
        self._length_needed = length_needed
        self._validator: str | None = None

    def fetch_whole(self) -> memoryview:
        with self._turn():
            return self._whole(self._open({}))

    def fetch_range(self, wanted: ByteRange) -> memoryview:
        body = self._allocate(self._checked(wanted.length))
        with self._turn():
            response = self._open_range(wanted.offset, wanted.offset + wanted.length)
            if response.status != 206:
                response.close()
                raise ServerError("The media server ignores byte ranges, but the playlist needs them.")
            self._fill(response, _Target(body, 0, wanted.length), shift=wanted.offset)
        return body

    def fetch_in_parts(self, part_bytes: int, executor: ThreadPoolExecutor) -> memoryview:
        futures: list[Future[None]] = []
        try:
            with self._turn():
                response = self._open_range(0, part_bytes)
                if response.status != 206:
                    return self._whole(response)
                total = self._checked(_total_of(response))
                body = self._allocate(total)
                self._validator = response.headers.get("ETag")
                edges = [*range(0, total, part_bytes), total]
                for start, end in pairwise(edges[1:]):
                    futures.append(executor.submit(self._fetch_part, _Target(body, start, end)))
                self._fill(response, _Target(body, 0, min(part_bytes, total)), shift=0)
        finally:
            wait(futures)
        for future in futures:
            future.result()
        return body

    def _fetch_part(self, target: _Target) -> None:
        with self._turn():
            response = self._open_range(target.position, target.end)
            if response.status != 206:  # The whole of something: it has changed since the first part.
                response.close()
                raise ServerError("The media server's resource changed while it was fetched.")
            self._fill(response, target, shift=0)

    def _whole(self, response: urllib3.HTTPResponse) -> memoryview:
        """Read the answer to a request without a range to its end."""
        if response.status == 206:
            response.close()
            raise ServerError("The media server sent a part of what it was asked for.")
        self._validator = response.headers.get("ETag")
        length = response.headers.get("Content-Length", "")
        if length.isdecimal():
            size = self._checked(int(length))
            body = self._allocate(size)
            self._fill(response, _Target(body, 0, size), shift=0)
            return body
        if self._length_needed and not response.chunked:
            # Where it ends and where it broke off look the same.
            response.close()
            raise ServerError("The media server does not say how long its answer is.")
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
        broken: NetworkError | ServerError
        for _ in range(_CONTINUATIONS + 1):
            before = target.position
            announced = response.length_remaining
            try:
                if response.status == 206:
                    _check_range(response, target.position + shift)
                self._read_into(response, target)
                if target.position == target.end:
                    return
                if target.position - before == announced:
                    broken = ServerError("The media server sent less than it was asked for.")
                else:
                    broken = NetworkError("The media server's answer is shorter than it had announced.")
            except NetworkError as error:
                broken = error
            if target.position - before < _LEAST_PROGRESS_BYTES:
                raise broken
            try:
                response = self._open_range(target.position + shift, target.end + shift)
            except GoneError:  # There is no more of it than came, whatever was announced.
                raise broken from None
            if response.status != 206:  # It does not know ranges, or the resource has changed meanwhile.
                response.close()
                raise broken
        raise broken

    def _read_into(self, response: urllib3.HTTPResponse, target: _Target) -> None:
        if response.length_remaining == target.end - target.position and not response.chunked:
            self._client.receive(response, self._cancel, target, self._on_bytes)
            return

        # Its length is another one, or told by chunks as they come.
        def take(chunk: bytes) -> None:
            end = target.position + len(chunk)
            if end > target.end:
                raise ServerError("The media server sent more bytes than it had announced.")
            target.view[target.position : end] = chunk
            target.position = end
            self._on_bytes(len(chunk))

        self._client.read(response, self._cancel, take)

    def _open_range(self, start: int, end: int) -> urllib3.HTTPResponse:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if self._validator and not self._validator.startswith("W/"):
            headers["If-Range"] = self._validator  # RFC 9110 section 13.1.5: strong validators only
        return self._open(headers)

    def _open(self, headers: dict[str, str]) -> urllib3.HTTPResponse:
        response = self._client.open(self._url, self._cancel, headers)
        self._on_answer()
        return response

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
    try:
        wait_s = float(value) if value.strip().isdecimal() else parsedate_to_datetime(value).timestamp() - time.time()
        return min(max(0.0, wait_s), _LONGEST_RETRY_AFTER_S)
    except (ValueError, OverflowError):
        return None


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    return type(inner if isinstance(inner, BaseException) else error).__name__
