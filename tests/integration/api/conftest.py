"""The API as a caller has it: a real server on this machine, real keys, and a client that knows nothing else."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx2
import pytest
import uvicorn

from agentflow import AgentFlow
from agentflow.api.app import make_app
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests import openapi

BASE = "/api/v1"
TLS = ssl.create_default_context()
"""For every client: to read the certificates of this machine takes a tenth of a second, and nothing here needs them."""


class Server(uvicorn.Server):
    """A server that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.is_ready.set()


@dataclass(frozen=True)
class Api:
    """Where the API is, and the client of the installation behind it."""

    url: str
    flow: AgentFlow

    def client(self, key: str | None = None) -> httpx2.Client:
        """Open a client that shows ``key``."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        hooks = {"response": [openapi.check]}  # every answer of every test is one that is described
        return httpx2.Client(base_url=self.url + BASE, headers=headers, timeout=30, event_hooks=hooks, verify=TLS)


@pytest.fixture
def api_settings(house: Runtime) -> Settings:
    """The settings that the API goes by: nobody is told to ask less often. A module of tests may have others."""
    return house.settings.model_copy(update={"api_requests_per_minute": 10_000_000})


@pytest.fixture
def api(house: Runtime, api_settings: Settings) -> Iterator[Api]:
    """The API of the test's installation."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(uvicorn.Config(make_app(api_settings), log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    assert server.is_ready.wait(30)
    with AgentFlow(house.settings) as flow:
        yield Api(f"http://127.0.0.1:{listening.getsockname()[1]}", flow)
    server.should_exit = True
    thread.join(30)
    listening.close()
    assert not thread.is_alive()


@pytest.fixture
def opened(api: Api) -> Iterator[Callable[..., httpx2.Client]]:
    """Opens clients by the role of a key made for them."""
    clients: list[httpx2.Client] = []

    def open_client(role: str, project: str | None = None) -> httpx2.Client:
        made = api.flow.create_key(f"{role}-{len(clients)}", role, project=project)
        clients.append(api.client(made.text))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()
