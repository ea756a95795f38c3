"""A renewal on its way into the database: written to DATA_DIR first, so that losing the commit does not lose the token.

Where a provider ends a refresh token with its use, the answer to a renewal is the only copy of the next one. It is in a
file, sealed like the row it is for, before the transaction begins; whoever renews next finds it there. What remains is
the moment between the last byte of the answer and the file: a process that is killed there loses it, and only a
provider that still takes the old token (Google does, and Twitch for applications with a secret) makes that harmless.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from pathlib import Path

from vodkeep.accounts.model import Connection
from vodkeep.accounts.store import Sealed

FOLDER = ".tokens"


class Spool:
    """The files; calls block. One file for each connection."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER

    def write(self, old: Connection, sealed: Sealed) -> None:
        """Make the renewal of ``old`` durable. Raises ``OSError``."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        document = {
            "version": old.version,
            "key_id": sealed.key_id,
            "access": sealed.access,
            "refresh": sealed.refresh,
            "expires_at": None if sealed.expires_at is None else sealed.expires_at.isoformat(),
            "scope": sealed.scope,
        }
        path = self._path(old)
        # One name is enough: who writes holds the lease.
        beside = path.with_suffix(".part")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self, old: Connection) -> Sealed | None:
        """A renewal of exactly these tokens that was not stored; None when there is none."""
        try:
            document = json.loads(self._path(old).read_text(encoding="utf-8"))
            if document["version"] != old.version:
                return None
            ends = document["expires_at"]
            return Sealed(
                document["access"],
                document["refresh"],
                document["key_id"],
                None if ends is None else datetime.fromisoformat(ends),
                document["scope"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove(self, old: Connection) -> None:
        """Forget it: it is in the database, or of no use. A folder that cannot be written keeps it, harmlessly."""
        try:
            self._path(old).unlink(missing_ok=True)
        except OSError:
            return

    def _path(self, old: Connection) -> Path:
        digest = hashlib.sha256(old.channel.encode()).hexdigest()[:16]
        return self._folder / f"{old.provider}-{digest}.json"
