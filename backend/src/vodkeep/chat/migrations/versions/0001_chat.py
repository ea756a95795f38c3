"""Sessions, messages, chatters, activity, moderation, presence, the journal's position, emotes and badges.

Revision: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    # Fixed here and not imported: a revision describes its own day, whatever the code becomes.
    number = sa.Integer() if on_sqlite else sa.BigInteger()
    zero = sa.text("0")

    op.create_table(
        "chat_session",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=True),
        sa.Column("stream_id", sa.Text(), nullable=True),
        sa.Column("source", sa.SmallInteger(), nullable=False),
        sa.Column("base_ms", sa.BigInteger(), nullable=False),
        sa.Column("vod_id", sa.Text(), nullable=True),
        sa.Column("vod_offset_ms", sa.BigInteger(), nullable=False, server_default=zero),
        sa.Column("pauses", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False, server_default="recording"),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_ms", sa.BigInteger(), nullable=True),
        sa.Column("recorded_from_ms", sa.BigInteger(), nullable=True),
        sa.Column("messages", sa.BigInteger(), nullable=False, server_default=zero),
        sa.Column("revision", sa.BigInteger(), nullable=False, server_default=zero),
        sa.Column("fts_upto_id", sa.BigInteger(), nullable=False, server_default=zero),
        sa.Column("index_due", sa.SmallInteger(), nullable=False, server_default=zero),
        sa.Column("writer", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_chat_session"),
        sa.UniqueConstraint("channel", "stream_id", name="uq_chat_session_channel_stream_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chat_session_vod_id", "chat_session", ["vod_id"])
    op.create_index("ix_chat_session_state_channel", "chat_session", ["state", "channel"])
    op.create_index("ix_chat_session_last_ms", "chat_session", ["last_ms"])
    due = sa.text("index_due = 1")
    op.create_index("ix_chat_session_index_due", "chat_session", ["id"], sqlite_where=due, postgresql_where=due)
    op.create_table(
        "chat_message",
        sa.Column("id", number, nullable=False, autoincrement=False),
        sa.Column("chatter_id", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("source", sa.SmallInteger(), nullable=False),
        sa.Column("emotes", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("msg_id", sa.LargeBinary(), nullable=False),
        sa.Column("reply_id", sa.LargeBinary(), nullable=True),
        sa.Column("extra", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_chat_message"),
    )
    op.create_table(
        "chatter",
        sa.Column("id", number, nullable=False, autoincrement=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("color", sa.Text(), nullable=False),
        sa.Column("badges", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chatter"),
    )
    op.create_index("ix_chatter_user_id", "chatter", ["user_id"])
    op.create_index("ix_chatter_login", "chatter", ["login"])
    op.create_table(
        "chat_bucket",
        sa.Column("session_id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("bucket", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "bucket", name="pk_chat_bucket"),
    )
    op.create_table(
        "chat_clear",
        sa.Column("id", number, nullable=False, autoincrement=False),
        sa.Column("target_msg_id", sa.LargeBinary(), nullable=True),
        sa.Column("target_user_id", sa.Text(), nullable=True),
        sa.Column("seconds", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_chat_clear"),
    )
    op.create_index("ix_chat_clear_target_user_id_id", "chat_clear", ["target_user_id", "id"])
    op.create_index("ix_chat_clear_target_msg_id", "chat_clear", ["target_msg_id"])
    op.create_table(
        "chat_index_queue",
        sa.Column("id", number, nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("id", name="pk_chat_index_queue"),
    )
    op.create_table(
        "chat_spans",
        sa.Column("id", number, nullable=False, autoincrement=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("recorder", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chat_spans"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chat_spans_channel_started_ms", "chat_spans", ["channel", "started_ms"])
    op.create_index("ix_chat_spans_recorder_ended_ms", "chat_spans", ["recorder", "ended_ms"])
    op.create_table(
        "chat_journal",
        sa.Column("recorder", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("recorder", name="pk_chat_journal"),
    )
    _create_emote_tables(number, zero)


def _create_emote_tables(number: sa.types.TypeEngine[int], zero: sa.TextClause) -> None:
    op.create_table(
        "chat_read",
        sa.Column("vod_id", sa.Text(), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("vod_id", "start_ms", name="pk_chat_read"),
    )
    op.create_table(
        "chat_erased",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_chat_erased"),
    )
    op.create_table(
        "emote_image",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("animated", sa.SmallInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_emote_image"),
    )
    op.create_table(
        "emote_asset",
        sa.Column("id", number, nullable=False, autoincrement=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False, server_default="wanted"),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=zero),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=False, server_default=zero),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_emote_asset"),
        sa.UniqueConstraint("url", name="uq_emote_asset_url"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_emote_asset_state_not_before_ms", "emote_asset", ["state", "not_before_ms"])
    op.create_index("ix_emote_asset_hash", "emote_asset", ["hash"])
    op.create_table(
        "emote_set",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=True),
        sa.Column("checked_ms", sa.BigInteger(), nullable=True),
        sa.Column("empty_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_emote_set"),
        sa.UniqueConstraint("provider", "kind", "channel_id", name="uq_emote_set_provider_kind_channel_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "emote_entry",
        sa.Column("id", number, nullable=False, autoincrement=True),
        sa.Column("set_id", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("zero_width", sa.SmallInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("valid_from_ms", sa.BigInteger(), nullable=False),
        sa.Column("valid_to_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_emote_entry"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_emote_entry_set_id_code", "emote_entry", ["set_id", "code"])
    op.create_index("ix_emote_entry_asset_id", "emote_entry", ["asset_id"])
    op.create_table(
        "emote_used",
        sa.Column("session_id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "ref", name="pk_emote_used"),
    )
    op.create_index("ix_emote_used_asset_id", "emote_used", ["asset_id"])
    op.create_table(
        "emote_scan",
        sa.Column("session_id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("upto_id", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_emote_scan"),
    )


def downgrade() -> None:
    # Made beside the revisions, by chat/search_index.py.
    op.execute("DROP TABLE IF EXISTS chat_search")
    for name in (
        *("emote_scan", "emote_used", "emote_entry", "emote_set", "emote_asset", "emote_image"),
        *("chat_erased", "chat_read"),
        *("chat_journal", "chat_spans", "chat_index_queue", "chat_clear", "chat_bucket", "chatter", "chat_message"),
        "chat_session",
    ):
        op.drop_table(name)
