"""Switches and merges in real runs: what they read and choose, why what is not taken says so, retry and fork."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.domain.why_words import sentence
from agentflow.engine.fork import ForkRequest, fork
from agentflow.engine.retry import retry
from agentflow.engine.verify import verify_run
from agentflow.engine.why import why
from agentflow.runtime import Runtime
from agentflow.storage.whole_run import read_run
from tests.factories import noop_step, shell_step, step_rows, submitted, work_off

ACTOR = "tester@test"


def _states(house: Runtime, run_id: RunId) -> dict[str, str]:
    return {key: row.state for key, row in step_rows(house.context, run_id).items()}


def _switch(key: str, needs: list[str], on: str, **cases: list[str]) -> dict[str, Any]:
    return {"id": key, "needs": needs, "switch": {"on": on, "cases": cases}}


def _diamond(log: Path, *, broken: str = "true") -> list[dict[str, Any]]:
    """classify -> route -> left | right -> merge -> last; ``broken`` is what the last step runs."""
    return [
        shell_step("classify", f"echo classify >> {log}; echo left"),
        _switch("route", ["classify"], "steps.classify.stdout", left=["left"], right=["right"]),
        shell_step("left", f"echo left >> {log}; echo 'went left'", needs=["route"]),
        shell_step("right", f"echo right >> {log}; echo 'went right'", needs=["route"]),
        noop_step("merge", needs=["left", "right"], when="taken"),
        shell_step("last", f"echo last >> {log}; {broken}", needs=["merge"], retry=1),
    ]


def test_a_step_reads_what_a_switch_chose_and_the_output_of_the_way_that_was_taken(house: Runtime) -> None:
    said = "{{ steps.left.stdout | default(steps.right.stdout) }}: {{ steps.route.choice }}"
    steps = [
        *_diamond(Path("/dev/null"))[:-1],
        shell_step("tell", 'test "$SAID" = "went left: left"', needs=["merge"], env={"SAID": said}),
        noop_step("asked", needs=["merge"], when="steps.route.choice == 'left'"),
        noop_step("not_asked", needs=["merge"], when="steps.route.choice == 'right'"),
    ]

    run_id = submitted(house.context, steps)

    assert work_off(house, run_id) is RunState.COMPLETED
    states = _states(house, run_id)
    assert (states["tell"], states["asked"], states["not_asked"]) == ("succeeded", "succeeded", "skipped")


def test_only_who_reads_a_way_that_was_not_taken_meets_the_gap(house: Runtime) -> None:
    steps = [
        *_diamond(Path("/dev/null"))[:-1],
        shell_step("tell", "true", needs=["merge"], env={"SAID": "{{ steps.right.stdout }}"}),
    ]

    run_id = submitted(house.context, steps)

    assert work_off(house, run_id) is RunState.FAILED
    reason = step_rows(house.context, run_id)["tell"].reason
    assert reason["code"] == "template"
    assert "'stdout' is not there" in reason["detail"]["problem"]


def test_a_step_that_is_not_taken_says_which_switch_chose_what(house: Runtime) -> None:
    steps = [*_diamond(Path("/dev/null")), noop_step("beyond", needs=["right"])]

    run_id = submitted(house.context, steps)
    work_off(house, run_id)

    rows = step_rows(house.context, run_id)
    assert rows["right"].reason == {"code": "not_chosen", "detail": {"switch": "route", "choice": "left"}}
    assert rows["beyond"].reason == {"code": "not_taken", "detail": {}}


def test_a_run_shows_what_its_switches_chose(house: Runtime) -> None:
    run_id = submitted(house.context, _diamond(Path("/dev/null")))
    work_off(house, run_id)

    with house.context.database.transaction() as tx:
        shown = {step["id"]: step["choice"] for step in read_run(tx, run_id).as_json()["steps"]}

    assert {key: choice for key, choice in shown.items() if choice} == {"route": "left"}


def test_why_tells_what_a_switch_chose_and_which_switch_passed_a_step_over(house: Runtime) -> None:
    run_id = submitted(house.context, _diamond(Path("/dev/null")))
    work_off(house, run_id)

    assert sentence(why(house.context, run_id, StepKey("route")).why) == "has succeeded, and chose left"
    assert sentence(why(house.context, run_id, StepKey("right")).why) == "was skipped: route chose left"


def test_a_retry_leaves_a_decision_and_what_it_did_not_take(house: Runtime, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    run_id = submitted(house.context, _diamond(log, broken=f"[ -e {gate} ]"))
    assert work_off(house, run_id) is RunState.FAILED
    gate.touch()

    retry(house.context, run_id, ACTOR)

    assert work_off(house, run_id) is RunState.COMPLETED
    assert log.read_text().split() == ["classify", "left", "last", "last"]
    assert _states(house, run_id)["right"] == "skipped"


def test_a_decision_is_decided_again_when_what_it_reads_ran_again(house: Runtime, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    steps = [
        shell_step("try", f"[ -e {gate} ]", retry=1, on_failure="continue"),
        _switch("route", ["try"], "steps.try.state", succeeded=["good"], failed=["bad"]) | {"when": "always"},
        noop_step("good", needs=["route"]),
        noop_step("bad", needs=["route"]),
        noop_step("merge", needs=["good", "bad"], when="taken"),
    ]
    run_id = submitted(house.context, steps)
    assert work_off(house, run_id) is RunState.PARTIAL
    assert step_rows(house.context, run_id)["route"].choice == "failed"
    gate.touch()

    retry(house.context, run_id, ACTOR)

    assert work_off(house, run_id) is RunState.COMPLETED
    assert step_rows(house.context, run_id)["route"].choice == "succeeded"
    assert _states(house, run_id) == {
        "try": "succeeded", "route": "succeeded", "good": "succeeded", "bad": "skipped", "merge": "succeeded",
    }  # fmt: skip
    assert verify_run(house.context, run_id).findings == ()


def test_a_failed_decision_is_decided_again_by_a_retry(house: Runtime, tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text("neither")
    run_id = submitted(
        house.context,
        [
            shell_step("classify", f"cat {said}"),
            _switch("route", ["classify"], "steps.classify.stdout", left=["left"]),
            noop_step("left", needs=["route"]),
        ],
    )
    assert work_off(house, run_id) is RunState.FAILED

    retry(house.context, run_id, ACTOR)

    assert work_off(house, run_id) is RunState.FAILED, "it reads what still says neither"
    assert step_rows(house.context, run_id)["route"].attempts == 0


def test_a_fork_takes_over_a_decision_that_came_before(house: Runtime, tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_id = submitted(house.context, _diamond(log))
    assert work_off(house, run_id) is RunState.COMPLETED

    forked = fork(house.context, run_id, ForkRequest(StepKey("last"), ACTOR))

    assert work_off(house, forked.run_id) is RunState.COMPLETED
    assert forked.reused == ("classify", "route", "left", "merge")
    assert log.read_text().split() == ["classify", "left", "last", "last"]
    rows = step_rows(house.context, forked.run_id)
    assert (rows["route"].choice, rows["route"].attempts, rows["route"].reason["code"]) == ("left", 0, "reused")
    assert rows["right"].reason["code"] == "not_chosen"
    assert verify_run(house.context, forked.run_id).findings == ()


def test_a_fork_from_before_a_decision_decides_again(house: Runtime, tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_id = submitted(house.context, _diamond(log))
    work_off(house, run_id)

    forked = fork(house.context, run_id, ForkRequest(StepKey("route"), ACTOR))

    assert work_off(house, forked.run_id) is RunState.COMPLETED
    assert forked.reused == ("classify",)
    assert step_rows(house.context, forked.run_id)["route"].reason is None


def test_a_merge_waits_for_every_way_and_ends_as_they_did(house: Runtime) -> None:
    def merged(when: str, *scripts: str, on_failure: str = "ignore") -> tuple[RunState, str]:
        ways = [shell_step(f"way{n}", script, retry=1, on_failure=on_failure) for n, script in enumerate(scripts)]
        merge = noop_step("merge", needs=[way["id"] for way in ways], when=when)
        run_id = submitted(house.context, [*ways, merge])
        return work_off(house, run_id), _states(house, run_id)["merge"]

    assert merged("taken", "true", "true") == (RunState.COMPLETED, "succeeded")
    assert merged("taken", "true", "false") == (RunState.FAILED, "failed")
    assert merged("any", "true", "false") == (RunState.COMPLETED, "succeeded")
    assert merged("any", "true", "false", on_failure="continue") == (RunState.PARTIAL, "succeeded")
    assert merged("any", "false", "false") == (RunState.FAILED, "failed")


def test_a_merge_of_which_no_way_was_taken_is_not_taken_either(house: Runtime) -> None:
    steps = [
        noop_step("start"),
        _switch("route", ["start"], "'none'", none=["end"], some=["a", "b"]),
        noop_step("a", needs=["route"]),
        noop_step("b", needs=["route"]),
        noop_step("merge", needs=["a", "b"], when="any"),
        noop_step("end", needs=["route"]),
    ]

    run_id = submitted(house.context, steps)

    assert work_off(house, run_id) is RunState.COMPLETED
    row = step_rows(house.context, run_id)["merge"]
    assert (row.state, row.reason["code"]) == ("skipped", "not_taken")


def test_a_wave_waits_for_all_of_the_one_before_it_however_that_ended(house: Runtime, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def waved(key: str, wave: int, then: str = "true", **fields: Any) -> dict[str, Any]:
        script = f"echo {key} >> {log}; {then}"
        return {"id": key, "wave": wave, "subprocess": {"command": ["sh", "-c", script]}, "retry": 1, **fields}

    steps = [waved("c", 2), waved("a", 1, "false", on_failure="continue"), waved("b", 1), waved("d", 3, needs=["a"])]

    run_id = submitted(house.context, steps)

    assert work_off(house, run_id) is RunState.PARTIAL
    assert sorted(lines := log.read_text().split()[:2]) == ["a", "b"], lines
    assert log.read_text().split()[2:] == ["c"]
    states = _states(house, run_id)
    assert (states["wave-1-end"], states["wave-2-end"], states["d"]) == ("succeeded", "succeeded", "skipped")


def test_a_failed_step_ends_a_run_in_waves_as_ever(house: Runtime) -> None:
    failing = {"id": "a", "wave": 1, "subprocess": {"command": ["false"]}, "retry": 1}

    run_id = submitted(house.context, [failing, {"id": "b", "wave": 2, "noop": {}}])

    assert work_off(house, run_id) is RunState.FAILED
    assert _states(house, run_id)["b"] == "skipped"


def test_a_switch_that_cannot_read_what_it_decides_on_fails(house: Runtime) -> None:
    huge = "head -c 9000000 /dev/zero | tr '\\0' x"
    steps = [
        shell_step("says", huge),
        _switch("route", ["says"], "steps.says.stdout", left=["left"]),
        noop_step("left", ["route"]),
    ]
    run_id = submitted(house.context, steps)

    work_off(house, run_id)

    assert _states(house, run_id) == {"says": "succeeded", "route": "failed", "left": "skipped"}
    assert step_rows(house.context, run_id)["route"].reason["code"] == "template"
