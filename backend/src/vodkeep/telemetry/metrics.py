"""The Prometheus metrics of the service.

The names are an interface (``docs/operations.md``): dashboards and alerts are built on them. Every
series carries ``channel``. Each instance owns its registry, so that two services (or two tests) in one
process share nothing. Methods are thread-safe and never block on I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# Seconds. A clip takes one, a 12-hour broadcast on a slow line most of a day; about three bounds per decade
# below an hour, then the durations people reason with: 1, 2, 4, 6, 8, 12, 18 and 24 hours.
DURATION_BUCKETS_S = (
    1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800,
    3600, 7200, 14400, 21600, 28800, 43200, 64800, 86400,
)  # fmt: skip


# Seconds. A batch of chat takes milliseconds; the database is given up for the moment after half a minute.
FLUSH_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class _WithoutCreated(Collector):
    """A collector without its ``_created`` samples.

    The client library writes one more gauge per series into the text format, which would double the names on
    ``/metrics``; its own switch for that is process-wide.
    """

    def __init__(self, inner: Counter | Histogram) -> None:
        self._inner = inner

    def collect(self) -> Iterable[Metric]:
        for metric in self._inner.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric

    def describe(self) -> Iterable[Metric]:
        return self._inner.describe()


class Metrics:
    """What the pipeline counts and measures; one method per thing that can happen.

    ``channel`` is always the login in lower case. Durations are seconds.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry(auto_describe=False)
        self._started = self._counter("vod_downloads_started_total", "Download attempts begun.")
        self._succeeded = self._counter("vod_downloads_succeeded_total", "Downloads finished and verified.")
        self._failed = self._counter("vod_downloads_failed_total", "Download attempts that failed.")
        self._uploaded = self._counter("vod_uploads_succeeded_total", "Uploads finished and verified.")
        self._upload_failed = self._counter("vod_uploads_failed_total", "Upload attempts that failed.")
        self._cycles = self._counter("vod_processing_cycles_total", "Processing cycles run.")
        self._download_s = self._histogram(
            "vod_download_duration_seconds", "Time a successful download took, verification included."
        )
        self._upload_s = self._histogram("vod_upload_duration_seconds", "Time a successful upload took.")
        self._total_s = self._histogram(
            "vod_processing_total_duration_seconds", "Time from the start of the work on a VOD to its end."
        )
        self._depth = Gauge("vod_queue_depth", "VODs not processed yet.", ["channel"], registry=self.registry)
        self._open = Gauge(
            "vod_circuit_open",
            "1 while the circuit breaker holds the channel's work back, else 0.",
            ["channel"],
            registry=self.registry,
        )

        self._opened = self._counter("vod_circuit_opened_total", "Times the circuit breaker opened.")
        self._chat_recording = Gauge(
            "chat_recording", "1 while the chat of a stream is recorded.", ["channel"], registry=self.registry
        )
        self._chat_began = self._counter("chat_streams_began_total", "Streams whose chat began to be recorded.")
        self._chat_reconciled = self._counter("chat_streams_reconciled_total", "Streams that were tied to their VOD.")
        self._chat_unmatched = self._counter(
            "chat_streams_unmatched_total", "Streams without a VOD when VOD_RECONCILE_WINDOW was over."
        )
        self._chat_stored = self._counter("chat_messages_stored_total", "Messages and events of chat stored.")
        self._chat_spool = Gauge(
            "chat_spool_bytes",
            "Bytes of chat in the journal that are not in the database yet.",
            ["channel"],
            registry=self.registry,
        )
        self._chat_flush_s = self._histogram(
            "chat_flush_seconds", "Time that storing a batch of chat took.", FLUSH_BUCKETS_S
        )

    def _counter(self, name: str, text: str) -> Counter:
        counter = Counter(name, text, ["channel"], registry=None)
        self.registry.register(_WithoutCreated(counter))
        return counter

    def _histogram(self, name: str, text: str, buckets: Sequence[float] = DURATION_BUCKETS_S) -> Histogram:
        histogram = Histogram(name, text, ["channel"], registry=None, buckets=buckets)
        self.registry.register(_WithoutCreated(histogram))
        return histogram

    def expect(self, channel: str) -> None:
        """Create every series of ``channel`` at zero, so that a first event is an increase a rate can see."""
        for metric in (
            self._started,
            self._succeeded,
            self._failed,
            self._uploaded,
            self._upload_failed,
            self._cycles,
            self._download_s,
            self._upload_s,
            self._total_s,
            self._depth,
            self._open,
            self._opened,
            self._chat_recording,
            self._chat_began,
            self._chat_reconciled,
            self._chat_unmatched,
            self._chat_stored,
        ):
            metric.labels(channel=channel)
        # These are of all channels together.
        self._chat_spool.labels(channel="")
        self._chat_flush_s.labels(channel="")

    def downloads_started(self, channel: str) -> None:
        """A download attempt begins."""
        self._started.labels(channel=channel).inc()

    def downloads_succeeded(self, channel: str) -> None:
        """A download is finished, verified and in its folder."""
        self._succeeded.labels(channel=channel).inc()

    def downloads_failed(self, channel: str) -> None:
        """A download attempt ended in an error; waiting for a live broadcast is none."""
        self._failed.labels(channel=channel).inc()

    def uploads_succeeded(self, channel: str) -> None:
        """An upload is finished and verified."""
        self._uploaded.labels(channel=channel).inc()

    def uploads_failed(self, channel: str) -> None:
        """An upload attempt ended in an error."""
        self._upload_failed.labels(channel=channel).inc()

    def cycle(self, channel: str) -> None:
        """One processing cycle for the channel has run, whether or not there was something to do."""
        self._cycles.labels(channel=channel).inc()

    def download_duration(self, channel: str, seconds: float) -> None:
        """How long a successful download took."""
        self._download_s.labels(channel=channel).observe(seconds)

    def upload_duration(self, channel: str, seconds: float) -> None:
        """How long a successful upload took."""
        self._upload_s.labels(channel=channel).observe(seconds)

    def total_duration(self, channel: str, seconds: float) -> None:
        """How long the work on a VOD took from its first stage to its last."""
        self._total_s.labels(channel=channel).observe(seconds)

    def queue_depth(self, channel: str, depth: int) -> None:
        """The channel's number of VODs not processed yet."""
        self._depth.labels(channel=channel).set(depth)

    def circuit_open(self, channel: str, is_open: bool) -> None:
        """Whether the channel's circuit breaker holds work back."""
        self._open.labels(channel=channel).set(1 if is_open else 0)

    def circuit_opened(self, channel: str) -> None:
        """The channel's circuit breaker opened, for the first time or after a probe that failed."""
        self._opened.labels(channel=channel).inc()

    def chat_recording(self, channel: str, is_live: bool) -> None:
        """Whether the chat of a stream of the channel is being recorded."""
        self._chat_recording.labels(channel=channel).set(1 if is_live else 0)

    def chat_stream_began(self, channel: str) -> None:
        """A stream began, or was met for the first time."""
        self._chat_began.labels(channel=channel).inc()

    def chat_stream_reconciled(self, channel: str) -> None:
        """A stream was tied to its VOD."""
        self._chat_reconciled.labels(channel=channel).inc()

    def chat_stream_unmatched(self, channel: str) -> None:
        """The VOD of a stream was not found in time; it may still be later."""
        self._chat_unmatched.labels(channel=channel).inc()

    def chat_messages_stored(self, channel: str, count: int) -> None:
        """So many messages and events of the channel were committed."""
        self._chat_stored.labels(channel=channel).inc(count)

    def chat_spool_bytes(self, size: int) -> None:
        """What is in this process's journal and not in the database; of all channels together."""
        self._chat_spool.labels(channel="").set(size)

    def chat_flush(self, seconds: float) -> None:
        """How long one transaction with messages took; of all channels together."""
        self._chat_flush_s.labels(channel="").observe(seconds)

    def render(self) -> bytes:
        """The Prometheus text exposition format 0.0.4, served as :attr:`content_type`."""
        return generate_latest(self.registry)
