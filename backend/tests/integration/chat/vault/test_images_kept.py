"""Fetching images: what is kept, what is refused, and what is tried again."""

from __future__ import annotations

import asyncio
import gzip
import socket
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from sqlalchemy import select

from support.clock import FakeClock
from support.vault import IMPATIENT, VaultHouse, vault_house
from vodkeep.chat.tables import emote_image
from vodkeep.chat.vault.addresses import AllowedAddresses
from vodkeep.chat.vault.client import open_vault_client
from vodkeep.chat.vault.files import hash_of
from vodkeep.chat.vault.model import ImageType
from vodkeep.chat.vault.service import VaultLimits
from vodkeep.chat.vault.store import EmoteStore
from vodkeep.chat.vault.tidying import carry_out, plan_tidying
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.errors import PermanentError, ServerError
from vodkeep_standin.emotes.images import image
from vodkeep_standin.emotes.model import Emote, EmoteCatalog
from vodkeep_standin.faults.content_type import ContentType
from vodkeep_standin.faults.garbage import Garbage
from vodkeep_standin.faults.latency import Latency
from vodkeep_standin.faults.oversized import Oversized
from vodkeep_standin.faults.redirect import Redirect
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.rule import AnyFault
from vodkeep_standin.faults.stall import Stall
from vodkeep_standin.faults.status import Status
from vodkeep_standin.faults.truncate import Truncate
from vodkeep_standin.scenario import ids
from vodkeep_standin.server import Standin

pytestmark = pytest.mark.anyio

CHANNEL = ids.CHANNEL_ID
CAT = "/bttv/emote/*"


async def take(house: VaultHouse, channel_id: str = CHANNEL) -> None:
    """A snapshot, and everything that can be fetched."""
    await house.vault.snapshot(channel_id, house.clock.now())
    await house.fetch_all()


async def cat_state(house: VaultHouse) -> set[tuple[str, str]]:
    """State and reason of BTTV's images."""
    return {state for url, state in (await house.states()).items() if "/bttv/" in url}


def files_of(house: VaultHouse) -> list[Path]:
    """Every file of the vault."""
    return sorted(path for path in (house.data_dir / ".emotes").rglob("*") if path.is_file())


async def test_every_image_is_kept_once_under_its_hash(house: VaultHouse) -> None:
    await take(house)
    await take(house, ids.OTHER_CHANNEL_ID)

    emotes = await house.view(CHANNEL)
    shown = [*emotes.view.codes.values(), *emotes.view.twitch.values(), *emotes.view.badges.values()]
    assert {meaning.entry.url for meaning in shown} <= set(emotes.images)
    types = {code: emotes.images[meaning.entry.url].facts for code, meaning in emotes.view.codes.items()}
    assert types["monkaS"].type is ImageType.GIF
    assert types["monkaS"].animated
    assert types["EZ"].type is ImageType.WEBP
    assert types["YEAHBUT7TV"].type is ImageType.AVIF
    assert not types["ZreknarF"].animated
    assert types["OMEGALUL"].animated
    for path in files_of(house):
        data = path.read_bytes()
        assert path.stem == hash_of(data)
        assert path.parent.name == path.stem[:2]
        assert path.stat().st_mode & 0o777 == 0o640
    assert len(files_of(house)) == len({path.stem for path in files_of(house)})
    fetched = [
        entry.path
        for entry in house.standin.requests.entries()
        if "/emote" in entry.path and "emotes" not in entry.path
    ]
    assert len(fetched) == len(set(fetched)), "nothing is fetched twice"


async def test_the_same_picture_under_several_addresses_is_one_file(house: VaultHouse) -> None:
    same = "00000000-0000-4000-8000-00000000000a"
    sets = house.standin.scenario.emotes
    sets.twitch, sets.seventv = {"": [Emote(same, "Twin")]}, {"": [Emote(same, "Twin", "png")]}
    sets.bttv, sets.ffz, sets.badges = {}, {}, {}
    await take(house)
    assert len(await house.states()) == 2
    sets.bttv = {"": [Emote(same, "Triplet")]}
    house.clock.jump(7200)
    await take(house)
    assert [state for state, _ in (await house.states()).values()] == ["kept"] * 3
    assert len(files_of(house)) == 1


