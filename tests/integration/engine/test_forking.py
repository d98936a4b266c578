"""The verb fork: a new run takes over what its origin did before a step, and does the rest anew."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.domain.budget import Budget
from agentflow.domain.error import ContentError, IdempotencyConflict, NotFound, PlanRejected
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.fork import Forked, ForkRequest, fork
from agentflow.engine.load_plan import LoadedPlan, load_plan
from agentflow.engine.retry import retry
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.storage import balances, views
from agentflow.storage.whole_run import read_run
from tests.factories import (
    attempt_rows,
    document,
    fresh_run_id,
    lines_of,
    noop_step,
    planned,
    run_state,
    shell_step,
    step_rows,
    submitted,
    work_off,
)

ACTOR = "tester@test"
ONCE = {"retry": 1}


def _fork(house: Runtime, run_id: RunId, step: str, **asked: Any) -> Forked:
    return fork(house.context, run_id, ForkRequest(StepKey(step), ACTOR, **asked))


def _states(house: Runtime, run_id: RunId) -> dict[str, str]:
    return {key: row.state for key, row in step_rows(house.context, run_id).items()}


def _ran(house: Runtime, run_id: RunId) -> list[str]:
    """The steps that were really started in a run, as their attempts say."""
    keys = {row.id: key for key, row in step_rows(house.context, run_id).items()}
    rows = attempt_rows(house.context, run_id)
    return [keys[row.step_id] for row in rows if (row.reason or {}).get("code") != "reused"]


def _read(house: Runtime, run_id: RunId, step: str, name: str, attempt: int = 1) -> bytes:
    folder = Path(str(house.settings.content_dir)) / "runs" / str(run_id) / "steps" / step / str(attempt)
    return (folder / name).read_bytes()


def _edited(steps: Sequence[Mapping[str, Any]], **fields: Any) -> LoadedPlan:
    plan, content = planned(steps, **fields)
    return LoadedPlan(plan, content, {}, "edited")


def _costly(log: Path) -> dict[str, Any]:
    """A step that leaves all that a step can leave, and a line in ``log`` each time it runs."""
    script = (
        f"echo ran >> {log}; echo words; echo '{{\"n\": 41}}' > $AGENTFLOW_OUTPUT; echo deep > $AGENTFLOW_ARTIFACTS/a"
    )
    return shell_step("costly", script)


def _using(key: str = "using", needs: Sequence[str] = ("costly",), then: str = "true") -> dict[str, Any]:
    """A step that reads all that ``costly`` left."""
    values = {name: f"{{{{ steps.costly.{name} }}}}" for name in ("stdout", "result", "exit_code", "state")}
    values["path"] = "{{ steps.costly.artifacts.a.path }}"
    script = 'echo "$stdout $result $exit_code $state $(cat $path) $(cat mine/a)"; ' + then
    inputs = [{"step": "costly", "artifact": "a", "as": "mine/a"}]
    return shell_step(key, script, needs=needs, **ONCE, inputs=inputs) | {
        "subprocess": {"command": ["/bin/sh", "-c", script], "env": values}
    }


def test_a_fork_of_a_failed_run_takes_over_what_succeeded_and_runs_the_rest(house: Runtime, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    run_id = submitted(house.context, [_costly(log), _using(then=f"[ -e {gate} ]"), noop_step("end", needs=["using"])])
    assert work_off(house, run_id) is RunState.FAILED
    before = step_rows(house.context, run_id)
    gate.touch()

    forked = _fork(house, run_id, "using")

    assert forked.reused == ("costly",)
    assert work_off(house, forked.run_id) is RunState.COMPLETED
    assert lines_of(log) == ["ran"]
    assert _ran(house, forked.run_id) == ["using", "end"]
    assert _read(house, forked.run_id, "using", "stdout") == b'words {"n": 41} 0 succeeded deep deep\n'
    assert step_rows(house.context, run_id) == before, "the origin is as it was"
    assert run_state(house.context, run_id) is RunState.FAILED
    for each in (run_id, forked.run_id):
        assert verify_run(house.context, each).findings == ()


def test_a_step_that_was_taken_over_says_where_and_when_it_was_done(house: Runtime, tmp_path: Path) -> None:
    run_id = submitted(house.context, [_costly(tmp_path / "log"), noop_step("end", needs=["costly"])])
    work_off(house, run_id)

    forked = _fork(house, run_id, "end")

    [origin] = attempt_rows(house.context, run_id, "costly")
    [reused] = attempt_rows(house.context, forked.run_id, "costly")
    for name in ("worker", "started_at", "ended_at", "exit_code", "state"):
        assert getattr(reused, name) == getattr(origin, name)
    assert reused.reason == {"code": "reused", "detail": {"run": str(run_id), "attempt": 1}}
    assert reused.claim_token != origin.claim_token
    row = step_rows(house.context, forked.run_id)["costly"]
    assert (row.state, row.result, row.exit_code, row.reason) == ("succeeded", {"n": 41}, 0, reused.reason)
    with house.context.database.transaction() as tx:
        files = {each.name: each.sha256 for each in views.read_artifacts(tx, forked.run_id)}
        assert files == {each.name: each.sha256 for each in views.read_artifacts(tx, run_id)}
    assert files.keys() == {"stdout", "stderr", "a"}


def test_a_fork_is_one_event_that_names_what_it_took_over(house: Runtime, tmp_path: Path) -> None:
    run_id = submitted(house.context, [_costly(tmp_path / "log"), noop_step("end", needs=["costly"])])
    work_off(house, run_id)

    forked = _fork(house, run_id, "end")

    with house.context.database.transaction() as tx:
        [event] = views.events_after(tx, forked.run_id)
    assert (event.action, event.subject, event.actor) == ("fork", "run", ACTOR)
    assert event.moved == {
        "step:costly": [None, "succeeded"],
        "step:end": ["pending", "ready"],
        "run": [None, "running"],
    }
    assert event.facts["forked_from"] == str(run_id)
    assert (event.facts["from_step"], event.facts["reused"]) == ("end", 1)


def test_a_fork_and_its_origin_know_each_other(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a"), noop_step("b", needs=["a"])])
    work_off(house, run_id)

    first, second = _fork(house, run_id, "b"), _fork(house, run_id, "a")

    with house.context.database.transaction() as tx:
        origin, made = read_run(tx, run_id), read_run(tx, first.run_id)
    assert origin.as_json()["forks"] == [str(first.run_id), str(second.run_id)]
    assert origin.as_json()["forked_from"] is None
    assert made.as_json()["forked_from"] == {"run": str(run_id), "step": "b"}


def test_what_follows_from_the_step_runs_again_and_what_does_not_is_taken_over(house: Runtime) -> None:
    run_id = submitted(
        house.context,
        [
            noop_step("a"),
            noop_step("b", needs=["a"]),
            noop_step("aside", needs=["a"]),
            noop_step("c", needs=["b"]),
            noop_step("end", needs=["c", "aside"]),
        ],
    )
    assert work_off(house, run_id) is RunState.COMPLETED

    forked = _fork(house, run_id, "b")

    assert forked.reused == ("a", "aside")
    assert work_off(house, forked.run_id) is RunState.COMPLETED
    assert _ran(house, forked.run_id) == ["b", "c", "end"]


def test_conditions_are_decided_anew_from_what_was_taken_over(house: Runtime) -> None:
    run_id = submitted(
        house.context,
        [
            shell_step("count", "echo 7"),
            noop_step("many", needs=["count"], when="steps.count.stdout | int > 5"),
            noop_step("few", needs=["count"], when="steps.count.stdout | int <= 5"),
            noop_step("alarm", needs=["count"], when="failed"),
            noop_step("behind", needs=["alarm"]),
            noop_step("end", needs=["many", "few"], when="always"),
        ],
    )
    assert work_off(house, run_id) is RunState.COMPLETED

    forked = _fork(house, run_id, "many")

    assert forked.reused == ("count",)
    assert _states(house, forked.run_id) == {
        "count": "succeeded",
        "many": "ready",
        "few": "skipped",
        "alarm": "skipped",
        "behind": "skipped",
        "end": "pending",
    }
    assert work_off(house, forked.run_id) is RunState.COMPLETED
    assert _states(house, forked.run_id) == _states(house, run_id)
    assert verify_run(house.context, forked.run_id).findings == ()


def test_a_fork_of_which_nothing_is_left_to_do_ends_at_once(house: Runtime) -> None:
    steps = [noop_step("a"), noop_step("b", needs=["a"], when="vars.go")]
    run_id = submitted(house.context, steps, vars={"go": False})
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE run SET vars = '{\"go\": false}' WHERE id = :id"), {"id": run_id})
    assert work_off(house, run_id) is RunState.COMPLETED

    forked = _fork(house, run_id, "b")

    assert run_state(house.context, forked.run_id) is RunState.COMPLETED
    assert verify_run(house.context, forked.run_id).findings == ()


def test_a_fork_of_a_running_run_takes_over_what_succeeded_so_far(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a"), noop_step("b", needs=["a"]), noop_step("c", needs=["b"])])
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("a")), "test:0")

    forked = _fork(house, run_id, "c")

    assert forked.reused == ("a",)
    assert _states(house, forked.run_id) == {"a": "succeeded", "b": "ready", "c": "pending"}
    assert work_off(house, forked.run_id) is RunState.COMPLETED
    assert _states(house, run_id) == {"a": "succeeded", "b": "ready", "c": "pending"}, "the origin goes its own way"
    assert work_off(house, run_id) is RunState.COMPLETED


def test_a_fork_lives_on_without_its_origin(house: Runtime, tmp_path: Path) -> None:
    run_id = submitted(house.context, [_costly(tmp_path / "log"), _using()])
    work_off(house, run_id)

    forked = _fork(house, run_id, "using")
    house.context.store.delete_run(str(run_id))

    assert work_off(house, forked.run_id) is RunState.COMPLETED
    again = _fork(house, forked.run_id, "using")
    assert work_off(house, again.run_id) is RunState.COMPLETED
    assert lines_of(tmp_path / "log") == ["ran"]


def test_a_fork_of_a_fork_names_the_run_in_which_the_work_was_done(house: Runtime, tmp_path: Path) -> None:
    run_id = submitted(
        house.context, [_costly(tmp_path / "log"), noop_step("b", needs=["costly"]), noop_step("c", needs=["b"])]
    )
    work_off(house, run_id)
    first = _fork(house, run_id, "b")
    work_off(house, first.run_id)

    second = _fork(house, first.run_id, "c")

    reasons = {key: row.reason for key, row in step_rows(house.context, second.run_id).items()}
    assert reasons["costly"]["detail"]["run"] == str(run_id)
    assert reasons["b"]["detail"]["run"] == str(first.run_id)
    assert work_off(house, second.run_id) is RunState.COMPLETED


def test_a_fork_whose_origin_lost_its_content_is_refused_and_leaves_nothing(house: Runtime, tmp_path: Path) -> None:
    run_id = submitted(house.context, [_costly(tmp_path / "log"), _using()])
    work_off(house, run_id)
    runs = Path(str(house.settings.content_dir)) / "runs"
    (runs / str(run_id) / "steps" / "costly" / "1" / "artifacts" / "a").unlink()

    with pytest.raises(
        ContentError, match=r"Step 'costly' of run .* cannot be taken over: its 'a' is not in the content"
    ):
        _fork(house, run_id, "using")

    assert [each.name for each in runs.iterdir()] == [str(run_id)]
    assert _fork(house, run_id, "costly").reused == ()


def test_a_retry_of_a_fork_takes_up_what_failed_and_what_was_taken_over_stays(house: Runtime, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    run_id = submitted(house.context, [_costly(log), _using(then=f"[ -e {gate} ]")])
    work_off(house, run_id)
    forked = _fork(house, run_id, "using")
    assert work_off(house, forked.run_id) is RunState.FAILED
    gate.touch()

    retry(house.context, forked.run_id, ACTOR)

    assert work_off(house, forked.run_id) is RunState.COMPLETED
    assert lines_of(log) == ["ran"]


def test_an_edited_plan_runs_what_it_changed_and_what_follows_from_that(house: Runtime, tmp_path: Path) -> None:
    def steps(word: str) -> list[dict[str, Any]]:
        return [
            _costly(tmp_path / "log"),
            shell_step("changed", f"echo {word}"),
            noop_step("behind", needs=["changed"]),
            noop_step("aside", needs=["costly"]),
            noop_step("end", needs=["behind", "aside"]),
        ]

    run_id = submitted(house.context, steps("one"))
    work_off(house, run_id)

    edited = [*steps("two")[:-1], noop_step("added", needs=["aside"]), noop_step("end", needs=["behind", "added"])]
    forked = _fork(house, run_id, "end", edited=_edited(edited))

    assert forked.reused == ("costly", "aside")
    assert work_off(house, forked.run_id) is RunState.COMPLETED
    assert sorted(_ran(house, forked.run_id)) == ["added", "behind", "changed", "end"]
    assert _read(house, forked.run_id, "changed", "stdout") == b"two\n"
    assert step_rows(house.context, forked.run_id).keys() == {each["id"] for each in edited}


def test_a_step_that_the_plan_does_not_have_cannot_be_forked_from(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("first"), noop_step("second", needs=["first"])])

    with pytest.raises(NotFound, match=r"The run has no step 'secnd': did you mean 'second'\?"):
        _fork(house, run_id, "secnd")
    with pytest.raises(NotFound, match="The edited plan has no step 'second'"):
        _fork(house, run_id, "second", edited=_edited([noop_step("first")]))
    with pytest.raises(NotFound, match="There is no run"):
        _fork(house, fresh_run_id(), "first")


def _with_vars(house: Runtime, values: Mapping[str, Any], declared: Mapping[str, Any], **fields: Any) -> RunId:
    steps = [shell_step("a", "echo {{ vars.x }}"), shell_step("b", "echo {{ vars.y }}", needs=["a"])]
    plan, content = planned(steps, vars=dict(declared), **fields)
    return submit(house.context, SubmitRequest(plan, values, "ops", ACTOR, content, {})).run_id


def test_vars_of_the_origin_stay_and_given_ones_go_over_them(house: Runtime) -> None:
    run_id = _with_vars(house, {"x": 5, "y": 6}, {"x": 1, "y": 2})
    work_off(house, run_id)

    forked = _fork(house, run_id, "b", vars={"y": "7"})

    assert forked.outdated == {}
    assert work_off(house, forked.run_id) is RunState.COMPLETED
    assert _read(house, forked.run_id, "a", "stdout") == b"5\n"
    assert _read(house, forked.run_id, "b", "stdout") == b"7\n"
    assert _project(house, forked.run_id) == "ops"


def test_a_step_taken_over_that_refers_to_a_changed_var_is_told_of(house: Runtime) -> None:
    run_id = _with_vars(house, {"x": 5, "y": 6}, {"x": 1, "y": 2})
    work_off(house, run_id)

    assert _fork(house, run_id, "b", vars={"x": "9", "y": "8"}).outdated == {"a": ("x",)}
    assert _fork(house, run_id, "b", vars={"x": "5"}).outdated == {}
    assert _fork(house, run_id, "a", vars={"x": "9"}).outdated == {}


def test_vars_that_do_not_fit_are_faults(house: Runtime) -> None:
    run_id = _with_vars(house, {"x": 5, "y": 6}, {"x": 1, "y": 2})

    with pytest.raises(PlanRejected) as rejected:
        _fork(house, run_id, "b", vars={"y": "many", "z": 1})

    assert {fault.code for fault in rejected.value.faults} == {"bad_var", "unknown_var"}


def test_an_edited_default_counts_where_the_origin_had_the_default(house: Runtime) -> None:
    run_id = _with_vars(house, {"x": 5, "y": 2}, {"x": 1, "y": 2})
    work_off(house, run_id)
    steps = [shell_step("a", "echo {{ vars.x }}"), shell_step("b", "echo {{ vars.y }}", needs=["a"])]

    forked = _fork(house, run_id, "b", edited=_edited(steps, vars={"x": 10, "y": 20}))

    with house.context.database.transaction() as tx:
        values = tx.execute(text("SELECT vars FROM run WHERE id = :id"), {"id": forked.run_id}).scalar_one()
    assert values == {"x": 5, "y": 20}


def test_a_fork_spends_nothing_for_what_it_took_over(house: Runtime) -> None:
    run_id = submitted(
        house.context, [noop_step("a"), noop_step("b", needs=["a"]), noop_step("c", needs=["b"])], budget={"steps": 3}
    )
    assert work_off(house, run_id) is RunState.COMPLETED

    forked = _fork(house, run_id, "c", budget=Budget(steps=1))

    assert work_off(house, forked.run_id) is RunState.COMPLETED
    with house.context.database.transaction() as tx:
        [steps] = [line for line in balances.read_caps(tx, forked.run_id) if line.budget == "steps"]
        usage = read_run(tx, forked.run_id).usage
    assert (steps.limit, steps.used) == (1, 1)
    assert usage.attempts == 1


def test_caps_of_the_origin_as_they_stand_go_on(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a")], budget={"steps": 3})
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE run_budget SET steps = 8 WHERE run_id = :id"), {"id": run_id})

    kept = _fork(house, run_id, "a", budget=Budget(tokens=100))
    edited = _fork(house, run_id, "a", edited=_edited([noop_step("a")], budget={"steps": 5}))

    with house.context.database.transaction() as tx:
        caps = [
            {line.budget.value: line.limit for line in balances.read_caps(tx, each.run_id)} for each in (kept, edited)
        ]
    assert caps == [{"steps": 8, "tokens": 100}, {"steps": 5}]


def test_the_same_key_gives_the_same_fork(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a"), noop_step("b", needs=["a"])])
    work_off(house, run_id)

    first = _fork(house, run_id, "b", idempotency_key="once")
    again = _fork(house, run_id, "b", idempotency_key="once")

    assert (again.run_id, again.is_existing, again.reused) == (first.run_id, True, ("a",))
    with pytest.raises(IdempotencyConflict):
        _fork(house, run_id, "a", idempotency_key="once")


def test_forks_at_once_under_one_key_are_one_run(house: Runtime, tmp_path: Path) -> None:
    run_id = submitted(house.context, [_costly(tmp_path / "log"), _using()])
    work_off(house, run_id)
    start, made = threading.Barrier(4), []

    def make() -> None:
        start.wait(10)
        made.append(_fork(house, run_id, "using", idempotency_key="once"))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len({each.run_id for each in made}) == 1
    assert sorted(each.is_existing for each in made) == [False, True, True, True]
    folders = {each.name for each in (Path(str(house.settings.content_dir)) / "runs").iterdir()}
    assert folders == {str(run_id), str(made[0].run_id)}, "those that came late took their content away again"


def test_files_and_stdin_of_the_origin_are_taken_along_and_edited_ones_are_told_of(
    house: Runtime, tmp_path: Path
) -> None:
    def written(note: str) -> LoadedPlan:
        (tmp_path / "note.txt").write_text(note, encoding="utf-8")
        steps = [
            {"id": "a", "needs": [], "subprocess": {"command": ["cat", "note.txt"]}},
            {"id": "b", "needs": ["a"], "subprocess": {"command": ["cat", "note.txt", "-"], "stdin": " + stdin"}},
        ]
        (tmp_path / "plan.yaml").write_text(str(document(steps, files=["note.txt"])), encoding="utf-8")
        return load_plan(tmp_path / "plan.yaml")

    loaded = written("old")
    run_id = submit(
        house.context, SubmitRequest(loaded.plan, {}, "default", ACTOR, loaded.content, loaded.files)
    ).run_id
    work_off(house, run_id)

    same = _fork(house, run_id, "b")
    edited = _fork(house, run_id, "b", edited=written("new"))

    assert work_off(house, same.run_id) is work_off(house, edited.run_id) is RunState.COMPLETED
    assert _read(house, same.run_id, "b", "stdout") == b"old + stdin"
    assert _read(house, edited.run_id, "b", "stdout") == b"new + stdin"
    assert (same.changed_files, edited.changed_files) == ((), ("note.txt",))
    assert edited.reused == ("a",)


def _project(house: Runtime, run_id: RunId) -> str:
    with house.context.database.transaction() as tx:
        return str(tx.execute(text("SELECT project FROM run WHERE id = :id"), {"id": run_id}).scalar_one())
