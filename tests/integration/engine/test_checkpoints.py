"""What ended is signed outside of the database, and what is done to the database afterwards is found by it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, text

from agentflow.domain.chain_check import FindingCode
from agentflow.domain.checkpoint import SignedLine, read_line
from agentflow.domain.error import ConfigurationError, RunPruned, UsageError
from agentflow.domain.event import GENESIS, mac_of
from agentflow.domain.ids import RunId, StepKey
from agentflow.engine import checkpoint as signing
from agentflow.engine.checkpoint import write_checkpoint
from agentflow.engine.context import EngineContext
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.housekeeper import Housekeeper
from agentflow.engine.prune import prune
from agentflow.engine.retry import retry
from agentflow.engine.sign import find_key, find_or_make_key, key_path
from agentflow.engine.verify import verify_all, verify_installation, verify_run
from agentflow.engine.verify_checkpoints import verify_checkpoints
from agentflow.runtime import Runtime
from agentflow.stack.doctor import Doctor
from agentflow.stack.findings import Problem
from agentflow.storage import checkpoints, events, retention
from tests.factories import command_step, noop_step, submitted, wait_for, work_off
from tests.integration.engine.pruned import STEPS, WEEK, age, count, ended_run


@pytest.fixture
def ended(house: Runtime) -> RunId:
    """A run that has ended."""
    run_id = submitted(house.context, STEPS)
    work_off(house, run_id)
    return run_id


def _file(house: Runtime) -> Path:
    return house.settings.checkpoint_path()


def _lines(house: Runtime) -> list[SignedLine]:
    read = [read_line(line) for line in _file(house).read_bytes().splitlines()]
    return [line for line in read if line is not None]


def _codes(house: Runtime, *files: Path) -> list[tuple[RunId | None, FindingCode]]:
    return [(run_id, finding.code) for run_id, finding in verify_checkpoints(house.context, files).findings]


def _tamper(house: Runtime, change: Callable[[Connection], object]) -> None:
    """What a person with the rights of the database's owner can do."""
    with house.context.database.transaction() as tx:
        tx.execute(text("ALTER TABLE audit_event DISABLE TRIGGER USER"))
        change(tx)
        tx.execute(text("ALTER TABLE audit_event ENABLE TRIGGER USER"))


def _execute(house: Runtime, *statements: str) -> None:
    _tamper(house, lambda tx: [tx.execute(text(each)) for each in statements])


def test_an_end_is_signed_once_into_a_file_of_the_owners_own(house: Runtime, ended: RunId) -> None:
    signed = write_checkpoint(house.context)

    assert signed is not None
    assert (signed.number, signed.leaves, signed.has_more) == (1, 1, False)
    assert write_checkpoint(house.context) is None  # nothing new
    [line] = _lines(house)
    assert [leaf.run_id for leaf in line.checkpoint.leaves] == [ended]
    assert stat.S_IMODE(_file(house).stat().st_mode) == stat.S_IMODE(key_path(house.settings).stat().st_mode) == 0o600
    with house.context.database.transaction() as tx:
        assert checkpoints.read_all(tx) == {1: line.sha256}
        assert tx.execute(text("SELECT checkpoint FROM run_state")).scalar_one() == 1
    report = verify_checkpoints(house.context)
    assert (report.is_intact, report.checkpoints, report.leaves) == (True, 1, 1)


def test_a_checkpoint_is_not_due_again_so_soon(house: Runtime, ended: RunId) -> None:
    write_checkpoint(house.context, 300)
    work_off(house, submitted(house.context, STEPS))

    assert write_checkpoint(house.context, 300) is None
    assert write_checkpoint(house.context) is not None
    assert [len(line.checkpoint.leaves) for line in _lines(house)] == [1, 1]


def test_a_run_that_is_taken_up_again_is_signed_with_its_new_end(house: Runtime) -> None:
    run_id = submitted(house.context, [command_step("a", "false")])
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("a")), "test:0")
    write_checkpoint(house.context)
    retry(house.context, run_id, "tester@test")
    assert write_checkpoint(house.context) is None  # it has not ended
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("a")), "test:0")

    write_checkpoint(house.context)

    assert [[leaf.round for leaf in line.checkpoint.leaves] for line in _lines(house)] == [[1], [2]]
    assert _codes(house) == []


