"""Reserve: have what an attempt needs covered by every budget it counts in, before anything of it begins.

    load       scopes that the ledger does not know are read from Postgres
    row        the attempt's row says what it reserves                         (fenced by the claim token)
    forget     scopes without caps here, which others may know: their next load finds the row
    script     the ledger reserves it in all scopes, or says what is in the way
    mark       the row says that it was granted: from here on it may be charged (fenced again)
    settle     the row of the call says what was used, then the ledger is told

Owns this order and the loading. What the ledger refuses is believed only once Postgres
says the same. See docs/decisions/0013-one-ledger-per-scope.md for why each step stands where it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from redis.exceptions import RedisError

from agentflow.broker.budgets import Contended, Exceeded, Reserved, Shortfall, Unknown, is_outage
from agentflow.domain.budget import Amounts, Exhaustion, Scope, counted_in
from agentflow.domain.ids import AttemptId, ClaimToken, StepId
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.engine.context import EngineContext
from agentflow.engine.reconcile import CONTENDED_SECONDS, sweep, wake_waiting
from agentflow.storage import spending
from agentflow.telemetry import get_logger

log = get_logger(__name__)

TRIES = 8
UNSETTLED_SECONDS = 1.0
FIRST_WAIT_SECONDS = 0.01
UNCAPPED_GRANT = "-"
"""What the row of an attempt names that had nobody to ask."""


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """What to reserve for whom. ``scopes`` are all that it counts in, with the limits as they stood at the claim."""

    attempt_id: AttemptId
    claim_token: ClaimToken
    step_id: StepId
    scopes: tuple[Scope, ...]
    needed: Amounts


@dataclass(frozen=True, slots=True)
class Granted:
    """The attempt may begin."""


@dataclass(frozen=True, slots=True)
class Snooze:
    """Not now: the step is to be given back and tried again after the delay. No attempt is spent."""

    reason: Reason
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Exhausted:
    """These budgets do not cover the attempt, by Postgres' word too: its run rests."""

    budgets: tuple[Exhaustion, ...]


@dataclass(frozen=True, slots=True)
class ClaimGone:
    """The claim was lost meanwhile: nothing may begin, and nothing is left to settle."""


Reservation = Granted | Snooze | Exhausted | ClaimGone


def reserve(context: EngineContext, request: ReserveRequest) -> Reservation:
    """Reserve what an attempt needs. Raises ServersUnreachable when Postgres is away; nothing may begin then.

    Raises RedisError where Redis refuses a command as such: asking again would not help.
    """
    capped = tuple(scope for scope in request.scopes if scope.limits.is_reserved)
    uncapped = [scope.name for scope in request.scopes if not scope.limits.is_reserved]
    asked = replace(request, scopes=capped, needed=request.needed.bounded())
    try:
        if not _make_known(context, capped):
            return _unsettled()
        if not _write_row(context, asked):
            return ClaimGone()
        context.ledger.forget_all(uncapped)
        answer = _ask(context, asked) if capped else Reserved(UNCAPPED_GRANT)
    except RedisError as error:
        if not is_outage(error):
            raise
        log.warning("ledger_away", error=type(error).__name__)
        return _unsettled()
    return _begin(context, request, answer.grant) if isinstance(answer, Reserved) else answer


def _write_row(context: EngineContext, request: ReserveRequest) -> bool:
    with context.database.transaction() as tx:
        return spending.set_reserved(tx, request.attempt_id, request.claim_token, request.needed)


def _begin(context: EngineContext, request: ReserveRequest, grant: str) -> Granted | ClaimGone:
    """Mark the row: whoever ends the attempt from here on must take it that it used what it reserved."""
    with context.database.transaction() as tx:
        is_held = spending.note_granted(tx, request.attempt_id, request.claim_token, grant)
    if is_held:
        return Granted()
    settle_ledger(context, request.attempt_id, request.scopes, None)
    return ClaimGone()


def settle_ledger(
    context: EngineContext,
    attempt_id: AttemptId,
    scopes: Iterable[Scope],
    used: Amounts | None,
    grant: str | None = None,
) -> None:
    """Tell the ledger, after the commit that ended an attempt, what it used (None: nothing), and wake who waits.

    ``scopes`` are all that it counts in: one without caps here may have been loaded by somebody who knows some.
    ``grant`` is what its row names in ``reserved``, if it is at hand. What cannot be told is found by the sweep.
    """
    names = [scope.name for scope in scopes]
    try:
        if used is None:
            freed = context.ledger.release(attempt_id, names)
        else:
            freed = context.ledger.commit(attempt_id, names, used, grant)
    except RedisError as error:
        log.warning("ledger_not_told", error=type(error).__name__)
        return
    wake_waiting(context, freed)


