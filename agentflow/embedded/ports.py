"""TCP ports of this machine: one that is free, and whether one that was asked for is.

Owns the words for a port that cannot be listened at; what else than the port may be chosen is the caller's to say.
"""

from __future__ import annotations

import socket

from agentflow.domain.error import ConfigurationError

HOST = "127.0.0.1"


def free_port() -> int:
    """A port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def check_free(who: str, port: int, choice: str) -> None:
    """ConfigurationError where ``who`` could not listen at a port of 127.0.0.1; ``choice`` is how to have another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as who listens: what was closed is free at once
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise cannot_listen(who, HOST, port, error, choice) from None


def cannot_listen(who: str, host: str, port: int, error: OSError, choice: str) -> ConfigurationError:
    """Return the error that nothing can listen at an address."""
    return ConfigurationError(
        f"{who} cannot listen at {host}, port {port}: {error.strerror}. Another program may have the port: choose "
        f"another one by {choice}."
    )
