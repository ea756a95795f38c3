"""What is done about damage: the chat comes from the database, the rest from Twitch once more. Blocking."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from vodkeep.chat.fill import Filled
from vodkeep.db.engine import Database
from vodkeep.errors import ArchiveAway, DatabaseUnavailable, PermanentError, VodkeepError
from vodkeep.keep.fixity import check_file
from vodkeep.keep.manifest import CHAT_NAME, ManifestError, load_manifest
from vodkeep.pipeline.chat_stage import count_messages, load_subject, write_into_folder
from vodkeep.pipeline.model import Asked
from vodkeep.pipeline.recheck import Finding, repair
from vodkeep.pipeline.store import QueueStore


def mend(
    database: Database,
    chat: Database,
    finding: Finding,
    library: Path,
    now: datetime,
    asked: Asked,
    confirm: Callable[[], None] = lambda: None,
) -> str:
    """Mend what can be mended of an item; returns a sentence on what was done.

    What ``confirm`` raises ends it, and leaves the item as it was.
    """
    if finding.only_chat and finding.subject.row is not None:
        return write_chat_again(database, chat, finding, library, confirm)[1]
    with database.unit_of_work() as unit:
        done = repair(unit, finding, now, asked)
        unit.commit()
        return done


def write_chat_again(
    database: Database, chat: Database, finding: Finding, library: Path, confirm: Callable[[], None]
) -> tuple[bool, str]:
    """Write the chat file of an item from the database; returns whether it is whole, and a sentence on it.

    ``confirm`` is called before anything is changed; what it raises leaves the item as it is. A disk that cannot be
    written is no error here.
    """
    with chat.unit_of_work(write=False) as unit:
        there = count_messages(unit, finding.subject.video_id)
    with database.unit_of_work(write=False) as unit:
        item = QueueStore(unit.connection).find(finding.subject.video_id)
        subject = load_subject(unit, item, library) if item is not None else None
    entry = subject.manifest.chat if subject is not None else None
    if subject is None or entry is None:
        return False, "What its chat was is not told by its manifest; its video is as it was captured."
    if there < entry.messages:
        return False, (
            f"The database has {there} of the {entry.messages} messages that its chat had, so the file stays as it is;"
            " its video is as it was captured."
        )
    reason = PermanentError(entry.reason, code="chat_gap") if entry.reason else None
    filled = Filled(there, entry.completeness, entry.gaps, reason=reason)
    try:
        write_into_folder(chat, subject, filled, confirm, check=lambda: None)
        manifest = load_manifest(subject.folder)
    except (ArchiveAway, DatabaseUnavailable):
        raise
    except (OSError, ManifestError, VodkeepError) as error:
        return False, f"Its chat could not be written again: {str(error).rstrip('.')}."
    written = manifest.file(CHAT_NAME) if manifest is not None else None
    if written is None or check_file(subject.folder, written, lambda _: None) is not None:
        return False, "Its chat was written again from the database, and is damaged all the same: look at the disk."
    return True, "Its chat was written again from the database."
