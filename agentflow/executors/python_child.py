"""The process of a ``python`` step: calls one function and hands back what it returns. Run as a file, by its path.

Owns nothing of agentflow: it imports the standard library only, so that it starts at once and nothing stands between a
function and the interpreter. What to do stands on stdin, as JSON: ``call``, ``args``, ``json_args`` (those of them that
are JSON themselves), ``path`` (where modules are found), ``is_own`` (whether the function must be the module's own),
``output``, a file for what it returns, and ``report``, one for how it went wrong. The function finds its stdin empty.
Its traceback goes to stderr; the report holds no more than the exception's class.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

RESULT_BYTES = 64 * 1024
RAISED = 1
"""The exit code after an exception."""


class NotCallableError(Exception):
    """There is no such function, or it may not be called."""


def main() -> int:
    """Do what stdin says; returns the exit code. SystemExit of the function goes through: it chose its exit code."""
    order = json.loads(sys.stdin.buffer.read())
    sys.path[:] = order["path"]
    report = Path(order["report"])
    try:
        function = _find(order["call"], is_own=order["is_own"])
    except Exception as error:  # noqa: BLE001 - a module may raise anything while it is imported
        return _failed(report, error, is_found=False)
    try:
        read = {name: json.loads(order["args"][name]) for name in order["json_args"]}
        _keep(_result(function, order["args"] | read), Path(order["output"]))
    except Exception as error:  # noqa: BLE001 - so may the function
        return _failed(report, error, is_found=True)
    return 0


def _find(call: str, *, is_own: bool) -> Callable[..., Any]:
    module, _, name = call.partition(":")
    found = getattr(import_module(module), name, None)
    if not callable(found):
        raise NotCallableError(f"{call} is no function")
    if is_own and getattr(found, "__module__", None) != module:
        raise NotCallableError(f"{call} is not the module's own: allow it by its name")
    return found  # type: ignore[no-any-return]  # whatever it is, it can be called


def _result(function: Callable[..., Any], args: dict[str, Any]) -> Any:
    returned = function(**args)
    return asyncio.run(_awaited(returned)) if inspect.isawaitable(returned) else returned


async def _awaited(returned: Any) -> Any:
    return await returned


def _keep(result: Any, output: Path) -> None:
    """Write the result; of one that is too large only so much that this can be seen."""
    text = json.dumps(result, ensure_ascii=False, allow_nan=False).encode()
    output.write_bytes(text[: RESULT_BYTES + 1])


def _failed(report: Path, error: Exception, *, is_found: bool) -> int:
    traceback.print_exception(error)
    report.write_text(json.dumps({"error": type(error).__name__, "is_found": is_found}), encoding="utf-8")
    return RAISED


if __name__ == "__main__":
    sys.exit(main())
