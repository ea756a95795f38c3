"""What people ask of an item, in the database: one function for each thing, whatever way the request came in.

The command line, ``/api/v1``, the forms below ``/admin/vod`` and, as far as SQL allows it, a statement by hand mean
the same. Each request that changes something leaves an event that names where it came from; one that asks for what is
so already changes nothing and says nothing. What cannot be done raises `RequestRefused`, with the reason.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from vodkeep.db.events import EventLog
from vodkeep.db.tables import vods
from vodkeep.errors import RequestRefused
from vodkeep.pipeline.model import HIGHEST_PRIORITY, RUNNING, Asked, Asker, DownloadState, QueueItem, Stage
from vodkeep.pipeline.store import RESET, QueueStore
from vodkeep.publish.metadata import LONGEST_DESCRIPTION
from vodkeep.publish.store import PublicationStore

CANCELED = "canceled"
"""The code of a cancel, in `vods.error_code` and in `events.code`."""

_S = DownloadState

_AGAIN_SENTENCE = "Asked for again."

_AGAIN = {
    "download_state": _S.PENDING,
    "stage": Stage.CAPTURE,
    "processed": 0,
    "processing_error": None,
    "error_code": None,
    "not_before": None,
    "download_retries": 0,
    "upload_retries": 0,
}


class ActionStore:
    """People's requests on one connection; the caller's unit of work commits.

    Every method returns the item as it is afterwards and raises `UnknownItem` when there is none.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue = QueueStore(connection)

    def find(self, item_id: str) -> QueueItem:
        """The item, which nobody else changes until the transaction ends."""
        return self._queue.lock(item_id)

    def cancel(self, item_id: str, now: datetime, asked: Asked) -> QueueItem:
        """Stop the item until somebody asks for it again; what was fetched is kept, and it is no failure.

        Raises the generation, so that a run at work loses its fence wherever it runs. Raises `RequestRefused` when
        the item is done.
        """
        item = self._find_broadcast(item_id)
        if item.is_reset:
            # It is due, though its state is that of before the statement; `done` cannot be canceled, `pending` can.
            item = self._again(item, now, Asked(Asker.SQL, asked.corr))
        if item.download_state is _S.CANCELED:
            return item
        if item.download_state is _S.DONE:
            raise RequestRefused(f"Item {item_id} is done; there is nothing to cancel.")
        values = {
            "download_state": _S.CANCELED,
            "processing_error": "Canceled.",
            "error_code": CANCELED,
            "not_before": None,
        }
        return self._queue.take_over(item, now, values, asked=asked, code=CANCELED, sentence="Canceled.")

    def retry(self, item_id: str, now: datetime, asked: Asked) -> QueueItem:
        """Make an item that is not done due at once, with its attempts counted anew; it goes on where it was.

        Raises `RequestRefused` while it is at work and when it is done.
        """
        item = self._find_broadcast(item_id)
        if item.processed:
            raise RequestRefused(f"Item {item_id} is done.", remedy="Reprocess it to have it looked at again.")
        return self._again(item, now, asked)

    def reprocess(
        self, item_id: str, now: datetime, asked: Asked, *, fresh: bool = False, republish: bool = False
    ) -> QueueItem:
        """Make any item due at once, a finished one too; what is whole in the library is verified and linked again.

        With ``fresh`` it is fetched anew from Twitch, and what lies in the library stays until the new one has stood
        every check. With ``republish`` it is published anew; what is on YouTube stays there and is linked no more.
        Raises `RequestRefused` while it is at work.
        """
        item = self._find_broadcast(item_id)
        if republish and item.download_state not in RUNNING:
            self._republish(item_id, now, asked)
        sentence = "Asked for anew; what is there stays until the new one is proven." if fresh else _AGAIN_SENTENCE
        return self._again(item, now, asked, fresh=fresh, sentence=sentence)

    def set_priority(self, item_id: str, priority: int, now: datetime, asked: Asked) -> QueueItem:
        """Items of a higher priority go first; raises `RequestRefused` beyond plus or minus `HIGHEST_PRIORITY`."""
        if abs(priority) > HIGHEST_PRIORITY:
            raise RequestRefused(f"A priority lies between -{HIGHEST_PRIORITY} and {HIGHEST_PRIORITY}.")
        item = self._queue.lock(item_id)
        if item.priority == priority:
            return item
        sentence = f"It was {item.priority} and is {priority}."
        return self._change(item, now, asked, {"priority": priority}, kind="priority", sentence=sentence)

    def set_skip_upload(self, item_id: str, skip: bool, now: datetime, asked: Asked) -> QueueItem:
        """Whether the item is never published; one that is being published is not stopped by this."""
        item = self._queue.lock(item_id)
        if item.skip_upload is skip:
            return item
        sentence = "It is not to be published." if skip else "It may be published."
        return self._change(item, now, asked, {"skip_upload": int(skip)}, kind="upload", sentence=sentence)

    def set_description(self, item_id: str, text: str, now: datetime, asked: Asked) -> QueueItem:
        """What YouTube is told instead of Twitch's description; empty: Twitch's again.

        What is on YouTube already stays as it is. Raises `RequestRefused` for more than `LONGEST_DESCRIPTION` bytes.
        """
        text = text.replace("\r\n", "\n").replace("\0", "").strip()
        text = text.encode("utf-8", "replace").decode()
        if len(text.encode()) > LONGEST_DESCRIPTION:
            raise RequestRefused(f"A description has at most {LONGEST_DESCRIPTION} bytes of UTF-8.")
        item = self._queue.lock(item_id)
        known = select(vods.c.custom_description).where(vods.c.twitch_vod_id == item_id)
        if (self._connection.execute(known).scalar_one() or "") == text:
            return item
        sentence = "It has a description of its own." if text else "It has the description of Twitch again."
        return self._change(
            item, now, asked, {"custom_description": text or None}, kind="description", sentence=sentence
        )

    def set_protected(self, item_id: str, protected: bool, now: datetime, asked: Asked) -> QueueItem:
        """Whether retention never lets the item's video go; one that is in the trash already stays there."""
        item = self._queue.lock(item_id)
        if item.protected is protected:
            return item
        sentence = "Its video is protected." if protected else "Its video is not protected any more."
        return self._change(item, now, asked, {"protected": int(protected)}, kind="retention", sentence=sentence)

    # --- how it is done ----------------------------------------------------------------------------------------------

    def _find_broadcast(self, item_id: str) -> QueueItem:
        """The item for a request about its capture; raises `RequestRefused` when only its live stream is known."""
        item = self._queue.lock(item_id)
        if item.is_placeholder:
            raise RequestRefused(
                f"Item {item_id} is known from its live stream only; there is nothing to download.",
                remedy="It becomes its VOD by itself when Twitch publishes one.",
            )
        return item

    def _again(
        self,
        item: QueueItem,
        now: datetime,
        asked: Asked,
        *,
        fresh: bool | None = None,  # None: as it is
        sentence: str = _AGAIN_SENTENCE,
    ) -> QueueItem:
        """The same as the operator's statement, with an event that names the request."""
        if item.download_state in RUNNING:
            raise RequestRefused(
                f"Item {item.twitch_vod_id} is at work ({item.download_state}).", remedy="Cancel it first."
            )
        fresh = item.fresh if fresh is None else fresh
        if item.download_state is _S.PENDING and item.not_before is None and item.fresh is fresh:
            return item
        values = {**_AGAIN, "fresh": int(fresh)}
        return self._queue.take_over(item, now, values, asked=asked, code=RESET, sentence=sentence)

    def _republish(self, item_id: str, now: datetime, asked: Asked) -> None:
        if PublicationStore(self._connection).supersede(item_id, now):
            EventLog(self._connection).append(
                item_id,
                at=now,
                kind="publication",
                code="superseded",
                sentence="It is to be published anew; what is on YouTube stays there.",
                corr=asked.corr,
                asked_by=asked.by,
            )

    def _change(
        self, item: QueueItem, now: datetime, asked: Asked, values: dict[str, Any], *, kind: str, sentence: str
    ) -> QueueItem:
        """Write what is no move; the generation stays, and a run at work goes on."""
        self._connection.execute(
            update(vods).where(vods.c.twitch_vod_id == item.twitch_vod_id).values({**values, "updated_at": now})
        )
        EventLog(self._connection).append(
            item.twitch_vod_id, at=now, kind=kind, sentence=sentence, corr=asked.corr, asked_by=asked.by
        )
        return self._queue.lock(item.twitch_vod_id)
