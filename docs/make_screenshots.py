"""Make the pictures of docs/howto/flower.md anew, from a real installation: docs/images/flower-*.png.

python docs/make_screenshots.py          needs agentflow[embedded] and chromium on PATH

It starts servers of its own, one worker and Flower, runs three plans (one that succeeds, one that fails after its
retries, one that is under way) and lets a headless chromium look at the pages.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentflow.embedded import EmbeddedServers

IMAGES = Path(__file__).parent / "images"
AGENTFLOW = (sys.executable, "-m", "agentflow")
PATIENCE_SECONDS = 120.0
SETTLED_MILLISECONDS = 10_000
LARGEST_BYTES = 200_000
PLANS = {
    "triage": """
agentflow: 1
name: triage
steps:
  - {id: collect, subprocess: {command: [seq, "3"]}}
  - {id: report, subprocess: {command: [sh, -c, "sleep 0.4; echo done"]}}
  - {id: tell, subprocess: {command: [echo, told]}}
""",
    "release": """
agentflow: 1
name: release
steps:
  - {id: build, needs: [], subprocess: {command: ["true"]}}
  - id: check
    needs: [build]
    subprocess: {command: [sh, -c, "sleep 0.2; exit 1"]}
    retry: {max_attempts: 3, base: 200ms}
  - {id: publish, needs: [check], subprocess: {command: ["true"]}}
""",
    "import": """
agentflow: 1
name: import
steps:
  - {id: fetch, subprocess: {command: [sleep, "120"]}}
""",
}


def main() -> int:
    """Write the pictures; returns the exit code."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("There is no chromium on PATH", file=sys.stderr)  # noqa: T201 - a script tells on the terminal
        return 1
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-pictures-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryDirectory(prefix="agentflow-pictures-", ignore_cleanup_errors=True) as home,
        EmbeddedServers(Path(home)) as servers,
    ):
        environment = _environment(Path(folder), servers.urls.database_url, servers.urls.redis_url)
        _run(environment, "migrate")
        port = _free_port()
        with (
            _started(environment, "flower", f"--port={port}"),
            _started(environment, "worker", "--profile", "commands", "-n", "commands@example", "-c", "2"),
            _started(environment, "worker", "--profile", "models", "-n", "models@example"),
        ):
            _photograph(chromium, Path(folder), f"http://127.0.0.1:{port}", environment)
    return 0


def _photograph(chromium: str, folder: Path, flower: str, environment: Mapping[str, str]) -> None:
    _wait_for("two workers", lambda: len(_asked(f"{flower}/api/workers?refresh=1")) == 2)
    for name, text in PLANS.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        head = json.loads(_run(environment, "run", str(folder / f"{name}.yaml"), "--detach", "--json"))
        if name != "import":
            _run(environment, "wait", head["id"], exit_codes=(0, 1))

    def tasks() -> dict[str, Any]:
        return {each["state"]: uuid for uuid, each in _asked(f"{flower}/api/tasks").items()}

    _wait_for("task of each state", lambda: {"SUCCESS", "FAILURE", "STARTED"} <= tasks().keys())
    failed = tasks()["FAILURE"]
    pages = {
        "tasks": ("/tasks", 1800, 700),
        "task": (f"/task/{failed}", 1200, 950),
        "workers": ("/workers", 1200, 560),
    }
    for name, (path, width, height) in pages.items():
        picture = IMAGES / f"flower-{name}.png"
        _take(chromium, folder, f"{flower}{path}", picture, f"{width},{height}")
        if picture.stat().st_size > LARGEST_BYTES:
            raise SystemExit(f"{picture} is too large for a page")


def _take(chromium: str, folder: Path, url: str, picture: Path, size: str) -> None:
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder}/c",
    ]
    command += [
        f"--window-size={size}",
        f"--virtual-time-budget={SETTLED_MILLISECONDS}",
        f"--screenshot={picture}",
    ]
    subprocess.run([*command, url], check=True, capture_output=True, timeout=PATIENCE_SECONDS)


def _environment(folder: Path, database_url: str, redis_url: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "HOME": str(folder),
        "TZ": "UTC",
        "AGENTFLOW_HOME": str(folder / "home"),
        "AGENTFLOW_ACTOR": "ops@example",
        "AGENTFLOW_DATABASE_URL": database_url,
        "AGENTFLOW_REDIS_URL": redis_url,
        "C_FORCE_ROOT": "1",
        "FLOWER_UNAUTHENTICATED_API": "true",  # this script asks it for what the pages will show
    }


def _run(environment: Mapping[str, str], *words: str, exit_codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run([*AGENTFLOW, *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in exit_codes:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


@contextmanager
def _started(environment: Mapping[str, str], *words: str) -> Iterator[None]:
    process = subprocess.Popen(
        [*AGENTFLOW, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGQUIT if words[0] == "worker" else signal.SIGTERM)  # a worker would drain first
        process.wait(PATIENCE_SECONDS)


def _wait_for(what: str, probe: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not probe():
        if time.monotonic() > deadline:
            raise SystemExit(f"Flower shows no {what}")
        time.sleep(0.2)


def _asked(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own Flower on 127.0.0.1
            found: dict[str, Any] = json.load(answer)
            return found
    except OSError:
        return {}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
