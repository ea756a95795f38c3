from __future__ import annotations

import io
import json
import traceback

import pytest
from rich.console import Console

from vodkeep.config_command import render_config
from vodkeep.errors import SettingsError
from vodkeep.settings import Source, declared_variables, describe, load_settings

SECRETS = {
    "TWITCH_CLIENT_SECRET": "s3cr3t-twitch-client",
    "TWITCH_OAUTH_TOKEN": "s3cr3ttwitchtoken",
    "ADMIN_PASSWORD": "s3cr3t-admin-password",
    "ADMIN_TOKEN": "s3cr3t-admin-token",
    "YT_CLIENT_SECRET": "s3cr3t-youtube-client",
    "ENCRYPTION_KEY": "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M=",
    "ENCRYPTION_KEY_OLD": "dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHQ=",
    "DB_DSN": "postgres://keeper:s3cr3t-database@db:5432/vodkeep",
    "YTDLP_ARGS": "--username me --password 's3cr3t ytdlp' --proxy http://me:s3cr3t-proxy@proxy:3128 --no-color",
}
ENVIRON = SECRETS | {
    "TWITCH_CLIENT_ID": "abc",
    "TWITCH_BOT_USERNAME": "bot_name",
    "ADMIN_USERNAME": "me",
    "YT_CLIENT_ID": "abc",
}


def leaks(text: str) -> bool:
    return "s3cr3t" in text or "c3Nzc3" in text


def shown(as_json: bool) -> str:
    stream = io.StringIO()
    render_config(load_settings(ENVIRON), Console(file=stream), as_json)
    return stream.getvalue()


def test_every_declared_secret_is_tried_here() -> None:
    assert {variable.name for variable in declared_variables() if variable.secret} <= set(SECRETS)


def test_neither_repr_nor_str_nor_a_dump_shows_a_secret() -> None:
    settings = load_settings(ENVIRON)
    for text in (repr(settings), str(settings), f"{settings!r:>10}", repr(settings.database), repr(settings.tools)):
        assert not leaks(text)
    secret_groups = {"twitch", "database", "web", "youtube", "security"}
    assert not leaks(str(settings.model_dump(include=secret_groups)))
    assert not leaks(settings.model_dump_json(include=secret_groups))
    assert not leaks(str(settings.database.url()))


def test_the_described_rows_are_masked_and_keep_what_is_no_secret() -> None:
    rows = {row.name: row.value_masked for row in describe(load_settings(ENVIRON))}
    assert not leaks(" ".join(rows.values()))
    assert rows["ADMIN_PASSWORD"] == "********"
    assert rows["DB_DSN"] == "postgres://keeper:********@db:5432/vodkeep"
    assert rows["YTDLP_ARGS"] == (
        "--username ******** --password ******** --proxy http://me:********@proxy:3128 --no-color"
    )


@pytest.mark.parametrize("as_json", [False, True], ids=["table", "json"])
def test_vodkeep_config_shows_every_variable_and_no_secret(as_json: bool) -> None:
    text = shown(as_json)
    assert not leaks(text)
    assert [variable.name for variable in declared_variables() if variable.name not in text] == []


@pytest.mark.parametrize("name", SECRETS)
def test_a_refused_secret_is_not_repeated(name: str) -> None:
    environ = ENVIRON | {name: SECRETS[name].replace("@db:5432", "@db:99999") + " s3cr3t\x01"}
    with pytest.raises(SettingsError) as refused:
        load_settings(environ)
    assert not leaks("".join(traceback.format_exception(refused.value)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DB_DSN", "postgres://keeper:s3cr3t@db:99999/vodkeep"),
        ("DB_DSN", "postgres://keeper:s3c/r3t-s3cr3t@db:5432/vodkeep"),
        ("DB_DSN", "s3cr3tx:s3cr3t@db"),
        ("DB_DSN", "host=db password=s3cr3t"),
        ("ENCRYPTION_KEY", "s3cr3t"),
        ("TWITCH_OAUTH_TOKEN", "s3cr3t!"),
        ("YTDLP_ARGS", "--password s3cr3t --proxy 'http://me:s3cr3t@h"),
        ("TWITCH_API_URL", "https://me:s3cr3t@h/"),
        ("YT_REDIRECT_URI", "https://me:s3cr3t@h/"),
        ("CORS_ALLOWED_ORIGINS", "https://me:s3cr3t@h"),
    ],
)
def test_a_password_inside_a_refused_value_is_masked(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({name: text})
    told = "".join(traceback.format_exception(refused.value))
    assert "s3cr3t@" not in told
    assert not leaks(told.replace("s3cr3tx", ""))


def test_the_log_mask_gets_every_secret_in_plain_text() -> None:
    secrets = load_settings(ENVIRON).secret_values()
    assert {SECRETS[name] for name in SECRETS if name != "YTDLP_ARGS"} <= secrets
    assert "s3cr3t-database" in secrets


def test_each_value_comes_with_its_source() -> None:
    rows = {row.name: row for row in describe(load_settings({"LOG_LEVEL": "debug"}))}
    assert (rows["LOG_LEVEL"].value_masked, rows["LOG_LEVEL"].source) == ("debug", Source.ENVIRONMENT)
    assert (rows["LOG_FORMAT"].value_masked, rows["LOG_FORMAT"].source) == ("text", Source.DEFAULT)
    assert rows["DB_DSN"].value_masked == "sqlite:///data/vodkeep.db"


def test_shown_values_can_be_set_again() -> None:
    environ = {
        "VOD_PROCESS_INTERVAL": "90s", "DOWNLOAD_RATE_LIMIT": "1536KiB", "TWITCH_CHANNELS": "one,two",
        "HTTP_ADDR": "[::1]:81", "RETENTION_DRY_RUN": "yes", "YTDLP_ARGS": "-x 'a b'", "CORS_ALLOWED_ORIGINS": "*",
    }  # fmt: skip
    settings = load_settings(environ)
    again = load_settings({row.name: row.value_masked for row in describe(settings) if row.name != "DB_DSN"})
    assert again.model_dump() == settings.model_dump()


def test_a_table_in_a_pipe_wraps_nothing() -> None:
    lines = shown(as_json=False).splitlines()
    assert any("youtube.upload https://www.googleapis.com/auth/youtube.readonly" in line for line in lines)
    assert any("{channel}/{date} {title} [{id}]" in line for line in lines)


def test_a_table_on_a_narrow_terminal_loses_no_character() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system=None, width=60)
    render_config(load_settings({"DATA_DIR": "/srv/" + "0123456789" * 8}), console)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    squeezed = "".join(line[31:47].strip() for line in lines)
    assert "0123456789" * 8 in squeezed


def test_json_is_one_object_with_values_sources_and_warnings() -> None:
    stream = io.StringIO()
    render_config(load_settings({"LOG_LEVEL": "debug", "VOD_X": "1"}), Console(file=stream, width=40), as_json=True)
    read = json.loads(stream.getvalue())
    assert read["settings"]["LOG_LEVEL"]["value"] == "debug"
    assert read["settings"]["LOG_LEVEL"]["source"] == "environment"
    assert read["settings"]["ADMIN_TOKEN"]["secret"] is True
    assert read["warnings"] == ["VOD_X is not a setting and is ignored."]


def test_warnings_stand_below_the_table() -> None:
    stream = io.StringIO()
    render_config(load_settings({"VOD_X": "1"}), Console(file=stream))
    assert stream.getvalue().endswith("VOD_X is not a setting and is ignored.\n")
