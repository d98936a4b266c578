"""Jobs: what takes longer than a request may goes on behind the answer, and is looked at until it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from threading import Event
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from agentflow.api import audit_report
from agentflow.domain.error import InvalidTransition, UsageError
from agentflow.domain.ids import INSTALLATION_CHAIN
from agentflow.domain.job import JobKind, JobState
from agentflow.engine import job_worker
from agentflow.engine.context import EngineContext
from agentflow.engine.job_worker import Job, JobWorker, Work
from agentflow.runtime import Runtime
from agentflow.storage import jobs
from agentflow.storage.jobs import Ending, JobView, Progress
from tests.factories import wait_for
from tests.integration.api.conftest import BASE, Api
from tests.integration.engine.pruned import ended_run

Opened = Callable[..., httpx2.Client]
PRUNING = {"older_than": "30d"}
HOUSE = {"house": INSTALLATION_CHAIN}


@contextmanager
def working() -> Iterator[JobWorker]:
    """A worker of jobs that ends with the block."""
    worker = JobWorker()
    yield worker
    worker.stop()


def look(context: EngineContext, job: JobView) -> JobView:
    """How a job stands."""
    with context.database.transaction() as tx:
        [found] = jobs.view(tx, job_id=job.id)
    return found


def ended(context: EngineContext, job: JobView) -> JobView:
    """How a job ended, once it has."""
    found: JobView = wait_for(lambda: each if (each := look(context, job)).ended_at else None)
    return found


def followed(client: httpx2.Client, begun: httpx2.Response) -> dict[str, Any]:
    """What a job that was begun came to."""
    assert begun.status_code == 202, begun.text
    where = begun.headers["Location"].removeprefix(BASE)
    found: dict[str, Any] = wait_for(lambda: each if (each := client.get(where).json())["ended_at"] else None)
    return found


def grow_old(context: EngineContext) -> None:
    """Let a minute go by without a sign of any job."""
    with context.database.transaction() as tx:
        tx.execute(text("UPDATE job SET beaten_at = beaten_at - interval '61 s'"))


def going_on(job: Job) -> dict[str, Any]:
    """Work without an end."""
    while True:
        job.is_over.wait(0.01)
        job.tell(job.progress.done + 1)


def test_a_pruning_is_looked_at_until_it_is_done(house: Runtime, opened: Opened) -> None:
    old, kept = [ended_run(house, days_ago=40) for _ in range(2)], ended_run(house, days_ago=20)
    admin, once = opened("admin"), {"Idempotency-Key": "tonight"}

    begun = admin.post("/retention/prune", json=PRUNING, headers=once)
    job = followed(admin, begun)
    again = admin.post("/retention/prune", json=PRUNING, headers=once)

    assert (job["kind"], job["state"], job["asked_by"]) == ("prune", "done", "key:admin-0")
    assert (job["done"], job["total"], job["result"]["runs"], job["problem"]) == (2, 2, 2, None)
    assert [admin.get(f"/runs/{run}").status_code for run in (*old, kept)] == [410, 410, 200]
    assert (again.status_code, again.headers["Location"]) == (202, begun.headers["Location"])
    assert [each["id"] for each in admin.get("/jobs").json()["jobs"]] == [job["id"]]
    actions = [event["action"] for event in admin.get("/audit/events").json()["events"]]
    assert actions.count("prune") == 1


def test_what_cannot_be_pruned_is_refused_at_once_and_a_dry_run_begins_nothing(opened: Opened) -> None:
    admin = opened("admin")
    refused = admin.post("/retention/prune", json={"older_than": "1d"})
    dry = admin.post("/retention/prune", json=PRUNING | {"dry_run": True})

    assert (refused.status_code, dry.status_code, dry.json()["runs"]) == (400, 200, 0)
    assert admin.get("/jobs").json()["jobs"] == []


def test_a_check_of_everything_tells_what_is_wrong(
    house: Runtime, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, broken = opened("admin"), [ended_run(house, days_ago=0) for _ in range(2)]
    sound = followed(admin, admin.post("/audit/verify"))
    with house.context.database.transaction() as tx:
        tx.execute(text("ALTER TABLE audit_event DISABLE TRIGGER USER"))
        tx.execute(text("UPDATE audit_event SET actor = 'nobody' WHERE sequence = 1 AND run_id <> :house"), HOUSE)
    monkeypatch.setattr(audit_report, "MOST_FINDINGS", 1)
    found = followed(admin, admin.post("/audit/verify"))

    assert (sound["state"], sound["done"], sound["result"]["is_intact"]) == ("done", 2, True)
    assert "left_out" not in sound["result"]
    told = found["result"]
    assert (found["state"], told["is_intact"], len(told["runs"])) == ("done", False, 1)
    assert told["runs"][0]["run"] in map(str, broken)
    assert len(told["runs"][0]["findings"]) == 1
    assert told["left_out"] >= 1


def test_of_a_kind_one_job_is_under_way(house: Runtime, opened: Opened) -> None:
    admin, context = opened("admin"), house.context
    with working() as worker:
        running = worker.begin(context, JobKind.PRUNE, "tester", going_on)
        refused = admin.post("/retention/prune", json=PRUNING)
        verified = followed(admin, admin.post("/audit/verify"))
        with pytest.raises(InvalidTransition, match=str(running.id)):
            worker.begin(context, JobKind.PRUNE, "tester", going_on)

    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_transition")
    assert refused.json()["details"]["job"] == str(running.id)
    assert verified["state"] == "done"
    assert followed(admin, admin.post("/retention/prune", json=PRUNING))["state"] == "done"


def test_a_job_whose_process_died_is_lost_and_in_nobodys_way(house: Runtime, opened: Opened) -> None:
    admin, context, dead = opened("admin"), house.context, uuid4()
    with context.database.transaction() as tx:
        assert jobs.begin(tx, dead, JobKind.PRUNE, "key:gone")
    before = admin.get(f"/jobs/{dead}").json()
    grow_old(context)
    after = admin.get(f"/jobs/{dead}").json()

    assert (before["state"], after["state"], after["result"]) == ("running", "lost", None)
    assert followed(admin, admin.post("/retention/prune", json=PRUNING))["state"] == "done"
    assert admin.get(f"/jobs/{dead}").json()["ended_at"]


def test_a_job_that_was_taken_for_lost_ends_when_it_finds_out(house: Runtime) -> None:
    context, ends = house.context, list[str]()

    def work(job: Job) -> dict[str, Any]:
        try:
            return going_on(job)
        finally:
            ends.append(str(job.id))

    with working() as frozen, working() as other:
        first = frozen.begin(context, JobKind.VERIFY, "tester", work)
        wait_for(lambda: look(context, first).progress.done)  # it gives signs
        second = wait_for(lambda: taken_over(context, other))
        wait_for(lambda: ends)

        assert ends == [str(first.id)]
        assert (look(context, first).state, look(context, second).state) == (JobState.LOST, JobState.RUNNING)


def taken_over(context: EngineContext, worker: JobWorker) -> JobView | None:
    """Begin a job where another was lost; it may have given a sign just then."""
    grow_old(context)
    try:
        return worker.begin(context, JobKind.VERIFY, "tester", going_on)
    except InvalidTransition:
        return None


def test_a_process_that_ends_says_that_its_jobs_did_not(house: Runtime) -> None:
    with working() as worker:
        job = worker.begin(house.context, JobKind.PRUNE, "tester", going_on)
    stopped = look(house.context, job)
    assert (stopped.state, stopped.ended_at is not None, stopped.result) == (JobState.LOST, True, None)


def test_a_job_that_fails_tells_why(house: Runtime) -> None:
    def refused(_: Job) -> dict[str, Any]:
        raise UsageError("not so")

    def broken(_: Job) -> dict[str, Any]:
        raise ZeroDivisionError("secret")

    def unwritable(_: Job) -> dict[str, Any]:
        return {"text": "\0"}

    works: list[Work] = [refused, broken, unwritable]
    with working() as worker:
        found = [ended(house.context, worker.begin(house.context, JobKind.PRUNE, "tester", work)) for work in works]

    assert [each.state for each in found] == [JobState.FAILED] * 3
    assert [each.problem and each.problem["code"] for each in found] == ["usage", "internal", "internal"]
    assert found[0].problem == {"code": "usage", "detail": "not so"}
    assert "secret" not in str(found[1].problem)


def test_some_hundred_jobs_are_kept(house: Runtime) -> None:
    begun = []
    with house.context.database.transaction() as tx:
        tx.execute(text("ALTER TABLE job ALTER begun_at SET DEFAULT clock_timestamp()"))
        for _ in range(jobs.KEPT_JOBS + 5):
            begun.append(uuid4())
            assert jobs.begin(tx, begun[-1], JobKind.PRUNE, "tester")
            jobs.end(tx, begun[-1], Progress(), Ending(JobState.DONE, result={}))
        kept = [each.id for each in jobs.view(tx)]
        tx.rollback()
    assert kept == begun[: -jobs.KEPT_JOBS - 2 : -1]


def test_jobs_are_seen_by_who_may_begin_them(house: Runtime, api: Api, opened: Opened) -> None:
    admin = opened("admin")
    job = followed(admin, admin.post("/audit/verify"))
    for client in (opened("viewer"), opened("operator"), opened("admin", project="ours")):
        for method, path in (("GET", "/jobs"), ("GET", f"/jobs/{job['id']}"), ("POST", "/audit/verify")):
            assert client.request(method, path).status_code == 403
    assert admin.get(f"/jobs/{uuid4()}").status_code == 404
    assert admin.get("/jobs/nonsense").status_code == 422


def test_a_job_goes_on_giving_signs_after_postgres_refused_one(
    house: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here for a reason that nothing in the worker knows."""
    monkeypatch.setattr(job_worker, "BEAT_SECONDS", 0.05)
    context, go = house.context, Event()

    def work(_job: Job) -> dict[str, Any]:
        go.wait(60)
        return {}

    with working() as worker:
        begun = worker.begin(context, JobKind.VERIFY, "ana", work)
        with context.database.transaction() as tx:
            tx.execute(text("ALTER TABLE job RENAME TO job_away"))
        wait_for(lambda: "job_sign_waits" in caplog.text)
        with context.database.transaction() as tx:
            tx.execute(text("ALTER TABLE job_away RENAME TO job"))
        before = _beaten_at(context, begun)
        assert wait_for(lambda: _beaten_at(context, begun) > before)
        go.set()
        assert ended(context, begun).state is JobState.DONE


def _beaten_at(context: EngineContext, job: JobView) -> datetime:
    with context.database.transaction() as tx:
        beaten: datetime = tx.execute(text("SELECT beaten_at FROM job WHERE id = :id"), {"id": job.id}).scalar_one()
    return beaten
