"""Catalogues of any size, made on demand."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from vodkeep_standin.media.recipe import Recipe
from vodkeep_standin.scenario.model import Video

_TOPICS = ("Ranked grind", "Chill stream", "First playthrough", "Speedrun practice", "Viewer games", "Just talking")


@dataclass(frozen=True, slots=True)
class SyntheticCatalog:
    """``count`` videos of one channel, one every ``every``, the newest at ``newest_at``.

    Nothing is stored, so 100,000 cost nothing. Lengths (30 minutes to 11 hours) are only listed: what can be played
    is the recipe's media.
    """

    channel: str
    count: int
    newest_at: datetime
    every: timedelta = timedelta(hours=20)
    first_id: int = 1_000_000_000
    """Id of the oldest video; ids grow with time."""
    seed: int = 1
    recipe: Recipe = field(default_factory=Recipe)

    def __len__(self) -> int:
        return self.count

    def at(self, index: int) -> Video:
        """The video at ``index``, 0 being the newest."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        number = self.first_id + self.count - 1 - index
        chance = random.Random(f"{self.seed}/{number}")
        return Video(
            id=str(number),
            channel=self.channel,
            title=f"{chance.choice(_TOPICS)} #{self.count - index}",
            created_at=self.newest_at - self.every * index,
            recipe=self.recipe,
            stream_id=str(40_000_000_000 + number),
            view_count=chance.randrange(10, 50_000),
            listed_duration_s=chance.randrange(1_800, 39_600),
        )

    def newer_than(self, moment: datetime) -> int:
        """How many videos were created strictly after ``moment``."""
        if moment >= self.newest_at:
            return 0
        return min(self.count, -((moment - self.newest_at) // self.every))

    def find(self, video_id: str) -> Video | None:
        """The video of this id."""
        if not video_id.isdecimal() or len(video_id) > 18:
            return None
        index = self.first_id + self.count - 1 - int(video_id)
        return self.at(index) if 0 <= index < self.count else None
