"""Answers of the command line held against the JSON Schemas that are shipped; more strictly than a user would."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from agentflow.cli.main import main

SCHEMAS = resources.files("agentflow") / "schemas"


def names() -> list[str]:
    """The shipped schemas."""
    return sorted(entry.name.removesuffix(".json") for entry in SCHEMAS.iterdir() if entry.name.endswith(".json"))


def read(name: str) -> dict[str, Any]:
    """A shipped schema as it is."""
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return schema


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(_closed(read(name)), format_checker=FormatChecker())


def _closed(schema: Any) -> Any:
    """The schema with no room for fields that it does not name: what is printed must be described."""
    if isinstance(schema, list):
        return [_closed(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(entry) for key, entry in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
        if schema["properties"].keys() == {"faults"}:  # details of errors are open: each error has its own
            closed["additionalProperties"] = True
    return closed


def check(answer: Any, name: str | None = None) -> Any:
    """Hold an answer against the schema it names, or against ``name``; returns it."""
    name = name or answer["schema"].removeprefix("agentflow.").removesuffix("/1")
    errors = [f"{error.json_path}: {error.message}" for error in _validator(name).iter_errors(answer)]
    assert not errors, (name, errors, answer)
    return answer


def ask(capsys: pytest.CaptureFixture[str], *arguments: object, schema: str | None = None, code: int = 0) -> Any:
    """Run a command with ``--json`` in this process; returns its answer, checked."""
    assert main([*map(str, arguments), "--json"]) == code, capsys.readouterr()
    written = capsys.readouterr().out
    return check(json.loads(written), "error" if code and schema is None and '"error"' in written[:20] else schema)


def say(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run a command in this process; returns what it wrote to stdout."""
    given = main(list(map(str, arguments)))
    written = capsys.readouterr()
    assert given == code, written
    return written.out


def complain(capsys: pytest.CaptureFixture[str], *arguments: object, code: int) -> str:
    """Run a command that fails; returns what it wrote to stderr, and nothing may stand on stdout."""
    given = main(list(map(str, arguments)))
    written = capsys.readouterr()
    assert given == code, written
    assert not written.out
    return written.err
