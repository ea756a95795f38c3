"""What the pipeline counts and measures."""

from __future__ import annotations

from typing import Protocol


class PipelineMetrics(Protocol):
    """The pipeline's side of the service's metrics; ``channel`` is a login, durations are seconds."""

    def downloads_started(self, channel: str) -> None:
        """A download attempt begins; one resumed after a kill begins again."""
        ...

    def downloads_succeeded(self, channel: str) -> None:
        """A download is verified and in its folder."""
        ...

    def downloads_failed(self, channel: str) -> None:
        """A download attempt ended in ``failed`` or ``parked``."""
        ...

    def download_duration(self, channel: str, seconds: float) -> None:
        """How long a successful attempt captured and verified."""
        ...

    def total_duration(self, channel: str, seconds: float) -> None:
        """How long a successful attempt took from claim to the end of its last stage."""
        ...

    def uploads_succeeded(self, channel: str) -> None:
        """YouTube has every byte of an item."""
        ...

    def uploads_failed(self, channel: str) -> None:
        """An upload attempt failed; a used-up limit or a missing account is no failure."""
        ...

    def upload_duration(self, channel: str, seconds: float) -> None:
        """How long the attempt took that ended an upload."""
        ...

    def cycle(self, channel: str) -> None:
        """One processing cycle has run for the channel."""
        ...

    def queue_depth(self, channel: str, depth: int) -> None:
        """How many of the channel's items are unprocessed."""
        ...

    def circuit_open(self, channel: str, is_open: bool) -> None:
        """Whether the channel's breaker holds work back."""
        ...

    def circuit_opened(self, channel: str) -> None:
        """The channel's breaker opened, or opened again; counted by the process whose attempt did it."""
        ...


class NoMetrics:
    """Counts nothing; for one-shot commands."""

    def downloads_started(self, channel: str) -> None:
        """Do nothing."""

    def downloads_succeeded(self, channel: str) -> None:
        """Do nothing."""

    def downloads_failed(self, channel: str) -> None:
        """Do nothing."""

    def download_duration(self, channel: str, seconds: float) -> None:
        """Do nothing."""

    def total_duration(self, channel: str, seconds: float) -> None:
        """Do nothing."""

    def uploads_succeeded(self, channel: str) -> None:
        """Do nothing."""

    def uploads_failed(self, channel: str) -> None:
        """Do nothing."""

    def upload_duration(self, channel: str, seconds: float) -> None:
        """Do nothing."""

    def cycle(self, channel: str) -> None:
        """Do nothing."""

    def queue_depth(self, channel: str, depth: int) -> None:
        """Do nothing."""

    def circuit_open(self, channel: str, is_open: bool) -> None:
        """Do nothing."""

    def circuit_opened(self, channel: str) -> None:
        """Do nothing."""
