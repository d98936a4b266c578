"""What a signal may be called and bring along."""

from __future__ import annotations

import math
from typing import Any

import pytest

from agentflow.domain.error import UsageError
from agentflow.domain.signal import MAX_DATA_BYTES, checked_data, checked_name


@pytest.mark.parametrize("name", ["deploy", "ready.2", "_x", "a" * 100])
def test_a_plain_name_is_taken(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", " ", "a b", "é", "-x", "a" * 101, "x\n", "{{ item }}"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name of a signal"):
        checked_name(name)


@pytest.mark.parametrize("data", [None, True, 3, "text", [1, {"a": None}], {"deep": [[["x"]]]}])
def test_json_comes_back_as_it_is(data: Any) -> None:
    assert checked_data(data) == data


@pytest.mark.parametrize(
    "data", [math.nan, math.inf, {1, 2}, b"x", "a\0b", {"k\0": 1}, [{"a": "\0"}], "\ud800", {"a": object()}, [10**5000]]
)
def test_what_cannot_be_stored_is_refused_and_not_quoted(data: Any) -> None:
    with pytest.raises(UsageError) as refused:
        checked_data({"sentinel": "say-nothing", "value": data})

    assert "say-nothing" not in str(refused.value)


def test_data_that_refers_to_itself_is_refused() -> None:
    data: list[Any] = []
    data.append(data)

    with pytest.raises(UsageError):
        checked_data(data)


def test_the_bound_is_one_of_bytes() -> None:
    assert checked_data("x" * (MAX_DATA_BYTES - 2))
    with pytest.raises(UsageError, match=r"at most 65,536 bytes"):
        checked_data("é" * (MAX_DATA_BYTES // 2))
