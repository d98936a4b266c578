"""What a test says beforehand, and in which order it comes."""

from __future__ import annotations

import pytest

from agentflow.domain.error import ConfigurationError
from agentflow.testing import stage
from agentflow.testing.http_stub import Services
from agentflow.testing.model_stub import Models
from agentflow.testing.people import Advance, Decision, People
from agentflow.testing.script import RehearsalError, Script


def test_replies_come_in_their_order_and_the_endless_one_stays() -> None:
    script: Script[str] = Script()
    for reply, times in (("a", 1), ("b", 2), ("c", None), ("never", 1)):
        script.add(reply, times)
    assert [script.next() for _ in range(6)] == ["a", "b", "b", "c", "c", "c"]


def test_a_script_that_was_played_has_no_more() -> None:
    script: Script[str] = Script()
    script.add("a", 1)
    assert (script.next(), script.next()) == ("a", None)
    with pytest.raises(RehearsalError, match="times is 1 or more"):
        script.add("a", 0)


def test_the_very_name_goes_over_patterns_and_the_last_pattern_over_the_first() -> None:
    models = Models()
    exact, wide, narrow = models.stub("openai:mini"), models.stub("*"), models.stub("openai:*")
    assert models.find("openai:mini") is exact
    assert models.find("openai:other") is narrow
    assert models.find("lab:one") is wide
    assert models.stub("*") is wide


def test_a_service_is_found_by_method_and_url() -> None:
    services = Services()
    read, write = services.stub("https://a.example/*", None), services.stub("https://a.example/x", "POST")
    assert services.find("GET", "https://a.example/x") is read
    assert services.find("POST", "https://a.example/x") is write
    assert services.find("POST", "https://a.example/y") is read
    assert services.find("GET", "https://b.example/") is None


def test_time_passes_in_its_place_and_what_is_left_of_it_comes_first() -> None:
    people = People()
    people.add(Decision("release", True, ()))
    people.add(Advance(60))
    people.add(Advance(30))
    assert people.take_time() == 60
    people.put_back_time(10)
    assert [people.take_time() for _ in range(3)] == [10, 30, 0]


def test_what_is_not_installed_is_named_with_how_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "NEEDED", ("psycopg", "no_such_package"))
    with pytest.raises(ConfigurationError, match=r'needs no_such_package: pip install "agentflow\[testing\]"'):
        stage.Stage().__enter__()
