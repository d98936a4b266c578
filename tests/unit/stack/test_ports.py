"""Where the Flower of a stack is told to be, and when a port that is taken keeps the stack from starting."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agentflow.domain.error import ConfigurationError
from agentflow.settings import Settings
from agentflow.stack.ports import check_flower_port, flower_url


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "http://127.0.0.1:5555"),
        ({"FLOWER_PORT": "6000"}, "http://127.0.0.1:6000"),
        ({"FLOWER_ADDRESS": "127.0.0.2"}, "http://127.0.0.2:5555"),
        ({"FLOWER_PORT": "0"}, None),
        ({"FLOWER_UNIX_SOCKET": "/run/flower"}, None),
    ],
)
def test_the_address_of_flower_is_told_where_it_is_known(environment: dict[str, str], told: str | None) -> None:
    assert flower_url(environment) == told


def test_a_port_that_is_taken_is_no_fault_of_a_flower_with_another_address(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {"FLOWER_PORT": str(taken.getsockname()[1])}

        with pytest.raises(ConfigurationError, match="FLOWER_PORT"):
            check_flower_port(settings, environment)
        check_flower_port(settings, environment | {"FLOWER_ADDRESS": "127.0.0.2"})
        check_flower_port(settings, environment | {"FLOWER_UNIX_SOCKET": "/run/flower"})
