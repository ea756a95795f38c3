from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vodkeep.errors import SettingsError
from vodkeep.settings import (
    HttpAddress,
    PipelineSettings,
    Settings,
    Source,
    declared_variables,
    describe,
    load_settings,
)

KEY = base64.b64encode(bytes(range(32))).decode()


def problems(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load_settings(environ)
    return refused.value.problems


def test_without_any_variable_everything_has_its_default() -> None:
    settings = load_settings({})
    assert settings.twitch.channels == ()
    assert settings.twitch.api_url == "https://api.twitch.tv/helix"
    assert settings.chat.auto_start is False
    assert settings.chat.auto_poll_interval == timedelta(seconds=30)
    assert settings.chat.reconcile_delay == timedelta(minutes=1)
    assert settings.chat.reconcile_window == timedelta(minutes=15)
    assert (settings.chat.vod_id, settings.chat.vod_start) == (None, None)
    assert settings.twitch.irc_url == "ircs://irc.chat.twitch.tv:6697"
    assert settings.catalog.backfill_interval == timedelta(hours=6)
    assert settings.catalog.max_vods is None
    assert settings.catalog.max_age_days is None
    assert settings.storage.data_dir == Path("data")
    assert settings.storage.folder_template == "{channel}/{date} {title} [{id}]"
    assert str(settings.database.url()) == "sqlite:///data/vodkeep.db"
    assert (settings.web.http_host, settings.web.http_port) == ("", 8080)
    pipeline = settings.pipeline
    assert pipeline.process_interval == timedelta(minutes=1)
    assert pipeline.max_concurrent_downloads == 1
    assert pipeline.download_max_attempts == 5
    assert pipeline.download_backoff_base == timedelta(seconds=2)
    assert pipeline.download_rate_limit is None
    assert pipeline.retry_cooldown == timedelta(minutes=10)
    assert pipeline.breaker_threshold == 5
    assert pipeline.breaker_cooldown == timedelta(minutes=5)
    assert pipeline.capture_connections == 32
    assert (settings.uploads.enabled, settings.uploads.ownership) == (False, None)
    assert (settings.uploads.daily_limit, settings.uploads.backfill_daily_limit) == (10, 10)
    assert (settings.log.level, settings.log.format) == ("info", "text")
    assert settings.warnings == ()


def test_every_default_is_written_in_its_own_form() -> None:
    settings = load_settings({})
    for variable in declared_variables():
        if variable.default:
            again = load_settings({variable.name: variable.default})
            assert again.model_dump() == settings.model_dump(), variable.name


def test_an_empty_variable_counts_as_not_set() -> None:
    names = [variable.name for variable in declared_variables()]
    settings = load_settings(dict.fromkeys(names, " "))
    assert settings.model_dump() == load_settings({}).model_dump()
    assert {settings.source_of(name) for name in names} == {Source.DEFAULT}


@pytest.mark.parametrize(
    ("name", "text", "read", "value"),
    [
        ("TWITCH_CHANNEL", "#SomeOne", lambda s: s.twitch.channel, "someone"),
        ("TWITCH_CHANNEL", "https://www.twitch.tv/SomeOne/videos?filter=all", lambda s: s.twitch.channel, "someone"),
        ("TWITCH_CHANNEL", "xqc", lambda s: s.twitch.channel, "xqc"),
        ("TWITCH_CHANNELS", " one, TWO ,,@one", lambda s: s.twitch.channels, ("one", "two")),
        ("TWITCH_API_URL", "http://127.0.0.1:8123/helix/", lambda s: s.twitch.api_url, "http://127.0.0.1:8123/helix"),
        ("CHAT_AUTO_START", "Yes", lambda s: s.chat.auto_start, True),
        ("CHAT_AUTO_START", "off", lambda s: s.chat.auto_start, False),
        ("VOD_RECONCILE_DELAY", "0", lambda s: s.chat.reconcile_delay, timedelta(0)),
        ("TWITCH_IRC_URL", "irc://127.0.0.1:6667", lambda s: s.twitch.irc_url, "irc://127.0.0.1:6667"),
        ("TWITCH_IRC_URL", "ircs://[::1]:6697", lambda s: s.twitch.irc_url, "ircs://[::1]:6697"),
        ("VOD_CATALOG_MAX", "0", lambda s: s.catalog.max_vods, None),
        ("VOD_CATALOG_MAX", "250", lambda s: s.catalog.max_vods, 250),
        ("RETENTION_KEEP_DAYS", "0", lambda s: s.retention.keep_days, None),
        ("BACKFILL_UPLOAD_DAILY_LIMIT", "0", lambda s: s.uploads.backfill_daily_limit, 0),
        ("UPLOAD_PART_DURATION", "90s", lambda s: s.uploads.part_duration, timedelta(seconds=90)),
        ("UPLOAD_PART_SIZE", "256GB", lambda s: s.uploads.part_size, 256 * 10**9),
        ("UPLOAD_PART_SIZE", "64MiB", lambda s: s.uploads.part_size, 64 * 1024 * 1024),
        ("YOUTUBE_DESCRIPTION", r"{url}\n{date}", lambda s: s.videos.description_template, "{url}\n{date}"),
        ("YOUTUBE_DESCRIPTION", "{url}\r\n{date}", lambda s: s.videos.description_template, "{url}\n{date}"),
        ("YOUTUBE_TAGS", "Twitch, {name} ,", lambda s: s.videos.tags, ("Twitch", "{name}")),
        ("YOUTUBE_PLAYLIST", "https://www.youtube.com/playlist?list=PLabcdefghijklm&si=x",
         lambda s: s.videos.playlist, "PLabcdefghijklm"),
        ("YOUTUBE_PRIVACY", "Public", lambda s: s.videos.privacy, "public"),
        ("YOUTUBE_PRIVACY_CHANNELS", "One=unlisted,two = public", lambda s: s.videos.channel_privacies,
         (("one", "unlisted"), ("two", "public"))),
        ("YOUTUBE_LANGUAGE", "pt-BR", lambda s: s.videos.language, "pt-BR"),
        ("DATA_DIR", "/srv/vods", lambda s: s.database.url().database, "/srv/vods/vodkeep.db"),
        ("DATA_DIR", "~/vods", lambda s: s.storage.data_dir, Path.home() / "vods"),
        ("HTTP_ADDR", "127.0.0.1:0", lambda s: s.web.http_addr, HttpAddress("127.0.0.1", 0)),
        ("HTTP_ADDR", "[::1]:9000", lambda s: s.web.http_addr, HttpAddress("::1", 9000)),
        ("HTTP_ADDR", "*:80", lambda s: s.web.http_addr, HttpAddress("", 80)),
        ("DOWNLOAD_RATE_LIMIT", "10MB", lambda s: s.pipeline.download_rate_limit, 10_000_000),
        ("DOWNLOAD_RATE_LIMIT", "2M", lambda s: s.pipeline.download_rate_limit, 2_000_000),
        ("DOWNLOAD_RATE_LIMIT", "500k", lambda s: s.pipeline.download_rate_limit, 500_000),
        ("DOWNLOAD_RATE_LIMIT", "1.5mb/s", lambda s: s.pipeline.download_rate_limit, 1_500_000),
        ("DOWNLOAD_RATE_LIMIT", "2MiB", lambda s: s.pipeline.download_rate_limit, 2 * 1024 * 1024),
        ("DOWNLOAD_RATE_LIMIT", "250000", lambda s: s.pipeline.download_rate_limit, 250_000),
        ("UPLOAD_RATE_LIMIT", "2MB", lambda s: s.uploads.rate_limit, 2_000_000),
        ("UPLOAD_CHUNK_SIZE", "8MiB", lambda s: s.uploads.chunk_size, 8 * 1024 * 1024),
        ("CAPTURE_CONNECTIONS", "8", lambda s: s.pipeline.capture_connections, 8),
        ("YTDLP_ARGS", "--proxy 'http://a b'", lambda s: s.tools.ytdlp_args, ("--proxy", "http://a b")),
        ("CORS_ALLOWED_ORIGINS", "https://A.org/, http://b:81", lambda s: s.web.cors_allowed_origins,
         ("https://a.org", "http://b:81")),
        ("YT_SCOPES", "a, b c", lambda s: s.youtube.scopes, ("a", "b", "c")),
        ("LOG_LEVEL", "WARN", lambda s: s.log.level, "warning"),
        ("LOG_FORMAT", "JSON", lambda s: s.log.format, "json"),
        ("ENCRYPTION_KEY", KEY, lambda s: s.security.encryption_key_bytes(), bytes(range(32))),
        ("ENCRYPTION_KEY", KEY.rstrip("="), lambda s: s.security.encryption_key_bytes(), bytes(range(32))),
        ("ENCRYPTION_KEY", bytes(range(32)).hex(), lambda s: s.security.encryption_key_bytes(), bytes(range(32))),
        ("ENCRYPTION_KEY", base64.urlsafe_b64encode(b"\xff" * 32).decode(),
         lambda s: s.security.encryption_key_bytes(), b"\xff" * 32),
        ("TWITCH_OAUTH_TOKEN", "oauth:abcdef123", lambda s: s.twitch.oauth_token.get_secret_value(), "abcdef123"),
    ],
)  # fmt: skip
def test_good_values_are_read(name: str, text: str, read: Callable[[Settings], object], value: object) -> None:
    assert read(load_settings({name: text})) == value


MANUAL = {"TWITCH_CHANNEL": "one", "TWITCH_VOD_ID": "123", "TWITCH_VOD_START": "2026-11-23T14:37:00Z"}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T14:37:00Z", datetime(2026, 11, 23, 14, 37, tzinfo=UTC)),
        ("2026-11-23 15:37+01:00", datetime(2026, 11, 23, 14, 37, tzinfo=UTC)),
        ("2026-11-23t14:37:00.25z", datetime(2026, 11, 23, 14, 37, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_with_its_zone(text: str, moment: datetime) -> None:
    assert load_settings(MANUAL | {"TWITCH_VOD_START": text}).chat.vod_start == moment


@pytest.mark.parametrize(
    "text", ["2026-11-23T14:37:00", "2026-13-01T00:00:00Z", "now", "14:37Z", "0001-01-01T00:00+23:59"]
)
def test_a_moment_that_is_none_is_told_in_one_sentence(text: str) -> None:
    (told,) = problems(**MANUAL | {"TWITCH_VOD_START": text})
    assert told.startswith(f'TWITCH_VOD_START is "{text}" but must be a time with its zone')


def test_an_address_is_no_vod_id() -> None:
    (told,) = problems(**MANUAL | {"TWITCH_VOD_ID": "https://www.twitch.tv/videos/123"})
    assert told.endswith("but must be the id of a Twitch VOD, such as 2345678901 (the digits of its address).")


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("TWITCH_VOD_START", "TWITCH_VOD_ID is set but TWITCH_VOD_START is not; they belong together."),
        ("TWITCH_VOD_ID", "TWITCH_VOD_START is set but TWITCH_VOD_ID is not; they belong together."),
        ("TWITCH_CHANNEL", "TWITCH_VOD_ID is set but TWITCH_CHANNEL is not; it says whose chat is recorded."),
    ],
)
def test_recording_into_a_vod_needs_all_three(missing: str, sentence: str) -> None:
    assert problems(**{name: text for name, text in MANUAL.items() if name != missing}) == [sentence]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("LOG_LEVEL", "loud", 'LOG_LEVEL is "loud" but must be one of debug, info, warning, error.'),
        ("LOG_FORMAT", "xml", 'LOG_FORMAT is "xml" but must be one of text, json.'),
        ("VOD_PROCESS_INTERVAL", "5 minutes",
         'VOD_PROCESS_INTERVAL is "5 minutes" but must be a duration such as 30s, 5m, 6h or 1h30m.'),
        ("VOD_PROCESS_INTERVAL", "30", "unit, such as 30s or 30m."),
        ("VOD_PROCESS_INTERVAL", "0", "at least 10ms."),
        ("VOD_PROCESS_INTERVAL", "9999999h", "at most 87600h."),
        ("MAX_CONCURRENT_DOWNLOADS", "0", "whole number from 1 to 64."),
        ("DOWNLOAD_MAX_ATTEMPTS", "-1", '"-1" but must be a whole number'),
        ("DOWNLOAD_MAX_ATTEMPTS", "9" * 5000, "must be a whole number"),
        ("DOWNLOAD_MAX_ATTEMPTS", "1_0", "must be a whole number"),
        ("DOWNLOAD_MAX_ATTEMPTS", "٣", "must be a whole number"),
        ("CAPTURE_CONNECTIONS", "33", "whole number from 1 to 32."),
        ("VOD_CATALOG_MAX", "-5", "must be a whole number from 0"),
        ("DOWNLOAD_RATE_LIMIT", "10Mb", "bytes per second such as"),
        ("DOWNLOAD_RATE_LIMIT", "fast", "bytes per second such as"),
        ("UPLOAD_CHUNK_SIZE", "1MB", "multiple of 256KiB"),
        ("UPLOAD_CHUNK_SIZE", "2GiB", "at most 1GiB"),
        ("DOWNLOAD_RATE_LIMIT", "10", "write the unit"),
        ("DOWNLOAD_RATE_LIMIT", "999999999GB", "between 10K and 1000G"),
        ("CHAT_AUTO_START", "maybe", 'CHAT_AUTO_START is "maybe" but must be 1 or 0'),
        ("TWITCH_CHANNEL", "one,two", "several belong into TWITCH_CHANNELS."),
        ("TWITCH_CHANNEL", "https://www.twitch.tv/videos/123", "which this address is not."),
        ("TWITCH_CHANNELS", "ok,twitch.tv/videos/123", 'which "twitch.tv/videos/123" is not.'),
        ("TWITCH_CHANNEL", "some-one", "must be a Twitch login"),
        ("TWITCH_CHANNEL", "a" * 26, "must be a Twitch login"),
        ("TWITCH_CHANNELS", "good,b@d", 'which "b@d" is not.'),
        ("TWITCH_API_URL", "api.twitch.tv", "must be a web address such as"),
        ("TWITCH_API_URL", "https://", "must be a web address such as"),
        ("TWITCH_API_URL", "https://h:99999/", "must be a web address such as"),
        ("TWITCH_API_URL", "https://ho st/", "must be a web address such as"),
        ("TWITCH_API_URL", "https://[::1", "must be a web address such as"),
        ("TWITCH_API_URL", "https://h/?x=1", "without ? and #."),
        ("TWITCH_IRC_URL", "https://irc.chat.twitch.tv", "must be a chat address such as ircs://"),
        ("TWITCH_IRC_URL", "ircs://irc.chat.twitch.tv", "must be a chat address such as ircs://"),
        ("TWITCH_IRC_URL", "ircs://:6697", "with a host and a port."),
        ("TWITCH_IRC_URL", "ircs://h:0", "with a host and a port."),
        ("TWITCH_IRC_URL", "ircs://h:99999", "with a port from 0 to 65535."),
        ("TWITCH_IRC_URL", "ircs://me:pw@h:6697", "must be a chat address such as ircs://"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://h", "must be a web address such as"),
        ("HTTP_ADDR", "8080", "must be host:port or :port"),
        ("HTTP_ADDR", ":http", "must be host:port or :port"),
        ("HTTP_ADDR", ":65536", "with a port from 0 to 65535."),
        ("HTTP_ADDR", "::1:8080", "must be host:port or :port"),
        ("HTTP_ADDR", "[zz]:8080", "must be host:port or :port"),
        ("HTTP_ADDR", "http://h:80", "must be host:port or :port"),
        ("DB_DSN", "mysql://u:p@h/x", "must begin with postgres://"),
        ("DB_DSN", "postgres://u:p@h:99999/x", "port between 1 and 65535."),
        ("ENCRYPTION_KEY", base64.b64encode(b"x" * 16).decode(), "this one has 16 bytes."),
        ("ENCRYPTION_KEY", "not a key!", "32 bytes, written as base64 or as 64 hex digits."),
        ("ENCRYPTION_KEY", "ü" * 43, "32 bytes, written as base64 or as 64 hex digits."),
        ("ADMIN_TOKEN", "short", "at least 8 characters."),
        ("TWITCH_OAUTH_TOKEN", "oauth:", "must be a Twitch token"),
        ("CORS_ALLOWED_ORIGINS", "https://ok.org,https://h/path", 'which "https://h/path" is not.'),
        ("FOLDER_TEMPLATE", "{channel}/{game} [{id}]", "not {game}."),
        ("FOLDER_TEMPLATE", "{channel}/{title}", "must contain {id}"),
        ("FOLDER_TEMPLATE", "{id} {title", "braces in pairs"),
        ("FOLDER_TEMPLATE", "{id:>20}", "without : or ! inside the braces."),
        ("FOLDER_TEMPLATE", "{id.__class__}", "not {id.__class__}."),
        ("FOLDER_TEMPLATE", "/srv/{id}", "relative path below DATA_DIR"),
        ("FOLDER_TEMPLATE", "../{id}", "relative path below DATA_DIR"),
        ("FOLDER_TEMPLATE", "{channel}\\{id}", "relative path below DATA_DIR"),
        ("FOLDER_TEMPLATE", ".work/{id}", "must not begin with .work"),
        ("FOLDER_TEMPLATE", "é" * 100 + "{id}", "at most 200 bytes."),
        ("YTDLP_ARGS", "--proxy 'http://h", "every quote closed."),
        ("YOUTUBE_UPLOAD_OWNERSHIP", "mine", "must be one of self, authorized."),
        ("UPLOAD_PART_SIZE", "256", "must be a size in bytes such as"),
        ("UPLOAD_PART_SIZE", "0GB", "must be a size in bytes such as"),
        ("YOUTUBE_TITLE", "{title} {game}", "not {game}."),
        ("YOUTUBE_TITLE", "{chapters}", "not {chapters}."),
        ("YOUTUBE_TITLE", "{title!r}", "without : or ! inside the braces."),
        ("YOUTUBE_DESCRIPTION", "{descripton}", "not {descripton}."),
        ("YOUTUBE_DESCRIPTION", "{", "braces in pairs"),
        ("YOUTUBE_TAGS", "a,{b}", "not {b}."),
        ("YOUTUBE_PLAYLIST", "my list", "must be the id of a playlist of YouTube"),
        ("YOUTUBE_PLAYLIST_CHANNELS", "one=x", 'has "one=x" in it, which must be the id of a playlist'),
        ("YOUTUBE_PRIVACY", "hidden", "must be one of private, unlisted, public."),
        ("YOUTUBE_PRIVACY_CHANNELS", "one", "must be channels with a privacy each"),
        ("YOUTUBE_PRIVACY_CHANNELS", "one=public,One=private", "must name one privacy for one"),
        ("YOUTUBE_CATEGORY", "Gaming", "must be the number of a category"),
        ("YOUTUBE_LANGUAGE", "English", "must be a language such as"),
        ("DATA_DIR", "~nobody-of-that-name/x", "the user after ~ is not known"),
        ("DATA_DIR", "a\x00b", "DATA_DIR holds control characters"),
        ("DATA_DIR", "a\udcff", "bytes that are not UTF-8."),
    ],
)  # fmt: skip
def test_a_bad_value_is_told_in_one_sentence(name: str, text: str, sentence: str) -> None:
    (told,) = problems(**{name: text})
    assert told.startswith(f"{name} ")
    assert sentence in told
    assert told.count("\n") == 0
    assert told.endswith(".")
    assert len(told) < 400
    assert not re.search(r"(?i)pydantic|validation|input_value|errors\.", told)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"TWITCH_CLIENT_ID": "abc"}, "TWITCH_CLIENT_ID is set but TWITCH_CLIENT_SECRET is not; they belong together."),
        ({"TWITCH_CLIENT_SECRET": "abcd"}, "TWITCH_CLIENT_SECRET is set but TWITCH_CLIENT_ID is not"),
        ({"YT_CLIENT_ID": "abc"}, "YT_CLIENT_ID is set but YT_CLIENT_SECRET is not"),
        ({"ADMIN_USERNAME": "me"}, "ADMIN_USERNAME is set but ADMIN_PASSWORD is not"),
        ({"ADMIN_PASSWORD": "correct horse"}, "ADMIN_PASSWORD is set but ADMIN_USERNAME is not"),
        ({"YOUTUBE_UPLOAD_ENABLED": "1"}, "YOUTUBE_UPLOAD_OWNERSHIP is not set; it must be self or authorized."),
    ],
)
def test_settings_that_contradict_each_other_are_told(environ: dict[str, str], sentence: str) -> None:
    (told,) = problems(**environ)
    assert sentence in told


