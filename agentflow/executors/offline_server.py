"""The model server: the program that loads one small model and answers calls on 127.0.0.1 until its owner goes.

Run as ``python -I -S offline_server.py``. Its first line of input is the order (JSON: packages, model, api_key,
slots, context_tokens), its one line of output the address that it answers on. It says nothing else anywhere, for the
engine's own words would tell of prompts. The pipe that brought the order is the bond: when it closes, the server ends.
Standard library and xllamacpp only; offline_model is the other side.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any

LOAD_SECONDS = 120
_IGNORABLE = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM)


def main() -> None:
    """Serve the owner at the other end of file 0."""
    owner = _seal()
    # The engine loads without letting Python run, and the owner may go meanwhile: then the kernel ends it.
    signal.alarm(LOAD_SECONDS)
    order = json.loads(_read_line())
    sys.path.append(order["packages"])
    server = _start(order)
    os.write(owner, f"{server.listening_address}\n".encode())
    os.close(owner)
    signal.alarm(0)
    while os.read(0, 1):
        continue
    os._exit(0)  # the engine would finish its calls first


def _seal() -> int:
    """Let nothing out but what is written to the file returned; a crash leaves no core, which would hold prompts."""
    for ignorable in _IGNORABLE:
        signal.signal(ignorable, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    owner = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return owner


def _read_line() -> bytes:
    """Read the order byte by byte: what follows it belongs to the bond."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(0)  # the owner went before it had said anything
        line += byte
    return line


def _start(order: dict[str, Any]) -> Any:
    import xllamacpp  # here: order says where it is

    params = xllamacpp.CommonParams()
    params.model.path = order["model"]
    params.api_keys = [order["api_key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # the kernel chooses
    # Threads of one call wait for each other by spinning: on a busy machine two are slower than one, by far.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_parallel = order["slots"]
    params.n_ctx = order["slots"] * order["context_tokens"]
    params.cache_ram_mib = 0  # no prompt is kept for longer than its slot needs it
    params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    params.ui = False
    params.verbosity = 0
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
