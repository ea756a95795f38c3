"""`vodkeep tokens migrate`: from plain text and the old key to the current one, whenever it is killed."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import insert, select

from support.accounts import KEY, OLD_KEY
from support.clock import FakeClock
from vodkeep.accounts.model import Kind, Provider
from vodkeep.accounts.resealing import Step, reseal
from vodkeep.accounts.sealing import open_connection
from vodkeep.accounts.setup import build_accounts
from vodkeep.accounts.store import TokenStore
from vodkeep.accounts.vault import Vault
from vodkeep.checks.accounts import look_at_accounts
from vodkeep.checks.model import State
from vodkeep.db.engine import Database, UnitOfWork
from vodkeep.db.tables import oauth_tokens
from vodkeep.errors import SettingsError
from vodkeep.settings import Settings, load_settings
from vodkeep.tokens_command import list_accounts, migrate_tokens

pytestmark = pytest.mark.anyio
SECRETS = [f"{kind}-t0ken-{channel}" for channel in ("plain", "old", "new") for kind in ("access", "refresh")]


class Killed(BaseException):
    """As a kill: nothing of ours catches it."""


def fill(database: Database) -> None:
    """A row of each kind."""
    for channel, vault in (("plain", Vault(None)), ("old", Vault(OLD_KEY)), ("new", Vault(KEY))):
        with database.unit_of_work() as unit:
            unit.connection.execute(
                insert(oauth_tokens).values(
                    provider="youtube",
                    channel=channel,
                    access_token=vault.seal(f"access-t0ken-{channel}", Provider.YOUTUBE, channel, Kind.ACCESS),
                    refresh_token=vault.seal(f"refresh-t0ken-{channel}", Provider.YOUTUBE, channel, Kind.REFRESH),
                    encryption_key_id=vault.key_id,
                )
            )
            unit.commit()


def opened(database: Database, vault: Vault) -> list[str]:
    with database.unit_of_work(write=False) as unit:
        rows = TokenStore(unit.connection).all()
    return sorted(
        text
        for row in rows
        for text in (open_connection(vault, row).access_token, open_connection(vault, row).refresh_token or "")
    )


def raw(database: Database) -> list[tuple[object, ...]]:
    with database.unit_of_work(write=False) as unit:
        return [tuple(row) for row in unit.connection.execute(select(oauth_tokens).order_by(oauth_tokens.c.channel))]


def settings_of(database: Database, data_dir: Path, **env: str) -> Settings:
    dsn = database.url.render_as_string(hide_password=False).replace("postgresql+psycopg", "postgresql")
    return load_settings({"DATA_DIR": str(data_dir), "DB_DSN": dsn, **env}, None)


async def test_a_dry_run_says_what_the_real_run_does_and_twice_does_nothing(database: Database) -> None:
    fill(database)
    both, before = Vault(KEY, OLD_KEY), raw(database)
    told = await reseal(database, both, dry_run=True)
    assert raw(database) == before
    assert await reseal(database, both, dry_run=False) == told
    assert {each.channel: each.step for each in told} == {"plain": Step.ENCRYPT, "old": Step.REKEY, "new": Step.KEEP}
    # The old key is not needed any more, and nothing is left in plain text.
    assert opened(database, Vault(KEY)) == sorted(SECRETS)
    after = raw(database)
    assert not any(secret in str(after) for secret in SECRETS)
    assert {each.step for each in await reseal(database, Vault(KEY), dry_run=False)} == {Step.KEEP}
    assert raw(database) == after


async def test_a_row_that_no_key_opens_is_told_and_stays(database: Database) -> None:
    fill(database)
    told = {each.channel: each for each in await reseal(database, Vault(KEY), dry_run=False)}
    assert told["old"].step is Step.UNREADABLE
    assert "ENCRYPTION_KEY_OLD" in told["old"].reason
    assert told["plain"].step is Step.ENCRYPT
    with pytest.raises(SettingsError, match="ENCRYPTION_KEY"):
        await reseal(database, Vault(None), dry_run=False)


async def test_a_kill_at_any_transaction_leaves_every_row_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    both = Vault(KEY, OLD_KEY)
    commit = UnitOfWork.commit
    for after_commit in (False, True):
        for moment in range(3):
            left = moment

            def dying(unit: UnitOfWork, late: bool = after_commit) -> None:
                nonlocal left
                if left == 0 and not late:
                    raise Killed
                commit(unit)
                left -= 1
                if left < 0:
                    raise Killed

            with monkeypatch.context() as patch:
                patch.setattr(UnitOfWork, "commit", dying)
                with suppress(Killed):
                    await reseal(database, both, dry_run=False)
            assert opened(database, both) == sorted(SECRETS)
    assert {each.step for each in await reseal(database, both, dry_run=False)} == {Step.KEEP}


async def test_commands_and_doctor_tell_states_and_never_tokens(
    database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    fill(database)
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    keys = {"ENCRYPTION_KEY": KEY.hex(), "ENCRYPTION_KEY_OLD": OLD_KEY.hex()}
    settings = settings_of(database, tmp_path, **keys)

    async def doctor(using: Settings) -> tuple[State, str]:
        found = await look_at_accounts(using, database, build_accounts(using, database, clock))
        return found.state, f"{found.sentence} {found.fix}"

    state, told = await doctor(settings)
    assert (state, "plain text" in told, "tokens migrate" in told) == (State.WARN, True, True)
    alone = settings_of(database, tmp_path, ENCRYPTION_KEY=KEY.hex())
    assert (await doctor(alone))[0] is State.FAIL
    assert await list_accounts(alone, clock, console, as_json=False) == 1
    assert await migrate_tokens(settings, console, dry_run=True, as_json=False) == 0
    assert "would be encrypted" in printed.getvalue()
    assert await migrate_tokens(settings, console, dry_run=False, as_json=True) == 0
    assert await list_accounts(alone, clock, console, as_json=True) == 0
    assert (await doctor(alone))[0] is State.OK
    uploads = settings_of(database, tmp_path, YOUTUBE_UPLOAD_ENABLED="1", YOUTUBE_UPLOAD_OWNERSHIP="self", **keys)
    assert (await doctor(uploads))[0] is State.OK
    assert not any(secret in printed.getvalue() for secret in [*SECRETS, KEY.hex(), OLD_KEY.hex()])