def test_a_tombstone_and_the_head_of_the_installation_are_signed_too(house: Runtime) -> None:
    run_id = ended_run(house)
    write_checkpoint(house.context)
    prune(house.context, WEEK, "tester@test")

    write_checkpoint(house.context)

    last = _lines(house)[-1].checkpoint
    assert [(leaf.kind, leaf.run_id) for leaf in last.leaves] == [("tombstone", run_id)]
    with house.context.database.transaction() as tx:
        chain = events.read_own_chain(tx)
    assert chain is not None
    assert (last.head_sequence, last.head) == (1, (chain.head or b"").hex())
    assert _codes(house) == []
    assert verify_installation(house.context).is_intact


def test_a_run_that_was_pruned_before_it_was_signed_has_its_seal_signed(house: Runtime) -> None:
    ended_run(house)
    prune(house.context, WEEK, "tester@test")
    write_checkpoint(house.context)

    with house.context.database.transaction() as tx:
        [tombstone] = retention.read_all(tx)
    [leaf] = _lines(house)[0].checkpoint.leaves
    assert (leaf.seal, leaf.head) == (tombstone.seal, tombstone.event_head)
    assert _codes(house) == []


def test_more_than_one_line_holds_goes_into_several(
    house: Runtime, ended: RunId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "LEAVES", 2)
    for _ in range(4):
        work_off(house, submitted(house.context, [noop_step("a")]))

    assert [write_checkpoint(house.context) is not None for _ in range(4)] == [True, True, True, False]
    assert [len(line.checkpoint.leaves) for line in _lines(house)] == [2, 2, 1]


def test_a_crash_between_the_file_and_the_rows_signs_the_same_once_more(
    house: Runtime, ended: RunId, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(signing, "note", crash)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(house.context)
    monkeypatch.undo()

    assert _codes(house) == []
    write_checkpoint(house.context)
    assert [line.checkpoint.number for line in _lines(house)] == [1, 2]
    assert [leaf.run_id for line in _lines(house) for leaf in line.checkpoint.leaves] == [ended, ended]
    assert _codes(house) == []


def test_a_retry_between_the_file_and_the_rows_leaves_the_new_end_to_be_signed(
    house: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = submitted(house.context, [command_step("a", "false")])
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("a")), "test:0")
    note = signing.note

    def retry_first(*given: Any) -> None:
        retry(house.context, run_id, "tester@test")
        execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("a")), "test:0")
        note(*given)

    monkeypatch.setattr(signing, "note", retry_first)
    write_checkpoint(house.context)
    monkeypatch.undo()
    write_checkpoint(house.context)

    assert [leaf.round for line in _lines(house) for leaf in line.checkpoint.leaves] == [1, 2]
    assert _codes(house) == []


def test_a_line_that_a_crash_broke_off_is_no_fault(house: Runtime, ended: RunId) -> None:
    write_checkpoint(house.context)
    whole = _file(house).read_bytes()
    _file(house).write_bytes(whole + whole[:200])
    assert _codes(house) == []
    work_off(house, submitted(house.context, STEPS))

    write_checkpoint(house.context)

    assert [line.checkpoint.number for line in _lines(house)] == [1, 2]
    assert _codes(house) == []


def test_only_one_writes_to_a_file_at_a_time(house: Runtime, ended: RunId) -> None:
    _file(house).parent.mkdir(parents=True)
    with _file(house).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert write_checkpoint(house.context) is None
    assert write_checkpoint(house.context) is not None


def _elsewhere(house: Runtime, folder: Path) -> EngineContext:
    """The context of a leader on another host, with a home of its own."""
    settings = house.settings.model_copy(update={"home": folder})
    return replace(house.context, settings=settings)


def test_leaders_with_files_of_their_own_are_verified_together(house: Runtime, ended: RunId, tmp_path: Path) -> None:
    other = _elsewhere(house, tmp_path / "other")
    write_checkpoint(house.context)
    work_off(house, submitted(house.context, STEPS))
    write_checkpoint(other)
    work_off(house, submitted(house.context, STEPS))
    write_checkpoint(house.context)
    files = (_file(house), other.settings.checkpoint_path())
    publics = [key.public for key in map(find_key, (house.settings, other.settings)) if key]

    report = verify_checkpoints(house.context, files, publics)

    assert (report.findings, report.checkpoints) == ((), 3)
    assert _codes(house) == [(None, FindingCode.CHECKPOINT_MISSING)]  # what the other one wrote
    alone = verify_checkpoints(house.context, files, publics[:1])
    assert FindingCode.CHECKPOINT_ALTERED in [finding.code for _, finding in alone.findings]


