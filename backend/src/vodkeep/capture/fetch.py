"""Fetches the segments of a playlist into the reel with persistent connections in threads.

How the parts work together: each worker thread takes the next wanted segment, downloads it through the shared
connection pool (several parts at a time where that pays, see `vodkeep.capture.pace`), takes the container off, which is
also the check that the segment is whole, and appends its samples to the reel, which makes it count. Whatever goes wrong
with one segment is answered here by a bounded number of tries; what is left over is told apart:

- *holes*: the segment cannot be had (404, damaged every time, ...), while others can;
- an *outage*: nothing can be had, which says nothing about any segment. Fetching stops and the cause is raised;
  everything kept so far stays kept.

The two look alike when only bad segments are left, as they are when a capture with holes is repeated. So before a
segment is given up, another one must have been asked for and fetched since its last failure but one; when none has,
one that was kept before is fetched again, as a *witness*.

A host to which no connection comes about is judged as a whole, see `vodkeep.capture.hosts`: its segments are *put off*
while one of them tries, and are holes without a request once that has been in vain.

Memory is bounded by the bodies in flight, whatever the length of the broadcast: at most `BODIES_BYTES` of them are
held, in buffers that are used again, and one at a time is taken apart, always by the same thread, while the samples of
the one before are written. Fresh pages for each body would cost more than everything else that is done with it.
"""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from vodkeep.capture.download import CanceledError, GoneError, HostUnreachableError, MediaClient
from vodkeep.capture.fragment import InitTracks, read_fragment
from vodkeep.capture.gate import Gate
from vodkeep.capture.hosts import Hosts, Turn
from vodkeep.capture.model import ByteRange, Hole, HoleCause, MediaPlaylist, Segment
from vodkeep.capture.pace import Pace
from vodkeep.capture.patience import Patience
from vodkeep.capture.playlist import is_muted_name, muted_alternatives
from vodkeep.capture.reel import Reel
from vodkeep.capture.samples import SegmentDamagedError, SegmentSamples, UnsupportedMediaError
from vodkeep.capture.transport_stream import read_transport_stream
from vodkeep.capture.tries import (
    TRIES_DAMAGED,
    TRIES_GONE,
    TRIES_THROTTLED,
    TRIES_UNREACHABLE,
    TRIES_UNSUPPORTED,
    Tries,
    pause_s,
)
from vodkeep.errors import NetworkError, RateLimited, ServerError, TransientError, VodkeepError
from vodkeep.telemetry.log import Logger

BODIES_BYTES = 48 * 1024 * 1024
# Until the first segment is there; about 10 s of 6 Mbit/s.
_ASSUMED_BODY_BYTES = 8 * 1024 * 1024
# A smaller part costs more in requests than it brings.
_SMALLEST_PART_BYTES = 1024 * 1024
# So that connections that are added soon have something to do, a part does not take longer than this.
_PART_S = 0.4
# And how long it is while nobody knows how fast the line is.
_FIRST_PART_BYTES = 2 * 1024 * 1024

# So many failures, at least, without any success between them are an outage, once they have lasted for long enough.
_OUTAGE_FAILURES = 6
_MOST_WITNESSES = 4
# Segments whose samples are in memory: while those of one are written, the next one is taken apart.
_MOST_HELD = 2


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


