"""Functions for nodes of workflows under test to perform."""

from __future__ import annotations

import asyncio
from typing import Any


def read(input: Any) -> dict[str, Any]:  # noqa: A002 - what a node is given comes in this argument
    return {"route": "sum" if isinstance(input, list) else "greet", "subtask_inputs": input, "name": input}


async def multiply(input: int, by: int) -> int:  # noqa: A002 - as above
    await asyncio.sleep(0)
    return input * by if input >= 0 else _refused(input)


def total(input: list[dict[str, Any]]) -> dict[str, int]:  # noqa: A002 - as above
    done = [part["output"] for part in input if part["output"] is not None]
    return {"sum": sum(done), "parts": len(done)}


def greet(input: dict[str, Any], words: str, **terms: Any) -> str:  # noqa: A002 - as above
    return f"{words}, {input['name']}{terms['ends']['mark']}"


def refuse(input: Any) -> None:  # noqa: A002 - as above
    _refused(input)


def _refused(value: Any) -> int:
    raise LookupError(value)
