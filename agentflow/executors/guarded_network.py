"""The guard between http steps and the network: public addresses may be called, private ones only if they are allowed.

Owns what is private, who is exempt, and the connection to the very address that was checked: a name is looked up once,
so it cannot lead elsewhere afterwards. TLS stays the http library's and is verified against the name.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import httpcore2

from agentflow.domain.error import ConfigurationError

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

#: What an address that does not answer may take of the time of the next one.
_ADDRESS_SECONDS = 3.0
_HOST = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_PORT = re.compile(r"[0-9]{1,5}")
_LOOPBACK_NAME = "localhost"
_LOOPBACK: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# What ``is_global`` does not know, or not in every version of Python.
_UNFIT: tuple[Network, ...] = (
    IPv4Network("168.63.129.16/32"),  # public in form; in Azure it is the machine's own host
    IPv4Network("192.0.0.0/24"),  # kept for protocols; a cloud's metadata is there too
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv6Network("2001::/23"),  # kept for protocols, such as Teredo: a tunnel may end anywhere
    IPv6Network("2002::/16"),  # 6to4, as well
    IPv6Network("3fff::/20"),  # for documents
)


class PrivateAddressError(Exception):
    """The address is private and not allowed."""


@dataclass(frozen=True, slots=True)
class PrivateHosts:
    """The private addresses that may be called all the same; a port of None is every port."""

    names: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[tuple[Network, int | None], ...] = ()

    @classmethod
    def read(cls, entries: Iterable[str]) -> PrivateHosts:
        """Read hosts, addresses and networks, each with or without a port; ConfigurationError names a bad entry."""
        names: set[tuple[str, int | None]] = set()
        networks: list[tuple[Network, int | None]] = []
        for entry in entries:
            place, port = _split(entry.strip().lower())
            network = _network(place)
            if network is not None:
                networks.append((network, port))
            elif is_host(place) and literal_address(place) is None:
                names.add((place.removesuffix("."), port))
            else:
                raise ConfigurationError(
                    f"AGENTFLOW_HTTP_PRIVATE_HOSTS: {entry!r} is no host, host:port, address or network "
                    "(such as localhost, db.internal:8080, 10.1.2.3, 10.0.0.0/8)"
                )
        return cls(frozenset(names), tuple(networks))

    def allows(self, host: str, address: Address, port: int) -> bool:
        """Whether ``address`` may be called as ``host`` and ``port`` though it is private."""
        name, plain = host.removesuffix("."), _unwrapped(address)
        if (name, None) in self.names or (name, port) in self.names:
            return True
        return any(plain in network and only in (None, port) for network, only in self.networks)


def is_host(text: str) -> bool:
    """Whether ``text`` is the name of a host, in lower-case ASCII."""
    return _HOST.fullmatch(text) is not None


def literal_address(host: str) -> Address | None:
    """The address that a host spells out, also as resolvers read it: 127.1, 0177.0.0.1, 0x7f000001, 2130706433."""
    text = host.strip("[]").removesuffix(".")
    try:
        return ip_address(text)
    except ValueError:
        pass  # it may be one of the old spellings
    try:
        return IPv4Address(socket.inet_aton(text))
    except (OSError, ValueError):
        return None


def is_loopback_name(host: str) -> bool:
    """Whether a name is this machine's own by RFC 6761, whatever a resolver says of it."""
    name = host.removesuffix(".").lower()
    return name == _LOOPBACK_NAME or name.endswith(f".{_LOOPBACK_NAME}")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the internet at large; one that wraps another counts as that one."""
    plain = _unwrapped(address)
    if not plain.is_global or plain.is_multicast or any(plain in network for network in _UNFIT):
        return False
    return isinstance(plain, IPv4Address) or plain in _GLOBAL_UNICAST


def _unwrapped(address: Address) -> Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


async def resolve(host: str, port: int) -> list[str]:
    """Look a name up as the system does; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


class Guard:
    """Decides which addresses a host may be called at."""

    def __init__(self, allowed: PrivateHosts, resolve: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve

    def may_call(self, host: str, address: Address, port: int) -> bool:
        """Whether ``host`` may be called at ``address``."""
        return is_public(address) or self._allowed.allows(host, address, port)

    def refuses(self, host: str, port: int) -> bool:
        """Whether ``host`` itself says that it may not be called; other names are looked up when they are called."""
        literal = literal_address(host)
        told = (literal,) if literal is not None else _LOOPBACK if is_loopback_name(host) else ()
        return bool(told) and not any(self.may_call(host, address, port) for address in told)

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Look ``host`` up, once; raises OSError, or PrivateAddressError if a single address may not be called.

        One private address among public ones is enough: which of them answers would be chance.
        """
        if self.refuses(host, port):
            raise PrivateAddressError
        literal = literal_address(host)
        found = [literal] if literal is not None else [ip_address(text) for text in await self._resolve(host, port)]
        if not all(self.may_call(host, address, port) for address in found):
            raise PrivateAddressError
        return found


class GuardedNetwork(httpcore2.AsyncNetworkBackend):
    """The http library's way to the network, through the guard."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that answers; raises PrivateAddressError or httpcore2's errors."""
        try:
            addresses = await self._guard.addresses(host, port)
        except (OSError, ValueError) as error:  # ValueError: the resolver's answer, or a name it cannot encode
            raise httpcore2.ConnectError("the host was not found") from error
        for place, address in enumerate(addresses, 1):
            patience = timeout if place == len(addresses) else _ADDRESS_SECONDS
            try:
                return await self._network.connect_tcp(str(address), port, patience, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if place == len(addresses):
                    raise
        raise httpcore2.ConnectError("the host has no address")


def _split(entry: str) -> tuple[str, int | None]:
    """Part an entry into its host, address or network, and its port; what has no port is returned whole."""
    place, colon, port = entry.rpartition(":")
    is_bare_v6 = ":" in place and not place.startswith("[")
    if not colon or is_bare_v6 or not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        return entry, None
    return place, int(port)


def _network(text: str) -> Network | None:
    try:
        return ip_network(text.strip("[]"))
    except ValueError:
        return None
