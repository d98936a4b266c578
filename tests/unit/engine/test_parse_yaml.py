"""YAML: the rules of scalars, places, repeated and merged keys, and bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.engine.parse_yaml import parse_yaml


def data_of(text: str) -> Any:
    document = parse_yaml(text, "p.yaml")
    assert document.faults == ()
    return document.data


@pytest.mark.parametrize(
    "text",
    ["yes", "no", "on", "off", "y", "007", "0755", "1_000", "1:30", "2026-11-21", "1.2.3", ".inf", "nUll", "tRUE"],
)
def test_what_yaml_1_1_would_turn_into_something_else_stays_text(text: str) -> None:
    assert data_of(f"a: {text}") == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("5", 5),
        ("-0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        ("1.10", 1.1),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        ("'5'", "5"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("!!int 5", 5),
        ("! 5", "5"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("[a, [b], {c: d}]", ["a", ["b"], {"c": "d"}]),
    ],
)
def test_scalars_and_collections_follow_yaml_1_2(text: str, value: Any) -> None:
    found = data_of(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_as_they_are_written() -> None:
    assert data_of("1: a\non: b\nnull: c\n1.10: d") == {"1": "a", "on": "b", "null": "c", "1.10": "d"}


def test_marks_give_the_place_and_spelling_of_every_value() -> None:
    marks = parse_yaml("a:\n  - b: 1.10\n    c: |\n      text\n", "p.yaml").marks
    assert marks is not None
    assert [(mark.line, mark.column) for mark in marks.along(("a", 0, "b"))] == [(1, 1), (1, 1), (2, 5), (2, 5)]
    assert (marks.nearest(("a", 0, "c", "deeper")).line, marks.nearest(("x",)).line) == (3, 1)
    assert marks.spelling(("a", 0, "b")) == "1.10"
    assert marks.spelling(("a",)) is None
    assert marks.spelling(("a", 0, "b", "deeper")) is None


def test_a_repeated_key_is_a_fault_and_the_first_counts() -> None:
    document = parse_yaml("a: 1\nb:\n  c: 2\n  c: 3\n", "p.yaml")
    assert [(fault.code, fault.line, fault.column, fault.file) for fault in document.faults] == [
        ("duplicate_key", 4, 3, "p.yaml")
    ]
    assert document.data == {"a": 1, "b": {"c": 2}}


def test_anchors_and_merge_keys_are_expanded_and_written_keys_win() -> None:
    text = "base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\nlist: [*b]\none:\n  y: 0\n  <<: *b\ntwo:\n  <<: [*o, *b]\n"
    data = data_of(text)
    assert data["list"] == [{"x": 1, "y": 2}]
    assert data["one"] == {"x": 1, "y": 0}
    assert data["two"] == {"x": 1, "y": 3, "z": 4}


def test_values_of_an_alias_are_placed_at_the_alias_and_inside_at_the_anchor() -> None:
    marks = parse_yaml("a: &x\n  b: 1\nc: *x\n", "p.yaml").marks
    assert marks is not None
    assert (marks.nearest(("c",)).line, marks.nearest(("c", "b")).line) == (3, 2)


BROKEN = [
    ("", 1, "empty"),
    ("# only a comment\n", 2, "empty"),
    ("a: [1", 2, "did not find expected ',' or ']'"),
    ("a: b\n c: d", 2, "mapping values are not allowed"),
    ("a:\n\t- b", 2, "cannot start any token: a tab stands here"),
    ("a: b\n  \tc: d", 2, "not allowed in this context: a tab stands here"),
    ("a:\n  -\tb: 1\n    c: 2", 2, "any token: a tab stands here"),
    ("a: `b\tc`", 1, "cannot start any token"),
    ("a: \x01", 1, "control characters"),
    ("a: 1\n---\nb: 2", 2, "a second document"),
    ("a: *nowhere", 1, "has no anchor"),
    ("a: &a [*a]", 1, "inside its own anchor"),
    ("? [a]\n: b", 1, "a key must be text"),
    ("<<: 5", 1, "<< takes a mapping"),
    ("[" * 100_000, 1, "deeper than"),
    ("{a: " * 100_000, 1, "deeper than"),
]


@pytest.mark.parametrize(("text", "line", "words"), BROKEN)
def test_broken_yaml_is_one_fault_with_its_line(text: str, line: int, words: str) -> None:
    document = parse_yaml(text, "p.yaml")
    (fault,) = document.faults
    assert (document.marks, fault.code, fault.line) == (None, "yaml_syntax", line)
    assert words in fault.message


@pytest.mark.parametrize(
    "tag", ["!foo", "!!python/object/apply:os.system", "!!binary", "!!timestamp", "!!set", "!!int"]
)
def test_tags_that_construct_something_are_refused(tag: str) -> None:
    document = parse_yaml(f"a: 1\nb: {tag} x", "p.yaml")
    assert [(fault.code, fault.line) for fault in document.faults] == [("yaml_tag", 2)]
    assert document.data == {"a": 1, "b": "x"}


def test_aliases_that_expand_without_end_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    (fault,) = parse_yaml("\n".join(lines), "p.yaml").faults
    assert "expands to more than" in fault.message


def test_merge_keys_that_expand_without_end_are_refused() -> None:
    lines = ["a0: &a0 {k: [x, x, x, x, x, x, x, x, x, x]}"]
    lines += [f"a{n}: &a{n} {{<<: *a{n - 1}, k{n}: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 40)]
    (fault,) = parse_yaml("\n".join(lines), "p.yaml").faults
    assert "expands to more than" in fault.message


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%,? \n\t<1", max_size=40))
def test_any_text_gives_data_or_a_fault(text: str) -> None:
    document = parse_yaml(text, "p.yaml")
    assert (document.marks is not None) or document.faults
    assert all(fault.line and fault.column for fault in document.faults)