class SegmentFetcher:
    """Brings the wanted segments of one playlist into a reel."""

    def __init__(
        self,
        client: MediaClient,
        reel: Reel,
        meter: Meter,
        pace: Pace,
        *,
        most_connections: int,
        cancel: threading.Event,
        inits: Mapping[tuple[str, ByteRange | None], InitTracks],
        begin_reel: Callable[[SegmentSamples], None],
        refresh: Callable[[], MediaPlaylist],
        log: Logger,
        patience: Patience = Patience(),  # noqa: B008 - a value that never changes
    ) -> None:
        """``inits`` holds every init section by its key; ``begin_reel`` starts a fresh reel for a first segment.

        ``refresh`` resolves the playlist again (expired token); it is called from a worker, never twice at once.
        """
        self._client = client
        self._reel = reel
        self._meter = meter
        self._pace = pace
        self._gate = Gate(pace)
        self._most_connections = most_connections
        self._cancel = cancel
        self._inits = inits
        self._begin_reel = begin_reel
        self._log = log
        self._stop = threading.Event()
        self._addresses = _Addresses(refresh)
        self._lock = threading.Condition()
        self._queue: deque[Segment] = deque()
        self._put_off: list[Segment] = []  # until somebody has found out whether their host lives
        self._busy = 0
        self._body_bytes = _ASSUMED_BODY_BYTES
        self._holes: dict[int, Hole] = {}
        self._patience = patience
        self._health = _Health(patience.outage_s)
        self.hosts = Hosts(patience.given_up_s)  # which of them can be reached
        self._witnesses: dict[str, Segment] = {}  # by host, the one kept last at the end
        self._testimony = threading.Lock()
        self._samples_held = threading.Semaphore(_MOST_HELD)
        self._appending = threading.Lock()
        self._outage: BaseException | None = None
        self._buffers: list[_Buffer] = []  # used again, the last one first

    def fetch(self, segments: Iterable[Segment], kept: Iterable[Segment] = ()) -> dict[int, Hole]:
        """Fetch ``segments``; blocks until all are kept, and returns the holes by media sequence.

        ``kept`` are those that an earlier run fetched from the same playlist. Raises the cause of an outage, or
        `CanceledError`.
        """
        for segment in kept:
            self._note_witness(segment)
        self._queue.extend(segments)
        count = min(self._most_connections, len(self._queue))
        with (
            ThreadPoolExecutor(1, thread_name_prefix="dismantle") as dismantler,
            ThreadPoolExecutor(max(1, self._most_connections), thread_name_prefix="part") as parts,
            ThreadPoolExecutor(max(1, count), thread_name_prefix="segment") as workers,
        ):
            for _ in range(count):
                # Each worker logs under the correlation id of the capture that it works for.
                workers.submit(contextvars.copy_context().run, self._work, _Hands(parts, dismantler))
        self._buffers.clear()  # The memory is needed for the film's index and its verification.
        if self._cancel.is_set():
            raise CanceledError
        if self._outage is not None:
            raise self._outage
        return self._holes

    def wake(self) -> None:
        """Let workers that wait for their turn see that there are more of them, or that the capture was canceled."""
        if self._cancel.is_set():
            self._gate.close()
        self._gate.admit()
        with self._lock:
            self._lock.notify_all()

    def settle(self) -> None:
        """After a cancellation: wait until nobody writes into the reel any more; nobody will begin to."""
        with self._appending:
            pass

    # --- workers -------------------------------------------------------------------------------------------------

    def _work(self, hands: _Hands) -> None:
        while (segment := self._take()) is not None:
            end: Hole | Turn | None = None
            try:
                end = self._fetch_one(segment, hands)
            except CanceledError:
                self.wake()
                return
            except BaseException as error:  # noqa: BLE001  A thread ends here; fetch() raises it again.
                self._end_with(error)
                return
            finally:
                self._give_back(segment, put_off=end is Turn.WAIT)
            if isinstance(end, Hole):
                self._note_hole(end)

    def _give_back(self, segment: Segment, *, put_off: bool) -> None:
        """Nobody works on ``segment`` any more."""
        with self._lock:
            self._busy -= 1
            if put_off:
                self._put_off.append(segment)
            if self.hosts.ended(segment.media_sequence) or not self.hosts.is_any_tried:
                self._queue.extend(self._put_off)
                self._put_off.clear()
            self._lock.notify_all()

    def _take(self) -> Segment | None:
        """The next segment, once a slot is free; None when there is nothing left to do."""
        with self._lock:
            while not self._cancel.is_set() and not self._stop.is_set() and (self._queue or self._put_off):
                if self._queue and self._busy < self._slots():
                    self._busy += 1
                    return self._queue.popleft()
                self._lock.wait()
            return None

    def _slots(self) -> int:
        """How many segments may be in flight: as many as connections, but no more than fit into memory."""
        return max(1, min(self._pace.level, BODIES_BYTES // max(1, self._body_bytes)))

    def _part_bytes(self) -> int | None:
        """How long the parts are in which a segment is fetched, so that all connections have something to do.

        None: it is fetched as a whole.
        """
        rate = self._pace.rate_of_each
        share = self._body_bytes * self._slots() // max(1, self._pace.level)
        part_bytes = min(share, _FIRST_PART_BYTES if rate is None else int(rate * _PART_S))
        part_bytes = max(_SMALLEST_PART_BYTES, part_bytes)
        # A little more than a part is no reason to split.
        return None if part_bytes * 1.5 > self._body_bytes else part_bytes

    def _end_with(self, error: BaseException) -> None:
        with self._lock:
            self._outage = self._outage or error
            self._stop.set()
            self._lock.notify_all()

    def _note_hole(self, hole: Hole) -> None:
        self._log.warning("segment missing", media_sequence=hole.media_sequence, cause=hole.cause, reason=hole.sentence)
        with self._lock:
            self._holes[hole.media_sequence] = hole

    def _note_failure(self, cause: VodkeepError) -> None:
        """Count a failed request; raises ``cause`` when it is one of an outage."""
        since = self._health.failed()
        if since is not None and not self._is_alive(since):
            raise cause

    def _note_witness(self, segment: Segment) -> None:
        host = urlsplit(segment.uri).netloc
        with self._lock:
            self._witnesses.pop(host, None)
            self._witnesses[host] = segment

    def _is_alive(self, since: float) -> bool:
        """Whether something that was asked for after ``since`` has come, or comes now."""
        with self._testimony:
            if self._health.last_success > since:
                return True
            with self._lock:
                witnesses = list(self._witnesses.values())[-_MOST_WITNESSES:]
            for witness in reversed(witnesses):
                for uri in self._addresses.of(witness)[1]:
                    if self.hosts.is_down(urlsplit(uri).netloc):
                        continue
                    asked = time.monotonic()
                    try:
                        self._dismantle(
                            witness, self._client.fetch_body(uri, self._cancel, byte_range=witness.byte_range)
                        )
                    except (GoneError, SegmentDamagedError, UnsupportedMediaError, TransientError):
                        continue
                    self._health.succeeded(asked)
                    return True
            return False

    # --- one segment ---------------------------------------------------------------------------------------------

    def _fetch_one(self, segment: Segment, hands: _Hands) -> Hole | Turn | None:
        """Try until the segment is kept (None), its tries are used up (a hole), or it is put off (`Turn.WAIT`)."""
        sequence = segment.media_sequence
        if segment.gap:
            return Hole(sequence, HoleCause.GAP, "the publisher marked it as absent")
        tries = Tries()
        alternative = 0
        while True:
            generation, uris = self._addresses.of(segment)
            uri = uris[min(alternative, len(uris) - 1)]
            host = urlsplit(uri).netloc
            turn = self.hosts.turn(host, sequence)
            if turn is Turn.WAIT:
                return turn
            if turn is Turn.GIVE_UP and self._is_alive(self.hosts.down_since(host)):
                return Hole(sequence, HoleCause.UNREACHABLE, f"its media server {host} cannot be reached")
            asked = time.monotonic()
            try:
                self._ask(segment, uri, host, hands)
            except HostUnreachableError as error:
                self._note_failure(error)
                most_tries = TRIES_UNREACHABLE
                if error.host == host:
                    if self.hosts.failed(host, sequence):
                        self._look_elsewhere(host, generation)
                    if urlsplit(self._addresses.of(segment)[1][0]).netloc != host:
                        alternative = 0
                        continue
                    if self.hosts.turn(host, sequence) is Turn.WAIT:
                        return Turn.WAIT
                    most_tries = self.hosts.most_tries(host)
                if tries.used_up(HoleCause.UNREACHABLE, most_tries) and self._is_alive(tries.failed_before):
                    return Hole(sequence, HoleCause.UNREACHABLE, str(error))
                self._pause(tries.count(HoleCause.UNREACHABLE), None)
            except GoneError as error:
                if alternative + 1 < len(uris):
                    alternative += 1
                    continue
                if error.status == 403 and self._addresses.renew(generation):
                    alternative = 0
                    continue
                self._note_failure(_outage_of(error))
                if tries.used_up(HoleCause.GONE, TRIES_GONE) and self._is_alive(tries.failed_before):
                    return Hole(sequence, HoleCause.GONE, str(error))
                self._pause(tries.count(HoleCause.GONE), None)
            except SegmentDamagedError as error:
                self._note_failure(ServerError(f"The media server sends damaged segments: {error}."))
                if tries.used_up(HoleCause.DAMAGED, TRIES_DAMAGED) and self._is_alive(tries.failed_before):
                    return Hole(sequence, HoleCause.DAMAGED, str(error))
                self._pause(tries.count(HoleCause.DAMAGED), None)
            except UnsupportedMediaError:
                if tries.used_up("unsupported", TRIES_UNSUPPORTED):
                    raise
                self._pause(tries.count("unsupported"), None)
            except RateLimited as error:
                self._pace.throttled()
                if tries.used_up("throttled", TRIES_THROTTLED):
                    raise
                self._pause(tries.count("throttled"), error.delay_s)
            except (NetworkError, ServerError) as error:
                if isinstance(error, ServerError):
                    self._pace.throttled()
                self._note_failure(error)
                if tries.used_up(HoleCause.UNREACHABLE, TRIES_UNREACHABLE) and self._is_alive(tries.failed_before):
                    return Hole(sequence, HoleCause.UNREACHABLE, str(error))
                self._pause(tries.count(HoleCause.UNREACHABLE), error.delay_s)
            else:
                self._health.succeeded(asked)
                self._note_witness(segment)
                return None

    def _ask(self, segment: Segment, uri: str, host: str, hands: _Hands) -> None:
        try:
            self._keep(segment, uri, hands)
        except (HostUnreachableError, CanceledError):
            raise
        except Exception:
            self.hosts.answered(host)
            raise
        self.hosts.answered(host)

    def _look_elsewhere(self, host: str, generation: int) -> None:
        """Nobody is at ``host``: ask where the segments are now."""
        self._log.warning("media server cannot be reached", host=host)
        try:
            self._addresses.renew(generation)
        except TransientError as error:
            # The others go on with the addresses that they have.
            self._log.warning("playlist cannot be resolved again", reason=str(error))

    def _keep(self, segment: Segment, uri: str, hands: _Hands) -> None:
        buffer = self._take_buffer()
        try:
            body = self._client.fetch_body(
                uri,
                self._cancel,
                byte_range=segment.byte_range,
                part_bytes=self._part_bytes(),
                turn=partial(self._gate.turn, segment.media_sequence),
                on_answer=self._pace.answered,
                executor=hands.parts,
                allocate=buffer.part,
                on_bytes=self._received,
            )
            self._body_bytes = max(1, (self._body_bytes * 3 + len(body)) // 4)
            name = uri.split("?", 1)[0].rsplit("/", 1)[-1]
            with self._samples_held:
                samples = hands.dismantler.submit(self._dismantle, segment, body).result()
                self._append(segment, name, samples)
        finally:
            with self._lock:
                self._buffers.append(buffer)

    def _take_buffer(self) -> _Buffer:
        with self._lock:
            return self._buffers.pop() if self._buffers else _Buffer()

    def _append(self, segment: Segment, name: str, samples: SegmentSamples) -> None:
        """Make the segment count."""
        with self._appending:
            if self._cancel.is_set():  # The folder may belong to somebody else by now.
                raise CanceledError
            if not self._reel.is_begun:
                self._begin_reel(samples)
            kept = self._reel.append(segment.media_sequence, name, is_muted_name(name), samples)
        self._meter.kept(kept.size_bytes, segment.duration_us)

    def _dismantle(self, segment: Segment, body: memoryview) -> SegmentSamples:
        if segment.init is None:
            return read_transport_stream(body)
        return read_fragment(body, self._inits[segment.init.key])

    def _received(self, amount_bytes: int) -> None:
        self._meter.received(amount_bytes)
        if self._pace.received(amount_bytes):
            self._log.debug("connections", level=self._pace.level)
            self.wake()

    def _pause(self, tries: int, asked_s: float | None) -> None:
        wait_s = pause_s(self._patience, tries, asked_s)
        with self._lock:
            ended = self._lock.wait_for(lambda: self._cancel.is_set() or self._stop.is_set(), wait_s)
        if ended:
            raise CanceledError


class _Health:
    """Whether anything can be fetched at present."""

    def __init__(self, outage_s: float) -> None:
        self._outage_s = outage_s
        self._lock = threading.Lock()
        self._failures = 0
        self._failing_since = math.inf  # monotonic, as the next one
        self.last_success = -math.inf  # when it was asked for

    def succeeded(self, asked: float) -> None:
        """Something was fetched whose request was sent at ``asked``: all that an answer tells is that it was heard."""
        with self._lock:
            self._failures = 0
            self._failing_since = math.inf
            self.last_success = max(self.last_success, asked)

    def failed(self) -> float | None:
        """Count a failure; when they are too many for too long without any success, the time of the first."""
        with self._lock:
            now = time.monotonic()
            self._failures += 1
            self._failing_since = min(self._failing_since, now)
            if self._failures >= _OUTAGE_FAILURES and now - self._failing_since >= self._outage_s:
                return self._failing_since
            return None


@dataclass(frozen=True, slots=True)
class _Hands:
    """Threads that work for the segment threads."""

    parts: ThreadPoolExecutor  # each downloads a part of a body
    dismantler: ThreadPoolExecutor  # the one that takes bodies apart


class _Buffer:
    """Memory for one body after the other."""

    def __init__(self) -> None:
        self._content = bytearray()

    def part(self, size: int) -> memoryview:
        """So many bytes of it, of any content."""
        if len(self._content) < size:
            self._content = bytearray(size + size // 8)
        return memoryview(self._content)[:size]


class _Addresses:
    """Where the segments are now: the playlist's addresses, renewed when the token in them has run out."""

    _MAX_RENEWALS = 3

    def __init__(self, refresh: Callable[[], MediaPlaylist]) -> None:
        self._refresh = refresh
        self._renewing = threading.Lock()
        self._renewals = 0
        self._lock = threading.Lock()
        self._generation = 0
        self._renewed: dict[int, Segment] = {}

    def of(self, segment: Segment) -> tuple[int, tuple[str, ...]]:
        with self._lock:
            current = self._renewed.get(segment.media_sequence, segment)
            return self._generation, muted_alternatives(current)

    def renew(self, seen_generation: int) -> bool:
        """Resolve again unless another worker has just done so; False when that has been done often enough."""
        with self._renewing:
            if seen_generation < self._generation:
                return True
            if self._renewals >= self._MAX_RENEWALS:
                return False
            self._renewals += 1
            renewed = {segment.media_sequence: segment for segment in self._refresh().segments}
            with self._lock:
                self._generation += 1
                self._renewed = renewed
            return True


def _outage_of(error: GoneError) -> TransientError:
    return ServerError(f"The media server refuses one segment after the other: {error}.")