def load_scope(context: EngineContext, scope: Scope) -> bool:
    """Load a scope that the ledger does not know; False if somebody else is at it, or if it took too long.

    The snapshot must be taken after the load began: what was granted before it is in it by its row.
    """
    token = context.ledger.begin_load(scope.name)
    if token is None:
        return False
    with context.database.transaction() as tx:
        snapshot = spending.snapshot(tx, scope)
    is_written = context.ledger.finish_load(scope.name, token, snapshot.used, snapshot.outstanding)
    log.info("scope_loaded", scope=scope.name, is_written=is_written, outstanding=len(snapshot.outstanding))
    return is_written


def _make_known(context: EngineContext, scopes: Sequence[Scope]) -> bool:
    """Load what is unknown before the row is written: a load counts every row, also of who has yet to ask."""
    if not scopes:
        return True
    for number in range(TRIES):
        unknown = context.ledger.find_unknown(scope.name for scope in scopes)
        if not unknown.scopes:
            return True
        _load(context, scopes, unknown, number)
    return False


def _load(context: EngineContext, scopes: Sequence[Scope], unknown: Unknown, number: int) -> None:
    """Load scopes; where somebody else is at it, wait for a moment that grows with the ``number`` of the try."""
    missing = [scope for scope in scopes if scope.name in unknown.scopes]
    if sum(load_scope(context, scope) for scope in missing) < len(missing):
        context.ledger.wait_for_load(FIRST_WAIT_SECONDS * 2**number)


def _ask(context: EngineContext, request: ReserveRequest) -> Reserved | Snooze | Exhausted:
    """Ask the ledger until its answer can be believed."""
    swept: set[str] = set()
    for number in range(TRIES):
        answer = context.ledger.reserve(request.attempt_id, request.scopes, request.needed)
        match answer:
            case Reserved():
                return answer
            case Unknown():
                _load(context, request.scopes, answer, number)
            case Exceeded() | Contended():
                unswept = {shortfall.scope for shortfall in answer.shortfalls} - swept
                swept |= unswept
                if sweep(context, sorted(unswept)):
                    continue
                refusal = _refusal(context, request, answer)
                if refusal is not None:
                    return refusal
    return _unsettled()


def _refusal(
    context: EngineContext, request: ReserveRequest, answer: Exceeded | Contended
) -> Snooze | Exhausted | None:
    """Make an answer of a refusal; None where Postgres says otherwise, and the ledger must be asked again."""
    if isinstance(answer, Contended):
        return _contended(answer.shortfalls)
    scopes = {scope.name: scope for scope in request.scopes}
    exhaustions = []
    for name in dict.fromkeys(shortfall.scope for shortfall in answer.shortfalls):
        confirmed = _confirm(context, request, scopes[name], answer.shortfalls)
        exhaustions += confirmed
        if not confirmed:
            log.warning("ledger_not_confirmed", scope=name)
            for generation in {each.generation for each in answer.shortfalls if each.scope == name}:
                context.ledger.forget(name, generation)
    return Exhausted(tuple(exhaustions)) if exhaustions else None


def _confirm(
    context: EngineContext, request: ReserveRequest, scope: Scope, shortfalls: Sequence[Shortfall]
) -> list[Exhaustion]:
    """Say by Postgres which of the budgets that the ledger takes for exhausted are."""
    with context.database.transaction() as tx:
        snapshot = spending.snapshot(tx, scope)
    needed, reserved = counted_in(scope.name, request.needed), snapshot.reserved
    own = snapshot.outstanding.get(request.attempt_id, Amounts())
    found = []
    for kind in (shortfall.kind for shortfall in shortfalls if shortfall.scope == scope.name):
        limit, used = scope.limits.limit_of(kind), snapshot.used.amount_of(kind)
        if limit is not None and used + needed.amount_of(kind) > limit:
            others = reserved.amount_of(kind) - own.amount_of(kind)
            found.append(Exhaustion(kind, scope.name, limit, used, others, needed.amount_of(kind), scope.resets_at))
    return found


def _contended(shortfalls: Sequence[Shortfall]) -> Snooze:
    first = shortfalls[0]
    detail = {"budget": first.kind.value, "scope": first.scope}
    return Snooze(Reason(ReasonCode.BUDGET_CONTENDED, detail), CONTENDED_SECONDS)


def _unsettled() -> Snooze:
    return Snooze(Reason(ReasonCode.BUDGET_UNSETTLED), UNSETTLED_SECONDS)
