"""The tables of chat, as SQLAlchemy Core objects.

They are a line of revisions of their own (``chat/migrations``): on SQLite in a file beside the main database, so that
chat's steady writing never holds up the rest, on PostgreSQL in the same database. No table of the one refers to the
other. Times are Unix milliseconds: that is how Twitch writes them, and nobody edits these rows by hand.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, Table, Text, text
from sqlalchemy import UniqueConstraint as Unique

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite takes a column for the row's own number only where its type is spelled INTEGER; it holds 64 bits all the same.
_Number = BigInteger().with_variant(Integer(), "sqlite")

chat_session = Table(
    "chat_session",
    metadata,
    # Below 2**31, for it is the upper half of a message's id.
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("channel", Text, nullable=False),  # login, lower case
    Column("channel_id", Text, nullable=True),
    Column("stream_id", Text, nullable=True),  # NULL: not from a stream (a VOD's own chat, a file)
    Column("source", SmallInteger, nullable=False),  # chat.model.Source of what it was opened for
    Column("base_ms", BigInteger, nullable=False),  # offset 0 of its messages
    Column("vod_id", Text, nullable=True),  # `twitch_vod_id` of its item, which may be a placeholder
    # To be added to a message's offset for its place on the item's timeline; moving a whole chat is one UPDATE.
    Column("vod_offset_ms", BigInteger, nullable=False, server_default=text("0")),
    # JSON, chat.picture_time.Pauses of its item: [[start_ms, end_ms], ...]; NULL: none
    Column("pauses", Text, nullable=True),
    Column("state", Text, nullable=False, server_default="recording"),  # or "ended"
    Column("ended_ms", BigInteger, nullable=True),
    Column("last_ms", BigInteger, nullable=True),  # `sent_ms` of its latest message
    # What was sent before was not recorded, though a recorder was in the channel; NULL: nobody has begun to.
    Column("recorded_from_ms", BigInteger, nullable=True),
    Column("messages", BigInteger, nullable=False, server_default=text("0")),
    # Grows with every transaction that adds, changes or removes messages of it.
    Column("revision", BigInteger, nullable=False, server_default=text("0")),
    # Up to this id its messages are in the search index; what came in below is in chat_index_queue.
    Column("fts_upto_id", BigInteger, nullable=False, server_default=text("0")),
    # 1: there may be messages above that.
    Column("index_due", SmallInteger, nullable=False, server_default=text("0")),
    # Who wrote its messages last. A recorder that finds another name here looks at what is there before it writes.
    Column("writer", Text, nullable=False, server_default=""),
    Unique("channel", "stream_id"),
    Index("ix_chat_session_vod_id", "vod_id"),
    Index("ix_chat_session_state_channel", "state", "channel"),
    Index("ix_chat_session_last_ms", "last_ms"),
    Index(
        "ix_chat_session_index_due", "id", sqlite_where=text("index_due = 1"), postgresql_where=text("index_due = 1")
    ),
    sqlite_autoincrement=True,
)

# One row per message and one key; chat/ids.py says how an id is made. No second index: a message's id is found
# through its session and its time.
chat_message = Table(
    "chat_message",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("chatter_id", BigInteger, nullable=True),  # wide ones first: PostgreSQL fills up what lies between
    Column("kind", SmallInteger, nullable=False),  # chat.model.Kind
    Column("source", SmallInteger, nullable=False),  # chat.model.Source
    Column("emotes", Text, nullable=True),
    Column("body", Text, nullable=False),
    # The 16 bytes of a UUID, or of a digest of another id, which then stands in `extra` as "id".
    Column("msg_id", LargeBinary, nullable=False),
    Column("reply_id", LargeBinary, nullable=True),  # likewise, of the message it answers
    Column("extra", Text, nullable=True),  # JSON object
)

chatter = Table(
    "chatter",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),  # chat.model.Chatter.key()
    Column("user_id", Text, nullable=False),
    Column("login", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("color", Text, nullable=False),
    Column("badges", Text, nullable=False),
    Index("ix_chatter_user_id", "user_id"),
    Index("ix_chatter_login", "login"),
)

# How many messages each 10 s of a session have, by their offset; kept with them, never counted.
chat_bucket = Table(
    "chat_bucket",
    metadata,
    Column("session_id", Integer, primary_key=True, autoincrement=False),
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer, nullable=False),
)

# What moderators took away; both targets NULL: the whole chat up to there.
chat_clear = Table(
    "chat_clear",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),  # of its chat_message
    Column("target_msg_id", LargeBinary, nullable=True),
    Column("target_user_id", Text, nullable=True),
    Column("seconds", BigInteger, nullable=True),  # of a timeout; NULL: for good
    Index("ix_chat_clear_target_user_id_id", "target_user_id", "id"),
    Index("ix_chat_clear_target_msg_id", "target_msg_id"),
)

# Messages that came in at or below their session's `fts_upto_id`, and are not in the search index yet. The index itself
# is no table of Alembic's: chat/search_index.py makes it, for it differs with what the database can do.
chat_index_queue = Table(
    "chat_index_queue",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),  # of the chat_message
)

# When a recorder was really in a channel.
chat_spans = Table(
    "chat_spans",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("channel", Text, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=True),  # NULL: it is there
    Column("seen_ms", BigInteger, nullable=False),  # so far it was; the end, should its process be killed
    Column("reason", Text, nullable=False, server_default=""),  # why it ended
    Column("recorder", Text, nullable=False),
    Index("ix_chat_spans_channel_started_ms", "channel", "started_ms"),
    Index("ix_chat_spans_recorder_ended_ms", "recorder", "ended_ms"),
    sqlite_autoincrement=True,
)

# Up to where a recorder's journal is in the tables; moves in the transaction that writes them.
chat_journal = Table(
    "chat_journal",
    metadata,
    Column("recorder", Text, primary_key=True),
    Column("file", Text, nullable=False),
    Column("position", BigInteger, nullable=False),  # bytes
)

# Which stretches of a VOD's own chat were read, ms into the video; moves in the transaction of their messages.
chat_read = Table(
    "chat_read",
    metadata,
    Column("vod_id", Text, primary_key=True),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("end_ms", BigInteger, nullable=False),
)

# Whose messages were erased, as digests (chat/erasure.py); what they said until then never comes in again.
chat_erased = Table(
    "chat_erased",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("salt", LargeBinary, nullable=False),  # one for the whole archive
    Column("until_ms", BigInteger, nullable=False),
)

# --- emotes and badges (chat/vault) ---------------------------------------------------------------------------

# Each image once, whoever uses it; its bytes are in DATA_DIR/.emotes.
emote_image = Table(
    "emote_image",
    metadata,
    Column("hash", Text, primary_key=True),  # BLAKE3, 64 hex digits
    Column("media_type", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("animated", SmallInteger, nullable=False),  # 0 or 1
    Column("size_bytes", BigInteger, nullable=False),
    Column("stored_ms", BigInteger, nullable=False),
)

# An address at a provider, which never changes its image: another image is another address.
emote_asset = Table(
    "emote_asset",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("url", Text, nullable=False),
    Column("hash", Text, nullable=True),  # of its image, once it is kept
    Column("state", Text, nullable=False, server_default="wanted"),  # or "kept", "refused"
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("not_before_ms", BigInteger, nullable=False, server_default=text("0")),
    Column("reason", Text, nullable=False, server_default=""),  # why the last try failed
    Unique("url"),
    Index("ix_emote_asset_state_not_before_ms", "state", "not_before_ms"),
    Index("ix_emote_asset_hash", "hash"),
    sqlite_autoincrement=True,
)

emote_set = Table(
    "emote_set",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("provider", Text, nullable=False),  # chat.vault.model.Provider
    Column("kind", Text, nullable=False),  # "emote" or "badge"
    Column("channel_id", Text, nullable=False),  # broadcaster id; empty: holds everywhere
    Column("first_ms", BigInteger, nullable=True),  # of its first snapshot
    Column("checked_ms", BigInteger, nullable=True),  # of its latest
    Column("empty_ms", BigInteger, nullable=True),  # since when it has been said to be empty, which is not yet believed
    Unique("provider", "kind", "channel_id"),
    sqlite_autoincrement=True,
)

# What a code meant, and from when to when.
emote_entry = Table(
    "emote_entry",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("set_id", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("ref", Text, nullable=False),  # the provider's id
    Column("asset_id", BigInteger, nullable=False),
    Column("zero_width", SmallInteger, nullable=False),
    Column("title", Text, nullable=False),
    Column("valid_from_ms", BigInteger, nullable=False),
    Column("valid_to_ms", BigInteger, nullable=True),  # NULL: still
    Index("ix_emote_entry_set_id_code", "set_id", "code"),
    Index("ix_emote_entry_asset_id", "asset_id"),
    sqlite_autoincrement=True,
)

# Twitch's emotes that occur in the messages of a session, whosever they are.
emote_used = Table(
    "emote_used",
    metadata,
    Column("session_id", Integer, primary_key=True, autoincrement=False),
    Column("ref", Text, primary_key=True),
    Column("code", Text, nullable=False),
    Column("asset_id", BigInteger, nullable=False),
    Index("ix_emote_used_asset_id", "asset_id"),
)

# Up to which message a session has been looked through for them.
emote_scan = Table(
    "emote_scan",
    metadata,
    Column("session_id", Integer, primary_key=True, autoincrement=False),
    Column("upto_id", BigInteger, nullable=False),
    # 0: followed while it is recorded; 1: gone through once more since it has ended; 2: done.
    Column("stage", SmallInteger, nullable=False),
)
