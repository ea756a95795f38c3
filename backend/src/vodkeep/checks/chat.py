"""Chat: whether it is recorded, whose, and with which account."""

from __future__ import annotations

from vodkeep.checks.model import Found, State, some
from vodkeep.pipeline.recorder_plan import Disabled, plan_recorder
from vodkeep.settings import Settings


async def look_at_chat(settings: Settings) -> Found:
    """What the settings mean for chat; asks nobody, so that it says the same whether or not a service runs."""
    plan = plan_recorder(settings)
    if isinstance(plan, Disabled):
        return Found(State.SKIPPED, f"Chat is not recorded. {plan.reason}", plan.remedy)
    told = []
    if plan.channels:
        told.append(f"Chat is recorded whenever one of these channels is live: {some(plan.channels)}.")
    if plan.into_vod is not None:
        told.append(f"The chat of {plan.into_vod.channel} is recorded into VOD {plan.into_vod.vod_id}.")
    account = settings.twitch.bot_username
    told.append("It is read anonymously." if account is None else f"It is read with the account {account}.")
    return Found(State.OK, " ".join(told))
