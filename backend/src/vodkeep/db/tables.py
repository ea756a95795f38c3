"""The tables, as SQLAlchemy Core objects.

Operators read and change some of them by hand (``docs/operations.md``), so names and types are an interface:
``processed`` is an integer 0/1, times are UTC (``timestamptz`` on PostgreSQL, ISO-8601 text on SQLite).
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from vodkeep.placeholder import PREFIX

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC; ``2026-11-23T14:37:00.000000Z`` in SQLite, so that text order is time order."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime] | TypeEngine[str]:
        """Text on SQLite, ``timestamptz`` elsewhere."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(27))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        """Refuse naive datetimes: a time without a zone is a bug."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: times are aware and in UTC")
        utc = value.astimezone(UTC)
        if dialect.name != "sqlite":
            return utc
        # Not strftime: it writes the year 1 as "1" on Linux.
        return utc.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

    def process_result_value(self, value: datetime | str | None, dialect: Dialect) -> datetime | None:
        """Always aware, always UTC."""
        if value is None:
            return None
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


class _Now(FunctionElement[datetime]):
    """The time of the insert as ``UtcDateTime`` stores it, for rows that an operator writes by hand."""

    inherit_cache = True


@compiles(_Now)
def _now_timestamptz(_element: _Now, _compiler: SQLCompiler, **_: object) -> str:
    return "CURRENT_TIMESTAMP"


@compiles(_Now, "sqlite")
def _now_text(_element: _Now, _compiler: SQLCompiler, **_: object) -> str:
    # SQLite knows milliseconds; the zeros keep text order and time order the same.
    return "(strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z')"


def _readable_time(column: str) -> CheckConstraint:
    """Refuse text that is no time where SQLite would take any; PostgreSQL's type does that by itself."""
    check = CheckConstraint(
        f"{column} IS NULL OR ({column} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'"
        f" AND datetime({column}) IS NOT NULL)",
        name=f"{column}_is_a_time",
    )
    check.ddl_if(dialect="sqlite")
    return check


# SQLite only numbers rows by itself for INTEGER PRIMARY KEY.
_RowId = BigInteger().with_variant(Integer(), "sqlite")

channels = Table(
    "channels",
    metadata,
    Column("login", Text, primary_key=True),
    Column("broadcaster_id", Text, nullable=True),
    Column("display_name", Text, nullable=True),
    Column("profile_image_url", Text, nullable=True),
    # How many days Twitch keeps the channel's recordings at least, as its list has shown; NULL before the first look.
    Column("vod_days", Integer, nullable=True),
    # Where a backfill that was interrupted goes on; NULL when none is under way.
    Column("backfill_cursor", Text, nullable=True),
    Column("backfill_done_at", UtcDateTime, nullable=True),
    Column("created_at", UtcDateTime, nullable=False, server_default=_Now()),
    Column("updated_at", UtcDateTime, nullable=False, server_default=_Now()),
)

# The stage a row is due for, or `done` when only its upload was left and it is not to be uploaded; NULL while it waits
# for `not_before` or a person, when nothing is left to do, and for a placeholder. `pipeline.due.due_stage` says the
# same of a row at any moment, and a test holds the two together. One line, because SQLAlchemy reads it back from
# SQLite by lines.
DUE_STAGE = (
    "CASE"
    " WHEN substr(twitch_vod_id, 1, 5) = 'live-' THEN NULL"
    " WHEN processed = 1 THEN CASE WHEN download_state = 'done' AND stage = 'tidy' THEN 'tidy' END"
    " WHEN download_state IN ('done', 'failed', 'parked', 'canceled') AND processing_error IS NULL THEN 'capture'"
    " WHEN download_state IN ('downloading', 'verifying') THEN 'capture'"
    " WHEN download_state = 'uploading' THEN 'publish'"
    " WHEN not_before IS NOT NULL THEN NULL"
    " WHEN download_state IN ('pending', 'waiting') THEN 'capture'"
    " WHEN download_state IN ('downloaded', 'failed') AND stage = 'chat' THEN 'chat'"
    " WHEN download_state = 'failed' AND stage <> 'publish' THEN 'capture'"
    " WHEN download_state IN ('downloaded', 'failed') THEN CASE skip_upload WHEN 0 THEN 'publish' ELSE 'done' END"
    " END"
)

