"""An answer keeps to its schema or it does not; nothing outside of the schema is ever loaded."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from agentflow.executors.answer_schema import keeps_to_schema, without_fence

SCHEMA = {
    "type": "object",
    "properties": {"count": {"$ref": "#/$defs/count"}},
    "required": ["count"],
    "$defs": {"count": {"type": "integer", "minimum": 0}},
}


def test_json_that_the_schema_allows_keeps_to_it() -> None:
    assert keeps_to_schema(' {"count": 3} ', SCHEMA)
    assert keeps_to_schema("null", {})


@pytest.mark.parametrize(
    "answer",
    ['{"count": "3"}', '{"count": -1}', "{}", "[]", "", "three", '{"count": 3', '{"count": NaN}', "[" * 100_000],
)
def test_everything_else_does_not(answer: str) -> None:
    assert not keeps_to_schema(answer, SCHEMA)


def test_numbers_that_json_does_not_know_are_no_answer() -> None:
    assert not keeps_to_schema("NaN", {})
    assert not keeps_to_schema("[Infinity]", {})


def test_a_reference_to_the_outside_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert not keeps_to_schema("{}", {"$ref": "https://schemas.example/one.json"})


@pytest.mark.parametrize(
    ("answer", "inner"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('\n```\n{\n"a": 1}\n```  \n', '{\n"a": 1}'),
        ('{"a": 1}', '{"a": 1}'),
        ("```json\n{}", "```json\n{}"),
        ('Here:\n```json\n{"a": 1}\n```', 'Here:\n```json\n{"a": 1}\n```'),
    ],
)
def test_a_fence_around_all_of_an_answer_is_taken_off(answer: str, inner: str) -> None:
    assert without_fence(answer) == inner
