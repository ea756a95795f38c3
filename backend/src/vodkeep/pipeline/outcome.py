"""What the end of an attempt means for its item: a pure table from errors to outcomes.

===========================  ============================  ================  ==========================
the attempt ended with       the item becomes              counted           the breaker hears
===========================  ============================  ================  ==========================
a whole broadcast            ``downloaded``/``done``       a success         works
``StillRecording``           ``waiting``                   no                answered
``PermanentError``           ``parked`` with its code      a failure         answered
``Incomplete``               ``failed``, at last           a failure         silent
                             ``parked``
``DiskFull``,                ``failed`` with its code      no attempt        silent
``ArchiveAway``
other ``TransientError``     ``failed``                    a failure         systemic if it says so
anything else (a bug)        ``failed`` (``bug``)          a failure         silent
a stop of the service        ``pending``                   no                silent
``ItemBusyError``            ``pending``, soon again       no                silent
===========================  ============================  ================  ==========================

The last two come from outside of the attempt and are decided by the runner. A lost fence writes nothing at all: the
item belongs to somebody else by then.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime

from vodkeep.errors import ArchiveAway, DiskFull, Incomplete, PermanentError, StillRecording, TransientError
from vodkeep.pipeline.breaker import Verdict
from vodkeep.pipeline.model import DownloadState
from vodkeep.pipeline.retry import RetryPolicy, cooldown, obeyed, wait_after

BUG = "bug"

# Causes that lie in the item itself; only they can park it after the last attempt.
OWN_CODES = frozenset({Incomplete.code, "verify_failed"})

# Foreign text ends up in error sentences; a row and a page need only its beginning.
_LONGEST_SENTENCE = 500


@dataclass(frozen=True, slots=True)
class Setback:
    """An attempt that did not end with a whole broadcast."""

    state: DownloadState  # waiting, failed or parked
    code: str
    sentence: str
    remedy: str
    not_before: datetime | None  # UTC
    counts: bool  # whether it uses up an attempt
    verdict: Verdict

    @property
    def is_failure(self) -> bool:
        """Whether the attempt failed; waiting for a live broadcast is none."""
        return self.state is not DownloadState.WAITING


def is_own_cause(error: BaseException) -> bool:
    """Whether ``error`` lies in the item itself, so that another item would not meet it."""
    return isinstance(error, Incomplete) or (isinstance(error, TransientError) and error.code in OWN_CODES)


def judge(
    error: Exception,
    *,
    failures: int,
    own_failures: int,
    policy: RetryPolicy,
    now: datetime,
    rng: random.Random,
) -> Setback:
    """Decide what ``error`` means for the item whose attempt it ended.

    Args:
        error: what the stage raised.
        failures: failed attempts since the last success or reset, this one not counted.
        own_failures: those of them whose cause was the item's own (:func:`is_own_cause`).
        policy: the stage's retry settings.
        now: aware, UTC.
        rng: for jitter.
    """
    match error:
        case StillRecording():
            wait = obeyed(policy.recheck, error.delay_s)
            return Setback(
                DownloadState.WAITING,
                error.code,
                sentence_of(error),
                error.remedy,
                now + wait,
                counts=False,
                verdict=Verdict.ANSWERED,
            )
        case PermanentError():
            return Setback(
                DownloadState.PARKED,
                error.code,
                sentence_of(error),
                error.remedy,
                None,
                counts=True,
                verdict=Verdict.ANSWERED,
            )
        case DiskFull() | ArchiveAway():
            return Setback(
                DownloadState.FAILED,
                error.code,
                sentence_of(error),
                error.remedy or "Make room on the data disk; the item goes on by itself.",
                now + obeyed(cooldown(policy, rng), error.delay_s),
                counts=False,
                verdict=Verdict.SILENT,
            )
        case TransientError():
            own = is_own_cause(error)
            if own and own_failures + 1 >= policy.max_attempts:
                return Setback(
                    DownloadState.PARKED,
                    error.code,
                    sentence_of(error),
                    error.remedy or "Retry the item if the broadcast has been repaired at Twitch.",
                    None,
                    counts=True,
                    verdict=Verdict.SILENT,
                )
            return Setback(
                DownloadState.FAILED,
                error.code,
                sentence_of(error),
                error.remedy,
                now + wait_after(failures + 1, policy, rng, own=own, asked_s=error.delay_s),
                counts=True,
                verdict=Verdict.SYSTEMIC if error.systemic else Verdict.SILENT,
            )
        case _:
            return Setback(
                DownloadState.FAILED,
                BUG,
                f"An error in the program stopped the attempt: {type(error).__name__}.",
                "The log holds the traceback; please report it. The item is tried again by itself.",
                now + wait_after(failures + 1, policy, rng, own=False),
                counts=True,
                verdict=Verdict.SILENT,
            )


def sentence_of(error: Exception) -> str:
    """The error in words that fit a row and a page."""
    # Tools quote foreign bytes; PostgreSQL stores neither NUL nor lone surrogates.
    text = str(error).encode("utf-8", "replace").decode("utf-8").replace("\x00", "").strip() or type(error).__name__
    return text if len(text) <= _LONGEST_SENTENCE else f"{text[:_LONGEST_SENTENCE]}..."
