"""Sets as of stream time: what is written down when they change, fail and are suddenly empty."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support.vault import IMPATIENT, VaultHouse
from vodkeep.chat.vault.model import GLOBAL, Kind, Provider, SetKey
from vodkeep_standin.emotes.model import Badge, Emote
from vodkeep_standin.faults.garbage import Garbage
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.rule import AnyFault
from vodkeep_standin.faults.stall import Stall
from vodkeep_standin.faults.status import Status
from vodkeep_standin.faults.truncate import Truncate
from vodkeep_standin.scenario import ids

pytestmark = pytest.mark.anyio

CHANNEL = ids.CHANNEL_ID
HOUR = timedelta(hours=1)
DAY_S = 86_400.0
NEW = "5f9" + "0" * 21


async def codes_now(house: VaultHouse) -> set[str]:
    """What means something at this moment."""
    now = house.clock.now()
    view = (await house.replay.of_item("1", CHANNEL, now, now + timedelta(seconds=1))).view
    return set(view.codes) | {meaning.entry.code for meaning in view.twitch.values()}


async def snapshot(house: VaultHouse) -> None:
    """A snapshot of now in which nothing failed."""
    assert not (await house.vault.snapshot(CHANNEL, house.clock.now())).failed


async def test_a_snapshot_holds_every_set_of_every_provider(house: VaultHouse) -> None:
    report = await house.vault.snapshot(CHANNEL, house.clock.now())

    assert not report.failed
    assert len(report.seen) == 10
    view = (await house.view(CHANNEL)).view
    everywhere = {"OMEGALUL", "ZreknarF", ":tf:", "monkaS", "EZ", "RainTime"}
    assert everywhere | {"catJAM", "Clap", "LULW", "peepoHappy"} <= set(view.codes)
    assert "OnlyForSome" not in view.codes
    assert view.codes["RainTime"].entry.zero_width
    assert view.codes["catJAM"].provider is Provider.BTTV
    assert {"25", "1902"} <= set(view.twitch)
    assert view.badges["subscriber/6"].entry.title == "6-Month Subscriber"
    assert view.badges["vip/1"].entry.title == "VIP"
    # The channel's own badge hides the one that everybody has.
    own = next(badge for badge in house.standin.scenario.emotes.badges[CHANNEL] if badge.version == "0")
    assert own.image in view.badges["subscriber/0"].entry.url


async def test_an_old_stream_is_shown_with_the_emotes_of_then(house: VaultHouse) -> None:
    sets = house.standin.scenario.emotes
    await snapshot(house)
    then = sets.bttv[CHANNEL][0]
    house.clock.jump(DAY_S)
    sets.bttv[CHANNEL] = [Emote(NEW, "catJAM"), Emote("5f8" + "0" * 21, "NewOne")]
    await snapshot(house)
    house.clock.jump(7200)

    now = (await house.view(CHANNEL)).view
    old = (await house.view(CHANNEL, before=timedelta(hours=12))).view
    assert now.codes["catJAM"].entry.ref == NEW
    assert "Clap" not in now.codes
    assert old.codes["catJAM"].entry.ref == then.id
    assert "Clap" in old.codes
    assert "NewOne" not in old.codes


async def test_a_change_in_mid_stream_is_told_with_its_time(house: VaultHouse) -> None:
    await snapshot(house)
    house.clock.jump(1800)
    house.standin.scenario.emotes.bttv[CHANNEL] = [Emote(NEW, "catJAM"), Emote("5f8" + "0" * 21, "NewOne")]
    changed = house.clock.now()
    await snapshot(house)
    house.clock.jump(600)

    view = (await house.view(CHANNEL)).view
    at_ms = int(changed.timestamp() * 1000)
    assert [(change.at_ms, change.code, change.meaning and change.meaning.entry.ref) for change in view.changes] == [
        (at_ms, "Clap", None),
        (at_ms, "catJAM", NEW),
    ]
    # What came later belongs to the broadcast too.
    assert view.codes["NewOne"].entry.ref == "5f8" + "0" * 21


async def test_a_broadcast_from_before_the_first_snapshot_says_so(house: VaultHouse) -> None:
    await snapshot(house)
    view = (await house.view(CHANNEL, before=timedelta(days=30))).view
    assert "catJAM" in view.codes
    assert view.changes == ()
    assert not any(seen.exact for seen in view.sets)
    assert {seen.as_of_ms for seen in view.sets} == {int(house.clock.now().timestamp() * 1000)}
    assert all(seen.exact for seen in (await house.view(CHANNEL, before=-timedelta(hours=2))).view.sets)


FAULTS: dict[str, AnyFault] = {
    "404 in html": Status(404, body="<html>not found</html>", content_type="text/html"),
    "503": Status(503),
    "403": Status(403),
    "429": Status(429, retry_after="60"),
    "html": Garbage("html"),
    "random": Garbage("random"),
    "empty": Garbage("empty"),
    "truncated": Truncate(),
    "reset": Reset(),
    "silent": Stall(),
    "dripping": Stall(after_bytes=10, drip_interval_s=0.1),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_provider_that_fails_ends_no_set_and_stops_no_other(house: VaultHouse, fault: AnyFault) -> None:
    await snapshot(house)
    before = await codes_now(house)
    if isinstance(fault, Stall):
        house.client.limits = IMPATIENT
    house.standin.faults.add(fault, path="/bttv/*")
    house.standin.scenario.emotes.seventv[CHANNEL].append(Emote("01FNEW", "Fresh"))
    house.clock.jump(7200)
    report = await house.vault.snapshot(CHANNEL, house.clock.now())

    assert {key.provider for key in report.failed} == {Provider.BTTV}
    assert await codes_now(house) == before | {"Fresh"}


@pytest.mark.parametrize("provider", list(Provider))
async def test_an_empty_set_is_believed_when_it_is_said_twice(house: VaultHouse, provider: Provider) -> None:
    sets = house.standin.scenario.emotes
    emptied = {
        Provider.BTTV: sets.bttv, Provider.FFZ: sets.ffz, Provider.SEVENTV: sets.seventv, Provider.TWITCH: sets.twitch,
    }[provider]  # fmt: skip
    codes = {emote.code for emote in emptied[CHANNEL]}
    await snapshot(house)
    emptied[CHANNEL] = []
    house.clock.jump(3600)
    first = house.clock.now()
    await snapshot(house)
    assert codes <= await codes_now(house), "one empty answer may be an outage"
    house.clock.jump(60)
    await snapshot(house)
    assert codes <= await codes_now(house), "so may two right after one another"
    house.clock.jump(3600)
    await snapshot(house)
    assert not codes & await codes_now(house)
    view = (await house.replay.of_item("1", CHANNEL, first - HOUR, first)).view
    shown = set(view.codes) | {meaning.entry.code for meaning in view.twitch.values()}
    assert codes <= shown, "an old broadcast keeps them"


async def test_a_set_that_was_empty_once_and_is_back_never_ended(house: VaultHouse) -> None:
    sets = house.standin.scenario.emotes
    emotes = sets.ffz[CHANNEL]
    await snapshot(house)
    for said in ([], emotes, []):
        sets.ffz[CHANNEL] = said
        house.clock.jump(3600)
        await snapshot(house)
        assert "LULW" in await codes_now(house)


async def test_a_channel_that_a_provider_does_not_know_has_no_set_there(house: VaultHouse) -> None:
    report = await house.vault.snapshot("99887766", house.clock.now())
    assert not report.failed
    codes = (await house.view("99887766")).view.codes
    assert "catJAM" not in codes
    assert "OMEGALUL" in codes


async def test_an_entry_that_cannot_be_read_costs_only_itself_and_ends_nothing(house: VaultHouse) -> None:
    await snapshot(house)
    house.standin.scenario.emotes.bttv[CHANNEL] = [
        Emote("no id/at all", "Broken"), Emote("5f7" + "0" * 21, "Good"), Emote("x", "has space"),
    ]  # fmt: skip
    house.clock.jump(3600)
    await snapshot(house)
    codes = await codes_now(house)
    assert {"Good", "catJAM", "Clap"} <= codes
    assert not {"Broken", "has space"} & codes


async def test_a_set_of_too_many_is_cut_and_ends_nothing(house: VaultHouse) -> None:
    await snapshot(house)
    house.standin.scenario.emotes.seventv[CHANNEL] = [Emote(f"01F{n:020d}", f"code{n}") for n in range(3001)]
    house.clock.jump(3600)
    await snapshot(house)
    codes = await codes_now(house)
    assert sum(code.startswith("code") for code in codes) == 3000
    assert "peepoHappy" in codes


async def test_global_sets_are_asked_for_once_an_hour_however_many_channels_there_are(house: VaultHouse) -> None:
    for channel in (CHANNEL, ids.OTHER_CHANNEL_ID, CHANNEL):
        await house.vault.snapshot(channel, house.clock.now())
    assert len(house.standin.requests.entries("/7tv/v3/emote-sets/global")) == 1
    assert len(house.standin.requests.entries(f"/7tv/v3/users/twitch/{CHANNEL}")) == 2
    house.clock.jump(3601)
    await snapshot(house)
    assert len(house.standin.requests.entries("/7tv/v3/emote-sets/global")) == 2


async def test_a_badge_with_a_new_picture_is_another_one(house: VaultHouse) -> None:
    await snapshot(house)
    house.clock.jump(2 * DAY_S)
    image = "00000000-0000-4000-8000-000000000001"
    house.standin.scenario.emotes.badges[CHANNEL] = [Badge("subscriber", "0", "Subscriber", image)]
    await snapshot(house)
    house.clock.jump(7200)
    assert image in (await house.view(CHANNEL)).view.badges["subscriber/0"].entry.url
    old = (await house.view(CHANNEL, before=timedelta(days=1))).view
    assert image not in old.badges["subscriber/0"].entry.url


async def test_what_is_recorded_is_seen_at_its_start_and_every_hour(house: VaultHouse) -> None:
    await house.add_session(CHANNEL)
    await house.add_session(None)
    began = house.clock.now() - timedelta(minutes=10)
    await house.vault.see_recorded()
    assert {seen.exact for seen in (await house.replay.of_item("1", CHANNEL, began, began)).view.sets
            if seen.key.channel_id} == {True}  # fmt: skip
    house.standin.scenario.emotes.bttv[CHANNEL].append(Emote("5f6" + "0" * 21, "Later"))
    house.clock.jump(30 * 60)
    await house.vault.see_recorded()
    assert "Later" not in await codes_now(house)
    house.clock.jump(31 * 60)
    await house.vault.see_recorded()
    assert "Later" in await codes_now(house)


async def test_a_provider_that_is_away_is_asked_again_in_a_few_minutes(house: VaultHouse) -> None:
    await house.add_session(CHANNEL)
    house.standin.faults.add(Status(503), path="/ffz/*")
    path = f"/ffz/v1/room/id/{CHANNEL}"
    for _ in range(3):
        await house.vault.see_recorded()
        house.clock.jump(60)
    assert len(house.standin.requests.entries(path)) == 1
    assert len(house.standin.requests.entries(f"/7tv/v3/users/twitch/{CHANNEL}")) == 1
    house.standin.faults.clear()
    house.clock.jump(300)
    await house.vault.see_recorded()
    assert len(house.standin.requests.entries(path)) == 2
    assert "LULW" in await codes_now(house)


async def test_a_slow_provider_does_not_make_a_snapshot_wait_for_ever(house: VaultHouse) -> None:
    house.client.limits = IMPATIENT
    house.standin.faults.add(Latency(60_000), path="/7tv/*")
    report = await house.vault.snapshot(CHANNEL, house.clock.now())
    assert set(report.failed) == {
        SetKey(Provider.SEVENTV, Kind.EMOTE, GLOBAL), SetKey(Provider.SEVENTV, Kind.EMOTE, CHANNEL),
    }  # fmt: skip


async def test_an_item_without_a_snapshot_gets_one_as_of_now(house: VaultHouse) -> None:
    start = house.clock.now() - timedelta(days=3)
    await house.vault.ensure_snapshot(CHANNEL, start)
    asked = len(house.standin.requests.entries("/bttv/*"))
    assert asked
    await house.vault.ensure_snapshot(CHANNEL, start)
    assert len(house.standin.requests.entries("/bttv/*")) == asked
    view = (await house.replay.of_item("1", CHANNEL, start, start + HOUR)).view
    assert "catJAM" in view.codes
    assert not any(seen.exact for seen in view.sets)
