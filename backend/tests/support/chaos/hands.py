"""The operator, who asks the service for things, or changes them in the database by hand as the runbook says."""

from __future__ import annotations

import json
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg.rows import dict_row

_ANSWER_LIMIT_S = 5.0
_UNFINISHED = "processed=0 AND download_state NOT IN ('canceled', 'downloaded', 'uploading', 'done')"


class Unreachable(Exception):
    """Whoever was asked does not answer, or somebody holds what is wanted: the operator gives up for now."""


@dataclass(slots=True)
class Operator:
    """One operator with a browser and a shell on the database, and what they have done to single items."""

    dsn: str | None
    sqlite_file: Path
    canceled: set[str] = field(default_factory=set)  # the last word about them was "cancel"
    anew: set[str] = field(default_factory=set)  # were to be fetched again
    unsure: set[str] = field(default_factory=set)  # a statement broke off, so nobody knows whether it counted
    cancels: dict[str, int] = field(default_factory=dict)

    def look(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query; raises `Unreachable`."""
        return self._run(query)[0]

    def ask(self, url: str, item: str, action: Literal["cancel", "retry", "reprocess"]) -> bool:
        """Ask the service at ``url``; whether it did as asked, and did not refuse. Raises `Unreachable`."""
        body = json.dumps({"fresh": True} if action == "reprocess" else {}).encode()
        request = urllib.request.Request(
            f"{url}/api/v1/vods/{item}/{action}", body, {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_LIMIT_S):
                pass
        except urllib.error.HTTPError as error:
            with error:
                if error.code in (404, 409):
                    return False
            self.unsure.add(item)
            raise Unreachable(f"the service answered {error.code}") from error
        except (OSError, urllib.error.URLError) as error:
            self.unsure.add(item)
            raise Unreachable(str(error)) from error
        if action == "cancel":
            self.canceled.add(item)
        else:
            self.canceled.discard(item)
        return True

    def cancel(self, item: str) -> bool:
        """Stop an item for good; whether there was anything to stop."""
        changed = self._change(
            item,
            "UPDATE vods SET download_state='canceled', processing_error='canceled by hand'"
            f" WHERE twitch_vod_id='{item}' AND {_UNFINISHED}",
        )
        if changed:
            self.cancels[item] = self.cancels.get(item, 0) + 1
            self.canceled.add(item)
        return changed

    def reset(self, item: str) -> bool:
        """Ask for an item again, with the statement of the runbook."""
        changed = self._change(
            item,
            f"UPDATE vods SET processed=0, processing_error=NULL, youtube_url=NULL WHERE twitch_vod_id='{item}'",
        )
        if changed:
            self.canceled.discard(item)
        return changed

    def prefer(self, item: str, priority: int) -> bool:
        """Change an item's priority."""
        return bool(self._run(f"UPDATE vods SET priority={priority} WHERE twitch_vod_id='{item}'")[1])

    def close_breakers(self) -> None:
        """The runbook's statement that closes every breaker."""
        self._run("DELETE FROM kv WHERE key IN ('circuit_state','circuit_failures','circuit_open_until')")

    def _change(self, item: str, statement: str) -> bool:
        try:
            return bool(self._run(statement)[1])
        except Unreachable:
            self.unsure.add(item)
            raise

    def _run(self, statement: str) -> tuple[list[dict[str, Any]], int]:
        return self._in_sqlite(statement) if self.dsn is None else self._in_postgres(self.dsn, statement)

    def _in_sqlite(self, statement: str) -> tuple[list[dict[str, Any]], int]:
        if not self.sqlite_file.exists():
            raise Unreachable("there is no database yet")
        try:
            with closing(sqlite3.connect(self.sqlite_file, timeout=5, isolation_level=None)) as connection:
                connection.row_factory = sqlite3.Row
                done = connection.execute(statement)
                return [dict(row) for row in done.fetchall()], done.rowcount
        except sqlite3.Error as error:
            raise Unreachable(str(error)) from error

    def _in_postgres(self, dsn: str, statement: str) -> tuple[list[dict[str, Any]], int]:
        # A process that was stopped in the middle of a transaction may hold a row for as long as it is stopped.
        patience = "-c lock_timeout=3000 -c statement_timeout=5000"
        try:
            with psycopg.connect(
                dsn, autocommit=True, connect_timeout=3, options=patience, row_factory=dict_row
            ) as connection:
                done = connection.execute(statement)
                return (list(done.fetchall()) if done.description else []), done.rowcount
        except psycopg.Error as error:
            raise Unreachable(str(error)) from error
