"""Who submits over HTTP within a trace of its own finds the run's, and the run's leads back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.factories import document, noop_step, wait_for
from tests.otlp_collector import Collector, told_by_this_process

Opened = Callable[..., httpx2.Client]


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    yield from told_by_this_process(monkeypatch)


def test_the_trace_of_a_submitted_run_links_to_its_callers(collector: Collector, opened: Opened) -> None:
    client, trace, span = opened("operator"), "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    plan = {"plan": document([noop_step("a")])}
    asked = client.post("/runs", json=plan, headers={"traceparent": f"00-{trace}-{span}-01"})
    other = client.post("/runs", json=plan)

    told = wait_for(lambda: found if len(found := collector.named("submit")) == 2 else None)
    links = {submit.trace: submit.links for submit in told}
    assert links == {asked.json()["id"].replace("-", ""): ((trace, span),), other.json()["id"].replace("-", ""): ()}