def test_all_problems_are_told_at_once_in_the_order_of_the_documentation() -> None:
    told = problems(
        LOG_LEVEL="loud",
        VOD_PROCESS_INTERVAL="5 minutes",
        MAX_CONCURRENT_DOWNLOADS="-1",
        TWITCH_CLIENT_ID="abc",
        DB_DSN="x",
        ENCRYPTION_KEY="short",
        YOUTUBE_UPLOAD_ENABLED="1",
    )
    assert [sentence.split()[0] for sentence in told] == [
        "TWITCH_CLIENT_ID",
        "DB_DSN",
        "VOD_PROCESS_INTERVAL",
        "MAX_CONCURRENT_DOWNLOADS",
        "YOUTUBE_UPLOAD_ENABLED",
        "ENCRYPTION_KEY",
        "LOG_LEVEL",
    ]


def test_marks_that_turn_the_writing_direction_are_shown_as_escapes() -> None:
    (told,) = problems(LOG_LEVEL="in\u202efo")
    assert '"in\\u202efo"' in told


@given(
    st.dictionaries(
        st.sampled_from([variable.name for variable in declared_variables()]), st.text(max_size=40), max_size=8
    )
)
def test_whatever_the_environment_holds_the_answer_is_settings_or_sentences(environ: dict[str, str]) -> None:
    told: list[str] = []
    try:
        load_settings(environ)
    except SettingsError as error:
        told = error.problems
    assert all(re.match(r"[A-Z_]+ ", sentence) and sentence.endswith(".") for sentence in told)
    assert "\n" not in "".join(told)


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("VOD_PROCES_INTERVAL", "did you mean VOD_PROCESS_INTERVAL?"),
        ("TWITCH_CHANEL", "did you mean TWITCH_CHANNEL?"),
        ("twitch_channel", "did you mean TWITCH_CHANNEL?"),
        ("DB_DNS", "did you mean DB_DSN?"),
        ("VODKEEP_ENVFILE", "did you mean VODKEEP_ENV_FILE?"),
        ("RATE_LIMIT_WINDOW_SECONDS", "did you mean RATE_LIMIT_WINDOW?"),
        ("RETENTION_FOREVER", "RETENTION_FOREVER is not a setting and is ignored."),
    ],
)
def test_a_name_that_nobody_reads_is_warned_about(name: str, warning: str) -> None:
    (told,) = load_settings({name: "1"}).warnings
    assert warning in told
    assert told.startswith(f"{name} is not a setting")


