"""Structured logs on one stream, as text for people or JSON for machines.

Everything that logs ends in one handler on the root logger: our own code through structlog, and uvicorn,
SQLAlchemy, Alembic, aiohttp and asyncio through the standard library. One line is one event; its fields
are ``time`` (RFC 3339, UTC), ``level``, ``msg``, ``component``, ``corr`` and what the event carries. Line
breaks and control characters inside a value are escaped, so nobody's video title can forge a line. Secrets
are masked last (:mod:`vodkeep.telemetry.secrets`), after tracebacks became text.

Logging is the one thing that belongs to a process and not to an object, as in the standard library; hence the
functions here instead of an instance to pass around.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import IO, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from vodkeep.telemetry.correlation import current_corr
from vodkeep.telemetry.secrets import SecretMask, rfc3339

LogFormat = Literal["text", "json"]
Logger = structlog.stdlib.BoundLogger

# Outside of a request or a job; the field is always there, so that a query may rely on it.
NO_CORR = "-"

# Chatty libraries. SQLAlchemy stays at warnings even with LOG_LEVEL=debug: it logs statements' parameters.
_FOREIGN_LEVELS = {
    "aiohttp": logging.WARNING,
    "alembic": logging.WARNING,
    "alembic.runtime.migration": logging.INFO,  # which revisions run
    "asyncio": logging.WARNING,
    "httptools": logging.WARNING,
    "procrastinate": logging.WARNING,  # A job there is a ticket; what becomes of the item is told by the pipeline.
    "sqlalchemy": logging.WARNING,
    "urllib3": logging.WARNING,
    "uvicorn": logging.WARNING,
    "uvicorn.access": logging.CRITICAL,  # The access line is ours and carries the correlation id.
}

_LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "critical": 50}

_mask = SecretMask()


class _OurHandler(logging.StreamHandler[IO[str]]):
    """Writes what the stream's encoding cannot carry as escapes instead of failing.

    Its type marks the handler as ours, so that configuring again replaces it and nobody else's.
    """

    def format(self, record: logging.LogRecord) -> str:
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return super().format(record).encode(encoding, "backslashreplace").decode(encoding)


def configure_logging(
    level: str = "info",
    format: LogFormat = "text",  # noqa: A002 - named like the setting LOG_FORMAT
    stream: IO[str] | None = None,
) -> None:
    """Send every log line of the process to ``stream`` (standard output when ``None``).

    Args:
        level: ``debug``, ``info``, ``warn``/``warning``, ``error`` or ``critical``, in any case.
        format: ``text`` (one readable line) or ``json`` (one object per line, no spaces between tokens, so
            that ``grep '"msg":"circuit opened"'`` finds it).
        stream: where to write; characters its encoding lacks are written as escapes.

    May be called again; the last call wins. Raises ``ValueError`` for an unknown level or format.
    """
    numeric = _LEVELS.get(level.lower())
    if numeric is None:
        raise ValueError(f"unknown log level {level!r}: expected one of {', '.join(_LEVELS)}")
    if format not in ("text", "json"):
        raise ValueError(f"unknown log format {format!r}: expected text or json")
    target = stream if stream is not None else sys.stdout
    renderer: Processor = _TextRenderer(colour=target.isatty())
    if format == "json":
        utf8 = (getattr(target, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
        renderer = _JsonRenderer(ascii_only=not utf8)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _add_standard_fields,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _OurHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_note_foreign_origin, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _mask_fields, renderer],
        )
    )
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _OurHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(numeric)
    migration = logging.getLogger("alembic.runtime.migration")
    if _drop_migration_preamble not in migration.filters:
        migration.addFilter(_drop_migration_preamble)
    for name, floor in _FOREIGN_LEVELS.items():
        logging.getLogger(name).setLevel(max(floor, numeric))


def get_logger(component: str) -> Logger:
    """A logger whose lines carry ``component``; one made before :func:`configure_logging` follows it too."""
    logger: Logger = structlog.stdlib.get_logger(f"vodkeep.{component}", component=component)
    return logger


def mask_values(values: Iterable[object]) -> None:
    """From now on blot these values (``str``, ``SecretStr`` or ``None``) out of every line and traceback."""
    _mask.add(values)


def masked_text(text: str) -> str:
    """``text`` as a log line would show it; for output that does not go through a logger."""
    return _mask.text(text)


def forget_masked_values() -> None:
    """Drop what :func:`mask_values` registered."""
    _mask.clear()


def _drop_migration_preamble(record: logging.LogRecord) -> bool:
    """Alembic introduces itself each time somebody asks for the revision, which readiness does all the time."""
    return not str(record.msg).startswith(("Context impl", "Will assume"))


def _note_foreign_origin(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Name the library as the component of its lines: ``uvicorn.error`` becomes ``uvicorn``."""
    record: logging.LogRecord = event["_record"]
    event.setdefault("component", record.name.split(".", 1)[0])
    return event


def _add_standard_fields(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    event["time"] = rfc3339(datetime.now(UTC))
    event.setdefault("component", "vodkeep")
    event["corr"] = event.get("corr") or current_corr() or NO_CORR
    return event


def _mask_fields(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Put the standard fields first, rename structlog's ``event`` to ``msg`` and mask the rest."""
    message = event.pop("event", "")
    ordered: EventDict = {
        "time": event.pop("time"),
        "level": event.pop("level"),
        "msg": _mask.text(message if isinstance(message, str) else str(message)),
        "component": event.pop("component"),
        "corr": _mask.text(str(event.pop("corr"))),
    }
    for name, value in event.items():
        ordered.setdefault(_mask.text(name), _mask.field(name, value))
    return ordered


class _JsonRenderer:
    """One object per line; characters as they are on a UTF-8 stream, else as JSON's own escapes."""

    def __init__(self, *, ascii_only: bool) -> None:
        self._ascii_only = ascii_only

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> str:
        return json.dumps(event, ensure_ascii=self._ascii_only, separators=(",", ":"))


class _TextRenderer:
    """``2026-11-23T14:37:00.123Z INFO vod_download msg key=value ...``; a traceback follows, indented."""

    _COLOURS: dict[str, str] = {  # noqa: RUF012 - a constant table
        "debug": "\x1b[2m",
        "info": "\x1b[36m",
        "warning": "\x1b[33m",
        "error": "\x1b[31m",
        "critical": "\x1b[1;31m",
    }

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> str:
        fields = dict(event)
        time, level, message, component, corr = (
            str(fields.pop(name)) for name in ("time", "level", "msg", "component", "corr")
        )
        blocks = [str(fields.pop(name)) for name in ("exception", "stack") if fields.get(name)]
        word = f"{level.upper():<8}"
        if self._colour:
            word = f"{self._COLOURS.get(level, '')}{word}\x1b[0m"
        parts = [time, word, f"{component:<14}", _printable(message)]
        parts += [f"{_printable(name)}={_quoted(value)}" for name, value in fields.items()]
        if corr != NO_CORR:
            parts.append(f"corr={_printable(corr)}")
        line = " ".join(parts)
        for block in blocks:
            line += "".join(f"\n    {_printable(row)}" for row in block.splitlines())
        return line


def _printable(text: str) -> str:
    """``text`` with control and direction-changing characters written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and (not text or any(c in ' "=' or not c.isprintable() for c in text)):
        text = json.dumps(text, ensure_ascii=False)
    return _printable(text)
