"""The API of ``agentflow up``: on this machine only, and it tells the stack when it answers.

Standard input is a socket to the stack; the word is written there, since what is logged depends on the log level.
"""

from __future__ import annotations

import os
import sys

from agentflow.api.serve import serve
from agentflow.domain.error import AgentflowError
from agentflow.settings import load_settings

HOST = "127.0.0.1"
READY = b"ready\n"
_LINE, _FAILED = 0, 2


def main() -> int:
    """Serve until a signal; returns the exit code."""
    try:
        settings = load_settings()
        serve(settings, HOST, settings.api_port, lambda: _ignore(os.write(_LINE, READY)))
    except AgentflowError as error:
        sys.stderr.write(f"{error}\n")
        return _FAILED
    except KeyboardInterrupt:
        return 0
    return 0


def _ignore(_: int) -> None:
    """How many bytes went out is of no matter."""


if __name__ == "__main__":
    raise SystemExit(main())
