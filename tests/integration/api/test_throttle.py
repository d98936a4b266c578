"""How often may be asked, with a real key."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from agentflow.settings import Settings

Opened = Callable[..., httpx2.Client]
A_MINUTE = 600


@pytest.fixture
def api_settings(api_settings: Settings) -> Settings:
    """Settings under which one caller may ask so often."""
    return api_settings.model_copy(update={"api_requests_per_minute": A_MINUTE})


def test_whoever_asks_too_often_is_told_when_to_come_again(opened: Opened) -> None:
    client = opened("viewer")

    answers = (client.get("/workers") for _ in range(A_MINUTE))
    refused = next(answer for answer in answers if answer.status_code != 200)

    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert int(refused.headers["Retry-After"]) >= 1
