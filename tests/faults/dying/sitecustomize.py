"""Lets processes of agentflow die at a named point, once: every Python that has this folder on its path loads it.

A point is a function of agentflow, as its caller names it. Who comes to one while a file of the point's name lies in
$TEST_DYING takes the file away and is killed before the function begins.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

POINTS: Mapping[str, Mapping[str, str]] = {
    "agentflow.engine.execute": {"prepare": "claimed", "reporting": "reserved", "_settle": "performed"},
    "agentflow.engine.settle": {"_after_commit": "settled"},
    "agentflow.tasks": {"_tell_celery": "sent"},
    "agentflow.engine.dispatcher": {"send_steps": "stamped"},
    "agentflow.engine.submit": {"send_steps": "submitted"},
}


def dying(point: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with the point before it."""

    @functools.wraps(function)
    def die_or_call(*arguments: Any, **named: Any) -> Any:
        note = Path(os.environ["TEST_DYING"]) / point
        try:
            note.rename(note.with_suffix(".met"))
        except FileNotFoundError:
            return function(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a killed process goes on")

    return die_or_call


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in POINTS:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_with_points(module: ModuleType) -> None:
            execute(module)
            for name, point in POINTS[fullname].items():
                setattr(module, name, dying(point, getattr(module, name)))

        spec.loader.exec_module = execute_with_points  # type: ignore[method-assign]
        return spec


if "TEST_DYING" in os.environ:
    sys.meta_path.insert(0, _Finder())
