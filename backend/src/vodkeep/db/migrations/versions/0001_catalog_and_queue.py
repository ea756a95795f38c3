"""The catalog, the queue, its events, leases and settings kept by the service.

Revision: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vodkeep.db import job_tables, queue_counts

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    # Fixed here and not imported: a revision describes its own day, whatever the code becomes.
    time = sa.String(27) if on_sqlite else sa.DateTime(timezone=True)
    row_id = sa.Integer() if on_sqlite else sa.BigInteger()
    now = sa.text("(strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z')" if on_sqlite else "CURRENT_TIMESTAMP")

    op.create_table(
        "channels",
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("broadcaster_id", sa.Text(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("profile_image_url", sa.Text(), nullable=True),
        sa.Column("vod_days", sa.Integer(), nullable=True),
        sa.Column("backfill_cursor", sa.Text(), nullable=True),
        sa.Column("backfill_done_at", time, nullable=True),
        sa.Column("created_at", time, nullable=False, server_default=now),
        sa.Column("updated_at", time, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("login", name="pk_channels"),
    )
    op.create_table(
        "vods",
        sa.Column("id", row_id, nullable=False, autoincrement=True),
        sa.Column("twitch_vod_id", sa.Text(), nullable=False),
        sa.Column("stream_id", sa.Text(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False, server_default=""),
        sa.Column("description", sa.Text(), nullable=False, server_default=""),
        sa.Column("custom_description", sa.Text(), nullable=True),
        sa.Column("thumbnail_url", sa.Text(), nullable=True),
        sa.Column("date", time, nullable=True),
        sa.Column("duration_seconds", sa.Integer(), nullable=True),
        sa.Column("processed", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("processing_error", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("youtube_url", sa.Text(), nullable=True),
        sa.Column("download_state", sa.Text(), nullable=False, server_default="pending"),
        sa.Column("stage", sa.Text(), nullable=False, server_default="capture"),
        sa.Column("download_retries", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("upload_retries", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("not_before", time, nullable=True),
        sa.Column("download_bytes", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("download_total", sa.BigInteger(), nullable=True),
        sa.Column("progress_updated_at", time, nullable=True),
        sa.Column("downloaded_path", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("back_catalogue", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("skip_upload", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("generation", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("completeness", sa.Float(), nullable=True),
        sa.Column("chat_completeness", sa.Float(), nullable=True),
        sa.Column("chat_messages", sa.BigInteger(), nullable=True),
        sa.Column("fresh", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("protected", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("let_go_at", time, nullable=True),
        sa.Column("created_at", time, nullable=False, server_default=now),
        sa.Column("updated_at", time, nullable=False, server_default=now),
        sa.Column("sort_date", time, sa.Computed("coalesce(date, created_at)", persisted=True)),
        sa.Column("due_stage", sa.Text(), sa.Computed(_DUE_STAGE, persisted=True)),
        sa.PrimaryKeyConstraint("id", name="pk_vods"),
        sa.UniqueConstraint("twitch_vod_id", name="uq_vods_twitch_vod_id"),
        sa.CheckConstraint("processed IN (0, 1)", name=op.f("ck_vods_processed_is_0_or_1")),
        sa.CheckConstraint("back_catalogue IN (0, 1)", name=op.f("ck_vods_back_catalogue_is_0_or_1")),
        sa.CheckConstraint("skip_upload IN (0, 1)", name=op.f("ck_vods_skip_upload_is_0_or_1")),
        sa.CheckConstraint("stage IN ('capture', 'chat', 'publish', 'tidy')", name=op.f("ck_vods_stage_is_known")),
        sa.CheckConstraint("fresh IN (0, 1)", name=op.f("ck_vods_fresh_is_0_or_1")),
        sa.CheckConstraint("protected IN (0, 1)", name=op.f("ck_vods_protected_is_0_or_1")),
        sa.CheckConstraint(
            "download_state IN ('pending', 'waiting', 'downloading', 'verifying', 'downloaded', 'uploading',"
            " 'done', 'failed', 'parked', 'canceled')",
            name=op.f("ck_vods_download_state_is_known"),
        ),
        *([_readable_time("date"), _readable_time("not_before")] if on_sqlite else []),
        sqlite_autoincrement=True,
    )
    _create_index(
        "ix_vods_due",
        "vods",
        ["due_stage", "channel", "back_catalogue", sa.text("priority DESC"), "sort_date", "twitch_vod_id"],
        where="due_stage IS NOT NULL",
    )
    _create_index("ix_vods_due_date", "vods", ["due_stage", "sort_date"], where="due_stage IS NOT NULL")
    op.create_index("ix_vods_stream_id", "vods", ["stream_id"])
    _create_index("ix_vods_placeholder", "vods", ["channel"], where="substr(twitch_vod_id, 1, 5) = 'live-'")
    _create_index("ix_vods_not_before", "vods", ["not_before"], where="processed = 0 AND not_before IS NOT NULL")
    _create_index(
        "ix_vods_active",
        "vods",
        ["twitch_vod_id"],
        where="processed = 0 AND download_state IN ('downloading', 'verifying', 'uploading')",
    )
    op.create_index("ix_vods_sort_date", "vods", ["sort_date", "id"])
    op.create_index("ix_vods_channel_sort_date", "vods", ["channel", "sort_date", "id"])
    op.create_index("ix_vods_download_state_sort_date", "vods", ["download_state", "sort_date", "id"])
    op.create_index(
        "ix_vods_channel_download_state_sort_date", "vods", ["channel", "download_state", "sort_date", "id"]
    )
    op.create_table(
        "queue_counts",
        sa.Column("channel", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0")) for name in _COUNTS),
        sa.PrimaryKeyConstraint("channel", name="pk_queue_counts"),
    )
    queue_counts.create(op.get_bind())
    op.create_table(
        "events",
        sa.Column("id", row_id, nullable=False, autoincrement=True),
        sa.Column("twitch_vod_id", sa.Text(), nullable=True),
        sa.Column("at", time, nullable=False, server_default=now),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("sentence", sa.Text(), nullable=False, server_default=""),
        sa.Column("remedy", sa.Text(), nullable=False, server_default=""),
        sa.Column("corr", sa.Text(), nullable=True),
        sa.Column("asked_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_twitch_vod_id_id", "events", ["twitch_vod_id", "id"])
    _create_index("ix_events_published", "events", ["at"], where="from_state = 'uploading' AND to_state = 'done'")
    op.create_table(
        "publications",
        sa.Column("id", row_id, nullable=False, autoincrement=True),
        sa.Column("twitch_vod_id", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, server_default="planned"),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.Column("source_name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("checksum", sa.Text(), nullable=False),
        sa.Column("session_uri", sa.Text(), nullable=True),
        sa.Column("session_at", time, nullable=True),
        sa.Column("committed_bytes", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("youtube_id", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False, server_default=""),
        sa.Column("privacy", sa.Text(), nullable=False, server_default=""),
        sa.Column("marker", sa.Text(), nullable=False, server_default=""),
        sa.Column("thumbnail_done", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("playlist_done", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("uploaded_at", time, nullable=True),
        sa.Column("processed_at", time, nullable=True),
        sa.Column("checked_at", time, nullable=True),
        sa.Column("next_check_at", time, nullable=True),
        sa.Column("checks", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("youtube_duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("created_at", time, nullable=False, server_default=now),
        sa.Column("updated_at", time, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("id", name="pk_publications"),
        sa.UniqueConstraint("twitch_vod_id", "round", "part", name="uq_publications_twitch_vod_id_round_part"),
        sa.CheckConstraint(
            "state IN ('planned', 'uploading', 'uploaded', 'processed', 'rejected', 'vanished', 'superseded')",
            name=op.f("ck_publications_state_is_known"),
        ),
        sa.CheckConstraint("part >= 1 AND part <= parts", name=op.f("ck_publications_part_is_one_of_parts")),
        sa.CheckConstraint("thumbnail_done IN (0, 1)", name=op.f("ck_publications_thumbnail_done_is_0_or_1")),
        sa.CheckConstraint("playlist_done IN (0, 1)", name=op.f("ck_publications_playlist_done_is_0_or_1")),
        sqlite_autoincrement=True,
    )
    _create_index(
        "ix_publications_next_check_at",
        "publications",
        ["next_check_at"],
        where="state IN ('uploaded', 'processed')",
    )
    op.create_index("ix_publications_youtube_id", "publications", ["youtube_id"])
    _create_index(
        "ix_publications_troubled",
        "publications",
        ["twitch_vod_id"],
        where="reason_code IS NOT NULL AND state <> 'superseded'",
    )
    op.create_table(
        "retention_plans",
        sa.Column("id", row_id, nullable=False, autoincrement=True),
        sa.Column("at", time, nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=True),
        sa.Column("going", sa.Integer(), nullable=False),
        sa.Column("going_bytes", sa.BigInteger(), nullable=False),
        sa.Column("staying", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retention_plans"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "retention_entries",
        sa.Column("id", row_id, nullable=False, autoincrement=True),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("twitch_vod_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, server_default="planned"),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("trash", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False, server_default=""),
        sa.Column("moved_at", time, nullable=True),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retention_entries"),
        sa.CheckConstraint(
            "state IN ('planned', 'moving', 'trashed', 'restoring', 'removing', 'dropped', 'restored', 'removed')",
            name=op.f("ck_retention_entries_state_is_known"),
        ),
        sqlite_autoincrement=True,
    )
    _create_index(
        "ix_retention_entries_open",
        "retention_entries",
        ["twitch_vod_id"],
        where="state IN ('planned', 'moving', 'trashed', 'restoring', 'removing')",
        unique=True,
    )
    op.create_table(
        "kv",
        sa.Column("channel", sa.Text(), nullable=False, server_default=""),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated_at", time, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("channel", "key", name="pk_kv"),
    )
    op.create_index("ix_kv_key", "kv", ["key"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", time, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "quota_uses",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("exhausted", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("project", "day", "bucket", name="pk_quota_uses"),
        sa.CheckConstraint("exhausted IN (0, 1)", name=op.f("ck_quota_uses_exhausted_is_0_or_1")),
        sa.CheckConstraint("bucket IN ('units', 'uploads')", name=op.f("ck_quota_uses_bucket_is_known")),
    )
    op.create_table(
        "scrubs",
        sa.Column("twitch_vod_id", sa.Text(), nullable=False),
        sa.Column("checked_at", time, nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("problems", sa.Text(), nullable=False, server_default=""),
        sa.Column("remedy", sa.Text(), nullable=False, server_default=""),
        sa.Column("repairing", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("twitch_vod_id", name="pk_scrubs"),
        sa.CheckConstraint("repairing IN (0, 1)", name=op.f("ck_scrubs_repairing_is_0_or_1")),
    )
    _create_index("ix_scrubs_bad", "scrubs", ["twitch_vod_id"], where="problems <> ''")
    op.create_table(
        "oauth_tokens",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False, server_default=""),
        sa.Column("access_token", sa.Text(), nullable=False),
        sa.Column("refresh_token", sa.Text(), nullable=True),
        sa.Column("expires_at", time, nullable=True),
        sa.Column("scope", sa.Text(), nullable=False, server_default=""),
        sa.Column("encryption_key_id", sa.Text(), nullable=True),
        sa.Column("account", sa.Text(), nullable=False, server_default=""),
        sa.Column("version", sa.BigInteger(), nullable=False, server_default="1"),
        sa.Column("state", sa.Text(), nullable=False, server_default="connected"),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_try_at", time, nullable=True),
        sa.Column("refreshed_at", time, nullable=True),
        sa.Column("updated_at", time, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("provider", "channel", name="pk_oauth_tokens"),
    )
    op.create_table(
        "oauth_flows",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("browser", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("encryption_key_id", sa.Text(), nullable=True),
        sa.Column("interval_s", sa.Integer(), nullable=False),
        sa.Column("next_poll_at", time, nullable=False),
        sa.Column("expires_at", time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_oauth_flows"),
    )
    if not on_sqlite:
        job_tables.create(op.get_bind())


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        job_tables.drop(op.get_bind())
    op.drop_table("oauth_flows")
    op.drop_table("oauth_tokens")
    op.drop_table("scrubs")
    op.drop_table("quota_uses")
    op.drop_table("leases")
    op.drop_table("kv")
    op.drop_table("retention_entries")
    op.drop_table("retention_plans")
    op.drop_table("publications")
    op.drop_table("events")
    queue_counts.drop(op.get_bind())
    op.drop_table("queue_counts")
    op.drop_table("vods")
    op.drop_table("channels")


def _readable_time(column: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(
        f"{column} IS NULL OR ({column} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'"
        f" AND datetime({column}) IS NOT NULL)",
        name=op.f(f"ck_vods_{column}_is_a_time"),
    )


def _create_index(
    name: str, table: str, columns: list[str | sa.TextClause], *, where: str, unique: bool = False
) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


_DUE_STAGE = (
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

_COUNTS = (
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
    "errored",
    "canceled",
    "incomplete",
    "placeholders",
    "unmatched",
)
