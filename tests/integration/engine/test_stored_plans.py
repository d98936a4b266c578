"""Stored plans: pushed under a name and a version, and run on machines that never saw their files."""

from __future__ import annotations

import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.error import ContentError, NotFound
from agentflow.domain.ids import INSTALLATION_CHAIN, RunId
from agentflow.domain.state import RunState
from agentflow.engine.inputs import content_hashes, input_address, plan_owner
from agentflow.engine.load_plan import LoadedPlan, load_plan
from agentflow.engine.stored_plans import StoredPlan, open_stored, push_plan
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.storage import events, installations
from tests.factories import attempt_rows, document, planned, shell_step, work_off

ACTOR = "tester@test"


def _plan(*scripts: str, **fields: Any) -> LoadedPlan:
    steps = [shell_step(f"s{number}", script) for number, script in enumerate(scripts)]
    plan, content = planned(steps, **fields)
    return LoadedPlan(plan, content, {}, "tested")


def _with_files(folder: Path, text: str = "from the file") -> LoadedPlan:
    folder.mkdir(exist_ok=True)
    (folder / "note.txt").write_text(text, encoding="utf-8")
    (folder / "tool.sh").write_text('#!/bin/sh\ncat note.txt "$@"\n', encoding="utf-8")
    (folder / "tool.sh").chmod(0o755)
    step = {"id": "show", "needs": [], "subprocess": {"command": ["./tool.sh", "-"], "stdin": " and stdin"}}
    (folder / "plan.yaml").write_text(str(document([step], files=["*.txt", "tool.sh"])), encoding="utf-8")
    return load_plan(folder / "plan.yaml")


def _request(stored: StoredPlan) -> SubmitRequest:
    return SubmitRequest(stored.plan, {}, "default", ACTOR, stored.content, stored.files)


def _outside(house: Runtime) -> list[Any]:
    with house.context.database.transaction() as tx:
        return [event for event, _ in events.read_run(tx, INSTALLATION_CHAIN)]


def test_versions_of_a_name_count_from_one_and_the_newest_is_opened(house: Runtime) -> None:
    first = push_plan(house.context, _plan("true"), "ops", ACTOR)
    second = push_plan(house.context, _plan("true", "true"), "ops", ACTOR)
    aside = push_plan(house.context, _plan("true"), "other", ACTOR)

    assert [(each.version, each.is_new) for each in (first, second, aside)] == [(1, True), (2, True), (1, True)]
    assert open_stored(house.context, "ops", "tested").plan.fingerprint == second.fingerprint
    assert open_stored(house.context, "ops", "tested", 1).plan.fingerprint == first.fingerprint


def test_the_newest_plan_pushed_again_is_the_version_that_it_is(house: Runtime) -> None:
    push_plan(house.context, _plan("true"), "ops", ACTOR)
    again = push_plan(house.context, _plan("true"), "ops", ACTOR)
    push_plan(house.context, _plan("false"), "ops", ACTOR)
    back = push_plan(house.context, _plan("true"), "ops", ACTOR)

    assert (again.version, again.is_new) == (1, False)
    assert (back.version, back.is_new) == (3, True), "an older plan becomes the newest again"
    assert [event.facts["version"] for event in _outside(house)] == [1, 2, 3], "one event for each change"


def test_a_push_leaves_one_audit_event_in_the_chain_of_the_installation(house: Runtime) -> None:
    pushed = push_plan(house.context, _plan("true"), "ops", "someone@else")

    [event] = _outside(house)
    with house.context.database.transaction() as tx:
        assert installations.lock(tx).event_sequence == event.sequence == 1
    assert (event.actor, event.action, event.subject) == ("someone@else", "push", "plan:ops/tested")
    assert event.facts == {"version": 1, "plan": pushed.fingerprint, "steps": 1}


