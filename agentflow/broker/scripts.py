"""The Lua scripts in lua/, one a file: reading them and registering them with a client.

Owns how a script is put together from files. What a script keeps true stands in its own header.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import redis


@cache
def source_of(*names: str) -> str:
    """Return the source of ``lua/<name>.lua``; of several files, as one script in this order."""
    folder = resources.files("agentflow.broker").joinpath("lua")
    return "\n".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names)


def register(client: redis.Redis, *names: str) -> Any:
    """Return a script to be called with ``keys`` and ``args``; it is loaded again where the server forgot it."""
    return client.register_script(source_of(*names))
