"""The command supervisor: the program that starts every command and stays until nothing of it is left.

Run as ``python -I -S supervisor.py OWNER_PID`` in a session of its own, with a socket to its owner as file 0. It serves
one command after the other and ends with its owner; supervisor_pool is the other side. It must start in a few
milliseconds, so it uses the standard library and its own modules only: the packages above them are stood in for by
empty ones, whose ``__init__`` (and all that it imports) never runs.
"""

from __future__ import annotations

import socket
import sys
import types


def _stand_in_for_packages() -> None:
    executors = __file__.rpartition("/")[0]
    for name, path in (("agentflow", executors.rpartition("/")[0]), ("agentflow.executors", executors)):
        package = types.ModuleType(name)
        package.__path__ = [path]
        sys.modules[name] = package


def main() -> None:
    """Serve the owner whose pid is the first argument."""
    _stand_in_for_packages()
    from agentflow.executors.supervisor_loop import SupervisorLoop, reset_signals

    reset_signals()
    SupervisorLoop(socket.socket(fileno=0), int(sys.argv[1])).serve()


if __name__ == "__main__":
    main()
