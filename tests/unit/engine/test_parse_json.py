"""JSON: the same data as the standard parser gives, with places, and faults instead of errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.engine.parse_json import parse_json

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(PLAIN, st.sampled_from([None, 1, "\t"]))
def test_data_is_read_as_the_standard_parser_reads_it(data: Any, indent: int | str | None) -> None:
    document = parse_json(json.dumps(data, indent=indent), "p.json")
    assert document.faults == ()
    assert document.data == data
    assert json.dumps(document.data) == json.dumps(data)


@given(st.text(alphabet='{}[]",:0123.eE+-truefalsn \n\\u', max_size=25))
def test_any_text_is_taken_exactly_when_the_standard_parser_takes_it(text: str) -> None:
    document = parse_json(text, "p.json")
    try:
        data = json.loads(text)
    except ValueError:
        assert document.marks is None
        assert document.faults
    else:
        assert document.data == data or "duplicate_key" in {fault.code for fault in document.faults}


def test_marks_give_the_place_of_keys_and_the_spelling_of_numbers() -> None:
    marks = parse_json('{\n  "a": [1, {"b":\n 1.10}]\n}', "p.json").marks
    assert marks is not None
    assert [(mark.line, mark.column) for mark in marks.along(("a", 1, "b"))] == [(1, 1), (2, 3), (2, 12), (2, 13)]
    assert marks.spelling(("a", 1, "b")) == "1.10"


def test_pairs_of_escapes_are_one_character() -> None:
    assert parse_json('"\\ud83d\\ude00"', "p.json").data == "\U0001f600"


def test_a_repeated_key_is_a_fault_and_the_first_counts() -> None:
    document = parse_json('{"a": 1,\n "a": 2}', "p.json")
    assert [(fault.code, fault.line, fault.column) for fault in document.faults] == [("duplicate_key", 2, 2)]
    assert document.data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, "too early"),
        ('{"a": 1,\n "b": }', 2, 7, "a value is expected"),
        ('{"a": 1,}', 1, 9, "a key in double quotes"),
        ("[1, 2,]", 1, 7, "a value is expected"),
        ('{"a" 1}', 1, 6, "a colon"),
        ("[1 2]", 1, 4, "a comma or ]"),
        ("{} x", 1, 4, "after the end"),
        ("[01]", 1, 3, "a comma or ]"),
        ("[NaN]", 1, 2, "a value is expected"),
        ('["a\nb"]', 1, 4, "control character"),
        ("[" * 100_000, 1, 66, "deeper than"),
    ],
)
def test_broken_json_is_one_fault_with_its_place(text: str, line: int, column: int, words: str) -> None:
    document = parse_json(text, "p.json")
    (fault,) = document.faults
    assert (document.marks, fault.code, fault.line, fault.column) == (None, "json_syntax", line, column)
    assert words.lower() in fault.message.lower()