REFUSED: dict[str, tuple[AnyFault, str]] = {
    "404": (Status(404), "is not there"),
    "403": (Status(403), "refused"),
    "html": (Garbage("html"), "no image"),
    "svg": (Garbage("svg"), "no image"),
    "empty": (Garbage("empty"), "no image"),
    "random": (Garbage("random"), "no image"),
    "huge": (Oversized(5 * 1024 * 1024), "more than"),
    "to loopback": (Redirect("http://127.0.0.1:1/x.png"), "is not asked"),
    "to metadata": (Redirect("http://169.254.169.254/latest/meta-data/"), "is not asked"),
    "to private": (Redirect("https://10.0.0.1/x.png"), "is not asked"),
    "to elsewhere": (Redirect("https://evil.example/x.png"), "is not asked"),
    "to a file": (Redirect("file:///etc/passwd"), "is not asked"),
}


@pytest.mark.parametrize(("fault", "said"), REFUSED.values(), ids=REFUSED)
async def test_what_is_no_image_is_refused_and_in_the_end_left_alone(
    house: VaultHouse, fault: AnyFault, said: str
) -> None:
    house.standin.faults.add(fault, path=CAT)
    await take(house)
    states = await cat_state(house)
    assert {state for state, _ in states} == {"wanted"}
    assert all(said in reason for _, reason in states)
    assert any("7tv" in url and state == "kept" for url, (state, _) in (await house.states()).items())
    for _ in range(5):
        house.clock.jump(3600)
        await house.fetch_all()
    assert {state for state, _ in await cat_state(house)} == {"refused"}
    asked = len(house.standin.requests.entries(CAT))
    house.clock.jump(86_400 * 30)
    await house.fetch_all()
    assert len(house.standin.requests.entries(CAT)) == asked


AWAY: dict[str, AnyFault] = {
    "503": Status(503),
    "429": Status(429, retry_after="30"),
    "reset": Reset(),
    "reset inside": Reset(after_bytes=20),
    "truncated": Truncate(),
    "silent": Stall(after_bytes=10),
    "late": Latency(60_000),
    "dripping": Stall(after_bytes=10, drip_interval_s=0.1),
    "in a circle": Redirect("/bttv/emote/again/3x"),
}


@pytest.mark.parametrize("fault", AWAY.values(), ids=AWAY)
async def test_a_host_that_is_away_is_asked_again_for_as_long_as_it_takes(house: VaultHouse, fault: AnyFault) -> None:
    if isinstance(fault, Stall | Latency):
        house.client.limits = IMPATIENT
    house.standin.faults.add(fault, path=CAT)
    await take(house)
    assert {state for state, _ in await cat_state(house)} == {"wanted"}
    assert any("7tv" in url and state == "kept" for url, (state, _) in (await house.states()).items())

    def long_ago(unit: UnitOfWork) -> None:
        for asset in EmoteStore(unit.connection).due(2**60, limit=100, max_set_bytes=2**40):
            for _ in range(20):
                EmoteStore(unit.connection).fail(asset.id, "away", retry_ms=0)
        unit.commit()

    await house.database.run(long_ago)
    house.clock.jump(7 * 3600)
    await house.fetch_all()
    house.standin.faults.clear()
    house.clock.jump(8 * 3600)
    await house.fetch_all()
    assert await cat_state(house) == {("kept", "")}


async def test_a_damaged_image_is_fetched_again(house: VaultHouse) -> None:
    """Cut off by a server that does not notice: its length says that this is all."""
    whole = image("gif", "x")
    house.standin.faults.add(
        Status(200, body=whole[:40].decode("latin-1")[:6] + "AAAA", content_type="image/gif"), path=CAT
    )
    await take(house)
    assert {state for state, _ in await cat_state(house)} == {"wanted"}
    house.standin.faults.clear()
    house.clock.jump(3600)
    await house.fetch_all()
    assert await cat_state(house) == {("kept", "")}


async def test_the_bytes_count_and_not_the_header(house: VaultHouse) -> None:
    house.standin.faults.add(ContentType("text/html"), path=CAT)
    await take(house)
    assert await cat_state(house) == {("kept", "")}
    cat = (await house.view(CHANNEL)).view.codes["catJAM"].entry.url
    assert (await house.view(CHANNEL)).images[cat].facts.type is ImageType.GIF


async def test_a_redirect_within_the_provider_is_followed(house: VaultHouse) -> None:
    house.standin.faults.add(Redirect("/bttv/emote/5f0moved/3x"), path="/bttv/emote/5f00*")
    await take(house)
    assert await cat_state(house) == {("kept", "")}


async def test_one_host_that_is_down_costs_few_requests(house: VaultHouse) -> None:
    # Alone: the stand-in is one host for all providers, and what another has in between ends a row of failures.
    hundred = [Emote(f"5f{n:022x}", f"code{n}") for n in range(100)]
    house.standin.scenario.emotes = EmoteCatalog(bttv={CHANNEL: hundred})
    house.standin.faults.add(Status(503), path=CAT)
    await take(house)
    assert len(house.standin.requests.entries(CAT)) <= 20
    house.standin.faults.clear()
    house.clock.jump(3600)
    await house.fetch_all()
    assert await cat_state(house) == {("kept", "")}


