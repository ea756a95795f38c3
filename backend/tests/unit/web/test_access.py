from __future__ import annotations

import base64

import pytest

from vodkeep.settings import WebSettings, load_settings
from vodkeep.web.access import BindAddress, Credentials, bind_address, credentials_of, host_of, is_loopback_host


def settings(**environ: str) -> WebSettings:
    return load_settings(environ, None).web


def basic(name: str, password: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Basic " + base64.b64encode(f"{name}:{password}".encode())


TOKEN = "0123456789abcdef-token"
PASSWORD = "correct horse: battery"
BOTH = credentials_of(settings(ADMIN_TOKEN=TOKEN, ADMIN_USERNAME="anna", ADMIN_PASSWORD=PASSWORD))


@pytest.mark.parametrize(
    "header",
    [
        (b"x-admin-token", TOKEN.encode()),
        basic("anna", PASSWORD),
        basic("token", TOKEN),
        (b"authorization", b"bAsIc   " + base64.b64encode(f"anna:{PASSWORD}".encode()) + b" "),
    ],
    ids=["token header", "basic", "token as password", "scheme in any case"],
)
def test_each_way_in(header: tuple[bytes, bytes]) -> None:
    assert BOTH.admit([(b"accept", b"*/*"), header])


@pytest.mark.parametrize(
    "header",
    [
        (b"x-admin-token", b""),
        (b"x-admin-token", TOKEN.encode() + b" "),
        (b"x-admin-token", TOKEN[:-1].encode()),
        (b"x-admin-token", PASSWORD.encode()),
        (b"authorization", b"Bearer " + TOKEN.encode()),
        (b"authorization", TOKEN.encode()),
        (b"authorization", b"Basic"),
        (b"authorization", b"Basic !!!"),
        (b"authorization", b"Basic " + base64.b64encode(b"anna")),
        (b"authorization", b"Basic " + base64.b64encode(b"\xff\xfe:\xff")),
        basic("anna", ""),
        basic("Anna", PASSWORD),
        basic("", PASSWORD),
        basic("token", PASSWORD),
        basic("anna", TOKEN),
        (b"cookie", TOKEN.encode()),
    ],
)
def test_everything_else_stays_outside(header: tuple[bytes, bytes]) -> None:
    assert not BOTH.admit([header])
    assert not BOTH.admit([])


def test_nothing_is_admitted_when_nothing_is_configured() -> None:
    none = credentials_of(settings())
    assert not none
    assert not none.admit([(b"x-admin-token", b""), basic("", ""), basic("token", "")])


def test_only_a_token_means_no_password_login_but_its_own() -> None:
    only = credentials_of(settings(ADMIN_TOKEN=TOKEN))
    assert only.admit([basic("token", TOKEN)])
    assert not only.admit([basic("anna", TOKEN)])


def test_credentials_do_not_show_in_their_repr() -> None:
    assert TOKEN not in repr(BOTH)
    assert "horse" not in repr(BOTH)
    assert isinstance(BOTH, Credentials)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST", "localhost.", "::ffff:127.0.0.1"]
)
def test_loopback_names(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "10.0.0.1",
     "127.0.0.1.evil.example", "localhost.evil.example", "evil.localhost", "2130706433", "127.1", "0x7f.1"],
)  # fmt: skip
def test_names_that_may_mean_another_machine(host: str) -> None:
    assert not is_loopback_host(host)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost", "localhost"),
        ("localhost:8080", "localhost"),
        ("localhost:", "localhost"),
        ("127.0.0.1:8080", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::1]:8080", "::1"),
        ("", None),
        (":8080", None),
        ("localhost:80:80", None),
        ("localhost:x", None),
        ("[::1", None),
        ("[::1]x", None),
        ("localhost:٣", None),
    ],
)
def test_host_header(header: str, host: str | None) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize("address", [":8080", "0.0.0.0:8080", "192.0.2.7:8080", "[::]:8080", "archive.example:8080"])
def test_without_credentials_it_binds_to_loopback_and_says_so(address: str) -> None:
    bound = bind_address(settings(HTTP_ADDR=address))
    assert (bound.host, bound.port) == ("127.0.0.1", 8080)
    assert bound.warning is not None
    assert "ADMIN_TOKEN" in bound.warning
    assert "\n" not in bound.warning


@pytest.mark.parametrize("address", ["127.0.0.1:9000", "localhost:9000", "[::1]:9000"])
def test_a_loopback_address_stays_as_it_is(address: str) -> None:
    bound = bind_address(settings(HTTP_ADDR=address))
    assert bound == BindAddress(settings(HTTP_ADDR=address).http_host, 9000, None)


@pytest.mark.parametrize("environ", [{"ADMIN_TOKEN": TOKEN}, {"ADMIN_USERNAME": "anna", "ADMIN_PASSWORD": PASSWORD}])
def test_with_credentials_it_binds_where_it_was_told(environ: dict[str, str]) -> None:
    assert bind_address(settings(HTTP_ADDR=":8080", **environ)) == BindAddress("", 8080, None)


def test_port_zero_is_kept() -> None:
    assert bind_address(settings(HTTP_ADDR="127.0.0.1:0")).port == 0
