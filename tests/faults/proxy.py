"""A line to a server that the test can cut: what goes through it is passed on, or, while it is cut, nothing is.

A cut line is silent, as a network is that loses every packet: connections stand, and nobody is told.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

CHUNK = 1 << 16


class CuttableLine:
    """A TCP proxy on localhost in a thread of the test; one line for all who connect to ``url``."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        account = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{account}@127.0.0.1:{port}"))
        self._is_open = threading.Event()
        self._is_open.set()
        self._is_closing = False
        threading.Thread(target=self._accept, name="line", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closing = True
        self._is_open.set()
        self._listener.close()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Cut for the length of the block; then what was said meanwhile arrives."""
        self._is_open.clear()
        try:
            yield
        finally:
            self._is_open.set()

    def _accept(self) -> None:
        while not self._is_closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._is_open.wait()
        with client:
            try:
                with socket.create_connection(self._target) as server:
                    self._pass_on({client: server, server: client})
            except OSError:  # either side has left
                return

    def _pass_on(self, pairs: dict[socket.socket, socket.socket]) -> None:
        while not self._is_closing:
            readable, _, _ = select.select(list(pairs), [], [], 1.0)
            for each in readable:
                self._is_open.wait()
                chunk = each.recv(CHUNK)
                if not chunk:
                    return
                self._is_open.wait()
                pairs[each].sendall(chunk)
