"""Which addresses the vault may ask, so that no answer of a provider can lead it anywhere else.

An address is good when its origin (scheme, host and port) is that of a base address in the settings, or when it is
https on one of the providers' own image hosts. What a name resolves to must be a public address. The exception is an
origin of the settings that is itself written as a local address (``http://127.0.0.1:8800``): an operator named it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urljoin, urlsplit

IMAGE_HOSTS = frozenset({"static-cdn.jtvnw.net", "cdn.betterttv.net", "cdn.frankerfacez.com", "cdn.7tv.app"})
"""Where the providers keep their images; addresses in their answers lead there."""

MAX_LENGTH = 512
"""Characters of an address; those of the providers have about 80."""

_DEFAULT_PORTS = {"https": 443, "http": 80}
_LOCAL_NAME = "localhost"


class RefusedAddress(ValueError):
    """An address that the vault does not ask; the text says why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host in lower case, and port."""

    scheme: str
    host: str
    port: int


def origin_of(url: str) -> Origin:
    """The origin of an http or https address. Raises `RefusedAddress` for everything else."""
    if len(url) > MAX_LENGTH or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise RefusedAddress("it is not a plain web address")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise RefusedAddress("it is not a web address") from error
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise RefusedAddress("it is not a web address")
    if parts.username is not None or parts.password is not None:
        raise RefusedAddress("it carries a user name")
    return Origin(parts.scheme, host.rstrip("."), port or _DEFAULT_PORTS[parts.scheme])


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, also when it is wrapped in IPv6."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or _nat64(ip)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


def _nat64(ip: IPv6Address) -> IPv4Address | None:
    """RFC 6052: the IPv4 address inside ``64:ff9b::/96``."""
    return IPv4Address(int(ip) & 0xFFFFFFFF) if int(ip) >> 32 == 0x0064FF9B << 64 else None


class AllowedAddresses:
    """The rule, for one set of base addresses."""

    def __init__(self, base_urls: Iterable[str]) -> None:
        # Only the beginning, for the settings take more in a path than we would of an answer.
        self._origins = frozenset(origin_of("/".join(url.split("/")[:3])) for url in base_urls)
        self._local = frozenset((origin.host, origin.port) for origin in self._origins if _is_local(origin.host))

    def check(self, url: str) -> str:
        """``url`` if it may be asked. Raises `RefusedAddress`."""
        origin = origin_of(url)
        if origin in self._origins:
            return url
        if origin.scheme != "https":
            raise RefusedAddress(f"it is not https ({origin.scheme}://{origin.host})")
        if origin.host not in IMAGE_HOSTS or origin.port != 443:
            raise RefusedAddress(f"{origin.host}:{origin.port} is not a host of the providers")
        return url

    def check_redirect(self, url: str, location: str) -> str:
        """Where a redirect of ``url`` to ``location`` leads, if that may be asked. Raises `RefusedAddress`."""
        try:
            return self.check(urljoin(url, location))
        except RefusedAddress:
            raise
        except ValueError as error:
            raise RefusedAddress("it is not a web address") from error

    def check_resolved(self, host: str, port: int, address: str) -> None:
        """Whether ``host`` may be at the IP address ``address``. Raises `RefusedAddress`."""
        if (host.lower().rstrip("."), port) not in self._local and not is_public(address):
            raise RefusedAddress(f"{host} resolves to {address}, which is not on the open internet")


def _is_local(host: str) -> bool:
    """Whether a host is written as a local address."""
    try:
        return not is_public(host)
    except ValueError:
        return host == _LOCAL_NAME or host.endswith("." + _LOCAL_NAME)
