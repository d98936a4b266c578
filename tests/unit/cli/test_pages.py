"""What the pages of a run say to a person."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType
from rich.table import Table

from agentflow.cli.audit_commands import events_table
from agentflow.cli.following import ChangeTeller, is_untaken
from agentflow.cli.key_commands import keys_table
from agentflow.cli.log_commands import cut_note
from agentflow.cli.run_page import closing_line, headline, next_things, run_page, runs_page
from agentflow.cli.steps_table import chosen, steps_table
from agentflow.cli.webhook_commands import deliveries_table, webhooks_table
from agentflow.cli.worker_page import queues_page
from agentflow.client import Run, RunPage
from agentflow.client.service import QueuesReport, QueueView
from agentflow.domain.ids import StepKey
from agentflow.storage.view_shapes import ArtifactView, EventView
from tests.unit.cli.runs import EXIT_75, RUN_ID, START, at, attempt, run, step


def drawn(page: RenderableType, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(page)
    return console.file.getvalue()  # type: ignore[attr-defined]  # the file is the StringIO above


def test_a_page_tells_the_run_its_steps_and_why_they_are_as_they_are() -> None:
    failed = step("report", "failed", attempt(1, "failed", 1, 2, reason=EXIT_75), reason=EXIT_75)
    page = drawn(run_page(run("failed", failed, ended=2, reason={"code": "step_failed", "detail": {"step": "report"}})))

    assert "triage  1b9d6bcd  failed: step report failed" in page
    assert "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed" in page
    assert "✗ report" in page
    assert "exited with code 75" in page


def test_text_of_a_run_is_never_markup() -> None:
    reason = {"code": "not_started", "detail": {"problem": "[Errno 2] [red]no such file[/red]"}}

    page = drawn(run_page(run("failed", step("a", "failed", attempt(1, "failed", 0, 1), reason=reason), ended=1)))

    assert "[Errno 2] [red]no such file[/red]" in page


def test_a_retrying_step_says_when_it_is_tried_again() -> None:
    again = step("a", "retrying", attempt(1, "failed", 0, 1, reason=EXIT_75, retry_at=at(62.5)), reason=EXIT_75)

    assert "exited with code 75; next try in 2.5 s" in drawn(run_page(run("running", again, now=60)))
    assert "exited with code 75; next try is due" in drawn(run_page(run("running", again, now=63)))


def test_a_running_step_shows_how_long_it_runs() -> None:
    assert "48 s" in drawn(run_page(run("running", step("a", "running", attempt(1, "running", 12)), now=60)))


def commands(*arguments: object, **more: object) -> list[str]:
    return [command for command, _ in next_things(run(*arguments, **more))]  # type: ignore[arg-type]  # passed on


def test_a_failed_run_points_at_the_output_of_its_failed_step_and_at_retry() -> None:
    failed = step("b", "failed", attempt(1, "failed", 0, 1))
    wrote = replace(failed, artifacts=(stream(24, 24),))

    assert commands("failed", step("a", "succeeded", attempt(1, "succeeded", 0, 1)), wrote, ended=2) == [
        "agentflow logs 1b9d6bcd b",
        "agentflow retry 1b9d6bcd",
    ]
    assert commands("failed", failed, ended=2) == ["agentflow retry 1b9d6bcd"]


def test_a_step_that_lacks_its_secret_says_how_it_is_set() -> None:
    lacks = {"code": "secret_missing", "detail": {"name": "CHAT_TOKEN"}}

    assert commands("failed", step("tell", "failed", attempt(1, "failed", 0, 1), reason=lacks), ended=2) == [
        "export AGENTFLOW_SECRET_CHAT_TOKEN=...",
        "agentflow retry 1b9d6bcd",
    ]


def test_a_failed_run_points_at_the_child_run_that_failed_and_not_at_output_that_no_step_left() -> None:
    ended = {"code": "child_ended", "detail": {"run": "0190a5c0-0000-7000-8000-00000000000f", "state": "failed"}}
    called = replace(step("b", "failed", attempt(1, "failed", 0, 1)), action="llm")

    assert commands("failed", called, step("c", "failed", reason=ended), ended=2) == [
        "agentflow why 0190a5c0",
        "agentflow retry 1b9d6bcd",
    ]
    assert commands("failed", called, ended=2) == ["agentflow retry 1b9d6bcd"]


def test_a_run_with_a_poisoned_step_points_at_its_replay_in_place_of_a_retry() -> None:
    dead = step("a", "failed", reason={"code": "poisoned", "detail": {"lost": 3}})

    found = commands("failed", dead, ended=9)

    assert any(command.startswith("agentflow dead-letters replay ") and command.endswith(" a") for command in found)
    assert not any(command.startswith("agentflow retry") for command in found)
    assert not any("replay" in command for command in commands("running", dead))


def test_a_run_on_its_way_points_at_watch_and_cancel() -> None:
    assert commands("running", step("a", "ready")) == ["agentflow watch 1b9d6bcd", "agentflow cancel 1b9d6bcd"]


def test_a_waiting_run_asks_for_a_word_on_the_held_step() -> None:
    held = step("a", "held", attempt(1, "lost", 0, 1), reason={"code": "awaits_person", "detail": {}})

    assert commands("waiting", held)[0] == "agentflow retry 1b9d6bcd --step a"


def test_a_completed_run_points_at_its_last_artifact_and_names_the_step_where_needed() -> None:
    first = step("a", "succeeded", attempt(1, "succeeded", 0, 1), files=["report.md"])
    second = step("b", "succeeded", attempt(1, "succeeded", 1, 2), files=["report.md"])

    assert commands("completed", first, ended=2) == ["agentflow artifact get 1b9d6bcd report.md"]
    assert commands("completed", first, second, ended=2) == ["agentflow artifact get 1b9d6bcd report.md --step b"]


def test_the_last_line_tells_state_time_and_steps() -> None:
    line = closing_line(run("completed", step("a", "succeeded", attempt(1, "succeeded", 0, 4)), ended=4.2)).plain

    assert line == "triage  1b9d6bcd  completed  in 4.2 s  (1 succeeded)"


def test_how_long_a_run_took_is_from_start_to_end_wherever_it_is_told() -> None:
    ended = run("completed", step("a", "succeeded", attempt(1, "succeeded", 0, 0.5)), ended=17)
    rested = replace(ended, usage=replace(ended.usage, active_seconds=0.543))
    retried = replace(rested, summary=replace(ended.summary, round=2))

    for view in (rested, retried):
        assert "  in 17 s  " in closing_line(view).plain
        assert "17 s, of which active 543 ms, in 1 attempt" in drawn(run_page(view))
        listed = Run(None, RUN_ID, summary=view.summary)  # type: ignore[arg-type]  # a summary needs no flow
        assert "17 s" in drawn(runs_page(RunPage((listed,), None)))
    assert "17 s in 1 attempt" in drawn(run_page(ended))


def test_a_table_without_room_keeps_what_a_person_must_look_at() -> None:
    steps = [step(f"done{i}", "succeeded") for i in range(50)] + [step("bad", "failed"), step("now", "running")]

    assert [one.id for one in chosen(steps, 4)] == ["done0", "bad", "now"]
    assert "and 49 more: 49 succeeded" in drawn(steps_table(run("running", *steps), at(1), 4))


def test_a_table_with_room_keeps_the_order_of_the_plan() -> None:
    steps = [step("z", "pending"), step("a", "running"), step("m", "failed")]

    assert [one.id for one in chosen(steps, 3)] == ["z", "a", "m"]


def test_changes_are_told_once_each_and_no_attempt_is_passed_over() -> None:
    teller = ChangeTeller()
    first = attempt(1, "failed", 0.5, 1, reason=EXIT_75, retry_at=at(1.7))
    begun = run("running", step("a", "running", attempt(1, "running", 0.5)), step("b", "pending"))
    done = run(
        "partial",
        step("a", "succeeded", first, attempt(2, "succeeded", 1.8, 2)),
        step("b", "skipped", reason={"code": "when_false", "detail": {}}),
        now=3,
    )

    assert [line.split() for line in teller.changes(begun)] == [["500", "ms", "a", "started"]]
    assert list(teller.changes(begun)) == []
    assert [" ".join(line.split()) for line in teller.changes(done)] == [
        "1.0 s a failed in 500 ms exited with code 75; next try in 700 ms",
        "1.8 s a started (attempt 2)",
        "2.0 s a succeeded (attempt 2) in 200 ms",
        "3.0 s b skipped its condition does not hold",
    ]


def test_a_run_that_nobody_takes_is_noticed_after_a_while() -> None:
    waiting = run("running", step("a", "ready"), now=6)

    assert is_untaken(waiting, at(6))
    assert not is_untaken(waiting, at(4))
    assert not is_untaken(run("running", step("a", "running", attempt(1, "running", 1)), now=6), at(6))
    assert not is_untaken(run("cancelled", step("a", "cancelled"), ended=1), at(6))


def test_a_partial_run_says_which_steps_kept_it_from_completing() -> None:
    broken = {"code": "when_error", "detail": {"problem": "'x' is not there"}}
    failed, skipped = step("flaky", "failed", attempt(1, "failed", 0, 1)), step("tell", "skipped", reason=broken)

    assert headline(run("partial", failed, skipped, ended=2)).plain.endswith(
        "partial: failed: flaky; skipped by a condition that cannot be evaluated: tell"
    )
    assert headline(run("partial", failed, ended=2)).plain.endswith("partial: failed: flaky")
    assert headline(run("completed", step("a", "succeeded"), ended=2)).plain.endswith("completed")


def test_no_page_hands_a_terminal_what_it_would_act_on() -> None:
    evil = {"code": "not_started", "detail": {"problem": "\x1b[2Jgone"}}
    view = run("failed", step("a", "failed", attempt(1, "failed", 0, 1), reason=evil), ended=1, reason=evil)
    page = drawn(run_page(replace(view, summary=replace(view.summary, actor="me\x1b[1A"))))

    assert "\x1b" not in page
    assert r"me\x1b[1A" in page
    assert page.count(r"\x1b[2Jgone") == 2


def stream(seen: int, kept: int) -> ArtifactView:
    return ArtifactView(StepKey("s"), 1, "stdout", "stdout", kept, seen, "0" * 64, "text/plain", is_cut=True)


def test_a_stream_that_was_broken_off_is_not_said_to_be_cut() -> None:
    assert cut_note(stream(6, 6)) == "[stdout of s may be incomplete: 6 B were kept]"
    assert cut_note(stream(5000, 1000)) == "[cut: stdout of s was 5.0 kB, 1.0 kB were kept]"


def test_the_audit_shows_an_actor_with_nothing_that_a_terminal_would_act_on() -> None:
    event = EventView(
        1, RUN_ID, None, 1, START, "me\x1b[1A\u202e", "submit", "run", {"run": (None, "running")}, None, None, {}
    )

    assert r"me\x1b[1A\u202e" in drawn(events_table([event]))


@pytest.mark.parametrize("table", [keys_table([]), webhooks_table([]), deliveries_table([])])
def test_headings_are_lower_case_as_everywhere(table: Table) -> None:
    headings = [str(column.header).removesuffix(" (UTC)") for column in table.columns]

    assert headings == [heading.lower() for heading in headings]


@pytest.mark.parametrize(("unsent", "told"), [(2, "none, though something waits"), (0, "none")])
def test_a_queue_that_nobody_serves_is_marked_without_a_colour_too(unsent: int, told: str) -> None:
    queue = QueueView(
        "models", messages=0, outstanding=0, unsent=unsent, oldest_due_at=None, workers=(), slots=0, busy=0
    )

    assert (
        drawn(queues_page(QueuesReport(START, (queue,))), 160).splitlines()[1].rstrip().split("  ")[-1].strip() == told
    )


def test_a_page_says_how_far_a_run_has_come_until_it_has_ended() -> None:
    steps = [step("a", "succeeded"), step("b", "running")]

    assert "50 %" in drawn(run_page(run("running", *steps)))
    assert "%" not in drawn(run_page(run("completed", step("a", "succeeded"), ended=2)))
