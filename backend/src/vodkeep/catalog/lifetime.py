"""How long Twitch keeps a recording, and which recordings were there before us: rules over plain values.

Twitch deletes past broadcasts 7 days after they were made, 14 days for affiliates, 60 days for partners and for who has
Prime or Turbo; highlights and uploads, which are not kept here, stay. (https://help.twitch.tv/s/article/video-on-demand,
"Video Storage", read 2026-11-23.) Nothing in the API says which of the three holds for a channel, but its list does: a
recording of twelve days that is still there shows that it is not 7.
"""

from __future__ import annotations

from datetime import datetime, timedelta

KEPT = (timedelta(days=7), timedelta(days=14), timedelta(days=60))
"""The times there are, shortest first."""

# Deleting is a job that runs now and then: a recording that is a few hours beyond its time shows nothing.
_GRACE = timedelta(days=1)

ENOUGH_GONE = 3
"""So many known recordings have to be missing from a whole list before it shows that its time has become shorter.

One or two may have been deleted by hand.
"""

# The longest broadcast that Twitch records takes 48 hours, and its list shows it from the start.
_NEW_WITHIN = timedelta(days=2)


def shown_lifetime(oldest: timedelta) -> timedelta:
    """The shortest time that fits a list whose oldest recording is ``oldest`` old; never less than the truth shows.

    A channel that streams rarely, or has only begun to, may have a longer one; to assume the shorter is only to hurry.
    """
    return next((kept for kept in KEPT if oldest <= kept + _GRACE), KEPT[-1])


def kept_until(lifetime: timedelta, now: datetime) -> datetime:
    """A recording that began earlier is no longer in the list of a channel with that lifetime."""
    return now - lifetime - _GRACE


def was_there_before(began: datetime, found: datetime) -> bool:
    """Whether a broadcast belongs to the back-catalogue: it was old already when the catalog first saw it.

    What is found while the channel is looked at regularly is minutes old, and stays new however long it then waits.
    """
    return found - began > _NEW_WITHIN
