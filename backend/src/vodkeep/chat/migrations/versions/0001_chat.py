"""Sessions, messages, chatters, activity, moderation, presence and the journal's position.

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
        sa.Column("state", sa.Text(), nullable=False, server_default="recording"),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_ms", sa.BigInteger(), nullable=True),
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
    due = sa.text("index_due = 1")
    op.create_index("ix_chat_session_index_due", "chat_session", ["id"], sqlite_where=due, postgresql_where=due)
    op.create_table(
        "chat_message",
        sa.Column("id", number, nullable=False, autoincrement=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("source", sa.SmallInteger(), nullable=False),
        sa.Column("chatter_id", sa.BigInteger(), nullable=True),
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


def downgrade() -> None:
    # Made beside the revisions, by chat/search_index.py.
    op.execute("DROP TABLE IF EXISTS chat_search")
    for name in (
        *("chat_journal", "chat_spans", "chat_index_queue", "chat_clear", "chat_bucket", "chatter", "chat_message"),
        "chat_session",
    ):
        op.drop_table(name)