vods = Table(
    "vods",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("twitch_vod_id", Text, nullable=False),
    Column("stream_id", Text, nullable=True),
    Column("channel", Text, nullable=False),
    Column("title", Text, nullable=False, server_default=""),
    Column("description", Text, nullable=False, server_default=""),
    # What YouTube is told instead of Twitch's description; NULL: nobody wrote anything.
    Column("custom_description", Text, nullable=True),
    Column("thumbnail_url", Text, nullable=True),
    Column("date", UtcDateTime, nullable=True),
    Column("duration_seconds", Integer, nullable=True),
    Column("processed", Integer, nullable=False, server_default=text("0")),
    Column("processing_error", Text, nullable=True),
    Column("error_code", Text, nullable=True),
    Column("youtube_url", Text, nullable=True),
    Column("download_state", Text, nullable=False, server_default="pending"),
    # What is at work, has failed or comes next: capture, chat, publish, tidy.
    Column("stage", Text, nullable=False, server_default="capture"),
    Column("download_retries", Integer, nullable=False, server_default=text("0")),
    Column("upload_retries", Integer, nullable=False, server_default=text("0")),
    Column("not_before", UtcDateTime, nullable=True),
    Column("download_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("download_total", BigInteger, nullable=True),
    Column("progress_updated_at", UtcDateTime, nullable=True),
    Column("downloaded_path", Text, nullable=True),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    # 1: it was old already when the catalog first saw it.
    Column("back_catalogue", Integer, nullable=False, server_default=text("0")),
    Column("skip_upload", Integer, nullable=False, server_default=text("0")),
    Column("generation", BigInteger, nullable=False, server_default=text("0")),
    Column("completeness", Float, nullable=True),
    # How much of the duration chat was recorded for, 0 to 1, and how many messages there are; NULL: not known.
    Column("chat_completeness", Float, nullable=True),
    Column("chat_messages", BigInteger, nullable=True),
    # To be fetched from Twitch even if it lies whole in the library; back to 0 once it has been.
    Column("fresh", Integer, nullable=False, server_default=text("0")),
    # Retention never lets its video go; and since when it is not in its folder, because retention did.
    Column("protected", Integer, nullable=False, server_default=text("0")),
    Column("let_go_at", UtcDateTime, nullable=True),
    Column("created_at", UtcDateTime, nullable=False, server_default=_Now()),
    Column("updated_at", UtcDateTime, nullable=False, server_default=_Now()),
    # By what lists and the queue are sorted: the start of the broadcast, or when it was found.
    Column("sort_date", UtcDateTime, Computed("coalesce(date, created_at)", persisted=True)),
    Column("due_stage", Text, Computed(DUE_STAGE, persisted=True)),
    UniqueConstraint("twitch_vod_id"),
    CheckConstraint("processed IN (0, 1)", name="processed_is_0_or_1"),
    CheckConstraint("back_catalogue IN (0, 1)", name="back_catalogue_is_0_or_1"),
    CheckConstraint("skip_upload IN (0, 1)", name="skip_upload_is_0_or_1"),
    CheckConstraint("fresh IN (0, 1)", name="fresh_is_0_or_1"),
    CheckConstraint("protected IN (0, 1)", name="protected_is_0_or_1"),
    CheckConstraint(
        "download_state IN ('pending', 'waiting', 'downloading', 'verifying', 'downloaded', 'uploading',"
        " 'done', 'failed', 'parked', 'canceled')",
        name="download_state_is_known",
    ),
    CheckConstraint("stage IN ('capture', 'chat', 'publish', 'tidy')", name="stage_is_known"),
    _readable_time("date"),
    _readable_time("not_before"),
    sqlite_autoincrement=True,
)

# Every question of the running service is answered from one of these, so that none takes longer as the archive grows.
_DUE = text("due_stage IS NOT NULL")

# SQLite uses a partial index only where its condition stands in the query letter for letter, not with parameters.
IS_ACTIVE = text("processed = 0 AND download_state IN ('downloading', 'verifying', 'uploading')")
IS_WAITING = text("processed = 0 AND not_before IS NOT NULL")
Index(
    "ix_vods_due",  # the head of each channel's queue
    vods.c.due_stage,
    vods.c.channel,
    vods.c.back_catalogue,
    vods.c.priority.desc(),
    vods.c.sort_date,
    vods.c.twitch_vod_id,
    sqlite_where=_DUE,
    postgresql_where=_DUE,
)
Index("ix_vods_due_date", vods.c.due_stage, vods.c.sort_date, sqlite_where=_DUE, postgresql_where=_DUE)  # expiry
# A stream and its VOD find each other; placeholders are few beside all that is kept.
IS_PLACEHOLDER = text(f"substr(twitch_vod_id, 1, {len(PREFIX)}) = '{PREFIX}'")
Index("ix_vods_stream_id", vods.c.stream_id)
Index("ix_vods_placeholder", vods.c.channel, sqlite_where=IS_PLACEHOLDER, postgresql_where=IS_PLACEHOLDER)
Index("ix_vods_not_before", vods.c.not_before, sqlite_where=IS_WAITING, postgresql_where=IS_WAITING)
Index("ix_vods_active", vods.c.twitch_vod_id, sqlite_where=IS_ACTIVE, postgresql_where=IS_ACTIVE)
Index("ix_vods_sort_date", vods.c.sort_date, vods.c.id)  # the lists of the web
Index("ix_vods_channel_sort_date", vods.c.channel, vods.c.sort_date, vods.c.id)
Index("ix_vods_download_state_sort_date", vods.c.download_state, vods.c.sort_date, vods.c.id)
Index("ix_vods_channel_download_state_sort_date", vods.c.channel, vods.c.download_state, vods.c.sort_date, vods.c.id)

# How many rows of `vods` there are of each kind; kept by triggers (``db/queue_counts.py``), never counted.
queue_counts = Table(
    "queue_counts",
    metadata,
    Column("channel", Text, primary_key=True),
    *(
        Column(name, BigInteger, nullable=False, server_default=text("0"))
        for name in (
            "state_pending",
            "state_waiting",
            "state_downloading",
            "state_verifying",
            "state_downloaded",
            "state_uploading",
            "state_done",
            "state_failed",
            "state_parked",
            "state_canceled",
            "processed",
            "errored",  # unprocessed: failed or parked, with a sentence
            "canceled",  # unprocessed, with a sentence; without one it was asked for again
            "incomplete",  # in its folder, with holes
            # Known from their live stream only, and in none of the figures above:
            "placeholders",
            "unmatched",  # of those: no VOD was found
        )
    ),
)

events = Table(
    "events",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("twitch_vod_id", Text, nullable=True),
    Column("at", UtcDateTime, nullable=False, server_default=_Now()),
    Column("kind", Text, nullable=False),  # "state", "discovered", ...
    Column("from_state", Text, nullable=True),
    Column("to_state", Text, nullable=True),
    Column("code", Text, nullable=True),
    Column("sentence", Text, nullable=False, server_default=""),
    Column("remedy", Text, nullable=False, server_default=""),
    Column("corr", Text, nullable=True),
    Column("asked_by", Text, nullable=True),  # where a person asked for it: "cli", "api", "admin", "sql"
    Index("ix_events_twitch_vod_id_id", "twitch_vod_id", "id"),
    sqlite_autoincrement=True,
)

# Publications: the move from `uploading` to `done`.
IS_PUBLICATION = text("from_state = 'uploading' AND to_state = 'done'")
Index("ix_events_published", events.c.at, sqlite_where=IS_PUBLICATION, postgresql_where=IS_PUBLICATION)

# A row for each part of an item on YouTube, and for each time that it was asked to be published anew.
# Like all conditions of partial indexes, letter for letter what the queries say.
IS_CHECKED = text("state IN ('uploaded', 'processed')")
publications = Table(
    "publications",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("twitch_vod_id", Text, nullable=False),
    Column("round", Integer, nullable=False, server_default=text("1")),  # raised by `reprocess --republish`
    Column("part", Integer, nullable=False),  # 1..parts
    Column("parts", Integer, nullable=False),
    Column("state", Text, nullable=False, server_default="planned"),
    Column("start_ms", BigInteger, nullable=False),  # its stretch of the picture
    Column("end_ms", BigInteger, nullable=False),
    Column("source_name", Text, nullable=False),  # the file below the item's folder or its work folder
    Column("size_bytes", BigInteger, nullable=False),
    Column("checksum", Text, nullable=False),  # of the file
    Column("session_uri", Text, nullable=True),  # a capability: whoever knows it can write the video
    Column("session_at", UtcDateTime, nullable=True),
    Column("committed_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("youtube_id", Text, nullable=True),
    Column("title", Text, nullable=False, server_default=""),
    Column("privacy", Text, nullable=False, server_default=""),
    Column("marker", Text, nullable=False, server_default=""),  # in the description, by which it is found again
    Column("thumbnail_done", Integer, nullable=False, server_default=text("0")),
    Column("playlist_done", Integer, nullable=False, server_default=text("0")),
    Column("uploaded_at", UtcDateTime, nullable=True),
    Column("processed_at", UtcDateTime, nullable=True),
    Column("checked_at", UtcDateTime, nullable=True),
    Column("next_check_at", UtcDateTime, nullable=True),
    Column("checks", Integer, nullable=False, server_default=text("0")),
    Column("youtube_duration_ms", BigInteger, nullable=True),
    Column("reason", Text, nullable=False, server_default=""),
    Column("reason_code", Text, nullable=True),
    Column("created_at", UtcDateTime, nullable=False, server_default=_Now()),
    Column("updated_at", UtcDateTime, nullable=False, server_default=_Now()),
    UniqueConstraint("twitch_vod_id", "round", "part"),
    CheckConstraint(
        "state IN ('planned', 'uploading', 'uploaded', 'processed', 'rejected', 'vanished', 'superseded')",
        name="state_is_known",
    ),
    CheckConstraint("part >= 1 AND part <= parts", name="part_is_one_of_parts"),
    CheckConstraint("thumbnail_done IN (0, 1)", name="thumbnail_done_is_0_or_1"),
    CheckConstraint("playlist_done IN (0, 1)", name="playlist_done_is_0_or_1"),
    sqlite_autoincrement=True,
)
Index(
    "ix_publications_next_check_at",
    publications.c.next_check_at,
    sqlite_where=IS_CHECKED,
    postgresql_where=IS_CHECKED,
)
Index("ix_publications_youtube_id", publications.c.youtube_id)
IS_TROUBLED = text("reason_code IS NOT NULL AND state <> 'superseded'")
Index("ix_publications_troubled", publications.c.twitch_vod_id, sqlite_where=IS_TROUBLED, postgresql_where=IS_TROUBLED)

# What retention decided, written down before anything happens to a file (``pipeline/retention.py``).
retention_plans = Table(
    "retention_plans",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("asked_by", Text, nullable=True),  # where a person asked for it; NULL: on schedule
    Column("going", Integer, nullable=False),  # how many videos it lets go
    Column("going_bytes", BigInteger, nullable=False),
    Column("staying", Integer, nullable=False),
    sqlite_autoincrement=True,
)
retention_entries = Table(
    "retention_entries",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("plan_id", BigInteger, nullable=False),
    Column("twitch_vod_id", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="planned"),
    Column("path", Text, nullable=False),  # of the video, relative to DATA_DIR
    Column("size_bytes", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),  # of the item when it was planned
    Column("reason", Text, nullable=False),
    Column("trash", Text, nullable=True),  # its folder in the trash, relative to DATA_DIR
    Column("note", Text, nullable=False, server_default=""),  # why it ended as it did
    Column("moved_at", UtcDateTime, nullable=True),  # since when it is in the trash
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    CheckConstraint(
        "state IN ('planned', 'moving', 'trashed', 'restoring', 'removing', 'dropped', 'restored', 'removed')",
        name="state_is_known",
    ),
    sqlite_autoincrement=True,
)
# A video is let go once at a time.
IS_OPEN = text("state IN ('planned', 'moving', 'trashed', 'restoring', 'removing')")
Index(
    "ix_retention_entries_open",
    retention_entries.c.twitch_vod_id,
    unique=True,
    sqlite_where=IS_OPEN,
    postgresql_where=IS_OPEN,
)

# Per channel; '' holds what belongs to the whole service.
kv = Table(
    "kv",
    metadata,
    Column("channel", Text, primary_key=True, server_default=""),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False, server_default=_Now()),
    Index("ix_kv_key", "key"),
)

# Rights that one process at a time has; times are the database's own (``db/leases.py``).
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
)

