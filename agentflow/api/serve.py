"""Serve the API with uvicorn, in one process or several; they share nothing but the address.

Each of several processes listens for itself, and Linux deals connections out between them. Of one listener that all
shared, whoever woke first took all callers that came at once, and the others had none.

Owns the socket, how these processes log, whose word on a caller's address is taken, the word that the API answers, and
the end: what is being answered is finished, and what does not end by itself, such as a stream of events, is given
``ENDING_SECONDS``.
"""

from __future__ import annotations

import ipaddress
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from agentflow import telemetry
from agentflow.api.app import make_app
from agentflow.domain.error import ConfigurationError
from agentflow.settings import Settings, load_settings

ENDING_SECONDS = 3
_START_SECONDS = 60.0
_BACKLOG = 2048
Tell = Callable[[], None]


def serve(settings: Settings, host: str, port: int, tell: Tell = lambda: None) -> None:
    """Answer requests until SIGTERM or SIGINT; ``tell`` is called once the API answers.

    A process of several that dies is started again; each reads the environment by itself. ConfigurationError: nothing
    can listen at the address.
    """
    _log(settings)
    with _listening(host, port) as listener:
        if settings.api_processes > 1:
            config = _config(
                settings, "agentflow.api.serve:from_environment", factory=True, workers=settings.api_processes
            )
            _Processes(config, listener, tell).run()
        else:
            signal.signal(signal.SIGTERM, _leave)  # uvicorn raises the signal again once it has ended
            with suppress(KeyboardInterrupt):
                _Server(_config(settings, make_app(settings)), tell).run([listener])


def from_environment() -> FastAPI:
    """Build the application of one process of several, which ends when the one that started it is gone."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    settings = load_settings()
    _log(settings)
    return make_app(settings)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name that may mean anything
        return False


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise _cannot_listen(host, port, error) from None


def _bound(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    """Return a socket at an address that others of this account share; it hears nobody yet."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family is socket.AF_INET6:  # as a listener of one process is: IPv4 is another address
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _cannot_listen(*address[:2], error) from None
    return bound


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"The API cannot listen at {host}, port {port}: {error.strerror}. Another program may have the port: "
        "choose another one by --port or AGENTFLOW_API_PORT."
    )


def _log(settings: Settings) -> None:
    telemetry.configure(log_format=settings.log_format, level=settings.log_level, is_redacting=settings.is_redacting)


def _config(settings: Settings, app: FastAPI | str, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,  # its lines go where ours go
        log_level="warning",
        server_header=False,
        access_log=False,
        proxy_headers=bool(settings.api_trusted_proxies),
        forwarded_allow_ips=list(settings.api_trusted_proxies),
        timeout_graceful_shutdown=ENDING_SECONDS,
        **more,
    )


class _Server(uvicorn.Server):
    """A server that says when it answers."""

    def __init__(self, config: uvicorn.Config, tell: Tell) -> None:
        super().__init__(config)
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._tell()


class _Processes(Multiprocess):
    """Several processes at one address; they say together when they answer.

    ``free`` is a listener there, which shows that nobody else has the address; it is closed.
    """

    def __init__(self, config: uvicorn.Config, free: socket.socket, tell: Tell) -> None:
        super().__init__(config, [])
        self._tell = tell
        self._family, self._address = free.family, free.getsockname()
        free.close()
        self._lent: list[socket.socket] = []

    @property
    def sockets(self) -> list[socket.socket]:
        """The socket of the next process, which listens there itself once it can answer."""
        self._lent.append(_bound(self._family, self._address))
        return self._lent[-1:]

    @sockets.setter
    def sockets(self, _: list[socket.socket]) -> None:
        """Take no notice of listeners that all would share."""

    def init_processes(self) -> None:
        """Start them, and say so once each of them answers."""
        super().init_processes()
        self._let_go()
        if all(each.wait_until_ready(_START_SECONDS, self.should_exit) for each in self.processes):
            self._tell()

    def keep_subprocess_alive(self) -> None:
        """Start those again that died."""
        super().keep_subprocess_alive()
        self._let_go()

    def _let_go(self) -> None:
        """Close what processes have by now: who would call there once they died would wait for ever."""
        while self._lent:
            self._lent.pop().close()


def _leave(*_: object) -> None:
    sys.exit(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