def test_a_run_that_was_removed_with_all_its_events_is_found(house: Runtime, ended: RunId) -> None:
    write_checkpoint(house.context)
    _execute(house, "DELETE FROM audit_event", "DELETE FROM run")

    assert [each.is_intact for each in verify_all(house.context)] == []  # nothing in the database tells
    assert _codes(house) == [(ended, FindingCode.RUN_REMOVED)]


def test_a_run_that_was_pruned_behind_the_audit_is_found(house: Runtime, ended: RunId) -> None:
    write_checkpoint(house.context)
    _execute(house, f"SELECT prune_run('{ended}', 'tester@test')")

    assert [each.code for each in verify_installation(house.context).findings] == [FindingCode.TOMBSTONE_FORGED]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tombstone SET pruned_by = 'nobody'",
        "UPDATE tombstone SET usd_nano = usd_nano - 1; UPDATE folded_usage SET usd_nano = usd_nano - 1",
        "UPDATE folded_usage SET input_tokens = 0",
        "DELETE FROM tombstone; DELETE FROM folded_usage",
    ],
)
def test_what_stays_of_pruned_runs_is_vouched_for(house: Runtime, change: str) -> None:
    ended_run(house)
    prune(house.context, WEEK, "tester@test")
    assert verify_installation(house.context).is_intact
    _execute(house, *change.split(";"))

    found = verify_installation(house.context).findings
    assert {each.code for each in found} == {FindingCode.TOMBSTONE_FORGED}


def test_a_removed_tombstone_is_found_by_its_checkpoint(house: Runtime) -> None:
    run_id = ended_run(house)
    write_checkpoint(house.context)
    prune(house.context, WEEK, "tester@test")
    write_checkpoint(house.context)
    _execute(house, "DELETE FROM tombstone")

    assert _codes(house) == [(run_id, FindingCode.RUN_REMOVED)]


def test_a_forged_tombstone_is_found_by_its_checkpoint(house: Runtime) -> None:
    run_id = ended_run(house)
    write_checkpoint(house.context)
    prune(house.context, WEEK, "tester@test")
    write_checkpoint(house.context)
    _execute(house, "UPDATE tombstone SET seal = repeat('0', 64)")

    assert set(_codes(house)) == {(run_id, FindingCode.TOMBSTONE_FORGED)}


def test_a_database_that_was_set_back_is_found(house: Runtime, ended: RunId) -> None:
    """Both what ended since and what was pruned since: the copy is of the moment before."""
    old = ended_run(house, days_ago=30)
    tables = ("run_state", "step", "audit_event", "installation", "checkpoint", "tombstone", "folded_usage")
    run_id = submitted(house.context, STEPS)
    with house.context.database.transaction() as tx:
        for table in tables:
            tx.execute(text(f"CREATE TABLE copy_{table} AS TABLE {table}"))
    work_off(house, run_id)
    prune(house.context, WEEK, "tester@test")
    write_checkpoint(house.context)
    _execute(
        house,
        *(f"DELETE FROM {table}" for table in ("audit_event", "checkpoint", "tombstone", "folded_usage")),
        "INSERT INTO audit_event OVERRIDING SYSTEM VALUE SELECT * FROM copy_audit_event",
        f"DELETE FROM step WHERE run_id = '{run_id}'",
        f"INSERT INTO step SELECT * FROM copy_step WHERE run_id = '{run_id}'",
        f"DELETE FROM run_state WHERE run_id = '{run_id}'",
        f"INSERT INTO run_state SELECT * FROM copy_run_state WHERE run_id = '{run_id}'",
        "UPDATE installation SET event_sequence = 0, event_head = NULL",
    )

    assert verify_run(house.context, run_id).is_intact  # in itself, all is as it was
    assert verify_installation(house.context).is_intact
    assert sorted(_codes(house), key=str) == sorted(
        [
            (run_id, FindingCode.ROLLED_BACK),
            (old, FindingCode.RUN_REMOVED),
            (None, FindingCode.ROLLED_BACK),
        ],
        key=str,
    )


def test_an_end_that_was_cut_off_with_its_heads_is_found(house: Runtime, ended: RunId) -> None:
    write_checkpoint(house.context)
    _execute(
        house,
        "DELETE FROM audit_event WHERE step_id IS NULL AND sequence = 2",
        "UPDATE run_state SET state = 'running', ended_at = NULL, event_sequence = 1, event_head = "
        "(SELECT mac FROM audit_event WHERE step_id IS NULL AND sequence = 1)",
    )

    assert verify_run(house.context, ended).is_intact
    assert _codes(house) == [(ended, FindingCode.ROLLED_BACK)]


