from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from vodkeep.telemetry.correlation import bind_corr
from vodkeep.telemetry.log import (
    LogFormat,
    configure_logging,
    forget_masked_values,
    get_logger,
    mask_values,
    masked_text,
)

RFC_3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("uvicorn", "sqlalchemy", "alembic", "aiohttp")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)
    structlog.reset_defaults()
    forget_masked_values()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_the_standard_fields_first_and_then_its_own(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    with bind_corr("job-9"):
        get_logger("vod_download").info("download finished", vod_id="42", dl_ms=1234)
    (line,) = lines(stream)
    assert list(line) == ["time", "level", "msg", "component", "corr", "vod_id", "dl_ms"]
    assert RFC_3339_UTC.fullmatch(line.pop("time"))
    assert line == {
        "level": "info",
        "msg": "download finished",
        "component": "vod_download",
        "corr": "job-9",
        "vod_id": "42",
        "dl_ms": 1234,
    }


def test_json_is_compact_so_that_the_documented_grep_finds_it(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    get_logger("twitch").info("twitch app token acquired", token_tail="***c3f1")
    assert '"msg":"twitch app token acquired"' in stream.getvalue()
    assert "***c3f1" in stream.getvalue()


def test_outside_of_a_job_corr_is_a_dash(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    get_logger("boot").info("started")
    assert lines(stream)[0]["corr"] == "-"


@pytest.mark.parametrize("name", ["uvicorn.error", "sqlalchemy.engine", "alembic.runtime", "aiohttp.client", "asyncio"])
def test_libraries_come_out_in_the_same_shape(stream: io.StringIO, name: str) -> None:
    configure_logging("info", "json", stream)
    with bind_corr("r-1"):
        logging.getLogger(name).warning("gave %s of %d", "part", 3)
    (line,) = lines(stream)
    assert line["msg"] == "gave part of 3"
    assert line["component"] == name.split(".")[0]
    assert line["corr"] == "r-1"
    assert line["level"] == "warning"


def test_sql_statements_and_their_parameters_are_not_logged_even_at_debug(stream: io.StringIO) -> None:
    configure_logging("debug", "json", stream)
    logging.getLogger("sqlalchemy.engine.Engine").info("INSERT INTO oauth_tokens VALUES ('abc')")
    logging.getLogger("uvicorn.access").info("GET /")
    get_logger("x").debug("kept")
    assert [line["msg"] for line in lines(stream)] == ["kept"]


@pytest.mark.parametrize(("level", "kept"), [("debug", 4), ("info", 3), ("WARN", 2), ("warning", 2), ("error", 1)])
def test_level_is_a_threshold(stream: io.StringIO, level: str, kept: int) -> None:
    configure_logging(level, "json", stream)
    log = get_logger("x")
    log.debug("1")
    log.info("2")
    log.warning("3")
    log.error("4")
    assert len(lines(stream)) == kept


def test_unknown_level_and_format_are_refused() -> None:
    with pytest.raises(ValueError, match="verbose"):
        configure_logging("verbose", "json")
    with pytest.raises(ValueError, match="xml"):
        configure_logging("info", "xml")  # type: ignore[arg-type]


def test_a_traceback_is_a_field_and_secrets_in_it_are_masked(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    mask_values(["swordfish-7"])
    try:
        raise RuntimeError("refused for swordfish-7") from KeyError("swordfish-7")
    except RuntimeError:
        get_logger("x").exception("bug")
    (line,) = lines(stream)
    assert "RuntimeError: refused for ***" in line["exception"]
    assert "KeyError" in line["exception"]
    assert "swordfish" not in stream.getvalue()


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_secrets_never_reach_the_stream(stream: io.StringIO, fmt: LogFormat) -> None:
    configure_logging("debug", fmt, stream)
    mask_values(["swordfish-7", None])
    log = get_logger("x")
    log.info("got swordfish-7", url="http://h/?k=swordfish-7", nested={"a": ["swordfish-7"]}, swordfish_7="x")
    log.info("fields", client_secret="s3cr3t-a", headers={"Authorization": "s3cr3t-b"}, token="s3cr3t-c")
    log.bind(**{"swordfish-7": 1}).warning("key")
    logging.getLogger("aiohttp").warning("login %s", "swordfish-7")
    with bind_corr("swordfish-7"):
        log.info("corr")
    assert "s3cr3t" not in stream.getvalue()
    assert "swordfish-7" not in stream.getvalue()


def test_text_is_one_line_with_fields(stream: io.StringIO) -> None:
    configure_logging("info", "text", stream)
    with bind_corr("job-9"):
        get_logger("vod_process").info("cycle", depth=3, title='say "hi" now', empty="", nothing=None)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert RFC_3339_UTC.match(text)
    assert re.search(
        r"INFO +vod_process +cycle depth=3 title=\"say \\\"hi\\\" now\" empty=\"\" nothing=null corr=job-9$", text
    )


def test_a_title_cannot_forge_a_line_or_turn_it_around(stream: io.StringIO) -> None:
    configure_logging("info", "text", stream)
    hostile = "ok\n2026-11-23T00:00:00.000Z ERROR forged\x1b[31m\u202e\r\x85\u2028"
    get_logger("x").info(hostile, title=hostile, **{"na\nme": "x"})
    logging.getLogger("aiohttp").warning(hostile)
    text = stream.getvalue()
    assert len(text.splitlines()) == 2
    assert all(c.isprintable() for c in text.replace("\n", ""))


def test_text_shows_a_traceback_below_the_line(stream: io.StringIO) -> None:
    configure_logging("info", "text", stream)
    try:
        raise RuntimeError("bang\x1b[31m")
    except RuntimeError:
        get_logger("x").exception("bug")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("bug")
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-1] == "    RuntimeError: bang\\x1b[31m"


def test_a_field_cannot_replace_a_standard_field(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    get_logger("x").info("real", msg="fake", level="fake", time="fake")
    (line,) = lines(stream)
    assert (line["msg"], line["level"]) == ("real", "info")
    assert line["time"] != "fake"


def test_values_json_cannot_carry_do_not_lose_the_line(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    get_logger("x").info("odd", thing=object(), lone="\ud800", inf=float("inf"))
    (line,) = lines(stream)
    assert line["thing"].startswith("<object object")
    assert line["inf"] == "inf"


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_a_terminal_without_unicode_gets_escapes_instead_of_an_error(fmt: LogFormat) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    configure_logging("info", fmt, stream)
    get_logger("x").info("Füße 😀", lone="\ud800")
    text = raw.getvalue().decode("ascii")
    if fmt == "json":
        assert json.loads(text)["msg"] == "Füße 😀"
    else:
        assert "F\\xfc" in text


def test_configuring_again_replaces_the_stream_and_follows_existing_loggers(stream: io.StringIO) -> None:
    early = get_logger("early").bind(vod_id="1")
    first = io.StringIO()
    configure_logging("info", "json", first)
    configure_logging("info", "json", stream)
    early.info("late")
    get_logger("early").info("late")
    assert first.getvalue() == ""
    assert [line["component"] for line in lines(stream)][-1] == "early"


def test_masked_text_serves_output_that_is_not_a_log_line() -> None:
    mask_values(["swordfish-7"])
    assert masked_text("it was swordfish-7") == "it was ***"
