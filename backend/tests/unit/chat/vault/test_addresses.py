"""Where the vault may be led by what a provider answers, and where not."""

from __future__ import annotations

import pytest

from vodkeep.chat.vault.addresses import AllowedAddresses, RefusedAddress, is_public

OURS = AllowedAddresses(
    ["https://api.betterttv.net/3", "https://7tv.io/v3", "http://127.0.0.1:8800/ffz/v1", "http://mirror.example:81"]
)


@pytest.mark.parametrize(
    "url",
    [
        "https://static-cdn.jtvnw.net/emoticons/v2/25/default/dark/3.0",
        "https://cdn.7tv.app/emote/01F/3x.webp",
        "https://CDN.7TV.app./emote/01F/3x.webp",
        "https://api.betterttv.net/3/cached/emotes/global",
        "https://api.betterttv.net:443/elsewhere",
        "http://127.0.0.1:8800/ffz/emote/1/4",
        "http://mirror.example:81/x",
    ],
)
def test_allowed(url: str) -> None:
    assert OURS.check(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://static-cdn.jtvnw.net/emoticons/v2/25",  # not https
        "https://static-cdn.jtvnw.net:8443/",
        "https://static-cdn.jtvnw.net@evil.example/",
        "https://user:secret@cdn.7tv.app/",
        "https://cdn.7tv.app.evil.example/",
        "https://evil.example/cdn.7tv.app",
        "https://evilcdn.7tv.app/",
        "https://7tv.app/",
        "http://api.betterttv.net/3",
        "http://127.0.0.1/",  # another port than the settings'
        "http://127.0.0.1:8801/",
        "https://127.0.0.1:8800/",
        "http://localhost:8800/",
        "http://[::1]:8800/",
        "http://[::ffff:127.0.0.1]:8800/",
        "http://2130706433:8800/",
        "http://0x7f.1:8800/",
        "http://127.1:8800/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "https://mirror.example:81/",
        "file:///etc/passwd",
        "ftp://cdn.7tv.app/",
        "gopher://cdn.7tv.app/",
        "data:image/png;base64,AAAA",
        "//cdn.7tv.app/emote",
        "cdn.7tv.app/emote",
        "https://",
        "https://cdn.7tv.app:99999/",
        "https://cdn.7tv.app:/\nHost: evil",
        "https://cdn.7tv.app\\@evil.example/",
        "https://[cdn.7tv.app/",
        "https://cdn.7tv.äpp/",
        "https://cdn.7tv.app/" + "a" * 600,
        "",
    ],
)
def test_refused(url: str) -> None:
    with pytest.raises(RefusedAddress):
        OURS.check(url)


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:22/",
        "//169.254.169.254/",
        "http://10.1.2.3/x",
        "https://evil.example/",
        "javascript:1",
        "http://[",
    ],
)
def test_a_redirect_leads_nowhere_else(location: str) -> None:
    with pytest.raises(RefusedAddress):
        OURS.check_redirect("https://cdn.7tv.app/emote/01F/3x.webp", location)


def test_a_redirect_may_stay_where_it_is() -> None:
    assert OURS.check_redirect("https://cdn.7tv.app/emote/01F/3x.webp", "/emote/02") == "https://cdn.7tv.app/emote/02"


@pytest.mark.parametrize("address", ["1.1.1.1", "151.101.2.167", "2606:4700::1111", "64:ff9b::101:101"])
def test_public(address: str) -> None:
    assert is_public(address)
    OURS.check_resolved("cdn.7tv.app", 443, address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:a00:1::",
    ],
)
def test_a_name_that_resolves_to_a_local_address_is_refused(address: str) -> None:
    """Names are allowed for what they stand for; whoever answers for them may say something else tomorrow."""
    assert not is_public(address)
    for host, port in (("cdn.7tv.app", 443), ("api.betterttv.net", 443), ("mirror.example", 81)):
        with pytest.raises(RefusedAddress):
            OURS.check_resolved(host, port, address)


def test_a_local_address_is_for_the_settings_that_name_it() -> None:
    local = AllowedAddresses(["http://localhost:8800"])
    local.check_resolved("localhost", 8800, "127.0.0.1")
    with pytest.raises(RefusedAddress):
        local.check_resolved("localhost", 80, "127.0.0.1")