async def test_a_set_may_not_fill_the_disk(
    chat_database: Database, standin: Standin, clock: FakeClock, tmp_path: Path
) -> None:
    standin.scenario.emotes.bttv[CHANNEL] = [Emote(f"5f{n:022x}", f"code{n}") for n in range(450)]
    limits = VaultLimits(set_bytes=5_000)
    async with vault_house(chat_database, standin, clock, tmp_path / "data", limits) as house:
        await take(house)
        await take(house)
        states = await cat_state(house)
        assert {state for state, _ in states} == {"wanted", "kept"}
        kept = sum(state == "kept" for url, (state, _) in (await house.states()).items() if "/bttv/emote" in url)
        assert 10 < kept <= 210, "a round may go beyond, and no further"
        # Others have room of their own.
        assert all(state == "kept" for url, (state, _) in (await house.states()).items() if "/7tv/" in url)


class Rebinding(AbstractResolver):
    """Answers for every name with an address of the test's choice."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}
            for address in self.addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("1.1.1.1", "10.0.0.1"), ("169.254.169.254",), ("::1",)])
async def test_a_name_on_the_list_that_leads_to_a_local_address_is_not_asked(addresses: tuple[str, ...]) -> None:
    resolver = Rebinding(*addresses)
    allowed = AllowedAddresses(["http://127.0.0.1:8800"])
    async with open_vault_client(allowed, resolver=resolver) as client:
        with pytest.raises(PermanentError, match="not on the open internet") as refused:
            await client.fetch("https://cdn.7tv.app/emote/1/3x.webp", max_bytes=1000)
    assert refused.value.code == "refused_address"
    assert resolver.asked == ["cdn.7tv.app"]


async def test_a_name_in_the_settings_may_not_lead_to_a_local_address_either(standin: Standin) -> None:
    """It is an address that the operator wrote as a local one that may; not what a name turns out to be."""
    port = standin.http_url.rpartition(":")[2]
    async with open_vault_client(
        AllowedAddresses([f"http://api.betterttv.test:{port}"]), resolver=Rebinding("127.0.0.1")
    ) as client:
        with pytest.raises(PermanentError, match="not on the open internet"):
            await client.fetch(f"http://api.betterttv.test:{port}/bttv/3/cached/emotes/global", max_bytes=10**6)
    assert not standin.requests.entries("/bttv/*")


async def test_no_secret_and_no_cookie_travels() -> None:
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: id=1; Path=/\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with open_vault_client(AllowedAddresses([url])) as client:
            for _ in range(2):
                assert (await client.fetch(f"{url}/x", max_bytes=10)).body == b"{}"
    names = [{line.partition(":")[0].lower() for line in head.splitlines()[1:] if line} for head in heads]
    assert names == [{"host", "user-agent", "accept-encoding", "accept"}] * 2


async def test_a_packed_body_is_not_unpacked() -> None:
    """A few bytes could become as many as a disk holds."""
    packed = gzip.compress(bytes(10**6))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        writer.write(head.encode() + packed)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with open_vault_client(AllowedAddresses([url])) as client:
            with pytest.raises(ServerError, match="packed"):
                await client.fetch(f"{url}/x", max_bytes=10**7)


async def test_emotes_in_messages_are_kept_whosever_they_are(house: VaultHouse) -> None:
    session = await house.add_session(CHANNEL)
    await house.add_messages(session, (0, "25:0-4/emotesv2_abc:6-9", "Kappa wave hi"), (50, None, "no emotes"))
    while await house.vault.scan_messages():
        pass
    await house.add_messages(session, (70, "777000:3-8", "𝄞é otherX"), (90, "bad/:0-1/x y:0-1/25:9-2/1:", "rubbish"))
    while await house.vault.scan_messages():
        pass
    await house.fetch_all()
    emotes = await house.view(CHANNEL)
    assert {ref: entry.code for ref, entry in emotes.used.items()} == {
        "25": "Kappa", "emotesv2_abc": "wave", "777000": "otherX",
    }  # fmt: skip
    assert {entry.url for entry in emotes.used.values()} <= set(emotes.images)


async def test_messages_that_came_late_are_found_when_the_stream_is_over(house: VaultHouse) -> None:
    session = await house.add_session(CHANNEL)
    await house.add_messages(session, (100, "25:0-4", "Kappa"))
    while await house.vault.scan_messages():
        pass
    await house.add_messages(session, (40, "1902:0-4", "Keepo"))
    while await house.vault.scan_messages():
        pass
    assert set((await house.view(CHANNEL)).used) == {"25"}
    await house.set_state(session, "ended")
    while await house.vault.scan_messages():
        pass
    assert set((await house.view(CHANNEL)).used) == {"25", "1902"}
    await house.add_messages(session, (60, "354:0-4", "4Head"))
    while await house.vault.scan_messages():
        pass
    assert set((await house.view(CHANNEL)).used) == {"25", "1902"}
    await house.vault.prepare_item("1", CHANNEL, house.clock.now())
    emotes = await house.view(CHANNEL)
    assert set(emotes.used) == {"25", "1902", "354"}
    assert {entry.url for entry in emotes.used.values()} <= set(emotes.images)
    assert {meaning.entry.url for meaning in emotes.view.codes.values()} <= set(emotes.images)


async def test_an_item_is_prepared_though_every_provider_is_away(house: VaultHouse) -> None:
    session = await house.add_session(CHANNEL, state="ended")
    await house.add_messages(session, (100, "25:0-4", "Kappa"))
    house.standin.faults.add(Status(503))
    await house.vault.prepare_item("1", CHANNEL, house.clock.now())
    assert set((await house.view(CHANNEL)).used) == {"25"}


async def test_a_session_has_only_so_many_emotes(
    chat_database: Database, standin: Standin, clock: FakeClock, tmp_path: Path
) -> None:
    async with vault_house(chat_database, standin, clock, tmp_path, VaultLimits(used_per_session=10)) as house:
        session = await house.add_session(CHANNEL)
        await house.add_messages(session, *((n, f"{n}:0-2", "abc") for n in range(25)))
        while await house.vault.scan_messages():
            pass
        assert len((await house.view(CHANNEL)).used) == 10


async def test_a_lost_file_is_fetched_again(house: VaultHouse) -> None:
    await take(house)
    path = files_of(house)[0]
    content = path.read_bytes()
    for spoil in (path.unlink, lambda: path.write_bytes(b"something else")):
        spoil()
        assert await house.replay.load_image(path.stem) is None
        await house.fetch_all()
        loaded = await house.replay.load_image(path.stem)
        assert loaded is not None
        assert loaded[1] == content == path.read_bytes()


async def test_nothing_is_removed_but_what_a_plan_names(house: VaultHouse) -> None:
    await take(house)
    before = files_of(house)
    house.standin.scenario.emotes.bttv[CHANNEL] = []
    for _ in range(2):
        house.clock.jump(7200)
        await take(house)
    assert files_of(house) == before, "a set that ended keeps its images"
    assert (await plan_tidying(house.database, house.files, older_than_s=0)).unreferenced == ()

    stray = before[0].parent / f"{before[0].stem[:2]}{'0' * 62}.png"
    unfinished = before[0].parent / f".{before[0].name}.deadbeef"
    for path in (stray, unfinished):
        path.write_bytes(b"left by a crash")
    note = house.data_dir / ".emotes" / "README"
    note.write_text("somebody's")

    def unlink_one(unit: UnitOfWork) -> str:
        one = unit.connection.execute(select(emote_image.c.hash).order_by(emote_image.c.hash)).scalars().first()
        assert one is not None
        EmoteStore(unit.connection).want_again(one)
        unit.commit()
        return str(one)

    removed = await house.database.run(unlink_one)
    plan = await plan_tidying(house.database, house.files, older_than_s=0)
    assert [image.hash for image in plan.unreferenced] == [removed]
    assert set(plan.strays) == {stray, unfinished}
    assert files_of(house) == sorted([*before, stray, unfinished, note]), "a plan removes nothing"
    assert (await plan_tidying(house.database, house.files, older_than_s=3600)).strays == ()

    assert await carry_out(plan, house.database, house.files) == 3
    assert files_of(house) == sorted([note, *(path for path in before if path.stem != removed)])
    assert await house.replay.load_image(removed) is None


async def test_a_plan_that_is_no_longer_true_removes_nothing(house: VaultHouse) -> None:
    await take(house)
    before = files_of(house)

    def unlink_one(unit: UnitOfWork) -> None:
        one = unit.connection.execute(select(emote_image.c.hash)).scalars().first()
        assert one is not None
        EmoteStore(unit.connection).want_again(one)
        unit.commit()

    await house.database.run(unlink_one)
    plan = await plan_tidying(house.database, house.files, older_than_s=0)
    assert len(plan.unreferenced) == 1
    await house.fetch_all()
    assert await carry_out(plan, house.database, house.files) == 0
    assert files_of(house) == before
