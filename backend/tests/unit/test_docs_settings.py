"""docs/configuration.md and backend/.env.example tell the truth about the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vodkeep.errors import SettingsError
from vodkeep.settings import declared_variables, load_settings
from vodkeep.settings.reference import env_example, group_titles, refreshed_page

BACKEND = Path(__file__).parents[2]
PAGE = (BACKEND.parent / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLE = (BACKEND / ".env.example").read_text(encoding="utf-8")
NAMES = [variable.name for variable in declared_variables()]

# What operators of the service rely on; a renamed variable would be silently ignored in their files.
PROMISED = [
    "TWITCH_CHANNEL", "TWITCH_CHANNELS", "TWITCH_CLIENT_ID", "TWITCH_CLIENT_SECRET", "TWITCH_BOT_USERNAME",
    "TWITCH_OAUTH_TOKEN", "CHAT_AUTO_START", "CHAT_AUTO_POLL_INTERVAL", "VOD_RECONCILE_DELAY",
    "VOD_RECONCILE_WINDOW", "TWITCH_VOD_ID", "TWITCH_VOD_START", "TWITCH_IRC_URL",
    "VOD_PROCESS_INTERVAL", "VOD_CATALOG_BACKFILL_INTERVAL", "VOD_CATALOG_MAX", "VOD_CATALOG_MAX_AGE_DAYS",
    "DATA_DIR", "DB_DSN", "HTTP_ADDR", "MAX_CONCURRENT_DOWNLOADS", "MAX_CONCURRENT_UPLOADS", "DOWNLOAD_MAX_ATTEMPTS",
    "DOWNLOAD_BACKOFF_BASE", "DOWNLOAD_RATE_LIMIT", "PROCESSING_RETRY_COOLDOWN", "UPLOAD_MAX_ATTEMPTS",
    "UPLOAD_BACKOFF_BASE", "UPLOAD_DAILY_LIMIT", "BACKFILL_UPLOAD_DAILY_LIMIT", "CIRCUIT_FAILURE_THRESHOLD",
    "CIRCUIT_OPEN_COOLDOWN", "RETENTION_KEEP_DAYS", "RETENTION_KEEP_COUNT", "RETENTION_DRY_RUN",
    "RETENTION_INTERVAL", "YT_CLIENT_ID", "YT_CLIENT_SECRET", "YT_REDIRECT_URI", "YT_SCOPES",
    "YOUTUBE_UPLOAD_ENABLED", "YOUTUBE_UPLOAD_OWNERSHIP", "ENCRYPTION_KEY", "ADMIN_USERNAME", "ENCRYPTION_KEY_OLD",
    "TWITCH_REDIRECT_URI", "TWITCH_SCOPES", "YT_AUTH_URL", "YT_TOKEN_URL", "YT_API_URL", "YOUTUBE_QUOTA",
    "YOUTUBE_UPLOAD_QUOTA", "UPLOAD_RATE_LIMIT", "UPLOAD_CHUNK_SIZE",
    "ADMIN_PASSWORD", "ADMIN_TOKEN", "CORS_ALLOWED_ORIGINS", "OTEL_EXPORTER_OTLP_ENDPOINT", "LOG_LEVEL",
    "LOG_FORMAT", "TWITCH_API_URL", "TWITCH_AUTH_URL", "TWITCH_GQL_URL", "TWITCH_GQL_CLIENT_ID", "YTDLP_PATH",
    "PG_DUMP_PATH", "SCRUB_INTERVAL", "SCRUB_RATE", "SCRUB_REPAIR",
    "YTDLP_ARGS", "FFMPEG_PATH", "FOLDER_TEMPLATE", "CAPTURE_CONNECTIONS", "RATE_LIMIT_ENABLED",
    "RATE_LIMIT_REQUESTS_PER_IP", "RATE_LIMIT_WINDOW", "VOD_QUALITY", "VOD_QUALITY_CHANNELS",
    "CHAT_VOD_IMPORT", "CHAT_EMOTES", "TWITCH_CDN_URL", "BTTV_API_URL", "BTTV_CDN_URL", "FFZ_API_URL",
    "SEVENTV_API_URL", "UPLOAD_PART_DURATION", "UPLOAD_PART_SIZE", "YOUTUBE_TITLE", "YOUTUBE_DESCRIPTION",
    "YOUTUBE_TAGS", "YOUTUBE_PLAYLIST", "YOUTUBE_PLAYLIST_CHANNELS", "YOUTUBE_PRIVACY", "YOUTUBE_PRIVACY_CHANNELS",
    "YOUTUBE_CATEGORY", "YOUTUBE_CATEGORY_CHANNELS", "YOUTUBE_MADE_FOR_KIDS", "YOUTUBE_LANGUAGE",
    "MEDIA_SERVER_FILES",
    "RETENTION_KEEP_BYTES", "RETENTION_CHANNELS", "RETENTION_ONLY_COPY",
    "RETENTION_PROVEN_AFTER", "RETENTION_TRASH_WINDOW", "DISK_RESERVE",
]  # fmt: skip


def test_no_promised_variable_is_missing_and_none_is_declared_twice() -> None:
    assert sorted(NAMES) == sorted(PROMISED)


def test_the_page_lists_every_variable_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (`[^`]*`|empty) \|", PAGE, re.MULTILINE))
    defaults = {
        variable.name: f"`{variable.default}`" if variable.default else "empty" for variable in declared_variables()
    }
    assert rows == defaults


def test_the_tables_of_the_page_are_what_the_code_writes() -> None:
    assert refreshed_page(PAGE) == PAGE, "refresh it with: python -m vodkeep.settings.reference"
    assert re.findall(r"<!-- variables: (\w+) -->", PAGE) == list(group_titles())


def test_a_marker_without_a_group_is_an_error() -> None:
    with pytest.raises(KeyError):
        refreshed_page("<!-- variables: Nonsense -->\n<!-- end of variables -->")


def test_the_example_file_is_what_the_code_writes() -> None:
    assert env_example() == EXAMPLE, "refresh it with: python -m vodkeep.settings.reference"


def test_the_example_file_loads_and_sets_nothing() -> None:
    settings = load_settings({}, BACKEND / ".env.example")
    assert settings.model_dump() == load_settings({}).model_dump()
    assert settings.warnings == ()


def test_the_example_file_lists_every_variable_with_its_real_default(tmp_path: Path) -> None:
    everything = re.sub(r"(?m)^#(?=[A-Z_]+=)", "", EXAMPLE)
    assert re.findall(r"(?m)^([A-Z_]+)=", everything) == NAMES
    file = tmp_path / ".env"
    file.write_text(everything, encoding="utf-8")
    settings = load_settings({}, file)
    assert settings.model_dump() == load_settings({}).model_dump()
    assert {name for name in NAMES if settings.source_of(name) == "file"} == {
        variable.name for variable in declared_variables() if variable.default
    }


def test_the_sentences_the_page_quotes_are_the_real_ones() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(
            {
                "VOD_PROCESS_INTERVAL": "5 minutes",
                "DB_DSN": "postgres://vodkeep:geheim@db:99999/vodkeep",
                "ADMIN_USERNAME": "admin",
            }
        )
    for sentence in refused.value.problems:
        assert sentence in PAGE
    assert load_settings({"VOD_PROCES_INTERVAL": "1m"}).warnings[0] in PAGE