def test_a_chain_made_anew_with_the_audit_key_is_found(house: Runtime, ended: RunId) -> None:
    write_checkpoint(house.context)

    def forge(tx: Connection) -> None:
        previous = GENESIS
        for event, _ in list(events.read_run(tx, ended)):
            if event.step_id is not None:
                continue
            forged = replace(event, actor="someone else")
            previous = mac_of(forged, previous, house.context.audit_key)
            values = {"mac": previous, "sequence": event.sequence, "run": ended}
            statement = (
                "UPDATE audit_event SET mac = :mac, actor = 'someone else' "
                "WHERE run_id = :run AND step_id IS NULL AND sequence = :sequence"
            )
            tx.execute(text(statement), values)
        tx.execute(text("UPDATE run_state SET event_head = :mac"), {"mac": previous})

    _tamper(house, forge)

    assert verify_run(house.context, ended).is_intact
    assert _codes(house) == [(ended, FindingCode.RECOMPUTED)]


def _three(house: Runtime) -> list[bytes]:
    for _ in range(3):
        work_off(house, submitted(house.context, [noop_step("a")]))
        write_checkpoint(house.context)
    return _file(house).read_bytes().splitlines(keepends=True)


CHANGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], set[FindingCode]]] = {
    "middle removed": (
        lambda lines: [lines[0], lines[2]],
        {FindingCode.CHECKPOINT_ALTERED, FindingCode.CHECKPOINT_MISSING},
    ),
    "first removed": (lambda lines: lines[1:], {FindingCode.CHECKPOINT_ALTERED, FindingCode.CHECKPOINT_MISSING}),
    "last removed": (lambda lines: lines[:2], {FindingCode.CHECKPOINT_MISSING}),
    "last cut": (lambda lines: [*lines[:2], lines[2][:-90]], {FindingCode.CHECKPOINT_MISSING}),
    "swapped": (lambda lines: [lines[1], lines[0], lines[2]], {FindingCode.CHECKPOINT_ALTERED}),
    "emptied": (lambda _: [], {FindingCode.CHECKPOINT_MISSING}),
    "rubbish": (lambda lines: [*lines, b'{"number": 4}\n'], {FindingCode.CHECKPOINT_ALTERED}),
    "leaf changed": (
        lambda lines: [lines[0], lines[1].replace(b'"run",', b'"tombstone",'), lines[2]],
        {FindingCode.CHECKPOINT_ALTERED, FindingCode.CHECKPOINT_MISSING},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_found(house: Runtime, name: str) -> None:
    change, expected = CHANGES[name]
    lines = _three(house)
    _file(house).write_bytes(b"".join(change(lines)))

    assert {code for _, code in _codes(house)} == expected


def test_a_line_signed_by_a_stranger_is_found(house: Runtime, ended: RunId, tmp_path: Path) -> None:
    """Whoever can write the file but has not the key cannot put himself into it."""
    write_checkpoint(house.context)
    stranger = _elsewhere(house, tmp_path / "stranger")
    [line] = _lines(house)
    key = find_or_make_key(stranger.settings)
    forged = replace(line.checkpoint, leaves=(), key=key.id)
    _file(house).write_bytes(forged.line(key.sign(forged.signed_bytes())) + b"\n")
    _execute(house, "DELETE FROM audit_event", "DELETE FROM run", "DELETE FROM checkpoint")

    assert (None, FindingCode.CHECKPOINT_ALTERED) in _codes(house)


def test_a_file_that_is_gone_is_found_where_the_key_is(house: Runtime, ended: RunId, tmp_path: Path) -> None:
    assert verify_checkpoints(house.context).unchecked == "nothing was signed yet"
    write_checkpoint(house.context)
    copy = tmp_path / "copy.jsonl"
    _file(house).rename(copy)

    assert _codes(house) == [(None, FindingCode.CHECKPOINT_MISSING)]
    assert _codes(house, copy) == []
    client = _elsewhere(house, tmp_path / "client")
    assert "--checkpoints" in str(verify_checkpoints(client).unchecked)
    with pytest.raises(UsageError, match="public-key"):
        verify_checkpoints(client, [copy])
    own = find_key(house.settings)
    assert own is not None
    assert verify_checkpoints(client, [copy], [own.public]).is_intact


def test_the_file_of_another_installation_is_refused(house: Runtime, ended: RunId) -> None:
    write_checkpoint(house.context)
    _execute(house, "UPDATE installation SET store_id = gen_random_uuid()")

    with pytest.raises(UsageError, match="another installation"):
        verify_checkpoints(house.context)


def test_the_key_of_the_settings_signs(house: Runtime, ended: RunId) -> None:
    settings = house.settings.model_copy(update={"checkpoint_key": SecretStr("ab" * 32)})
    write_checkpoint(replace(house.context, settings=settings))

    assert not key_path(house.settings).exists()
    assert verify_checkpoints(replace(house.context, settings=settings)).is_intact


@pytest.mark.parametrize("text_", ["ab", "zz" * 32, ""])
def test_a_key_that_is_none_is_refused(house: Runtime, text_: str) -> None:
    settings = house.settings.model_copy(update={"checkpoint_key": SecretStr(text_)})

    with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
        find_key(settings)


def test_two_that_make_the_key_at_once_get_one(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def late(source: Path, target: Path) -> None:
        monkeypatch.undo()
        find_or_make_key(house.settings)  # somebody else, a moment before
        link(source, target)

    monkeypatch.setattr(os, "link", late)

    made, found = find_or_make_key(house.settings), find_key(house.settings)
    assert found is not None
    assert made.public == found.public
    assert [path.name for path in house.settings.home.iterdir() if "checkpoint" in path.name] == ["checkpoint.key"]


def test_a_file_that_cannot_be_written_stops_nothing_but_the_signing(house: Runtime) -> None:
    """A folder stands in its place, which root cannot write to either; the pruning of the same shift goes on."""
    ended_run(house)
    _file(house).mkdir(parents=True)
    settings = house.settings.model_copy(update={"retention_days": 7.0})
    context = replace(house.context, settings=settings)

    with pytest.raises(ConfigurationError, match="AGENTFLOW_CHECKPOINT_FILE"):
        write_checkpoint(context)
    Housekeeper(context, "dispatcher:test").work()

    assert count(house, "tombstone") == 1
    assert count(house, "checkpoint") == 0


def test_a_shift_signs_prunes_and_removes_content(house: Runtime) -> None:
    run_id = ended_run(house)
    context = replace(house.context, settings=house.settings.model_copy(update={"retention_days": 7.0}))

    Housekeeper(context, "dispatcher:test").work()

    assert [leaf.run_id for leaf in _lines(house)[0].checkpoint.leaves] == [run_id]
    assert count(house, "run") == 0
    assert not (house.settings.content_root() / "runs" / str(run_id)).exists()
    with pytest.raises(RunPruned):
        verify_run(house.context, run_id)


def test_without_a_retention_nothing_is_pruned(house: Runtime) -> None:
    ended_run(house)

    Housekeeper(house.context, "dispatcher:test").work()

    assert count(house, "run") == 1


def test_a_worker_signs_and_prunes_by_itself(house: Runtime, start_worker: Callable[..., Any]) -> None:
    old, secret = ended_run(house), "cd" * 32
    start_worker(
        AGENTFLOW_CHECKPOINT_SECONDS="1",
        AGENTFLOW_CHECKPOINT_FILE=str(_file(house)),
        AGENTFLOW_CHECKPOINT_KEY=secret,
        AGENTFLOW_RETENTION_DAYS="7",
    )
    recent = submitted(house.context, STEPS)

    def signed() -> set[RunId]:
        lines = _lines(house) if _file(house).exists() else []
        return {leaf.run_id for line in lines for leaf in line.checkpoint.leaves}

    wait_for(lambda: signed() >= {old, recent} and count(house, "tombstone") == 1, 60)
    settings = house.settings.model_copy(update={"checkpoint_key": SecretStr(secret)})
    assert verify_checkpoints(replace(house.context, settings=settings)).is_intact


def test_doctor_tells_of_what_was_never_signed(house: Runtime, ended: RunId) -> None:
    doctor = Doctor()
    doctor._settings, doctor._house = house.settings, house
    doctor._postgres()
    assert doctor._checkpoints() == "nothing to sign yet"
    age(house, ended, 1)

    with pytest.raises(Problem, match="no signed checkpoint"):
        doctor._checkpoints()
    write_checkpoint(house.context)
    assert doctor._checkpoints() == "number 1 is the last"


def test_the_hash_of_a_line_is_what_sha256sum_prints(house: Runtime, ended: RunId) -> None:
    write_checkpoint(house.context)
    line = _file(house).read_bytes().removesuffix(b"\n")

    with house.context.database.transaction() as tx:
        assert checkpoints.read_all(tx) == {1: hashlib.sha256(line).hexdigest()}
    assert json.loads(line)["previous"] == "0" * 64
