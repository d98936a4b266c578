"""How much code a piece of work goes through, counted and not timed: the same on every machine and under every load."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_of(work: Callable[[], object]) -> int:
    """Do ``work``; returns how many lines it went through, each turn of a loop among them."""
    lines = 0

    def count(_frame: FrameType, kind: str, _about: Any) -> Any:
        nonlocal lines
        lines += kind == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


def grows_as(work: Callable[[int], object], few: int = 500, many: int = 2_000) -> bool:
    """Whether the lines of ``work`` grow as its size does, with a quarter more for logarithms and the like."""
    return lines_of(lambda: work(many)) / lines_of(lambda: work(few)) < many / few * 1.25
