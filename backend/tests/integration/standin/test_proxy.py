"""The proxy: real names in, nothing out."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
import urllib3

from support.standin import hosted_standin
from vodkeep_standin.faults.reset import Reset
from vodkeep_standin.faults.stall import Stall
from vodkeep_standin.scenario import ids
from vodkeep_standin.server import Standin


def through_proxy(standin: Standin) -> urllib3.ProxyManager:
    return urllib3.ProxyManager(
        standin.proxy_url,
        ssl_context=ssl.create_default_context(cafile=str(standin.ca_path)),
        retries=False,
        timeout=60,
    )


def raw(standin: Standin) -> socket.socket:
    address = urlsplit(standin.proxy_url)
    return socket.create_connection((str(address.hostname), address.port or 0), timeout=60)


def test_twitch_names_are_answered_over_trusted_tls(standin: Standin) -> None:
    with through_proxy(standin) as pool:
        reply = pool.request("GET", "https://api.twitch.tv/helix/users")
        assert reply.json()["message"] == "OAuth token is missing"
        entry = standin.requests.entries("/helix/users")[-1]
        assert entry.host == "api.twitch.tv"


def test_hosts_answer_only_their_own_paths(standin: Standin) -> None:
    with through_proxy(standin) as pool:
        assert pool.request("GET", "https://id.twitch.tv/helix/users").status == 404
        assert pool.request("GET", "https://gql.twitch.tv/control/videos").status == 404


def test_connections_are_kept_and_large_bodies_arrive_whole(standin: Standin) -> None:
    grant = standin.world.issue_grant(standin.scenario.videos[ids.PLAIN])
    path = standin.media(ids.PLAIN).path("chunked", "0.ts")
    with through_proxy(standin) as pool:
        for _ in range(3):
            reply = pool.request("GET", f"https://d1.cloudfront.net/edge/{grant}/x/chunked/0.ts")
            assert reply.data == path.read_bytes()
    assert len({entry.connection for entry in standin.requests.entries("/edge/*")}) == 1


def test_plain_http_goes_through_to_the_own_edge_only(standin: Standin) -> None:
    with through_proxy(standin) as pool:
        assert pool.request("GET", f"{standin.http_url}/edge/_404/404_processing_1x1.png").status == 200
        assert pool.request("GET", "http://127.0.0.1:9/").status == 502
        assert pool.request("GET", "http://example.org/").status == 502
    assert standin.refused == ["http://127.0.0.1:9/", "http://example.org/"]


@pytest.mark.parametrize(
    "target", ["example.org:443", "api.twitch.tv:80", "www.twitch.tv.evil.example:443", "nonsense"]
)
def test_other_hosts_are_refused(standin: Standin, target: str) -> None:
    with raw(standin) as connection:
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        assert connection.makefile("rb").readline() == b"HTTP/1.1 502 Bad Gateway\r\n"
    assert standin.refused == [target]


def test_client_that_does_not_trust_the_ca_gets_nothing(standin: Standin) -> None:
    with raw(standin) as connection:
        connection.sendall(b"CONNECT api.twitch.tv:443 HTTP/1.1\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(connection, server_hostname="api.twitch.tv")
    assert standin.requests.entries() == []


def test_reset_reaches_the_client_through_tls(standin: Standin) -> None:
    standin.faults.add(Reset(), host="api.twitch.tv")
    context = ssl.create_default_context(cafile=str(standin.ca_path))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secured = context.wrap_bio(incoming, outgoing, server_hostname="api.twitch.tv")
    with raw(standin) as connection:
        connection.sendall(b"CONNECT api.twitch.tv:443 HTTP/1.1\r\n\r\n")
        connection.recv(100)

        def until_done(step: Callable[[], object]) -> None:
            # By hand, because Python's TLS socket reports a reset as an ordinary end.
            done = False
            while not done:
                try:
                    step()
                    done = True
                except ssl.SSLWantReadError:
                    pass
                if outgoing.pending:
                    connection.sendall(outgoing.read())
                elif not done:
                    incoming.write(connection.recv(65536))

        until_done(secured.do_handshake)
        until_done(lambda: secured.write(b"GET /helix/users HTTP/1.1\r\nHost: api.twitch.tv\r\n\r\n"))
        with pytest.raises(ConnectionResetError):
            until_done(secured.read)


def test_clients_that_stay_do_not_hinder_the_end() -> None:
    """Leaving must neither hang nor warn, whatever the clients are in the middle of."""
    with ExitStack() as clients:
        with hosted_standin("test") as standin:
            half = clients.enter_context(raw(standin))
            half.sendall(b"CONNECT api.twitch.tv:443 HTT")
            in_handshake = clients.enter_context(raw(standin))
            in_handshake.sendall(b"CONNECT api.twitch.tv:443 HTTP/1.1\r\n\r\n")
            assert in_handshake.recv(100).startswith(b"HTTP/1.1 200")
            pool = clients.enter_context(through_proxy(standin))
            idle = pool.request("GET", "https://api.twitch.tv/helix/users")
            assert idle.status == 401
            standin.faults.add(Stall(), path="/helix/*")
            stalled = pool.request("GET", "https://api.twitch.tv/helix/users", preload_content=False)
            clients.callback(stalled.close)
        assert half.recv(1) == b""
        assert in_handshake.recv(1) == b""
