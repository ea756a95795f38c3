"""The scenarios that come with the stand-in: ``test``, ``demo`` and ``catalog:<count>``."""

from __future__ import annotations

from datetime import UTC, datetime, time

from vodkeep_standin.faults.bandwidth import Bandwidth
from vodkeep_standin.faults.rule import Match, Rule
from vodkeep_standin.media.recipe import Recipe, Span
from vodkeep_standin.scenario import ids, titles
from vodkeep_standin.scenario.model import Channel, Chapter, Muting, Recording, Scenario, Video, days
from vodkeep_standin.scenario.synthetic import SyntheticCatalog

TEST_ANCHOR = datetime(2026, 11, 1, 18, 0, tzinfo=UTC)
"""The ``test`` scenario always plays at the same time, so its answers never change."""


def scenario_named(name: str, *, seed: int = 1, today: datetime | None = None) -> Scenario:
    """A built-in scenario. ``today`` dates the demo's videos. Raises ``ValueError`` for an unknown name."""
    kind, _, argument = name.partition(":")
    if name == "test":
        return scenario_for_tests(seed=seed)
    if name == "demo":
        return demo_scenario(seed=seed, today=today)
    if kind == "catalog" and argument.isdecimal() and int(argument) > 0:
        return catalog_scenario(int(argument), seed=seed)
    raise ValueError(f"unknown scenario {name!r}: expected test, demo or catalog:<count>")


def scenario_for_tests(*, seed: int = 1) -> Scenario:
    """Two channels with one video per peculiarity; media of 20 to 30 seconds."""
    plain = Recipe()
    tall = (Chapter(0, "Celeste"), Chapter(10, "Hollow Knight"), Chapter(22, "Just Chatting"))
    day = TEST_ANCHOR

    def video(video_id: str, title: str, age_days: float, recipe: Recipe = plain, **rest: object) -> Video:
        return Video(
            id=video_id,
            channel=ids.CHANNEL,
            title=title,
            created_at=day - days(age_days),
            recipe=recipe,
            stream_id=str(41_000_000_000 + int(video_id) % 1000),
            **rest,  # type: ignore[arg-type]
        )

    muted = Recipe(muted=(Span(8, 8),), tone_hz=520)
    videos = [
        video(ids.RECORDING, "Still going", 0, recording=Recording(head_s=10)),
        video(ids.PLAIN, "A plain evening", 1, chapters=tall, description="Nothing went wrong."),
        video(ids.MUTED, "Muted music", 2, muted),
        video(ids.UNMUTED_NAMES, "Muted music, old playlist", 3, muted, muting=Muting.UNMUTED_NAMES),
        video(ids.DISCONTINUITY, "Encoder fell over", 4, Recipe(runs_s=(12, 10))),
        video(ids.FMP4, "Newer codec", 5, Recipe(runs_s=(20,), codec="hevc", width=426, height=240)),
        video(ids.SUB_ONLY, "Subscribers only", 6, sub_only=True),
        video(ids.DELETED, "Deleted meanwhile", 7, deleted=True),
        video(ids.MISSING_SEGMENT, "One segment is gone", 8, missing_segments=frozenset({6})),
        *(
            video(video_id, title, 9 + number)
            for number, (video_id, title) in enumerate(zip(ids.HOSTILE, titles.HOSTILE, strict=True))
        ),
        Video(ids.OTHER_PLAIN, ids.OTHER_CHANNEL, "Another channel", day - days(1.5), plain, "41000000920"),
        Video(ids.HIGHLIGHT, ids.OTHER_CHANNEL, "A highlight", day - days(2.5), plain, type="highlight"),
    ]
    return Scenario.of("test", _channels(), videos, seed=seed)


def demo_scenario(*, seed: int = 1, today: datetime | None = None) -> Scenario:
    """A believable evening: media of one to three minutes behind a line slow enough to watch the progress."""
    midnight = datetime.combine((today or datetime.now(UTC)).date(), time(), tzinfo=UTC)

    def media(*runs_s: int, hue_degrees: int, tone_hz: int = 440, muted: tuple[Span, ...] = ()) -> Recipe:
        return Recipe(runs_s, segment_s=4, hue_degrees=hue_degrees, tone_hz=tone_hz, muted=muted)

    def video(number: int, title: str, age_days: float, recipe: Recipe, **rest: object) -> Video:
        return Video(
            id=str(2_700_000_000 + number),
            channel=ids.CHANNEL,
            title=title,
            created_at=midnight - days(age_days),
            recipe=recipe,
            stream_id=str(42_000_000_000 + number),
            **rest,  # type: ignore[arg-type]
        )

    evening = media(90, hue_degrees=200, tone_hz=330)
    videos = [
        video(
            1,
            "Blind run: the lighthouse chapter",
            0.2,
            media(60, hue_degrees=20),
            chapters=(Chapter(0, "Just Chatting"), Chapter(15, "Hollow Knight"), Chapter(45, "Celeste")),
            description="First time through, no spoilers please.",
        ),
        video(
            2,
            "Co-op night with friends 🎮",
            1.1,
            evening,
            chapters=(Chapter(0, "It Takes Two"), Chapter(70, "Overcooked! 2")),
        ),
        video(
            3,
            "Rhythm games (some songs muted)",
            2.2,
            media(64, hue_degrees=300, muted=(Span(20, 16), Span(56, 8))),
        ),
        video(4, "Power cut in the middle", 3.1, media(28, 36, hue_degrees=120)),
        video(
            5,
            "Testing the new HEVC encoder",
            4.2,
            Recipe(runs_s=(32,), codec="hevc", segment_s=4, width=426, height=240),
        ),
        video(6, "Late night stream, live right now", 0, evening, recording=Recording(head_s=20, ends=True)),
        video(7, "Subscriber movie night", 5.2, evening, sub_only=True),
        video(8, "Deleted by the streamer", 6.1, evening, deleted=True),
        video(
            9,
            "Damaged on Twitch's side",
            7.3,
            media(60, hue_degrees=20),
            missing_segments=frozenset({5}),
        ),
        video(10, titles.MARKUP, 8.1, media(60, hue_degrees=20)),
        Video("2700000020", ids.OTHER_CHANNEL, "Retro corner: week 12", midnight - days(0.7), evening, "42000000020"),
    ]
    line = Rule(fault=Bandwidth(per_connection=600_000.0, total=2_500_000.0), match=Match(path="/edge/*"))
    return Scenario.of("demo", _channels(), videos, seed=seed, faults=(line,))


def catalog_scenario(count: int, *, seed: int = 1) -> Scenario:
    """One channel with ``count`` synthetic videos."""
    source = SyntheticCatalog(ids.CHANNEL, count, TEST_ANCHOR, seed=seed)
    return Scenario.of(f"catalog:{count}", _channels(), sources=(source,), seed=seed)


def _channels() -> list[Channel]:
    return [
        Channel(ids.CHANNEL_ID, ids.CHANNEL, "Lumen_Plays", "Cosy games and the odd speedrun."),
        Channel(ids.OTHER_CHANNEL_ID, ids.OTHER_CHANNEL, "静かなアーケード", "Retro.", "affiliate", language="ja"),
    ]
