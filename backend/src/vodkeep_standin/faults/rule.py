"""Which requests meet which fault, and how often."""

from __future__ import annotations

from fnmatch import fnmatchcase

import msgspec

from vodkeep_standin.faults.bandwidth import Bandwidth
from vodkeep_standin.faults.content_type import ContentType
from vodkeep_standin.faults.expired import ExpiredPlayback
from vodkeep_standin.faults.garbage import Garbage
from vodkeep_standin.faults.gql_comments import GqlComments
from vodkeep_standin.faults.gql_errors import GqlErrors
from vodkeep_standin.faults.helix_body import HelixBody
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.faults.oversized import Oversized
from vodkeep_standin.faults.redirect import Redirect
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.stall import Stall
from vodkeep_standin.faults.status import Status
from vodkeep_standin.faults.truncate import Truncate
from vodkeep_standin.faults.upload_bandwidth import UploadBandwidth
from vodkeep_standin.faults.upload_break import UploadBreak
from vodkeep_standin.faults.wrong_length import WrongLength
from vodkeep_standin.faults.youtube_error import YouTubeError
from vodkeep_standin.serving.call import Call

AnyFault = (
    Latency
    | Bandwidth
    | Status
    | Reset
    | Truncate
    | WrongLength
    | Garbage
    | ExpiredPlayback
    | Stall
    | HelixBody
    | GqlErrors
    | GqlComments
    | ContentType
    | Oversized
    | Redirect
    | YouTubeError
    | UploadBreak
    | UploadBandwidth
)


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which requests; globs as in ``fnmatch``, ``*`` also crosses slashes."""

    method: str = "*"
    host: str = "*"
    """Clients that come directly have host ``127.0.0.1``."""
    path: str = "*"
    operation: str = "*"
    """GQL operation, e.g. ``VideoMetadata`` or ``videoPlaybackAccessToken``; one of a batch is enough."""

    def applies(self, call: Call) -> bool:
        """Whether the request is meant."""
        return (
            fnmatchcase(call.method, self.method)
            and fnmatchcase(call.host, self.host)
            and fnmatchcase(call.path, self.path)
            and (self.operation == "*" or any(fnmatchcase(name, self.operation) for name in call.operations))
        )


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault for matching requests: skip the first ``after``, then apply at most ``count`` times."""

    fault: AnyFault
    match: Match = Match()
    count: int | None = None
    """``None``: for ever."""
    after: int = 0
    probability: float = 1.0
    """Decided per request by a generator seeded with the scenario's seed."""