def test_other_programs_variables_are_left_alone() -> None:
    foreign = ["PATH", "HTTP_PROXY", "DATA_HOME", "LOG_DIR", "OTEL_SERVICE_NAME", "POSTGRES_PASSWORD", "PWD", "_"]
    assert load_settings(dict.fromkeys(foreign, "x")).warnings == ()


def test_a_half_that_only_does_nothing_is_warned_about() -> None:
    assert "chat is read anonymously" in load_settings({"TWITCH_BOT_USERNAME": "bot_name"}).warnings[0]
    environ = {"YOUTUBE_UPLOAD_ENABLED": "1", "YOUTUBE_UPLOAD_OWNERSHIP": "self"}
    assert "nothing can be uploaded" in load_settings(environ).warnings[0]
    assert "YT_SCOPES" in load_settings({"YOUTUBE_PLAYLIST": "PLabcdefghijklm", "YT_SCOPES": "a"}).warnings[0]
    scope = "https://www.googleapis.com/auth/youtube"
    assert load_settings({"YOUTUBE_PLAYLIST": "PLabcdefghijklm", "YT_SCOPES": scope}).warnings == ()


def test_the_process_environment_is_not_read_behind_the_callers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "loud")
    monkeypatch.setenv("TWITCH", "{}")
    assert load_settings({}).log.level == "info"


