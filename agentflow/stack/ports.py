"""Where the API and Flower of a stack listen, and whether they can.

Owns the question before the start: a worker that is up already would take steps that its stack cannot keep. Flower
reads its port by itself, from the environment that it is started with and from its configuration file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agentflow.embedded.ports import HOST, check_free
from agentflow.settings import Settings

_FLOWER_PORT = 5555
_FLOWER_VARIABLE, _FLOWER_ADDRESS, _FLOWER_SOCKET = "FLOWER_PORT", "FLOWER_ADDRESS", "FLOWER_UNIX_SOCKET"
_FLOWER_FILE = Path("config", "flowerconfig.py")  # below the home, where a stack's Flower works


def flower_url(environment: Mapping[str, str]) -> str | None:
    """Return where the Flower of a stack is told to be; None where it has no address that can be told before."""
    port = _flower_port(environment)
    is_told = port != 0 and _FLOWER_SOCKET not in environment
    return f"http://{environment.get(_FLOWER_ADDRESS) or HOST}:{port}" if is_told else None


def check_api_port(settings: Settings) -> None:
    """ConfigurationError: the API could not listen."""
    check_free("The API", settings.api_port, "AGENTFLOW_API_PORT")


def check_flower_port(settings: Settings, environment: Mapping[str, str]) -> None:
    """ConfigurationError: Flower could not listen. Where it may have another address than ours nothing is asked."""
    has_file = settings.flower_config is not None or (settings.home / _FLOWER_FILE).is_file()
    if not has_file and not environment.keys() & {_FLOWER_SOCKET, _FLOWER_ADDRESS}:
        check_free("Flower", _flower_port(environment), _FLOWER_VARIABLE)


def _flower_port(environment: Mapping[str, str]) -> int:
    given = environment.get(_FLOWER_VARIABLE, "")
    is_port = given.isdecimal() and int(given) < 2**16
    return int(given) if is_port else _FLOWER_PORT  # what is none, Flower refuses itself
