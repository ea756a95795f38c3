"""`vodkeep tokens` as a person types it, beside a service that runs."""

from __future__ import annotations

import json

from support.commands import vodkeep
from support.home import HomeOf

KEY = "a1" * 32


def test_an_account_is_connected_listed_encrypted_and_disconnected(home_of: HomeOf) -> None:
    home = home_of()
    people = home.standin.world.twitch_tokens
    people.device_interval_s = 1
    service = home.start()
    service.wait_for("started")
    connected = vodkeep(home, "tokens", "connect", "twitch")
    assert connected.returncode == 0, connected
    assert f"The Twitch account {people.account} is connected." in connected.stdout
    plain = home.sql("SELECT * FROM oauth_tokens")
    assert [(row["provider"], row["channel"], row["encryption_key_id"]) for row in plain] == [
        ("twitch", people.account, None)
    ]

    keyed = {"ENCRYPTION_KEY": KEY}
    dry = json.loads(vodkeep(home, "tokens", "migrate", "--dry-run", "--json", **keyed).stdout)
    assert [row["step"] for row in dry["tokens"]] == ["encrypt"]
    assert home.sql("SELECT * FROM oauth_tokens") == plain
    real = vodkeep(home, "tokens", "migrate", **keyed)
    assert (real.returncode, "is encrypted now" in real.stdout) == (0, True)
    listed = vodkeep(home, "tokens", "list", "--json", **keyed)
    [account] = json.loads(listed.stdout)["accounts"]
    assert (account["state"], account["key"]) == ("connected", "current")
    without = vodkeep(home, "tokens", "list")
    assert (without.returncode, "ENCRYPTION_KEY" in without.stdout) == (1, True)

    refused = vodkeep(home, "tokens", "connect", "youtube")
    assert (refused.returncode, "on the page" in refused.stderr) == (1, True)
    ended = vodkeep(home, "tokens", "disconnect", "twitch", "--channel", people.account, **keyed)
    assert ended.returncode == 0, ended
    assert home.sql("SELECT * FROM oauth_tokens") == []
    assert people.validate(plain[0]["access_token"]) is None
    assert service.terminate() == 0
    runs = (connected, real, listed, without, refused, ended)
    printed = service.output() + "".join(run.stdout + run.stderr for run in runs)
    assert not [secret for secret in [*people.issued, KEY] if secret in printed]