def test_settings_cannot_be_changed_afterwards() -> None:
    settings = load_settings({})
    with pytest.raises(ValidationError):
        settings.pipeline.download_max_attempts = 6
    with pytest.raises(ValidationError):
        settings.log = settings.log


def test_a_group_can_be_made_by_field_names() -> None:
    pipeline = PipelineSettings(process_interval=timedelta(seconds=5))
    assert pipeline.process_interval == timedelta(seconds=5)
    assert pipeline.download_max_attempts == 5


def test_data_dirs_of_two_settings_do_not_mix() -> None:
    one, two = load_settings({"DATA_DIR": "/one"}), load_settings({"DATA_DIR": "/two"})
    assert [settings.database.url().database for settings in (one, two)] == ["/one/vodkeep.db", "/two/vodkeep.db"]


def test_qualities_count_everywhere_but_where_a_channel_has_its_own() -> None:
    settings = load_settings({"VOD_QUALITY": "1080P60", "VOD_QUALITY_CHANNELS": " #Otter = audio, heron=720p ,"})
    qualities = settings.pipeline.qualities
    assert [str(qualities.of(login)) for login in ("otter", "heron", "stork")] == ["audio", "720p", "1080p60"]
    (row,) = [row for row in describe(settings) if row.name == "VOD_QUALITY_CHANNELS"]
    assert row.value_masked == "otter=audio,heron=720p"
    assert str(load_settings({}).pipeline.qualities.of("otter")) == "best"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("VOD_QUALITY", "hd", "must be best, audio, or a height such as 720p, 1080p60 or 480p30"),
        (
            "VOD_QUALITY_CHANNELS",
            "otter",
            'must be channels with a quality each, such as "somebody=audio,another=720p60"',
        ),
        ("VOD_QUALITY_CHANNELS", "otter=hd", 'has "otter=hd" in it, which must be best, audio'),
        ("VOD_QUALITY_CHANNELS", "ot ter=720p", 'has "ot ter=720p" in it, which must be a Twitch login'),
        ("VOD_QUALITY_CHANNELS", "otter=720p,OTTER=480p", "must name one quality for otter, not 720p and 480p"),
    ],
)
def test_a_quality_that_is_none_stops_the_start(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({name: value})
    (problem,) = refused.value.problems
    assert problem.startswith(f'{name} is "{value}" but {words}')
