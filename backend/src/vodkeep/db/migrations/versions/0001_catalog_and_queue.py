"""The catalog, the queue, its events, leases and settings kept by the service.

Revision: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vodkeep.db import job_tables

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
        sa.Column("thumbnail_url", sa.Text(), nullable=True),
        sa.Column("date", time, nullable=True),
        sa.Column("duration_seconds", sa.Integer(), nullable=True),
        sa.Column("processed", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("processing_error", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("youtube_url", sa.Text(), nullable=True),
        sa.Column("download_state", sa.Text(), nullable=False, server_default="pending"),
        sa.Column("download_retries", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("upload_retries", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("not_before", time, nullable=True),
        sa.Column("download_bytes", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("download_total", sa.BigInteger(), nullable=True),
        sa.Column("progress_updated_at", time, nullable=True),
        sa.Column("downloaded_path", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("skip_upload", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("generation", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("completeness", sa.Float(), nullable=True),
        sa.Column("created_at", time, nullable=False, server_default=now),
        sa.Column("updated_at", time, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("id", name="pk_vods"),
        sa.UniqueConstraint("twitch_vod_id", name="uq_vods_twitch_vod_id"),
        sa.CheckConstraint("processed IN (0, 1)", name=op.f("ck_vods_processed_is_0_or_1")),
        sa.CheckConstraint("skip_upload IN (0, 1)", name=op.f("ck_vods_skip_upload_is_0_or_1")),
        sa.CheckConstraint(
            "download_state IN ('pending', 'waiting', 'downloading', 'verifying', 'downloaded', 'uploading',"
            " 'done', 'failed', 'parked', 'canceled')",
            name=op.f("ck_vods_download_state_is_known"),
        ),
        *([_readable_time("date"), _readable_time("not_before")] if on_sqlite else []),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_vods_queue", "vods", ["processed", "priority", "date"])
    op.create_index("ix_vods_channel_date", "vods", ["channel", "date"])
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
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_twitch_vod_id_id", "events", ["twitch_vod_id", "id"])
    op.create_table(
        "kv",
        sa.Column("channel", sa.Text(), nullable=False, server_default=""),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated_at", time, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("channel", "key", name="pk_kv"),
    )
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
        "oauth_tokens",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False, server_default=""),
        sa.Column("access_token", sa.Text(), nullable=False),
        sa.Column("refresh_token", sa.Text(), nullable=True),
        sa.Column("expires_at", time, nullable=True),
        sa.Column("scope", sa.Text(), nullable=False, server_default=""),
        sa.Column("encryption_key_id", sa.Text(), nullable=True),
        sa.Column("updated_at", time, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("provider", "channel", name="pk_oauth_tokens"),
    )
    if not on_sqlite:
        job_tables.create(op.get_bind())


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        job_tables.drop(op.get_bind())
    op.drop_table("oauth_tokens")
    op.drop_table("leases")
    op.drop_table("kv")
    op.drop_index("ix_events_twitch_vod_id_id", table_name="events")
    op.drop_table("events")
    op.drop_index("ix_vods_channel_date", table_name="vods")
    op.drop_index("ix_vods_queue", table_name="vods")
    op.drop_table("vods")
    op.drop_table("channels")


def _readable_time(column: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(
        f"{column} IS NULL OR ({column} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'"
        f" AND datetime({column}) IS NOT NULL)",
        name=op.f(f"ck_vods_{column}_is_a_time"),
    )
