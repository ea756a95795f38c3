from __future__ import annotations

import contextlib
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from vodkeep.settings.dsn import mask_address, parse_dsn


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgres_gets_our_driver(scheme: str) -> None:
    url = parse_dsn(f"{scheme}://keeper:p%40ss@db.example.org:5433/vodkeep?sslmode=require")
    assert url.drivername == "postgresql+psycopg"
    assert (url.username, url.password, url.host, url.port) == ("keeper", "p@ss", "db.example.org", 5433)
    assert (url.database, dict(url.query)) == ("vodkeep", {"sslmode": "require"})


def test_a_socket_folder_can_stand_for_the_host() -> None:
    url = parse_dsn("postgresql:///vodkeep?host=/run/postgresql")
    assert url.host is None
    assert url.query["host"] == "/run/postgresql"


def test_an_ipv6_host_keeps_its_colons() -> None:
    url = parse_dsn("postgres://u:p@[::1]:5432/x")
    assert (url.host, url.port) == ("::1", 5432)


@pytest.mark.parametrize(("text", "path"), [("sqlite:///data/x.db", "data/x.db"), ("sqlite:////srv/x.db", "/srv/x.db")])
def test_sqlite_takes_relative_and_absolute_paths(text: str, path: str) -> None:
    assert parse_dsn(text).drivername == "sqlite"
    assert parse_dsn(text).database == path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("vodkeep.db", "database address"),
        ("host=db user=x password=y", "database address"),
        ("mysql://u:p@h/x", "not mysql://"),
        ("://h/x", "must begin with"),
        ("postgres://h:0/x", "port between"),
        ("postgres://h:65536/x", "port between"),
        ("postgres://h:99999999999999999999/x", "port between"),
        ("postgres://h:abc/x", "port between"),
        ("postgres://u:p@h:5432", "name of the database"),
        ("postgres:///x", "name a host"),
        ("postgres://u:p@ss@h:5432/x", "percent-encoded"),
        ("postgres://u:p/ss@h:5432/x", "percent-encoded"),
        ("postgres://u:p?ss@h:5432/x", "percent-encoded"),
        ("sqlite://data/x.db", "three slashes"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
    ],
)
def test_a_malformed_address_is_refused_with_the_reason(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        parse_dsn(text)
    assert str(refused.value).startswith("must ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://u:geheim@h:5432/x", "postgres://u:********@h:5432/x"),
        ("postgres://u@h:5432/x", "postgres://u@h:5432/x"),
        ("sqlite:///data/x.db", "sqlite:///data/x.db"),
        ("postgres://u:a@b/c?d@h/x", "postgres://u:********@h/x"),
        ("postgres://h:5432/x?password=geh@im", "postgres://h:********"),
        ("postgres://h/x?sslmode=require&password=geheim&a=b", "postgres://h/x?sslmode=require&password=********&a=b"),
        ("host=db password='ge heim' user=x", "host=db password=******** user=x"),
        ("u:geheim@h/x", "u:********@h/x"),
    ],
)
def test_passwords_are_masked_wherever_they_stand(text: str, shown: str) -> None:
    assert mask_address(text) == shown


passwords = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=4, max_size=30)


@given(password=passwords, scheme=st.sampled_from(["postgres://", "postgresql://", "mysql://", ""]))
@example(password="a:b@c/d", scheme="postgres://")
@example(password="?password=x", scheme="postgres://")
def test_no_raw_password_survives_masking(password: str, scheme: str) -> None:
    assume(password not in f"{scheme}keeper:{'*' * 8}@db:5432/vodkeep")
    assert password not in mask_address(f"{scheme}keeper:{password}@db:5432/vodkeep")


@given(password=passwords)
def test_an_encoded_password_is_read_back(password: str) -> None:
    assert parse_dsn(f"postgres://keeper:{quote(password, safe='')}@db:5432/vodkeep").password == password


@given(st.text() | st.text().map("postgres://".__add__) | st.text().map("sqlite://".__add__))
def test_garbage_is_a_value_error(text: str) -> None:
    mask_address(text)
    with contextlib.suppress(ValueError):
        assert parse_dsn(text).database
