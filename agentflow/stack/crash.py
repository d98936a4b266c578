"""Kill a running stack's worker as a power cut would, for those who want to see what happens then.

Owns finding the worker (a child of the process that keeps the stack) and nothing of the recovery: that is the
dispatcher's, once the stack has started another worker.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from agentflow.domain.error import NotFound
from agentflow.stack.companion import WORKER_APP
from agentflow.stack.processes import ProcessName, process_tree


def kill_worker(stack_pid: int) -> list[ProcessName]:
    """SIGKILL the worker of the stack kept by ``stack_pid`` with all it started; returns what was killed.

    NotFound: that process has no worker.
    """
    main = next((each for each in process_tree(stack_pid) if WORKER_APP in each.command), None)
    if main is None:
        raise NotFound(f"Process {stack_pid} has no worker.", pid=stack_pid)
    killed = process_tree(main.pid)
    for each in killed:  # parents first: a parent that still lived would replace its child
        with suppress(ProcessLookupError):
            os.kill(each.pid, signal.SIGKILL)
    return killed
