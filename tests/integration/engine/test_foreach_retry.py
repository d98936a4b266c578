"""What a retry takes up of a foreach, and that its items keep their turns."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from agentflow.domain.error import InvalidTransition
from agentflow.domain.gate import Verdict
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.domain.transition import MAX_LOST
from agentflow.engine.cancel import cancel
from agentflow.engine.decide import Answer, decide
from agentflow.engine.replay import replay
from agentflow.engine.rescue import rescue
from agentflow.engine.retry import retry
from agentflow.runtime import Runtime
from agentflow.storage import dead_letters
from agentflow.storage.attempts import LapsedAttempt
from tests.factories import noop_step, run_state, step_rows, submitted
from tests.integration.engine.foreach_play import each, finish, in_state, play, states, take
from tests.integration.engine.run_game import check_rows

ACTOR = "tester@test"
REJECTED = Answer("another@test", Verdict.REJECT, "once more")


def test_a_retry_does_failed_items_again_and_leaves_the_others(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [1, 2, 3]), noop_step("after", ["e"])])
    play(house, run_id, {"e[1]": "failed"})
    assert run_state(house.context, run_id) is RunState.FAILED
    assert states(house, run_id)["after"] == "skipped"

    done = retry(house.context, run_id, ACTOR)

    assert done.ready == ("e[1]",)
    assert set(done.pending) == {"e", "after"}
    check_rows(house, run_id)
    assert play(house, run_id) == [["e[1]"], ["after"]]
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_a_retry_keeps_how_many_items_may_be_under_way(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [*range(6)], max_parallel=2, merge="partial"), noop_step("z", ["e"])])
    play(house, run_id, {f"e[{item}]": "failed" for item in (0, 2, 3, 5)})
    assert run_state(house.context, run_id) is RunState.PARTIAL

    retry(house.context, run_id, ACTOR)

    check_rows(house, run_id)
    assert in_state(house, run_id, "ready") == ["e[0]", "e[2]"]
    assert play(house, run_id) == [["e[0]", "e[2]"], ["e[3]", "e[5]"]]
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_one_item_is_taken_up_alone(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [1, 2, 3])])
    play(house, run_id, {"e[1]": "failed", "e[2]": "failed"})

    assert retry(house.context, run_id, ACTOR, only=StepKey("e[2]")).ready == ("e[2]",)

    play(house, run_id)
    assert states(house, run_id) == {"e": "failed", "e[0]": "succeeded", "e[1]": "failed", "e[2]": "succeeded"}
    assert retry(house.context, run_id, ACTOR, only=StepKey("e")).ready == ("e[1]",)
    play(house, run_id)
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_a_step_of_a_body_is_taken_up_with_what_follows_in_its_item(house: Runtime) -> None:
    body = [noop_step("a"), noop_step("b", ["a"]), noop_step("c", ["b"])]
    run_id = submitted(house.context, [each("e", [1, 2], *body, max_parallel=1)])
    play(house, run_id, {"e[0].b": "failed", "e[1].b": "failed"})
    assert states(house, run_id)["e[1].c"] == "skipped"

    done = retry(house.context, run_id, ACTOR)

    check_rows(house, run_id)
    assert done.ready == ("e[0].b",)
    assert play(house, run_id) == [["e[0].b"], ["e[0].c"], ["e[1].b"], ["e[1].c"]]
    assert run_state(house.context, run_id) is RunState.COMPLETED
    assert step_rows(house.context, run_id)["e[0].a"].attempts == 1


def test_items_of_a_nested_foreach_wait_for_the_turn_of_what_is_around_them(house: Runtime) -> None:
    inner = each("i", [1, 2], max_parallel=1)
    run_id = submitted(house.context, [each("o", [1, 2], inner, max_parallel=1)])
    play(house, run_id, dict.fromkeys(("o[0].i[1]", "o[1].i[0]", "o[1].i[1]"), "failed"))

    retry(house.context, run_id, ACTOR)

    check_rows(house, run_id)
    assert play(house, run_id) == [["o[0].i[1]"], ["o[1].i[0]"], ["o[1].i[1]"]]
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_a_cancelled_run_goes_on_where_its_foreach_stood(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [1, 2, 3], max_parallel=1)])
    first = in_state(house, run_id, "ready")
    assert first == ["e[0]"]
    cancel(house.context, run_id, ACTOR)

    retry(house.context, run_id, ACTOR)

    check_rows(house, run_id)
    assert play(house, run_id) == [["e[0]"], ["e[1]"], ["e[2]"]]
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_a_failing_run_takes_its_foreach_along_and_a_retry_lets_it_go_on(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [1, 2, 3], max_parallel=1), noop_step("x", [])])
    finish(house, take(house, run_id, "e[0]"))
    finish(house, take(house, run_id, "x"), "failed")
    assert states(house, run_id) == {
        "e": "skipped",
        "x": "failed",
        "e[0]": "succeeded",
        "e[1]": "skipped",
        "e[2]": "skipped",
    }

    retry(house.context, run_id, ACTOR)

    check_rows(house, run_id)
    assert play(house, run_id) == [["x", "e[1]"], ["e[2]"]]
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_a_foreach_without_a_list_asks_for_it_again(house: Runtime) -> None:
    steps = [noop_step("a"), each("e", "run.id", needs=("a",)), noop_step("z", ["e"])]
    run_id = submitted(house.context, steps)
    play(house, run_id)
    assert step_rows(house.context, run_id)["e"].reason["code"] == "items"

    retry(house.context, run_id, ACTOR)

    assert step_rows(house.context, run_id)["e"].reason["code"] == "items"
    assert run_state(house.context, run_id) is RunState.FAILED


def test_failures_that_a_foreach_ignores_are_no_reason_to_retry(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [1, 2], merge="ignore_failures")])
    play(house, run_id, {"e[0]": "failed"})
    assert run_state(house.context, run_id) is RunState.COMPLETED

    with pytest.raises(InvalidTransition):
        retry(house.context, run_id, ACTOR)


def test_a_foreach_behind_what_runs_again_begins_anew(house: Runtime) -> None:
    steps = [
        noop_step("x", on_failure="continue"),
        {**each("e", [1, 2], needs=("x",), on_failure="continue"), "when": "always"},
    ]
    run_id = submitted(house.context, steps)
    play(house, run_id, {"x": "failed", "e[1]": "failed"})

    done = retry(house.context, run_id, ACTOR)

    check_rows(house, run_id)
    assert done.ready == ("x",)
    assert play(house, run_id) == [["x"], ["e[0]", "e[1]"]]
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_a_rejected_gate_sends_a_foreach_before_it_through_all_of_its_items_again(house: Runtime) -> None:
    gate = {"id": "look", "needs": ["e"], "approval": {"message": "well?", "on_reject": {"redo": "a"}}}
    run_id = submitted(house.context, [noop_step("a"), each("e", [1, 2, 3], needs=("a",), max_parallel=2), gate])
    assert play(house, run_id) == [["a"], ["e[0]", "e[1]"], ["e[2]"]]

    decide(house.context, run_id, StepKey("look"), REJECTED)

    check_rows(house, run_id)
    assert play(house, run_id) == [["a"], ["e[0]", "e[1]"], ["e[2]"]]
    assert states(house, run_id)["look"] == "held"


def test_a_rejected_gate_inside_of_an_item_sends_back_only_that(house: Runtime) -> None:
    gate = {"id": "look", "needs": ["side"], "approval": {"message": "well?", "on_reject": {"redo": "a"}}}
    body = [noop_step("a"), noop_step("side", ["a"]), gate]
    run_id = submitted(house.context, [each("e", [1, 2], *body)])
    assert play(house, run_id) == [["e[0].a", "e[1].a"], ["e[0].side", "e[1].side"]]

    decide(house.context, run_id, StepKey("e[0].look"), REJECTED)

    check_rows(house, run_id)
    assert play(house, run_id) == [["e[0].a"], ["e[0].side"]]
    check_rows(house, run_id)


def _lose(house: Runtime, run_id: RunId, key: str) -> None:
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE step SET not_before = now() WHERE state = 'ready'"))
    taken = take(house, run_id, key)
    rescue(house.context, LapsedAttempt(run_id, taken.step_id, taken.attempt_id), ACTOR, is_known_lost=True)


def test_an_item_that_ends_its_workers_is_a_dead_letter_of_its_own(house: Runtime) -> None:
    steps = [each("e", [1, 2], noop_step("a"), noop_step("b", ["a"], on_lost="hold", retry=1), merge="partial")]
    run_id = submitted(house.context, steps)
    for _ in range(MAX_LOST):
        _lose(house, run_id, "e[0].a")
    play(house, run_id, {"e[1].b": "broken off"})
    held = step_rows(house.context, run_id)["e[1].b"]
    assert (held.state, held.reason["code"]) == ("held", "awaits_person")

    retry(house.context, run_id, ACTOR, only=StepKey("e[1].b"))
    check_rows(house, run_id)
    play(house, run_id)
    assert run_state(house.context, run_id) is RunState.PARTIAL

    with house.context.database.transaction() as tx:
        found = dead_letters.read(tx, dead_letters.LetterFilter(), 10)
    assert [letter.step for letter in found.letters] == ["e[0].a"]
    replay(house.context, found.letters, ACTOR)
    check_rows(house, run_id)
    assert play(house, run_id) == [["e[0].a"], ["e[0].b"]]
    assert run_state(house.context, run_id) is RunState.COMPLETED
