"""When chat is recorded, whose, and why not: by the settings."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vodkeep.checks.chat import look_at_chat
from vodkeep.checks.model import State
from vodkeep.pipeline.recorder_plan import Disabled, IntoVod, RecorderPlan, plan_recorder
from vodkeep.settings import load_settings

pytestmark = pytest.mark.anyio

APP = {"TWITCH_CLIENT_ID": "id", "TWITCH_CLIENT_SECRET": "secret"}
TWO = {"TWITCH_CHANNEL": "one", "TWITCH_CHANNELS": "two"}
ACCOUNT = {"TWITCH_BOT_USERNAME": "keeper", "TWITCH_OAUTH_TOKEN": "token"}
AUTO = {"CHAT_AUTO_START": "1"}
MANUAL = {"TWITCH_VOD_ID": "123", "TWITCH_VOD_START": "2026-11-23T14:37:00Z"}
INTO = IntoVod("one", "123", datetime(2026, 11, 23, 14, 37, tzinfo=UTC))


@pytest.mark.parametrize(
    ("variables", "plan"),
    [
        pytest.param(APP | TWO | AUTO, RecorderPlan(("one", "two")), id="auto: every channel, anonymously"),
        pytest.param(APP | TWO | AUTO | ACCOUNT, RecorderPlan(("one", "two")), id="auto with an account"),
        pytest.param(APP | TWO | ACCOUNT, RecorderPlan(("one",)), id="an account: the first channel"),
        pytest.param(TWO | MANUAL, RecorderPlan((), INTO), id="into a VOD, without any credentials"),
        pytest.param(APP | TWO | AUTO | MANUAL, RecorderPlan(("two",), INTO), id="into a VOD, and the others"),
        pytest.param(TWO | AUTO | MANUAL, RecorderPlan((), INTO), id="into a VOD; the others cannot be watched"),
    ],
)
async def test_what_is_recorded(variables: dict[str, str], plan: RecorderPlan) -> None:
    settings = load_settings(variables)
    assert plan_recorder(settings) == plan
    assert (await look_at_chat(settings)).state is State.OK


@pytest.mark.parametrize(
    ("variables", "reason", "remedy"),
    [
        pytest.param({}, "CHAT_AUTO_START is off", "CHAT_AUTO_START=1", id="nothing is set"),
        pytest.param(APP | TWO, "are not all set", "TWITCH_OAUTH_TOKEN", id="a channel alone"),
        pytest.param(APP | {"TWITCH_CHANNELS": "two"} | ACCOUNT, "TWITCH_CHANNEL", "TWITCH_CHANNEL", id="no channel"),
        pytest.param(APP | TWO | {"TWITCH_BOT_USERNAME": "keeper"}, "are not all set", "all of", id="no token"),
        pytest.param(APP | AUTO, "no channel is kept", "Set TWITCH_CHANNEL", id="auto without a channel"),
        pytest.param(TWO | AUTO, "Without TWITCH_CLIENT_ID", "dev.twitch.tv", id="auto without Helix"),
        pytest.param(TWO | ACCOUNT, "Without TWITCH_CLIENT_ID", "dev.twitch.tv", id="an account without Helix"),
    ],
)
async def test_why_nothing_is_recorded_and_what_to_do(variables: dict[str, str], reason: str, remedy: str) -> None:
    settings = load_settings(variables)
    plan = plan_recorder(settings)
    assert isinstance(plan, Disabled)
    assert reason in plan.reason
    assert remedy in plan.remedy
    found = await look_at_chat(settings)
    assert (found.state, found.fix) == (State.SKIPPED, plan.remedy)
    assert plan.reason in found.sentence
