"""Who is blamed when a worker is lost with several attempts on it, and how suspects are tried."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest
from sqlalchemy import text

from agentflow.domain.blame import SUSPECTED_FROM
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.outcome import ClaimRefusal, Succeeded
from agentflow.domain.state import RunState
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.rescue import rescue
from agentflow.engine.retry import retry
from agentflow.engine.settle import Settlement, settle
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.storage.attempts import LapsedAttempt
from tests.factories import attempt_rows, noop_step, run_state, shell_step, step_rows, submitted

LEASE = 20.0


def _run(house: Runtime, *keys: str, **fields: object) -> RunId:
    return submitted(house.context, [noop_step(key, on_failure="continue", **fields) for key in keys])


def _claimed(house: Runtime, run_id: RunId, key: str, worker: str) -> Claimed:
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE step SET not_before = now() WHERE state = 'ready'"))
        tx.execute(text("UPDATE step SET sent_at = now() WHERE key = :key AND state = 'ready'"), {"key": key})
    taken = claim(house.context, run_id, StepKey(key), worker)
    assert isinstance(taken, Claimed), taken
    return taken


def _lapse(house: Runtime, attempts: Iterable[Claimed], spread_seconds: float = 0.0) -> None:
    """Let leases be over, as a dead worker leaves them: the first one just now, each next one later by the spread."""
    for number, each in enumerate(attempts):
        with house.context.database.transaction() as tx:
            tx.execute(
                text("UPDATE attempt SET lease_until = now() + :later WHERE id = :id"),
                {"later": timedelta(seconds=number * spread_seconds - 0.001), "id": each.attempt_id},
            )


def _rescue(house: Runtime, taken: Claimed, **known: bool) -> None:
    rescue(house.context, LapsedAttempt(taken.run_id, taken.step_id, taken.attempt_id), "tester@test", **known)


def _lose_together(house: Runtime, run_id: RunId, *keys: str, worker: str = "w@h") -> None:
    taken = [_claimed(house, run_id, key, f"{worker}:{number}") for number, key in enumerate(keys, 1)]
    _lapse(house, taken)
    for each in taken:
        _rescue(house, each)


def _counts(house: Runtime, run_id: RunId) -> dict[str, tuple[int, int]]:
    return {key: (row.losses, row.joint_losses) for key, row in step_rows(house.context, run_id).items()}


def test_attempts_that_are_lost_with_one_worker_are_blamed_on_nobody(house: Runtime) -> None:
    run_id = _run(house, "a", "b", "c")

    _lose_together(house, run_id, "a", "b", "c")

    assert _counts(house, run_id) == {"a": (0, 1), "b": (0, 1), "c": (0, 1)}
    assert {row.reason["detail"]["lost_with"] for row in attempt_rows(house.context, run_id)} == {2}
    assert verify_run(house.context, run_id).findings == ()


def test_whoever_was_alone_on_its_worker_is_blamed_whatever_happens_elsewhere(house: Runtime) -> None:
    """The others are lost at the same moment on another worker; or live on; or lost only their pool child."""
    run_id = _run(house, "alone", "elsewhere", "alive", "child")
    alone, elsewhere, alive, child = (
        _claimed(house, run_id, key, worker)
        for key, worker in (("alone", "w@h:1"), ("elsewhere", "w@h2:1"), ("alive", "w@h:2"), ("child", "w@h:3"))
    )
    _rescue(house, child, is_known_lost=True)
    _lapse(house, [alone, elsewhere])

    for each in (alone, elsewhere):
        _rescue(house, each)

    counts = _counts(house, run_id)
    assert (counts["alone"], counts["elsewhere"], counts["child"]) == ((1, 0), (1, 0), (1, 0))
    assert alive.number == 1


def test_the_leases_of_a_dead_worker_need_not_end_at_once_to_be_lost_together(house: Runtime) -> None:
    """Each pool child has its own heartbeat: their leases end within a quarter of a lease."""
    run_id = _run(house, "first", "last")
    taken = [_claimed(house, run_id, key, f"w@h:{key}") for key in ("first", "last")]
    _lapse(house, taken, spread_seconds=LEASE / 4)

    _rescue(house, taken[0])
    _lapse(house, taken[1:])
    with house.context.database.transaction() as tx:  # as if that time had passed
        tx.execute(
            text(
                "UPDATE attempt SET lease_until = lease_until - interval '5 s', ended_at = ended_at - interval '4 s'"
                " WHERE state = 'lost'"
            )
        )
    _rescue(house, taken[1])

    assert _counts(house, run_id) == {"first": (0, 1), "last": (0, 1)}


@pytest.mark.parametrize("order", [("poison", "neighbour"), ("neighbour", "poison")])
def test_a_suspect_is_blamed_in_company_and_the_company_counted_in_nothing(
    house: Runtime, order: tuple[str, str]
) -> None:
    run_id = _run(house, "poison", "neighbour")
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE step SET joint_losses = :many WHERE key = 'poison'"), {"many": SUSPECTED_FROM})

    _lose_together(house, run_id, *order)

    assert _counts(house, run_id) == {"poison": (1, SUSPECTED_FROM), "neighbour": (0, 0)}


def test_the_order_of_rescues_makes_nobody_a_suspect_of_the_loss_at_hand(house: Runtime) -> None:
    """The first to be rescued becomes a suspect by this very loss; it was none when the worker died."""
    run_id = _run(house, "a", "b")

    for _ in range(SUSPECTED_FROM):
        _lose_together(house, run_id, "a", "b")

    assert _counts(house, run_id) == {"a": (0, SUSPECTED_FROM), "b": (0, SUSPECTED_FROM)}


def test_a_stopping_worker_is_laid_to_nobody(house: Runtime) -> None:
    """Its children are ended with the group, or it is killed before its grace is over."""
    run_id = _run(house, "child", "whole")
    child, whole = (_claimed(house, run_id, key, f"{key}@h:1") for key in ("child", "whole"))
    with house.context.database.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO worker (name, pid, version, pool, concurrency, queues, started_at, seen_at, is_draining) "
                "VALUES ('whole@h', 1, '0', 'prefork', 1, '[]', now() - interval '1 hour', now(), true)"
            )
        )
    _lapse(house, [whole])

    _rescue(house, child, is_known_lost=True, is_stopping=True)
    _rescue(house, whole)

    assert _counts(house, run_id) == {"child": (0, 0), "whole": (0, 0)}


def test_suspects_are_sent_one_at_a_time_and_the_others_freely(house: Runtime) -> None:
    run_id = _run(house, "a", "b", "free", "new")
    own_key = _run(house, "c", concurrency={"key": "db", "limit": 5})
    _suspect(house, "a", "b", "c")
    leading = Dispatcher(house.context, "one:1")

    turns = []
    for _ in range(3):
        leading.one_pass()
        sent = _sent(house)
        assert len(sent & {"a", "b", "c"}) == 1, sent
        leading.one_pass()
        assert _sent(house) == sent  # nobody else's turn comes while it is on its way
        (key,) = sent & {"a", "b", "c"}
        turns.append(key)
        taken = _claimed(house, own_key if key == "c" else run_id, key, "w@h:1")
        leading.one_pass()
        assert _sent(house) == sent - {key}  # nor while it runs
        _succeed(house, taken)

    assert sorted(turns) == ["a", "b", "c"]
    assert _sent(house) == {"free", "new"}


def test_an_old_copy_of_a_doorbell_starts_no_suspect_whose_turn_it_is_not(house: Runtime) -> None:
    run_id = _run(house, "a")
    _suspect(house, "a")

    assert claim(house.context, run_id, StepKey("a"), "w@h:1") is ClaimRefusal.STEP_NOT_READY
    Dispatcher(house.context, "one:1").one_pass()
    assert isinstance(claim(house.context, run_id, StepKey("a"), "w@h:1"), Claimed)


def _suspect(house: Runtime, *keys: str, are_forgotten: bool = True) -> None:
    with house.context.database.transaction() as tx:
        if are_forgotten:
            tx.execute(text("UPDATE step SET sent_at = NULL"))
        tx.execute(
            text("UPDATE step SET joint_losses = :many WHERE key = ANY(:keys)"),
            {"many": SUSPECTED_FROM, "keys": list(keys)},
        )


def _sent(house: Runtime) -> set[str]:
    with house.context.database.transaction() as tx:
        return set(tx.execute(text("SELECT key FROM step WHERE sent_at IS NOT NULL")).scalars())


def _succeed(house: Runtime, taken: Claimed) -> None:
    settlement = Settlement(taken.run_id, taken.step_id, taken.plan, Succeeded(), "tester@test")
    settle(house.context, settlement, taken.claim_token)


def test_a_suspect_that_nobody_answers_keeps_those_of_its_queue_waiting_and_others_for_a_while_only(
    house: Runtime,
) -> None:
    _run(house, "a", "b")
    submitted(house.context, [shell_step("elsewhere", "true")])
    _suspect(house, "a", "b")
    leading = Dispatcher(house.context, "one:1")
    leading.one_pass()
    (first,) = _sent(house) - {"elsewhere"}
    _suspect(house, "elsewhere", are_forgotten=False)

    for seconds, others in ((58, set()), (3, {"elsewhere"}), (600, {"elsewhere"})):
        with house.context.database.transaction() as tx:
            tx.execute(text("UPDATE step SET sent_at = sent_at - :earlier"), {"earlier": timedelta(seconds=seconds)})
        with house.context.database.transaction() as tx:
            tx.execute(text("UPDATE step SET sent_at = NULL WHERE key = 'elsewhere'"))
        leading._send_due()
        assert _sent(house) == {first} | others


def test_an_attempt_that_ends_by_itself_clears_the_suspicion(house: Runtime) -> None:
    run_id = _run(house, "a")
    _suspect(house, "a")

    _succeed(house, _claimed(house, run_id, "a", "w@h:1"))

    assert _counts(house, run_id) == {"a": (0, 0)}


def test_a_retry_starts_without_losses(house: Runtime) -> None:
    run_id = _run(house, "a")
    _suspect(house, "a")
    strict = Runtime(house.settings.model_copy(update={"max_lost": 1}), celery=house.celery)
    _rescue(strict, _claimed(house, run_id, "a", "w@h:1"), is_known_lost=True)
    strict.close()
    assert run_state(house.context, run_id) is RunState.FAILED
    assert _counts(house, run_id) == {"a": (1, SUSPECTED_FROM)}

    retry(house.context, run_id, "tester@test")

    assert _counts(house, run_id) == {"a": (0, 0)}
