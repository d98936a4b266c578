"""The verbs on schedules as people and programs use them: what they print and refuse, what the client returns."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from agentflow import AgentFlow, errors
from agentflow.cli.main import main
from agentflow.engine.scheduler import Scheduler
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import noop_step
from tests.schedules import move_anchor, pushed, states_of
from tests.unit.cli.answers import ask, complain, say


@pytest.fixture(autouse=True)
def _stored_plan(house: Runtime) -> None:
    pushed(house.context, vars={"kind": "full"})


def test_a_schedule_is_kept_shown_stopped_and_deleted(
    at_home: Settings, house: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    create = ("schedule", "create", "nightly", "--plan", "tested", "--cron", "0 6 * * 1-5", "--tz", "Europe/Berlin")
    more = ("--var", "kind=delta", "--budget", "usd=0.5", "--budget", "active_time=10m", "--directive", "ops")
    dry = ask(capsys, *create, *more, "--dry-run", schema="schedule")
    assert ask(capsys, "schedule", "list")["schedules"] == []
    kept = ask(capsys, *create, *more)
    assert [due["local"][10:] for due in kept["next"]] == ["T06:00:00+01:00"] * 5
    assert kept["next"] == dry["next"]
    assert kept["timing"] == {"kind": "cron", "cron": "0 6 * * 1-5"}
    assert (kept["vars"], kept["budget"]) == ({"kind": "delta"}, {"usd": 0.5, "active_time": 600.0})
    assert kept["keeper"] is None
    assert ask(capsys, "schedule", "show", "nightly")["id"] == kept["id"]
    page = say(capsys, "schedule", "show", "nightly")
    assert "0 6 * * 1-5 (Europe/Berlin)" in page
    assert page.count("06:00:00 +0100") == page.count(" 05:00:00\n") == 5
    assert "No beat keeps the schedules now" in page
    assert _doctor_on_schedules(capsys)[:2] == ("problem", "1 in force, and no beat keeps them: nothing fires")
    beat = Scheduler(house.context, "beat@here:1")
    beat.one_pass()
    assert _doctor_on_schedules(capsys) == ("ok", "1 in force, kept by beat@here:1", None)
    beat.one_pass()  # its term may have ended while the doctor looked
    assert "No beat" not in say(capsys, "schedule", "list")
    assert ask(capsys, "schedule", "pause", "nightly")["is_changed"] is True
    assert ask(capsys, "schedule", "pause", "nightly")["is_changed"] is False
    assert "stopped" in say(capsys, "schedule", "list")
    assert say(capsys, "schedule", "resume", "nightly") == "Schedule nightly fires again.\n"
    assert ask(capsys, "schedule", "delete", "nightly")["verb"] == "delete"
    assert "no schedule nightly in project default" in complain(capsys, "schedule", "show", "nightly", code=2)


def _doctor_on_schedules(capsys: pytest.CaptureFixture[str]) -> tuple[str, str, str | None]:
    main(["doctor", "--json"])
    (found,) = [each for each in json.loads(capsys.readouterr().out)["checks"] if each["name"] == "schedules"]
    return found["status"], found["detail"], found["advice"]


def test_a_doctor_asks_for_no_beat_where_no_schedule_is_in_force(
    at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    say(capsys, "schedule", "create", "later", "--plan", "tested@1", "--every", "1h", "--disabled")

    assert _doctor_on_schedules(capsys) == ("ok", "none in force, and no beat", None)
    assert "It is stopped: nothing is due until it is resumed." in say(capsys, "schedule", "show", "later")


def test_a_schedule_is_fired_by_hand_and_its_history_tells_of_it(
    at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    say(capsys, "schedule", "create", "hourly", "--plan", "tested@1", "--every", "1h", "--jitter", "5m", "--disabled")
    fired = ask(capsys, "schedule", "run-now", "hourly", schema="firing")
    assert (fired["state"], fired["cause"], fired["run_state"]) == ("started", "run_now", "running")
    assert "its overlap is skip" in complain(capsys, "schedule", "run-now", "hourly", code=2)
    (firing,) = ask(capsys, "schedule", "history", "hourly")["firings"]
    assert firing["run"] == fired["run"]
    assert fired["run"][:8] in say(capsys, "schedule", "history", "hourly")
    assert ask(capsys, "show", fired["run"])["actor"] == "schedule:hourly"
    say(capsys, "schedule", "resume", "hourly")
    assert "fires (UTC)" in say(capsys, "schedule", "show", "hourly")


def test_a_backfill_is_looked_at_first(
    at_home: Settings, house: Runtime, flow: AgentFlow, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = flow.schedules.create("minutely", "tested", every="1m").schedule
    first = move_anchor(house.context, schedule, timedelta(minutes=30, seconds=30))
    Scheduler(house.context, "beat@here:1").one_pass()
    page = flow.schedules.history("minutely", limit=3)
    assert len(page.firings) == 3
    rest = ask(capsys, "schedule", "history", "minutely", "--cursor", page.next_cursor, "-n", 1000)
    assert len(rest["firings"]) + 3 == len(states_of(house.context, schedule)) == 31
    span = ("--from", first.isoformat(), "--to", (first + timedelta(minutes=4)).isoformat())
    dry = ask(capsys, "schedule", "backfill", "minutely", *span, "--dry-run")
    assert (len(dry["queued"]), dry["is_dry"]) == (5, True)
    assert "queued" not in states_of(house.context, schedule)
    assert "5 due times would be queued" in say(capsys, "schedule", "backfill", "minutely", *span, "--dry-run")
    assert ask(capsys, "schedule", "backfill", "minutely", *span)["queued"] == dry["queued"]
    assert states_of(house.context, schedule)[:5] == ["queued"] * 5
    words = complain(capsys, "schedule", "backfill", "minutely", "--from", "last week", code=2)
    assert "--from: 'last week' is no time" in words
    turned = ("--from", "2026-02-02T00:00", "--to", "2026-02-01T00:00")
    words = complain(capsys, "schedule", "backfill", "minutely", *turned, code=2)
    assert "2026-02-02T00:00:00.000000Z is after 2026-02-01T00:00:00.000000Z" in words


def test_every_fault_is_told_with_its_option(at_home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("schedule", "create", "bad", "--plan", "testing", "--cron", "61 6 * * *", "--tz", "Europe/Berlim")
    error = ask(capsys, *arguments, "--overlap", "skp", code=2)["error"]
    assert [fault["field"] for fault in error["details"]["problems"]] == ["time_zone", "cron", "overlap", "plan"]
    words = complain(capsys, *arguments, code=2)
    assert "  --cron: '61' is no minute of a cron line: write 0-59" in words
    assert "  --tz: 'Europe/Berlim' is no time zone" in words
    assert "  --plan: No plan is stored as 'testing'" in words
    assert ". Push it first: agentflow plan push FILE" in words
    caps = ("--every", "1m", "--budget", "active_time=-5s")
    words = complain(capsys, "schedule", "create", "bad", "--plan", "tested@7", *caps, code=2)
    assert "budget.active_time: a duration cannot be negative" in words
    assert "it has 1. Name one of these, or none for the newest" in words
    assert "names no stored plan" in complain(
        capsys, "schedule", "create", "x", "--plan", "a@b", "--every", "1m", code=2
    )


def test_the_client_takes_values_of_python(flow: AgentFlow, house: Runtime) -> None:
    at = datetime.now(UTC) + timedelta(days=1)
    once = flow.schedules.create("once", "tested", at=at, time_zone="Asia/Tokyo", vars={"kind": "delta"})
    assert [due.at for due in once.next()] == [at]
    often = flow.schedules.create("often", "tested", every=timedelta(minutes=5), jitter="10s", budget={"steps": 3})
    dues = often.next(3)
    assert {later.at - earlier.at for earlier, later in pairwise(dues)} == {timedelta(minutes=5)}
    assert all(timedelta() <= due.fires_at - due.at < timedelta(seconds=10) for due in dues)
    assert [report.name for report in flow.schedules.list()] == ["often", "once"]
    assert flow.schedules.list(project="ops") == []
    assert flow.schedules.pause("often") == 0
    assert flow.schedules.resume("often") is True
    with pytest.raises(errors.NotFound):
        flow.schedules.history("never")
    with pytest.raises(errors.UsageError, match="is no name of a project"):
        flow.schedules.get("x", project="a b")
    pushed(house.context, [noop_step("one")], vars={"day": {"required": True}})
    with pytest.raises(errors.UsageError, match=r"vars\.day: the var day must be given"):
        flow.schedules.create("daily", "tested", cron="@daily")


def test_a_schedule_is_replaced_by_its_name(at_home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    create = ("schedule", "create", "nightly", "--plan", "tested", "--cron")
    made = ask(capsys, *create, "0 6 * * *", "--replace")
    refused = complain(capsys, *create, "0 7 * * *", code=2)
    dry = ask(capsys, *create, "0 7 * * *", "--replace", "--dry-run", schema="schedule")
    kept = ask(capsys, "schedule", "show", "nightly")
    other = ask(capsys, *create, "0 7 * * *", "--replace", "--disabled")
    with AgentFlow(at_home) as flow:
        first, again = (
            flow.schedules.create(name, "tested", cron="@daily", is_replacing=True) for name in ("weekly", "nightly")
        )

    assert "replace it" in refused
    assert (dry["timing"]["cron"], kept["timing"]["cron"], other["timing"]["cron"]) == (
        "0 7 * * *",
        "0 6 * * *",
        "0 7 * * *",
    )
    assert (other["id"], other["is_enabled"]) == (made["id"], False)
    assert (first.is_new, again.is_new, again.schedule.is_enabled) == (True, False, True)
    assert (made["is_new"], other["is_new"], other["changed"]) == (True, False, ["timing", "is_enabled"])


def test_keeping_a_schedule_says_what_came_of_it(at_home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    create = ("schedule", "create", "nightly", "--plan", "tested", "--replace")

    told = [
        say(capsys, *create, "--cron", line, *more).splitlines()[0]
        for line, more in (("@daily", ("--dry-run",)), ("@daily", ()), ("@daily", ()), ("@hourly", ()))
    ]

    assert told == [
        "Schedule nightly would do: nothing was kept.",
        "Schedule nightly is made.",
        "Schedule nightly is so already: nothing was changed.",
        "Schedule nightly is replaced: timing changed.",
    ]
