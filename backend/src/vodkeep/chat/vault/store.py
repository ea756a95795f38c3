"""The vault's tables, within one transaction; the caller commits. Times are Unix milliseconds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from vodkeep.chat.tables import (
    chat_message,
    chat_session,
    chatter,
    emote_asset,
    emote_entry,
    emote_image,
    emote_scan,
    emote_set,
    emote_used,
)
from vodkeep.chat.vault.changes import SetChanges, plan_changes
from vodkeep.chat.vault.model import (
    GLOBAL,
    Entry,
    ImageFacts,
    ImageType,
    Kind,
    Provider,
    SetAnswer,
    SetKey,
    Span,
    StoredImage,
)

_AT_ONCE = 500  # rows or parameters of one statement

# emote_scan.stage
_FOLLOWED, _LAST, _DONE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Asset:
    """An address whose image is wanted."""

    id: int
    url: str
    attempts: int  # that failed


@dataclass(frozen=True, slots=True)
class Recorded:
    """A session whose chat is being recorded."""

    channel_id: str
    base_ms: int  # ten minutes before its stream began


@dataclass(frozen=True, slots=True)
class ItemSession:
    """A session of an item."""

    id: int
    channel_id: str | None


@dataclass(frozen=True, slots=True)
class Said:
    """A message."""

    id: int
    body: str
    badges: str  # of who said it: "broadcaster/1,subscriber/12"


@dataclass(frozen=True, slots=True)
class ScanTask:
    """A session whose messages are to be looked through."""

    session_id: int
    after_id: int  # of the last message seen
    ended: bool  # no message comes any more


@dataclass(frozen=True, slots=True)
class Spans:
    """What is known of some sets."""

    firsts: Mapping[SetKey, int]
    spans: tuple[Span, ...]


class EmoteStore:
    """Sets, entries, images and what is wanted."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- sets -------------------------------------------------------------------------------------------

    def checked(self, keys: Collection[SetKey]) -> dict[SetKey, int]:
        """When each of these sets was last seen; those never seen are left out."""
        query = select(emote_set.c.provider, emote_set.c.kind, emote_set.c.channel_id, emote_set.c.checked_ms).where(
            emote_set.c.channel_id.in_({key.channel_id for key in keys}), emote_set.c.checked_ms.is_not(None)
        )
        found = {_key(row): int(row.checked_ms) for row in self._connection.execute(query)}
        return {key: found[key] for key in keys if key in found}

    def record(self, key: SetKey, answer: SetAnswer, at_ms: int) -> SetChanges:
        """Write down what ``answer`` changes in a set, as of ``at_ms`` or, if that was seen later, as of then."""
        identity = {"provider": key.provider.value, "kind": key.kind.value, "channel_id": key.channel_id}
        self._insert_absent(emote_set, [identity], ["provider", "kind", "channel_id"])
        where = and_(*(emote_set.c[name] == value for name, value in identity.items()))
        # Two processes may see the same set at once; SQLite has one writer anyway.
        row = self._connection.execute(select(emote_set).where(where).with_for_update()).one()
        at_ms = max(at_ms, row.checked_ms or 0)
        known = self._known(row.id)
        changes = plan_changes(
            {code: entry for code, (_, entry) in known.items()}, answer, at_ms=at_ms, empty_ms=row.empty_ms
        )
        ended = [known[code][0] for code in changes.end]
        for start in range(0, len(ended), _AT_ONCE):
            self._connection.execute(
                update(emote_entry)
                .where(emote_entry.c.id.in_(ended[start : start + _AT_ONCE]))
                .values(valid_to_ms=changes.end_ms)
            )
        self._begin(row.id, changes.begin, at_ms)
        self._connection.execute(
            update(emote_set)
            .where(emote_set.c.id == row.id)
            .values(
                first_ms=at_ms if row.first_ms is None else row.first_ms,
                checked_ms=at_ms,
                empty_ms=changes.empty_ms,
            )
        )
        return changes

    def _known(self, set_id: int) -> dict[str, tuple[int, Entry]]:
        query = (
            select(emote_entry, emote_asset.c.url)
            .join(emote_asset, emote_asset.c.id == emote_entry.c.asset_id)
            .where(emote_entry.c.set_id == set_id, emote_entry.c.valid_to_ms.is_(None))
        )
        return {row.code: (row.id, _entry(row)) for row in self._connection.execute(query)}

    def _begin(self, set_id: int, entries: Iterable[Entry], at_ms: int) -> None:
        entries = list(entries)
        assets = self.want(entry.url for entry in entries)
        rows = [
            {
                "set_id": set_id,
                "code": entry.code,
                "ref": entry.ref,
                "asset_id": assets[entry.url],
                "zero_width": int(entry.zero_width),
                "title": entry.title,
                "valid_from_ms": at_ms,
            }
            for entry in entries
        ]
        if rows:
            self._connection.execute(insert(emote_entry), rows)

    def spans(self, channel_id: str, start_ms: int, end_ms: int) -> Spans:
        """What is known of the global sets and a channel's own for the time from ``start_ms`` to ``end_ms``."""
        sets = {
            row.id: row
            for row in self._connection.execute(
                select(emote_set).where(
                    emote_set.c.channel_id.in_({GLOBAL, channel_id}), emote_set.c.first_ms.is_not(None)
                )
            )
        }
        query = (
            select(emote_entry, emote_asset.c.url)
            .join(emote_asset, emote_asset.c.id == emote_entry.c.asset_id)
            .join(emote_set, emote_set.c.id == emote_entry.c.set_id)
            .where(
                emote_entry.c.set_id.in_(list(sets)),
                or_(
                    emote_entry.c.valid_from_ms < end_ms,
                    emote_entry.c.valid_from_ms <= emote_set.c.first_ms,
                ),
                or_(emote_entry.c.valid_to_ms.is_(None), emote_entry.c.valid_to_ms > start_ms),
            )
            .order_by(emote_entry.c.id)
        )
        spans = tuple(
            Span(_key(sets[row.set_id]), _entry(row), row.valid_from_ms, row.valid_to_ms)
            for row in self._connection.execute(query)
        )
        return Spans({_key(row): int(row.first_ms) for row in sets.values()}, spans)

    # --- images -----------------------------------------------------------------------------------------

    def want(self, urls: Iterable[str]) -> dict[str, int]:
        """The ids of these addresses, each of which is wanted from now on if it was not known."""
        # In one order, so that two processes that want the same do not wait for each other.
        wanted = sorted(set(urls))
        found: dict[str, int] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            self._insert_absent(emote_asset, [{"url": url} for url in some], ["url"])
            query = select(emote_asset.c.url, emote_asset.c.id).where(emote_asset.c.url.in_(some))
            found.update((row.url, int(row.id)) for row in self._connection.execute(query))
        return found

    def due(self, now_ms: int, *, limit: int, max_set_bytes: int) -> list[Asset]:
        """Images that are wanted and may be tried now, those that wait longest first.

        What only sets ask for whose images have more than ``max_set_bytes`` already is left out.
        """
        wanted = and_(emote_asset.c.state == "wanted", emote_asset.c.not_before_ms <= now_ms)
        if self._connection.execute(select(emote_asset.c.id).where(wanted).limit(1)).first() is None:
            return []
        full = (
            select(emote_entry.c.set_id)
            .join(emote_asset, emote_asset.c.id == emote_entry.c.asset_id)
            .join(emote_image, emote_image.c.hash == emote_asset.c.hash)
            .group_by(emote_entry.c.set_id)
            .having(func.sum(emote_image.c.size_bytes) > max_set_bytes)
        )
        full_sets = list(self._connection.execute(full).scalars())
        query = select(emote_asset.c.id, emote_asset.c.url, emote_asset.c.attempts).where(wanted)
        if full_sets:
            in_full = select(emote_entry.c.asset_id).where(emote_entry.c.set_id.in_(full_sets))
            elsewhere = select(emote_entry.c.asset_id).where(emote_entry.c.set_id.not_in(full_sets))
            query = query.where(or_(emote_asset.c.id.not_in(in_full), emote_asset.c.id.in_(elsewhere)))
        query = query.order_by(emote_asset.c.not_before_ms, emote_asset.c.id).limit(limit)
        return [Asset(int(row.id), row.url, row.attempts) for row in self._connection.execute(query)]

    def keep(self, asset_id: int, image: StoredImage, now_ms: int) -> None:
        """An image is on disk, whole."""
        row = {
            "hash": image.hash,
            "media_type": image.facts.type.value,
            "width": image.facts.width,
            "height": image.facts.height,
            "animated": int(image.facts.animated),
            "size_bytes": image.size_bytes,
            "stored_ms": now_ms,
        }
        self._insert_absent(emote_image, [row], ["hash"])
        self._connection.execute(
            update(emote_asset).where(emote_asset.c.id == asset_id).values(state="kept", hash=image.hash, reason="")
        )

    def fail(self, asset_id: int, reason: str, *, retry_ms: int | None) -> None:
        """A try failed; the next is made at ``retry_ms``, or never."""
        state = "refused" if retry_ms is None else "wanted"
        self._connection.execute(
            update(emote_asset)
            .where(emote_asset.c.id == asset_id, emote_asset.c.hash.is_(None))
            .values(
                state=state,
                attempts=emote_asset.c.attempts + 1,
                not_before_ms=retry_ms or 0,
                reason=reason[:300].replace("\x00", "\ufffd"),
            )
        )

    def want_again(self, image_hash: str) -> None:
        """The file of an image is gone: fetch it once more."""
        self._connection.execute(
            update(emote_asset)
            .where(emote_asset.c.hash == image_hash)
            .values(state="wanted", hash=None, attempts=0, not_before_ms=0)
        )

    def image(self, image_hash: str) -> StoredImage | None:
        """An image by its hash."""
        row = self._connection.execute(select(emote_image).where(emote_image.c.hash == image_hash)).first()
        return None if row is None else _image(row)

    def images(self, urls: Iterable[str]) -> dict[str, StoredImage]:
        """The images of those addresses whose image is kept."""
        wanted = list(dict.fromkeys(urls))
        found: dict[str, StoredImage] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            query = (
                select(emote_asset.c.url, emote_image)
                .join(emote_image, emote_image.c.hash == emote_asset.c.hash)
                .where(emote_asset.c.url.in_(wanted[start : start + _AT_ONCE]))
            )
            found.update((row.url, _image(row)) for row in self._connection.execute(query))
        return found

    def counts(self) -> dict[str, int]:
        """How many addresses there are in each state."""
        query = select(emote_asset.c.state, func.count()).group_by(emote_asset.c.state)
        return {state: int(count) for state, count in self._connection.execute(query)}

    def unreferenced(self) -> list[StoredImage]:
        """Images that no address leads to."""
        used = select(emote_asset.c.hash).where(emote_asset.c.hash.is_not(None))
        query = select(emote_image).where(emote_image.c.hash.not_in(used)).order_by(emote_image.c.hash)
        return [_image(row) for row in self._connection.execute(query)]

    def known_hashes(self) -> set[str]:
        """The hashes of all images."""
        return set(self._connection.execute(select(emote_image.c.hash)).scalars())

    def forget_unreferenced(self, hashes: Collection[str]) -> list[str]:
        """Remove the rows of those images to which still no address leads; returns which they were."""
        used = select(emote_asset.c.hash).where(emote_asset.c.hash.is_not(None))
        removed: list[str] = []
        wanted = sorted(hashes)
        for start in range(0, len(wanted), _AT_ONCE):
            statement = delete(emote_image).where(
                emote_image.c.hash.in_(wanted[start : start + _AT_ONCE]), emote_image.c.hash.not_in(used)
            )
            removed += self._connection.execute(statement.returning(emote_image.c.hash)).scalars()
        return removed

    # --- sessions ---------------------------------------------------------------------------------------

    def recorded(self) -> list[Recorded]:
        """What is being recorded, where the channel's id is known."""
        query = select(chat_session.c.channel_id, func.max(chat_session.c.base_ms).label("base_ms")).where(
            chat_session.c.state == "recording", chat_session.c.channel_id.is_not(None)
        )
        return [Recorded(*row) for row in self._connection.execute(query.group_by(chat_session.c.channel_id))]

    def sessions_of(self, vod_id: str) -> list[ItemSession]:
        """The sessions of an item, in order of time."""
        query = (
            select(chat_session.c.id, chat_session.c.channel_id)
            .where(chat_session.c.vod_id == vod_id)
            .order_by(chat_session.c.base_ms)
        )
        return [ItemSession(*row) for row in self._connection.execute(query)]

    def scans(self, limit: int, only: Collection[int] | None = None) -> list[ScanTask]:
        """Sessions that are not looked through to their end, the newest first; of all, or of ``only`` these."""
        query = (
            select(chat_session.c.id, chat_session.c.state, emote_scan.c.upto_id, emote_scan.c.stage)
            .join(emote_scan, emote_scan.c.session_id == chat_session.c.id, isouter=True)
            .where(or_(emote_scan.c.stage.is_(None), emote_scan.c.stage != _DONE))
            .order_by(chat_session.c.id.desc())
            .limit(limit)
        )
        if only is not None:
            query = query.where(chat_session.c.id.in_(list(only)))
        tasks = []
        for row in self._connection.execute(query):
            ended = row.state != "recording"
            # Messages arrive out of order, so a session that was followed is gone through once more when it is over.
            goes_on = row.upto_id is not None and row.stage == (_LAST if ended else _FOLLOWED)
            tasks.append(ScanTask(row.id, row.upto_id if goes_on else (row.id << 32) - 1, ended))
        return tasks

    def messages_after(self, task: ScanTask, limit: int) -> list[tuple[int, str | None, str]]:
        """Id, emote ranges and text of the messages after those seen, at most ``limit``."""
        end = (task.session_id + 1) << 32
        query = (
            select(chat_message.c.id, chat_message.c.emotes, chat_message.c.body)
            .where(chat_message.c.id > task.after_id, chat_message.c.id < end)
            .order_by(chat_message.c.id)
            .limit(limit)
        )
        return [(int(row.id), row.emotes, row.body) for row in self._connection.execute(query)]

    def said_after(self, session_id: int, after_id: int, limit: int) -> list[Said]:
        """Text and badges of a session's messages after one, at most ``limit``, in the order of their ids."""
        query = (
            select(chat_message.c.id, chat_message.c.body, func.coalesce(chatter.c.badges, ""))
            .join(chatter, chatter.c.id == chat_message.c.chatter_id, isouter=True)
            .where(chat_message.c.id > after_id, chat_message.c.id < (session_id + 1) << 32)
            .order_by(chat_message.c.id)
            .limit(limit)
        )
        return [Said(*row) for row in self._connection.execute(query)]

    def use(self, session_id: int, used: Mapping[str, tuple[str, str]], *, at_most: int) -> None:
        """These emotes of Twitch occur in a session: by id, what was typed and the image's address.

        A session has ``at_most`` so many; what comes after them is left out.
        """
        count = select(func.count()).select_from(emote_used).where(emote_used.c.session_id == session_id)
        room = at_most - int(self._connection.execute(count).scalar_one())
        known = select(emote_used.c.ref).where(emote_used.c.session_id == session_id)
        present = set(self._connection.execute(known).scalars()) if used else set()
        new = {ref: used[ref] for ref in list(used) if ref not in present}
        chosen = dict(list(new.items())[: max(0, room)])
        assets = self.want(url for _, url in chosen.values())
        rows = [
            {"session_id": session_id, "ref": ref, "code": code, "asset_id": assets[url]}
            for ref, (code, url) in sorted(chosen.items())
        ]
        for start in range(0, len(rows), _AT_ONCE):
            self._insert_absent(emote_used, rows[start : start + _AT_ONCE], ["session_id", "ref"])

    def seen_upto(self, task: ScanTask, upto_id: int, *, done: bool) -> None:
        """A session has been looked through so far; ``done``: up to its last message."""
        stage = (_DONE if done else _LAST) if task.ended else _FOLLOWED
        statement = self._insert(emote_scan).values(session_id=task.session_id, upto_id=upto_id, stage=stage)
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=["session_id"],
                set_={"upto_id": statement.excluded.upto_id, "stage": statement.excluded.stage},
            )
        )

    def scan_again(self, session_ids: Collection[int]) -> None:
        """Look these sessions through from their beginning once more: messages were added in between."""
        self._connection.execute(delete(emote_scan).where(emote_scan.c.session_id.in_(list(session_ids))))

    def used(self, session_ids: Collection[int]) -> dict[str, Entry]:
        """Twitch's emotes in these sessions, by id."""
        query = (
            select(emote_used.c.ref, emote_used.c.code, emote_asset.c.url)
            .join(emote_asset, emote_asset.c.id == emote_used.c.asset_id)
            .where(emote_used.c.session_id.in_(list(session_ids)))
            .order_by(emote_used.c.ref)
        )
        return {row.ref: Entry(row.code, row.ref, row.url) for row in self._connection.execute(query)}

    # ----------------------------------------------------------------------------------------------------

    def _insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        return sqlite.insert(table) if self._connection.dialect.name == "sqlite" else postgresql.insert(table)

    def _insert_absent(self, table: Table, rows: Sequence[Mapping[str, object]], key: list[str]) -> None:
        self._connection.execute(self._insert(table).values(list(rows)).on_conflict_do_nothing(index_elements=key))


def _key(row: Row[*tuple[Any, ...]]) -> SetKey:
    return SetKey(Provider(row.provider), Kind(row.kind), row.channel_id)


def _entry(row: Row[*tuple[Any, ...]]) -> Entry:
    return Entry(row.code, row.ref, row.url, bool(row.zero_width), row.title)


def _image(row: Row[*tuple[Any, ...]]) -> StoredImage:
    facts = ImageFacts(ImageType(row.media_type), row.width, row.height, bool(row.animated))
    return StoredImage(row.hash, facts, int(row.size_bytes))
