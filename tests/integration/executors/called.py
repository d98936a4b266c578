"""Functions for python steps under test to call."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from subprocess import check_output as borrowed
from typing import Any

__all__ = ["borrowed"]


class OddError(Exception):
    """What a function raises."""


def echo(**given: Any) -> dict[str, Any]:
    return given


async def later(value: int) -> int:
    await asyncio.sleep(0)
    return value + 1


def nothing() -> None:
    sys.stdout.write("said\n")


def fail(message: str) -> None:
    raise OddError(message)


def leave(code: int) -> None:
    sys.exit(code)


def large(size: int) -> str:
    return "x" * size


def unwritable() -> set[int]:
    return {1, 2}


def world() -> dict[str, Any]:
    Path(os.environ["AGENTFLOW_ARTIFACTS"], "made.txt").write_text("made", encoding="utf-8")
    return {
        "cwd": sorted(path.name for path in Path.cwd().iterdir()),
        "stdin": sys.stdin.read(),
        "variables": sorted(name for name in os.environ if name.startswith("AGENTFLOW_")),
        "run": os.environ["AGENTFLOW_RUN_ID"],
    }


def hang(stubborn: str) -> None:
    subprocess.Popen(["/bin/sh", "-c", stubborn])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    time.sleep(300)


def _private() -> int:
    return 1
