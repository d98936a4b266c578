"""What a fork takes over of a foreach: its items with their files and results, or nothing of it."""

from __future__ import annotations

import json
from typing import Any

from agentflow.domain.ids import StepKey
from agentflow.domain.state import RunState
from agentflow.engine.fork import Forked, ForkRequest, fork
from agentflow.engine.retry import retry
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, command_step, noop_step, run_state, step_rows, submitted, wait_for_end
from tests.integration.engine.conftest import Station
from tests.integration.engine.foreach_play import counts, each, finish, in_state, play, states, take
from tests.integration.engine.run_game import check_moves, check_rows, opened_arena

ACTOR = "tester@test"


def _forked(house: Runtime, run_id: Any, key: str) -> Forked:
    return fork(house.context, run_id, ForkRequest(StepKey(key), ACTOR))


def test_a_foreach_that_succeeded_is_taken_over_with_its_items(station: Station) -> None:
    house = station.house
    work = command_step(
        "work", "/bin/sh", "-c", "echo {{ item }} | tee $AGENTFLOW_ARTIFACTS/one.txt", outputs="stdout_json"
    )
    steps = [
        each("outer", [[1, 2], [3]], each("inner", "loops.outer.item", work)),
        command_step("last", "cat", needs=["outer"], stdin="{{ steps.outer.results }}"),
    ]
    run_id = submitted(house.context, steps)
    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED

    forked = _forked(house, run_id, "last")

    assert forked.reused == ("outer",)
    assert wait_for_end(house.context, forked.run_id, 30) is RunState.COMPLETED
    assert states(house, forked.run_id) == states(house, run_id)
    folder = house.settings.content_root() / "runs" / str(forked.run_id) / "steps"
    assert json.loads((folder / "last" / "1" / "stdout").read_text()) == [[1, 2], [3]]
    assert (folder / "outer[1].inner[0].work" / "1" / "artifacts" / "one.txt").read_text() == "3\n"
    done = [row for row in attempt_rows(house.context, forked.run_id) if row.reason is None]
    assert len(done) == 1
    assert verify_run(house.context, forked.run_id).findings == ()


def test_a_fork_from_a_foreach_or_from_inside_of_one_does_all_of_it_again(house: Runtime) -> None:
    steps = [noop_step("a"), each("e", [1, 2], noop_step("b"), noop_step("c", ["b"]), needs=("a",))]
    run_id = submitted(house.context, steps)
    play(house, run_id)

    for first in ("e", "c", "e[1].b", "e[0]"):
        forked = _forked(house, run_id, first)
        check_rows(house, forked.run_id)
        assert forked.reused == ("a",)
        assert play(house, forked.run_id) == [["e[0].b", "e[1].b"], ["e[0].c", "e[1].c"]]
        assert run_state(house.context, forked.run_id) is RunState.COMPLETED


def test_a_foreach_that_has_not_succeeded_is_done_again(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [1, 2]), noop_step("x"), noop_step("after", ["e"])])
    finish(house, take(house, run_id, "e[0]"))
    finish(house, take(house, run_id, "x"))

    forked = _forked(house, run_id, "after")

    assert forked.reused == ("x",)
    check_rows(house, forked.run_id)
    assert in_state(house, forked.run_id, "ready") == ["e[0]", "e[1]"]


def test_what_failed_inside_of_a_foreach_is_taken_over_as_it_is_and_can_be_retried(house: Runtime) -> None:
    with opened_arena(house) as arena:
        body = [noop_step("b"), noop_step("c", ["b"])]
        run_id = submitted(arena.context, [each("e", [1, 2, 3], *body, merge="partial"), noop_step("z", ["e"])])
        play(arena, run_id, {"e[1].b": "failed"})
        check_moves(arena, run_id)

        forked = _forked(arena, run_id, "z")

        assert play(arena, forked.run_id) == [["z"]]
        check_rows(arena, forked.run_id)
        assert run_state(arena.context, forked.run_id) is RunState.PARTIAL
        assert counts(arena, forked.run_id) == counts(arena, run_id)
        assert step_rows(arena.context, forked.run_id)["e[1].b"].attempts == 0
        retry(arena.context, forked.run_id, ACTOR)
        check_rows(arena, forked.run_id)
        assert play(arena, forked.run_id) == [["e[1].b"], ["e[1].c"]]
        assert run_state(arena.context, forked.run_id) is RunState.COMPLETED
        check_moves(arena, forked.run_id)
