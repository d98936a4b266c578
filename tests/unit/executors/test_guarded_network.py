"""Private addresses are not called, however they are written, unless they are allowed."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import httpcore2
import pytest

from agentflow.domain.error import ConfigurationError
from agentflow.executors.guarded_network import (
    Guard,
    GuardedNetwork,
    PrivateAddressError,
    PrivateHosts,
    is_public,
    literal_address,
    resolve,
)

_PRIVATE = [
    "127.0.0.1",
    "127.8.9.1",
    "0.0.0.0",  # noqa: S104 - nobody binds to it
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "233.252.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
_PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("text", _PRIVATE)
def test_an_address_that_is_not_of_the_internet_at_large_is_private(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", _PUBLIC)
def test_an_address_of_the_internet_is_public_also_inside_of_another(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7F.1", "017700000001", "0177.0.0.01"),
        *("127.0.0.1.", "2130706433.", "::1", "[::1]", "0:0:0:0:0:0:0:1", "::ffff:7f00:1"),
    ],
)
def test_every_spelling_of_an_address_is_seen_as_one(host: str) -> None:
    address = literal_address(host)

    assert address is not None
    assert not is_public(address)


@pytest.mark.parametrize("host", ["localhost", "example.org", "1.2.3.4.5", "0x7g", "a.127", "", "127.0.0.1.nip.io"])
def test_a_name_is_no_address(host: str) -> None:
    assert literal_address(host) is None


def _addresses(guard: Guard, host: str, port: int = 80) -> list[str]:
    return [str(address) for address in asyncio.run(guard.addresses(host, port))]


def _guard(*answers: str, allowed: tuple[str, ...] = ()) -> Guard:
    async def answer(_host: str, _port: int) -> list[str]:
        return list(answers)

    return Guard(PrivateHosts.read(allowed), answer)


def test_a_name_that_leads_to_a_private_address_is_refused() -> None:
    with pytest.raises(PrivateAddressError):
        _addresses(_guard("10.0.0.8"), "rebound.example.org")


def test_one_private_address_among_public_ones_is_enough() -> None:
    with pytest.raises(PrivateAddressError):
        _addresses(_guard("8.8.8.8", "2606:4700:4700::1111", "::ffff:10.0.0.8"), "mixed.example.org")


def test_public_addresses_are_used_in_the_order_of_the_resolver() -> None:
    assert _addresses(_guard("2606:4700:4700::1111", "8.8.8.8"), "example.org") == ["2606:4700:4700::1111", "8.8.8.8"]


def test_this_machine_is_private_by_its_name_too() -> None:
    with pytest.raises(PrivateAddressError):
        _addresses(Guard(PrivateHosts(), resolve), "localhost")


@pytest.mark.parametrize("host", ["localhost", "localhost.", "app.localhost", "127.0.0.1", "::1"])
def test_a_name_of_this_machine_is_refused_whatever_a_resolver_says(host: str) -> None:
    assert _guard("8.8.8.8").refuses(host, 80)
    with pytest.raises(PrivateAddressError):
        _addresses(_guard("8.8.8.8"), host)


@pytest.mark.parametrize("host", ["localhost.example.org", "mylocalhost", "example.org", "8.8.8.8"])
def test_another_name_is_not_refused_before_it_is_looked_up(host: str) -> None:
    assert not _guard().refuses(host, 80)


@pytest.mark.parametrize("allowed", ["localhost", "localhost:80", "127.0.0.0/8", "::1"])
def test_a_name_of_this_machine_that_is_allowed_is_not_refused(allowed: str) -> None:
    assert not _guard(allowed=(allowed,)).refuses("localhost", 80)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "169.254.169.254"])
def test_an_address_is_judged_without_asking_a_resolver(host: str) -> None:
    with pytest.raises(PrivateAddressError):
        _addresses(_guard("8.8.8.8"), host)


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("db.internal", "db.internal", 80),
        ("DB.Internal.", "db.internal", 80),
        ("db.internal", "db.internal.", 80),
        ("db.internal:8080", "db.internal", 8080),
        ("10.0.0.8", "any.example.org", 80),
        ("10.0.0.8:8080", "any.example.org", 8080),
        ("10.0.0.0/8", "any.example.org", 9000),
        ("10.0.0.0/8:9000", "any.example.org", 9000),
    ],
)
def test_what_is_allowed_may_be_called(entry: str, host: str, port: int) -> None:
    assert _addresses(_guard("10.0.0.8", allowed=(entry,)), host, port) == ["10.0.0.8"]


def test_an_allowed_address_may_be_wrapped_in_another() -> None:
    wrapped = "::ffff:10.0.0.8"

    found = _addresses(_guard(wrapped, allowed=("10.0.0.8",)), "db.internal")

    assert [ip_address(text) for text in found] == [ip_address(wrapped)]


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("db.internal", "db.internal.example.org", 80),
        ("internal", "db.internal", 80),
        ("db.internal:8080", "db.internal", 80),
        ("10.0.0.9", "db.internal", 80),
        ("10.0.0.8:8080", "db.internal", 80),
        ("192.168.0.0/16", "db.internal", 80),
        ("fd00::/8", "db.internal", 80),
    ],
)
def test_nothing_beside_what_is_allowed_may_be_called(entry: str, host: str, port: int) -> None:
    with pytest.raises(PrivateAddressError):
        _addresses(_guard("10.0.0.8", allowed=(entry,)), host, port)


@pytest.mark.parametrize("entry", ["fd00::8", "[fd00::8]", "[fd00::8]:80", "fd00::/8"])
def test_addresses_of_version_6_are_allowed_in_every_form(entry: str) -> None:
    assert _addresses(_guard("fd00::8", allowed=(entry,)), "db.internal") == ["fd00::8"]


@pytest.mark.parametrize(
    "entry", ["", "http://localhost", "localhost:", "localhost:http", "localhost:0", "localhost:65536", "10.0.0.1/8"]
)
def test_an_entry_that_cannot_be_meant_is_an_error_that_quotes_it(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="AGENTFLOW_HTTP_PRIVATE_HOSTS") as caught:
        PrivateHosts.read(("localhost", entry))

    assert repr(entry) in str(caught.value)


@pytest.mark.parametrize("entry", ["2130706433", "127.1", "0x7f000001:80"])
def test_an_entry_in_an_old_spelling_is_an_error(entry: str) -> None:
    with pytest.raises(ConfigurationError):
        PrivateHosts.read((entry,))


async def _connect(guard: Guard, host: str, port: int, timeout: float | None = None) -> None:
    stream = await GuardedNetwork(guard).connect_tcp(host, port, timeout)
    await stream.aclose()


def test_a_name_is_looked_up_once_and_the_address_that_was_checked_is_called() -> None:
    asked: list[str] = []
    called: list[int] = []

    async def rebind(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async def exercise() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            await _connect(Guard(PrivateHosts.read([f"service.test:{port}"]), rebind), "service.test", port)
            called.append(port)

    asyncio.run(exercise())

    assert asked == ["service.test"]
    assert len(called) == 1


def test_the_next_address_is_called_when_one_does_not_answer() -> None:
    async def exercise() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            await _connect(_guard("127.0.0.9", "127.0.0.1", allowed=("127.0.0.0/8",)), "service.test", port)

    asyncio.run(exercise())


@pytest.mark.parametrize("problem", [OSError("no such name"), UnicodeError("label too long")])
def test_a_name_that_cannot_be_looked_up_is_no_connection(problem: Exception) -> None:
    async def fail(_host: str, _port: int) -> list[str]:
        raise problem

    with pytest.raises(httpcore2.ConnectError, match="not found"):
        asyncio.run(_connect(Guard(PrivateHosts(), fail), "service.test", 80))


def test_a_name_without_an_address_is_no_connection() -> None:
    with pytest.raises(httpcore2.ConnectError):
        asyncio.run(_connect(_guard(), "service.test", 80))
