"""Output over the network while it is written: from a real worker, resumable, whole, and redacted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx2

from tests.factories import wait_for
from tests.integration.api.conftest import Api
from tests.integration.api.listening import Heard, listen
from tests.workers import WorkerProcess

Opened = Callable[..., httpx2.Client]


def _text(heard: list[Heard], step: str, stream: str = "stdout") -> str:
    own = [one.data for one in heard if one.event == "log" and (one.data["step"], one.data["stream"]) == (step, stream)]
    assert [each["offset"] for each in own] == [sum(each["bytes"] for each in own[:at]) for at in range(len(own))]
    return "".join(each["text"] for each in own)


def test_output_is_told_while_the_step_runs_and_goes_on_where_it_was_left(
    api: Api, opened: Opened, worker: WorkerProcess, tmp_path: Path
) -> None:
    """The command waits for a file that appears when its first lines were heard: they came while it ran."""
    client, go = opened("operator"), tmp_path / "go"
    script = (
        f'echo first; echo password=hunter22 >&2; until test -e {go}; do sleep 0.05; done; echo last; printf "no end"'
    )
    steps = [
        {"id": "quick", "subprocess": {"command": "echo done", "shell": True}},
        {"id": "slow", "needs": [], "subprocess": {"command": script, "shell": True}},
    ]
    run = client.post("/runs", json={"plan": {"agentflow": 1, "name": "talks", "steps": steps}}).json()["id"]

    before: list[Heard] = []
    with listen(client, f"/runs/{run}/logs") as heard:
        while len(before) < 3:
            before.append(next(heard))
    assert client.get(f"/runs/{run}").json()["state"] == "running"
    go.touch()
    with listen(client, f"/runs/{run}/logs", before[-1].id) as heard:
        after = list(heard)

    assert after[-1].data == {"why": "run_ended"}
    again = client.get(f"/runs/{run}/logs", headers={"Accept": "text/event-stream", "Last-Event-ID": after[-1].id})
    assert again.status_code == 204
    assert _text(before + after, "slow") == "first\nlast\nno end"
    assert _text(before + after, "slow", "stderr") == "password=[REDACTED_PASSWORD]\n"
    assert _text(before + after, "quick") == "done\n"
    page = client.get(f"/runs/{run}/logs", params={"step": "slow", "stream": "stdout"}).json()
    assert ("".join(chunk["text"] for chunk in page["chunks"]), page["next_cursor"]) == ("first\nlast\nno end", None)
    assert client.get(f"/runs/{run}/logs", params={"cursor": page["place"]}).json()["chunks"] == []
    store = api.flow.context.store.root  # type: ignore[attr-defined]  # the shared directory
    assert wait_for(lambda: not list((store / "runs" / run).rglob("*.part")))


def test_a_place_that_is_none_and_a_step_that_is_not_there_are_refused(opened: Opened) -> None:
    client = opened("operator")
    plan = {"agentflow": 1, "name": "p", "steps": [{"id": "a", "noop": {}}]}
    run = client.post("/runs", json={"plan": plan}).json()["id"]

    wrong = client.get(f"/runs/{run}/logs", params={"cursor": "1;a/x/stdout:3"})
    unknown = client.get(f"/runs/{run}/logs", params={"step": "b"})
    longest = ";".join(("1", *(f"step{number:04}/1/stdout:{10**17}" for number in range(1400))))[: 48 * 1024]
    long = client.get(f"/runs/{run}/logs", params={"cursor": longest})

    assert (len(longest), long.status_code, long.json()["code"]) == (48 * 1024, 400, "usage")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "usage")
    assert unknown.status_code == 404
