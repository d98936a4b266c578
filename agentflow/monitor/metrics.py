"""The metrics: the names, kinds, labels and meanings of everything that Prometheus is told.

Owns the table and a sheet to fill in. Where the values come from is metrics_collector.py's. No label takes values
without bound: states, actions, queues, workers that live, scopes of the configuration, at most a hundred models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from agentflow.domain.tally import BUCKETS


class Kind(StrEnum):
    """What Prometheus calls the kinds."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Told:
    """One metric: its name as it is scraped, and what it says."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names that expressions use."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


_METRICS: dict[str, Told] = {}


def _told(name: str, kind: Kind, meaning: str, *labels: str) -> Told:
    return _METRICS.setdefault(name, Told(f"agentflow_{name}", kind, meaning, labels))


_G, _C, _H = Kind.GAUGE, Kind.COUNTER, Kind.HISTOGRAM
_MODEL = ("provider", "model")
_SCOPE = ("scope", "period")

INFO = _told("info", _G, "1, with the version that answered.", "version")
RUNS = _told("runs", _G, "Runs that have not ended, by the state that is shown.", "state")
RUNS_SUBMITTED = _told("runs_submitted_total", _C, "Runs that were accepted, child runs and forks too.")
RUNS_ENDED = _told("runs_ended_total", _C, "Ends of runs; one that is taken up again ends again.", "state")
STEPS = _told("steps", _G, "Steps of open runs that have not ended.", "action", "state")
STEPS_ENDED = _told("steps_ended_total", _C, "Ends of steps, those without an attempt too.", "action", "state")
ATTEMPTS = _told("attempts_total", _C, "Attempts that ended; outcome lost: with their worker.", "action", "outcome")
ATTEMPT_SECONDS = _told("attempt_seconds", _H, "How long attempts took, from claim to settle.", "action")
HAND_OVER_SECONDS = _told(
    "hand_over_seconds",
    _H,
    "From when a step was due to the start of its attempt; seen at the attempt's end.",
    "action",
)
QUEUE_MESSAGES = _told("queue_messages", _G, "Messages that wait in Redis; absent while Redis is away.", "queue")
QUEUE_DOORBELLS = _told("queue_doorbells", _G, "Steps that a message is out for.", "queue")
QUEUE_UNSENT = _told("queue_unsent_steps", _G, "Steps that are due and have no message.", "queue")
QUEUE_OLDEST = _told("queue_oldest_due_seconds", _G, "For how long the oldest due step has waited.", "queue")
QUEUE_WORKERS = _told("queue_workers", _G, "Workers that take from the queue.", "queue")
QUEUE_SLOTS = _told("queue_slots", _G, "Places of the workers that take from the queue.", "queue")
LEASE_OLDEST = _told("lease_oldest_age_seconds", _G, "Since when the lease that ends first was extended; 0: none runs.")
LEASE_SECONDS = _told("lease_duration_seconds", _G, "How long a lease holds, by the settings of the API.")
GATES_WAITING = _told("gates_waiting", _G, "Gates that wait for a decision.", "kind")
GATES_OLDEST = _told("gates_oldest_seconds", _G, "For how long the oldest of them has waited.", "kind")
GATES_ENDED = _told("gates_ended_total", _C, "Gates that were decided, expired or were withdrawn.", "kind", "state")
DEAD_LETTERS = _told("dead_letters", _G, "Steps that were failed since they lost too many workers.")
SCHEDULES = _told("schedules", _G, "Schedules; held_up: by a run that rests.", "state")
SCHEDULES_OVERDUE = _told("schedules_overdue_seconds", _G, "By how much the latest enabled schedule is overdue.")
WEBHOOKS = _told("webhooks", _G, "Webhooks; failing: since no delivery goes well.", "state")
WEBHOOKS_FAILING = _told("webhooks_failing_seconds", _G, "For how long the webhook has failed that has longest.")
DELIVERIES_PENDING = _told("webhook_deliveries_pending", _G, "Deliveries that are yet to be made, or made again.")
DELIVERIES_ENDED = _told("webhook_deliveries_ended_total", _C, "Deliveries that were made or given up.", "state")
DISPATCHER_LEADING = _told("dispatcher_leading", _G, "Whether a dispatcher leads: 1 or 0.")
DISPATCHER_ACTIONS = _told("dispatcher_actions_total", _C, "What dispatchers did.", "action")
WORKERS = _told("workers", _G, "Workers; gone: not heard of, and it did not say that it ends.", "state")
WORKER_SLOTS = _told("worker_slots", _G, "How many attempts a worker runs at once at most.", "worker")
WORKER_BUSY = _told("worker_busy_slots", _G, "How many attempts it runs.", "worker")
WORKER_MESSAGES = _told("worker_messages_total", _C, "Messages that it has taken since its start.", "worker")
WORKER_CPU = _told("worker_cpu_seconds_total", _C, "Processor time of all its processes since its start.", "worker")
WORKER_MEMORY = _told(
    "worker_resident_memory_bytes", _G, "Memory of all its processes; shared pages count in each.", "worker"
)
MODEL_CALL_SECONDS = _told("model_call_seconds", _H, "How long calls of models took.", *_MODEL)
TOKENS = _told("tokens_total", _C, "Tokens of calls of models.", *_MODEL, "direction")
USD = _told("usd_total", _C, "What calls of models cost, in US dollars.", *_MODEL)
UNPRICED = _told(
    "unpriced_calls_total", _C, "Calls of models whose price is unknown; they count for no money.", *_MODEL
)
BUDGETS = {
    (part, unit): _told(f"budget_{part}_{unit}", _G, f"{words} of a scope that the configuration caps.", *_SCOPE)
    for part, words in (("limit", "The cap"), ("used", "What was used"), ("reserved", "What running attempts reserve"))
    for unit in ("tokens", "usd")
}
REDIS_UP = _told("redis_up", _G, "Whether Redis answers: 1 or 0.")
POSTGRES_CONNECTIONS = _told("postgres_connections", _G, "Connections to the server, of all its databases.")
POSTGRES_CONNECTIONS_MAX = _told("postgres_connections_limit", _G, "How many there may be.")
POSTGRES_DEADLOCKS = _told("postgres_deadlocks_total", _C, "Deadlocks in the database.")
POSTGRES_BYTES = _told("postgres_database_bytes", _G, "Size of the database.")

METRICS = tuple(_METRICS.values())
"""Every metric, in the order in which they are scraped."""


class Sheet:
    """What is scraped once: every metric of the table, those without a value empty."""

    def __init__(self) -> None:
        self._families = {told.name: _family(told) for told in METRICS}

    def put(self, told: Told, value: float, *labels: str) -> None:
        """Set the value for some labels."""
        self._families[told.name].add_metric(labels, value)  # type: ignore[attr-defined]  # each family's own method

    def observe(self, told: Told, labels: Sequence[str], counts: Iterable[tuple[float, int]], total: float) -> None:
        """Set a histogram: how many fell into each bucket, and the sum of all."""
        found: dict[float, int] = dict.fromkeys(BUCKETS, 0)
        for upto, count in counts:
            found[upto] = found.get(upto, 0) + count
        bounds = sorted(found)
        sums = accumulate(found[bound] for bound in bounds)
        buckets = [(_bound(bound), each) for bound, each in zip(bounds, sums, strict=True)]
        self._families[told.name].add_metric(labels, buckets, total)  # type: ignore[attr-defined]  # as above

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())


def _bound(upto: float) -> str:
    """Write a bound as both text forms take it."""
    return "+Inf" if upto == BUCKETS[-1] else str(float(upto))


def _family(told: Told) -> Metric:
    match told.kind:
        case Kind.GAUGE:
            return GaugeMetricFamily(told.name, told.meaning, labels=told.labels)
        case Kind.COUNTER:
            return CounterMetricFamily(told.name, told.meaning, labels=told.labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(told.name, told.meaning, labels=told.labels)
