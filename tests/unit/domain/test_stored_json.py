"""What plain data must be to be kept."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from agentflow.domain.stored_json import MAX_DEPTH, NotStorable, json_text, stored_text


def nested(depth: int) -> Any:
    """Lists within lists."""
    data: Any = "[[["  # brackets in a text are none
    for _ in range(depth):
        data = [data]
    return data


@pytest.mark.parametrize("data", [None, [1, {"a": "é"}], "\\u0000", {"\\\\u0000": 'a "quoted" [ text'}, 10**400])
def test_plain_data_comes_back_as_it_is(data: Any) -> None:
    assert json.loads(stored_text(data)) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("\ud800", "surrogate"),
        ({"\udfff": 1}, "surrogate"),
        (math.nan, "NaN"),
        ([-math.inf], "NaN"),
        ([10**5000], "too large"),
        ({"a": {1, 2}}, "neither"),
        (b"x", "neither"),
        (nested(MAX_DEPTH + 1), "deep"),
        (nested(100_000), "deep"),
    ],
)
def test_what_cannot_be_written_is_refused_and_not_quoted(data: Any, words: str) -> None:
    with pytest.raises(NotStorable, match=words) as refused:
        json_text({"sentinel": "say-nothing", "value": data} if words != "deep" else data)

    assert "say-nothing" not in str(refused.value)


@pytest.mark.parametrize("data", ["a\0", {"k\0": 1}, ["\\\0"], "\\\\\0"])
def test_nul_is_json_and_goes_into_no_row(data: Any) -> None:
    assert json.loads(json_text(data)) == data
    with pytest.raises(NotStorable, match="NUL"):
        stored_text(data)


def test_the_depth_is_bounded_and_no_less() -> None:
    assert json.loads(stored_text(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