def test_pushes_at_once_get_versions_of_their_own(house: Runtime) -> None:
    loaded = [_plan(*["true"] * (number + 1)) for number in range(6)]
    start, pushed = threading.Barrier(len(loaded)), []

    def push(plan: LoadedPlan) -> None:
        start.wait(10)
        pushed.append(push_plan(house.context, plan, "ops", ACTOR))

    threads = [threading.Thread(target=push, args=(plan,)) for plan in loaded]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(each.version for each in pushed) == [1, 2, 3, 4, 5, 6]
    assert len({each.fingerprint for each in pushed}) == 6
    assert [event.sequence for event in _outside(house)] == [1, 2, 3, 4, 5, 6]


def test_a_stored_plan_runs_after_its_folder_is_gone(house: Runtime, tmp_path: Path) -> None:
    push_plan(house.context, _with_files(tmp_path / "author"), "default", ACTOR)
    shutil.rmtree(tmp_path / "author")

    run_id = submit(house.context, _request(open_stored(house.context, "default", "tested"))).run_id

    assert work_off(house, run_id) is RunState.COMPLETED
    assert _stdout(house, run_id) == b"from the file and stdin"
    assert verify_run(house.context, run_id).findings == ()


def test_a_run_of_a_stored_plan_has_its_own_copy_and_the_plan_outlives_it(house: Runtime, tmp_path: Path) -> None:
    push_plan(house.context, _with_files(tmp_path / "author"), "default", ACTOR)
    first = submit(house.context, _request(open_stored(house.context, "default", "tested"))).run_id
    house.context.store.delete_run(str(first))

    second = submit(house.context, _request(open_stored(house.context, "default", "tested"))).run_id

    assert work_off(house, second) is RunState.COMPLETED


def test_what_a_stored_plan_brings_along_is_readable_by_its_owner_only(house: Runtime, tmp_path: Path) -> None:
    loaded = _with_files(tmp_path / "author")
    push_plan(house.context, loaded, "default", ACTOR)

    hashes = [*content_hashes(loaded.plan), *(file.sha256 for file in loaded.plan.files)]
    paths = [house.context.store.local_path(input_address(plan_owner(loaded.plan.fingerprint), one)) for one in hashes]
    assert len(paths) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in paths} == {0o700}


def test_an_unknown_plan_or_version_tells_what_there_is(house: Runtime) -> None:
    push_plan(house.context, _plan("true"), "ops", ACTOR)
    push_plan(house.context, _plan("false"), "ops", ACTOR)

    with pytest.raises(NotFound, match=r"'tested' has no version 7; it has 2, 1\."):
        open_stored(house.context, "ops", "tested", 7)
    with pytest.raises(NotFound, match=r"stored as 'testd' in project ops: did you mean 'tested'\?"):
        open_stored(house.context, "ops", "testd")
    with pytest.raises(NotFound, match="stored as 'tested' in project default") as refused:
        open_stored(house.context, "default", "tested")
    assert "ops" not in str(refused.value), "whoever asks may be of this project alone"


@pytest.mark.parametrize("harm", ["lost", "altered"])
def test_content_that_is_not_there_as_it_was_is_told_and_mended_by_a_push(
    house: Runtime, tmp_path: Path, harm: str
) -> None:
    loaded = _with_files(tmp_path / "author")
    push_plan(house.context, loaded, "default", ACTOR)
    [text] = content_hashes(loaded.plan)
    path = house.context.store.local_path(input_address(plan_owner(loaded.plan.fingerprint), text))
    if harm == "lost":
        path.unlink()
    else:
        path.write_bytes(b"something else")

    with pytest.raises(ContentError, match=r"tested@1 cannot be used: .* Push the plan again"):
        open_stored(house.context, "default", "tested")
    assert not push_plan(house.context, loaded, "default", ACTOR).is_new
    assert open_stored(house.context, "default", "tested").content == loaded.content


def _stdout(house: Runtime, run_id: RunId) -> bytes:
    [attempt] = attempt_rows(house.context, run_id, "show")
    folder = Path(str(house.settings.content_dir)) / "runs" / str(run_id) / "steps" / "show" / str(attempt.number)
    return (folder / "stdout").read_bytes()
