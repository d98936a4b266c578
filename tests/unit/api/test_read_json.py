"""JSON of bodies: what is refused beyond what Python's reader refuses, and where and why."""

from __future__ import annotations

import pytest

from agentflow.api.read_json import MAX_DEPTH, read_json
from agentflow.domain.misfit import Misfit


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b'{\n "plan": }', "json_invalid", "line 2, column 10: expecting value"),
        (b'{"a": 1} x', "json_invalid", "line 1, column 10"),
        (b'{"plan": 1, "plan": 2}', "duplicate_key", "'plan'"),
        (b'[{"a": {"b": 1, "b": 1}}]', "duplicate_key", "'b'"),
        (b'"\xff"', "not_utf8", "byte 1"),
        ('{"plan": 1}'.encode("utf-16"), "not_utf8", "UTF-8"),
        (b"[NaN]", "not_finite", "NaN"),
        (b"[1e999]", "not_finite", "too large"),
        (b"9" * 10_000, "number_too_long", "digits"),
        (b'["\\ud800"]', "half_a_pair", "surrogate"),
        (b'["\\uDC00"]', "half_a_pair", "surrogate"),
        (b"[" * 200_000 + b"]" * 200_000, "too_deep", str(MAX_DEPTH)),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "too_deep", str(MAX_DEPTH)),
    ],
)
def test_what_no_other_program_reads_alike_is_refused_with_its_place(body: bytes, code: str, words: str) -> None:
    with pytest.raises(Misfit) as refused:
        read_json(body)

    [fault] = refused.value.faults
    assert (fault.field, fault.code) == ("body", code)
    assert words in fault.message


def test_many_keys_of_which_one_stands_twice_are_looked_at_once() -> None:
    many = ",".join(f'"k{number}": 1' for number in range(200_000))

    with pytest.raises(Misfit, match="'k199999'"):
        read_json(f'{{{many}, "k199999": 2}}'.encode())


def test_what_is_json_is_read_whatever_it_holds() -> None:
    whole = b'{"a": [1, -2.5e3, true, null, "\\ud83d\\ude00", "\xc3\xa4", {}], "b": {"a": ""}}'
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH

    assert read_json(whole) == {"a": [1, -2500.0, True, None, "\N{GRINNING FACE}", "ä", {}], "b": {"a": ""}}
    assert str(read_json(deep)).count("[") == MAX_DEPTH
