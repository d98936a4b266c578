"""The collector: reads how the installation stands and fills in the sheet of metrics.py.

Postgres is the truth, so that every process answers the same, over restarts too; counters are its tallies. From Redis
come the lengths of the queues and the ledger of the budgets; while it is away these are absent and redis_up is 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import product

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from agentflow import __version__
from agentflow.broker.queue_lengths import QueueLengths
from agentflow.broker.queues import QUEUE_NAMES
from agentflow.domain.budget import NANO_PER_USD, Amounts, ConfiguredBudgets, Scope, usd_of
from agentflow.domain.gate import GateKind
from agentflow.domain.state import FINAL_ATTEMPT_STATES, FINAL_RUN_STATES, FINAL_STEP_STATES, ShownRunState
from agentflow.domain.tally import Act, Tally
from agentflow.domain.webhook import DeliveryState
from agentflow.engine.context import EngineContext
from agentflow.engine.dispatcher import SERVICE
from agentflow.engine.reserve import load_scope
from agentflow.executors.base import known_actions
from agentflow.monitor import metrics
from agentflow.monitor.metrics import Sheet, Told
from agentflow.storage import measurements, workers
from agentflow.storage.measurements import Measurements
from agentflow.storage.tallies import Count
from agentflow.storage.workers import WorkerState

_OPEN_STATES = [state for state in ShownRunState if state not in {final.value for final in FINAL_RUN_STATES}]
_SCHEDULE_STATES = ("enabled", "held_up", "disabled")
_WEBHOOK_STATES = ("working", "failing", "disabled")
_WORKER_STATES = (WorkerState.ALIVE, WorkerState.DRAINING, WorkerState.GONE)


def exposition(context: EngineContext, accept: str) -> tuple[bytes, str]:
    """Return the metrics in the form that ``accept`` asks for, and its media type.

    Raises ServersUnreachable while Postgres is away, ConflictingWrite where it took too long.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(context))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Collector(Collector):
    """Collects once what is asked for."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context

    def describe(self) -> list[Metric]:
        """Nothing: the registry need not ask Postgres to know that nobody else is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Measure."""
        with self._context.database.transaction() as tx:
            found = measurements.read(tx, SERVICE, QUEUE_NAMES)
        sheet = Sheet()
        sheet.put(metrics.INFO, 1, __version__)
        _put_open(sheet, found)
        _put_tallies(sheet, found.tallies)
        _put_service(sheet, found, self._context.settings.lease_seconds)
        _put_workers(sheet, found)
        _put_queues(sheet, found)
        is_up = _put_lengths(sheet, found, self._context) and _put_budgets(sheet, self._context)
        sheet.put(metrics.REDIS_UP, int(is_up))
        yield from sheet


def _put_open(sheet: Sheet, found: Measurements) -> None:
    for state in _OPEN_STATES:
        sheet.put(metrics.RUNS, found.runs.get(state, 0), state)
    for (action, step_state), count in sorted(found.steps.items()):
        sheet.put(metrics.STEPS, count, action, step_state)


def _put_tallies(sheet: Sheet, tallies: dict[Tally, list[Count]]) -> None:
    sheet.put(metrics.RUNS_SUBMITTED, sum(each.count for each in tallies[Tally.RUN_SUBMITTED]))
    _put_counts(sheet, metrics.RUNS_ENDED, tallies[Tally.RUN_ENDED], [(state,) for state in sorted(FINAL_RUN_STATES)])
    # From zero on, so that the first of its kind is seen as a growth.
    actions = sorted({*known_actions(), *(each.labels[0] for each in tallies[Tally.STEP_ENDED])})
    _put_counts(
        sheet, metrics.STEPS_ENDED, tallies[Tally.STEP_ENDED], list(product(actions, sorted(FINAL_STEP_STATES)))
    )
    _put_counts(sheet, metrics.ATTEMPTS, tallies[Tally.ATTEMPT], list(product(actions, sorted(FINAL_ATTEMPT_STATES))))
    _put_seconds(sheet, metrics.ATTEMPT_SECONDS, tallies[Tally.ATTEMPT], labels=1)
    _put_seconds(sheet, metrics.HAND_OVER_SECONDS, tallies[Tally.HAND_OVER], labels=1)
    _put_counts(sheet, metrics.GATES_ENDED, tallies[Tally.GATE_ENDED])
    ended = [(DeliveryState.DELIVERED,), (DeliveryState.FAILED,)]
    _put_counts(sheet, metrics.DELIVERIES_ENDED, tallies[Tally.DELIVERY_ENDED], ended)
    _put_counts(sheet, metrics.DISPATCHER_ACTIONS, tallies[Tally.DISPATCHER], [(act,) for act in Act])
    _put_seconds(sheet, metrics.MODEL_CALL_SECONDS, tallies[Tally.MODEL_CALL], labels=2)
    _put_counts(sheet, metrics.TOKENS, tallies[Tally.TOKEN])
    _put_counts(sheet, metrics.UNPRICED, tallies[Tally.COST])
    for cost in tallies[Tally.COST]:
        sheet.put(metrics.USD, float(cost.total / NANO_PER_USD), *cost.labels)


def _put_counts(sheet: Sheet, told: Told, counts: list[Count], known: Sequence[tuple[str, ...]] = ()) -> None:
    """Put the counts by their labels; those of ``known`` labels also where nothing was counted."""
    sums: dict[tuple[str, ...], int] = dict.fromkeys(known, 0)
    for each in counts:
        sums[each.labels] = sums.get(each.labels, 0) + each.count
    for labels, count in sums.items():
        sheet.put(told, count, *labels)


def _put_seconds(sheet: Sheet, told: Told, counts: list[Count], *, labels: int) -> None:
    """Put durations by the first ``labels`` labels."""
    grouped: defaultdict[tuple[str, ...], list[Count]] = defaultdict(list)
    for each in counts:
        grouped[each.labels[:labels]].append(each)
    for of, group in grouped.items():
        buckets = [(each.upto, each.count) for each in group if each.upto is not None]
        sheet.observe(told, of, buckets, float(sum(each.total for each in group)))


def _put_service(sheet: Sheet, found: Measurements, lease_seconds: float) -> None:
    service = found.service
    overdue = service.lease_overdue_seconds
    sheet.put(metrics.LEASE_OLDEST, 0 if overdue is None else max(0.0, lease_seconds + overdue))
    sheet.put(metrics.LEASE_SECONDS, lease_seconds)
    waiting = {gates.kind: gates for gates in found.gates}
    for kind in GateKind:
        sheet.put(metrics.GATES_WAITING, waiting[kind].waiting if kind in waiting else 0, kind)
        sheet.put(metrics.GATES_OLDEST, waiting[kind].oldest_seconds if kind in waiting else 0, kind)
    for state in _SCHEDULE_STATES:
        sheet.put(metrics.SCHEDULES, found.schedules.get(state, 0), state)
    sheet.put(metrics.SCHEDULES_OVERDUE, found.schedules_overdue_seconds)
    for state in _WEBHOOK_STATES:
        sheet.put(metrics.WEBHOOKS, found.webhooks.get(state, 0), state)
    sheet.put(metrics.WEBHOOKS_FAILING, found.webhooks_failing_seconds)
    sheet.put(metrics.DELIVERIES_PENDING, found.deliveries_pending)
    sheet.put(metrics.DEAD_LETTERS, service.dead_letters)
    sheet.put(metrics.DISPATCHER_LEADING, int(service.is_led))
    sheet.put(metrics.POSTGRES_CONNECTIONS, service.connections)
    sheet.put(metrics.POSTGRES_CONNECTIONS_MAX, service.max_connections)
    sheet.put(metrics.POSTGRES_DEADLOCKS, service.deadlocks)
    sheet.put(metrics.POSTGRES_BYTES, service.database_bytes)


def _put_workers(sheet: Sheet, found: Measurements) -> None:
    for state in _WORKER_STATES:
        sheet.put(metrics.WORKERS, sum(worker.state is state for worker in found.workers), state)
    for worker in found.workers:
        if worker.state not in (WorkerState.ALIVE, WorkerState.DRAINING):
            continue
        sheet.put(metrics.WORKER_SLOTS, worker.slots, worker.name)
        sheet.put(metrics.WORKER_BUSY, len(worker.work), worker.name)
        sheet.put(metrics.WORKER_MESSAGES, worker.consumed, worker.name)
        if worker.cpu_seconds is not None:
            sheet.put(metrics.WORKER_CPU, worker.cpu_seconds, worker.name)
        if worker.resident_bytes is not None:
            sheet.put(metrics.WORKER_MEMORY, worker.resident_bytes, worker.name)


def _put_queues(sheet: Sheet, found: Measurements) -> None:
    for queue in found.queues:
        serving = workers.serving(found.workers, queue.name)
        sheet.put(metrics.QUEUE_DOORBELLS, queue.outstanding, queue.name)
        sheet.put(metrics.QUEUE_UNSENT, queue.unsent, queue.name)
        sheet.put(metrics.QUEUE_OLDEST, found.due_seconds[queue.name], queue.name)
        sheet.put(metrics.QUEUE_WORKERS, len(serving), queue.name)
        sheet.put(metrics.QUEUE_SLOTS, sum(worker.slots for worker in serving), queue.name)


def _put_lengths(sheet: Sheet, found: Measurements, context: EngineContext) -> bool:
    """Put how many messages wait; False when Redis is away."""
    names = [queue.name for queue in found.queues]
    lengths = QueueLengths(context.side_channel.client, context.settings.redis_prefix).read(names)
    for queue, length in (lengths or {}).items():
        sheet.put(metrics.QUEUE_MESSAGES, length, queue)
    return lengths is not None


def _put_budgets(sheet: Sheet, context: EngineContext) -> bool:
    """Put the capped scopes as the ledger has them; one that it forgot is loaded anew. False when Redis is away."""
    scopes = list(_capped(context.settings.budgets, datetime.now(UTC)))
    ledger = context.ledger
    try:
        for name in ledger.find_unknown(scope.name for scope in scopes).scopes if scopes else ():
            load_scope(context, next(scope for scope in scopes if scope.name == name))
        accounts = ledger.read_all([scope.name for scope in scopes])
    except RedisError:
        return False
    for scope, account in zip(scopes, accounts, strict=True):
        for unit, (limit, amount_of) in _units(scope).items():
            if limit is not None:
                of = scope.name.partition("@")[0], "total" if scope.resets_at is None else "day"
                sheet.put(metrics.BUDGETS["limit", unit], limit, *of)
                if account is not None:
                    sheet.put(metrics.BUDGETS["used", unit], amount_of(account.used), *of)
                    sheet.put(metrics.BUDGETS["reserved", unit], amount_of(account.held), *of)
    return True


def _units(scope: Scope) -> dict[str, tuple[float | None, Callable[[Amounts], float]]]:
    usd_nano = scope.limits.usd_nano
    return {
        "tokens": (scope.limits.tokens, lambda amounts: amounts.tokens),
        "usd": (None if usd_nano is None else usd_of(usd_nano), lambda amounts: usd_of(amounts.usd_nano)),
    }


def _capped(configured: ConfiguredBudgets, now: datetime) -> Iterator[Scope]:
    """The scopes that the configuration names and caps; ``*`` names nobody, and everybody would be without bound."""
    owners = ["installation"]
    owners += [f"project:{name}" for name in configured.project if name != "*"]
    owners += [f"directive:{name}" for name in configured.directive if "/" in name]
    for owner in sorted(owners):
        yield from (scope for scope in configured.pair_of(owner, now) if not scope.limits.is_unlimited)