quota_uses = Table(
    "quota_uses",
    metadata,
    Column("project", Text, primary_key=True),  # the client id, which stands for the Google project
    Column("day", Text, primary_key=True),  # of the Pacific coast, such as 2026-11-24
    Column("bucket", Text, primary_key=True),
    Column("used", BigInteger, nullable=False, server_default=text("0")),
    Column("exhausted", Integer, nullable=False, server_default=text("0")),  # YouTube itself said so
    CheckConstraint("exhausted IN (0, 1)", name="exhausted_is_0_or_1"),
    CheckConstraint("bucket IN ('units', 'uploads')", name="bucket_is_known"),
)

# When the files of each item were last read to their end and compared with their checksums (``pipeline/scrub.py``).
scrubs = Table(
    "scrubs",
    metadata,
    Column("twitch_vod_id", Text, primary_key=True),
    Column("checked_at", UtcDateTime, nullable=False),
    Column("verdict", Text, nullable=False),  # pipeline.recheck.Verdict
    Column("problems", Text, nullable=False, server_default=""),  # sentences; empty when it is as it should be
    Column("remedy", Text, nullable=False, server_default=""),  # what is being done, or a person can do
    Column("repairing", Integer, nullable=False, server_default=text("0")),  # 1: something was begun to mend it
    CheckConstraint("repairing IN (0, 1)", name="repairing_is_0_or_1"),
)
IS_BAD = text("problems <> ''")
Index("ix_scrubs_bad", scrubs.c.twitch_vod_id, sqlite_where=IS_BAD, postgresql_where=IS_BAD)

oauth_tokens = Table(
    "oauth_tokens",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("channel", Text, primary_key=True, server_default=""),
    Column("access_token", Text, nullable=False),
    Column("refresh_token", Text, nullable=True),
    Column("expires_at", UtcDateTime, nullable=True),
    Column("scope", Text, nullable=False, server_default=""),
    Column("encryption_key_id", Text, nullable=True),
    Column("account", Text, nullable=False, server_default=""),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("state", Text, nullable=False, server_default="connected"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("next_try_at", UtcDateTime, nullable=True),
    Column("refreshed_at", UtcDateTime, nullable=True),
    Column("updated_at", UtcDateTime, nullable=False, server_default=_Now()),
)

oauth_flows = Table(
    "oauth_flows",
    metadata,
    Column("id", Text, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("browser", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("encryption_key_id", Text, nullable=True),
    Column("interval_s", Integer, nullable=False),
    Column("next_poll_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
