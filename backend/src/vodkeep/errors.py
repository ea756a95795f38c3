"""The errors the service speaks in.

::

    VodkeepError                 one clear sentence, a cause code, a remedy
    ├── SettingsError            a setting stops the start (exit code 2)
    ├── TransientError           trying again can help; may carry the delay the other side asked for
    │   ├── NetworkError         no answer: name lookup, connect, TLS, reset, timeout           (systemic)
    │   ├── ServerError          an answer that is the other side's fault: 5xx, nonsense bodies  (systemic)
    │   ├── RateLimited          we were told to slow down
    │   ├── LimitReached         a daily limit is used up; says until when
    │   ├── CredentialsError     our client id, secret or token is refused                       (systemic)
    │   ├── DatabaseUnavailable  the database does not answer
    │   ├── StillRecording       the broadcast has not ended yet; not a failure
    │   ├── Incomplete           parts are missing or damaged at the source
    │   ├── DiskFull             no space left
    │   └── ArchiveAway          DATA_DIR is not the archive at the moment: its disk is not mounted
    ├── PermanentError           trying again cannot help; a person must decide
    └── RequestRefused           what a person asked for cannot be done to this item; nothing was changed
        └── UnknownItem          there is no such item

A *systemic* error says that the next item would meet it too; only those count for the circuit breaker.
Foreign exceptions become one of these at the edge, once, with the cause chained. Anything else that reaches
the end of a task is a bug and is logged with its traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class VodkeepError(Exception):
    """Base of everything we raise on purpose.

    ``str(error)`` is one sentence for a person; ``code`` is stable and machine-readable (``[a-z_]+``);
    ``remedy`` says what a person can do, or is empty when waiting is all there is.
    """

    code = "error"
    systemic = False

    def __init__(self, sentence: str, *, code: str | None = None, remedy: str = "") -> None:
        super().__init__(sentence)
        if code is not None:
            self.code = code
        self.remedy = remedy


class SettingsError(VodkeepError):
    """One or more settings stop the start; ``problems`` holds one sentence each."""

    code = "settings"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class TransientError(VodkeepError):
    """Trying again can help. ``delay_s`` is the wait in seconds the other side asked for, if it did."""

    code = "transient"

    def __init__(
        self, sentence: str, *, code: str | None = None, remedy: str = "", delay_s: float | None = None
    ) -> None:
        super().__init__(sentence, code=code, remedy=remedy)
        self.delay_s = delay_s


class NetworkError(TransientError):
    """No answer: name lookup, connect, TLS, reset or timeout."""

    code = "network"
    systemic = True


class ServerError(TransientError):
    """An answer that is the other side's fault: 5xx or a body that is not what it should be."""

    code = "server_error"
    systemic = True


class RateLimited(TransientError):
    """The other side told us to slow down."""

    code = "rate_limited"


class LimitReached(TransientError):
    """A limit is used up that only time renews; ``until`` (with a time zone) is when trying again can help.

    It says nothing about the item, so it is not counted as a failure of it.
    """

    code = "limit_reached"

    def __init__(self, sentence: str, *, until: datetime, code: str | None = None, remedy: str = "") -> None:
        super().__init__(sentence, code=code, remedy=remedy)
        self.until = until


class CredentialsError(TransientError):
    """Our client id, secret or token is refused; retried slowly, because a person can mend it meanwhile."""

    code = "credentials"
    systemic = True


class DatabaseUnavailable(TransientError):
    """The database does not answer."""

    code = "database"


class StillRecording(TransientError):
    """The broadcast has not ended yet. Waiting is the plan, so it is never counted as a failure."""

    code = "still_recording"


class Incomplete(TransientError):
    """Parts of the broadcast are missing or damaged at the source."""

    code = "incomplete"


class DiskFull(TransientError):
    """No space is left for the work; nothing else is deleted to make room."""

    code = "disk_full"


class ArchiveAway(TransientError):
    """What stands at DATA_DIR is not the archive at the moment, so nothing is written there."""

    code = "archive_away"


class PermanentError(VodkeepError):
    """Trying again cannot help: sub-only, deleted, geo-blocked, a format nobody can handle."""

    code = "permanent"


class RequestRefused(VodkeepError):
    """A person asked for something that cannot be done to the item as it stands; nothing was changed."""

    code = "not_possible"


class UnknownItem(RequestRefused):
    """No item has the id that a person named."""

    code = "unknown_vod"
