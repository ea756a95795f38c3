"""Tokens are renewed ahead of their end, once, and never lost; a refusal is a state and not a storm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import anyio
import pytest
from sqlalchemy import insert, select, update

from support.accounts import KEY, House
from support.clock import FakeClock
from vodkeep.accounts.keeper import NOT_CONNECTED, TOKEN_REFUSED
from vodkeep.accounts.model import ConnectionPhase, Kind, Provider
from vodkeep.accounts.oauth import INVALID_GRANT
from vodkeep.accounts.vault import Vault
from vodkeep.clock import SystemClock
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.tables import oauth_tokens
from vodkeep.errors import CredentialsError, DatabaseUnavailable, ServerError
from vodkeep_standin.faults.status import Status

pytestmark = pytest.mark.anyio
YOUTUBE = Provider.YOUTUBE


async def test_a_token_is_renewed_ahead_of_its_end_and_the_refresh_token_stays(house: House, clock: FakeClock) -> None:
    keeper, first = house.keeper(clock), house.connect(clock)
    assert await keeper.access_token(YOUTUBE, "otter") == first.value
    clock.jump(3599 - 601)
    assert await keeper.access_token(YOUTUBE) == first.value
    assert house.refreshes() == 0
    clock.jump(301)
    second = await keeper.access_token(YOUTUBE)
    assert second != first.value
    assert house.standin.world.google_tokens.validate(second)
    assert await keeper.access_token(YOUTUBE) == second
    clock.jump(3500)
    assert await keeper.access_token(YOUTUBE) not in (first.value, second)
    assert house.refreshes() == 2


async def test_a_new_refresh_token_takes_the_place_of_the_old_one(house: House, clock: FakeClock) -> None:
    house.standin.world.google_tokens.rotates = True
    keeper = house.keeper(clock)
    house.connect(clock)
    seen = set()
    for _ in range(3):
        clock.jump(3590)
        seen.add(await keeper.access_token(YOUTUBE))
    assert len(seen) == 3
    assert house.refreshes() == 3


async def test_a_channel_has_its_own_account_before_the_one_for_all(house: House, clock: FakeClock) -> None:
    general, own = house.connect(clock), house.connect(clock, "otter")
    keeper = house.keeper(clock)
    assert await keeper.access_token(YOUTUBE, "otter") == own.value
    assert await keeper.access_token(YOUTUBE, "kai") == general.value


async def test_without_a_connection_it_is_said_what_to_do(house: House, clock: FakeClock) -> None:
    with pytest.raises(CredentialsError) as caught:
        await house.keeper(clock).access_token(YOUTUBE)
    assert caught.value.code == NOT_CONNECTED
    assert caught.value.remedy


async def test_keepers_that_race_renew_once(house: House) -> None:
    """The refresh token ends with its use: a second renewal would end the connection."""
    house.standin.world.google_tokens.rotates = True
    clock = SystemClock()
    first = house.connect(clock)
    keepers = [house.keeper() for _ in range(3)]
    got: list[str] = []

    async def ask(number: int) -> None:
        got.append(await keepers[number % 3].access_token(YOUTUBE, rejected=first.value))

    with house.database.unit_of_work() as unit:
        # Connected some time ago, so that the refusal is no sign of a token that never works.
        unit.connection.execute(update(oauth_tokens).values(refreshed_at=None))
        unit.commit()
    async with anyio.create_task_group() as tasks:
        for number in range(9):
            tasks.start_soon(ask, number)
    assert len(set(got)) == 1
    assert first.value not in got
    assert house.refreshes() == 1


async def test_a_refusal_is_one_state_with_a_remedy_and_is_not_asked_about_again_for_hours(
    house: House, clock: FakeClock
) -> None:
    house.connect(clock)
    keeper = house.keeper(clock)
    house.standin.world.google_tokens.revoke_all()
    clock.jump(3590)
    for _ in range(5):
        with pytest.raises(CredentialsError) as caught:
            await keeper.access_token(YOUTUBE)
        assert caught.value.code == INVALID_GRANT
        assert "Connect the account again" in caught.value.remedy
    [state] = await keeper.states()
    assert state.phase is ConnectionPhase.REFUSED
    assert state.remedy
    clock.jump(5 * 3600)
    await keeper.look_after()
    assert house.refreshes() == 1
    clock.jump(3 * 3600)
    await keeper.look_after()
    assert house.refreshes() == 2
    house.connect(clock)
    assert await keeper.access_token(YOUTUBE)
    assert [each.phase for each in await keeper.states()] == [ConnectionPhase.CONNECTED]


@pytest.mark.parametrize(
    "fault", [Status(503), Status(400, body="<html>invalid_grant</html>", content_type="text/html")]
)
async def test_a_provider_in_trouble_is_asked_ever_less_while_the_token_works(
    house: House, clock: FakeClock, fault: Status
) -> None:
    first = house.connect(clock)
    keeper = house.keeper(clock)
    house.standin.faults.add(fault, path="/token")
    clock.jump(3599 - 200)
    for _ in range(20):
        assert await keeper.access_token(YOUTUBE) == first.value
    assert house.refreshes() == 1
    [state] = await keeper.states()
    assert state.phase is ConnectionPhase.FAILING
    clock.jump(300)
    with pytest.raises(ServerError):
        await keeper.access_token(YOUTUBE)
    assert house.refreshes() == 2
    house.standin.faults.clear()
    clock.jump(120)
    assert await keeper.access_token(YOUTUBE) != first.value
    assert [each.phase for each in await keeper.states()] == [ConnectionPhase.CONNECTED]


async def test_a_token_that_is_refused_is_renewed_and_a_fresh_one_that_is_refused_is_not(
    house: House, clock: FakeClock
) -> None:
    first = house.connect(clock)
    keeper = house.keeper(clock)
    clock.jump(600)
    second = await keeper.access_token(YOUTUBE, rejected=first.value)
    assert second != first.value
    # Who was refused with the old one meanwhile takes the new one.
    assert await keeper.access_token(YOUTUBE, rejected=first.value) == second
    with pytest.raises(CredentialsError) as caught:
        await keeper.access_token(YOUTUBE, rejected=second)
    assert caught.value.code == TOKEN_REFUSED
    assert house.refreshes() == 1


async def test_an_answer_whose_commit_was_lost_is_taken_up_by_the_next(
    house: House, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.standin.world.google_tokens.rotates = True
    house.connect(clock)
    clock.jump(3590)
    run = house.database.run

    async def lost(work: Callable[[UnitOfWork], object], **options: object) -> object:
        if work.__qualname__.endswith("_save.<locals>.save"):
            raise DatabaseUnavailable("gone")
        return await run(work, **options)  # type: ignore[arg-type]

    keeper = house.keeper(clock)
    monkeypatch.setattr(house.database, "run", lost)
    renewed: list[str] = []

    async def ask() -> None:
        renewed.append(await keeper.access_token(YOUTUBE))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        while not renewed:
            # Between its tries it sleeps; else it is at the provider or the database.
            if clock.sleeping:
                clock.jump(1)
            await anyio.sleep(0.001)
    spooled = [path for path in (house.data_dir / ".tokens").iterdir() if path.suffix == ".json"]
    assert [oct(path.stat().st_mode & 0o777) for path in spooled] == ["0o600"]
    assert renewed[0] not in spooled[0].read_text()
    monkeypatch.undo()
    # Another process, after a kill, finds the only refresh token that is still good.
    assert await house.keeper(clock).access_token(YOUTUBE) == renewed[0]
    assert list((house.data_dir / ".tokens").iterdir()) == []
    clock.jump(3590)
    assert await house.keeper(clock).access_token(YOUTUBE) != renewed[0]
    assert house.refreshes() == 2


async def test_a_renewal_that_waited_too_long_gives_its_refresh_token(house: House, clock: FakeClock) -> None:
    house.standin.world.google_tokens.rotates = True
    house.connect(clock)
    keeper = house.keeper(clock)
    clock.jump(3590)
    await keeper.access_token(YOUTUBE)
    # As if the transaction had never been: the row of before, and the file.
    with house.database.unit_of_work() as unit:
        row = unit.connection.execute(select(oauth_tokens)).one()
        document = {
            "version": row.version - 1,
            "key_id": row.encryption_key_id,
            "access": row.access_token,
            "refresh": row.refresh_token,
            "expires_at": row.expires_at.isoformat(),
            "scope": row.scope,
        }
        used_up = Vault(KEY).seal("used up", YOUTUBE, "", Kind.REFRESH)
        unit.connection.execute(update(oauth_tokens).values(version=row.version - 1, refresh_token=used_up))
        unit.commit()
    name = f"youtube-{hashlib.sha256(b'').hexdigest()[:16]}.json"
    (house.data_dir / ".tokens" / name).write_text(json.dumps(document))
    clock.jump(7200)
    assert await keeper.access_token(YOUTUBE)
    assert house.refreshes() == 2


async def test_a_row_of_another_key_or_another_place_is_unreadable_and_says_so(house: House, clock: FakeClock) -> None:
    house.connect(clock, vault=Vault(b"x" * 32))
    keeper = house.keeper(clock)
    with pytest.raises(CredentialsError) as caught:
        await keeper.access_token(YOUTUBE)
    assert caught.value.code == "token_unreadable"
    assert [each.phase for each in await keeper.states()] == [ConnectionPhase.UNREADABLE]
    house.connect(clock)
    with house.database.unit_of_work() as unit:
        row = unit.connection.execute(select(oauth_tokens)).one()._mapping
        unit.connection.execute(insert(oauth_tokens).values({**row, "channel": "otter"}))
        unit.commit()
    with pytest.raises(CredentialsError, match="another row"):
        await keeper.access_token(YOUTUBE, "otter")


async def test_what_an_older_program_stored_is_read_and_renewed(
    house: House, clock: FakeClock, database: Database
) -> None:
    token = house.standin.world.google_tokens.issue(["a"], house.standin.scenario.google_client_id)
    with database.unit_of_work() as unit:
        values = {"provider": "youtube", "access_token": token.value, "refresh_token": token.refresh_token}
        unit.connection.execute(insert(oauth_tokens).values(**values, expires_at=clock.now()))
        unit.commit()
    renewed = await house.keeper(clock).access_token(YOUTUBE)
    assert house.standin.world.google_tokens.validate(renewed)
    with database.unit_of_work(write=False) as unit:
        stored = unit.connection.execute(select(oauth_tokens)).one()
    # Whatever is written anew is encrypted.
    assert renewed not in stored.access_token
    assert Vault(KEY).open(stored.refresh_token, stored.encryption_key_id, YOUTUBE, "", Kind.REFRESH)


async def test_it_renews_by_itself_and_says_that_tokens_are_plain_text(
    house: House, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    house.connect(clock, vault=Vault(None))
    keeper = house.keeper(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.run)
        await clock.until_sleeping()
        clock.jump(3599 - 200)
        await clock.until_sleeping()
        assert house.refreshes() == 1
        tasks.cancel_scope.cancel()
    [state] = await keeper.states()
    assert (state.phase, state.encrypted) == (ConnectionPhase.CONNECTED, True)
    assert capsys.readouterr().out.count("tokens are stored as plain text") == 1
