"""The Celery app as workers run it: queues by profile, agentflow's tasks, and the steps that make a worker complete.

A profile only sets defaults; ``-P``, ``-c`` and ``-Q`` on the command line win.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, setup_logging, worker_process_shutdown, worker_shutdown

from agentflow import runtime, tasks, telemetry
from agentflow.broker.app import make_celery
from agentflow.broker.queues import COMMANDS, CONTROL, MODELS, QUEUE_NAMES
from agentflow.domain.error import ConfigurationError
from agentflow.executors.base import known_actions
from agentflow.executors.guarded_network import PrivateHosts
from agentflow.settings import load_settings
from agentflow.worker import control, drain, whole_results
from agentflow.worker.beside import DispatcherBeside
from agentflow.worker.children import ChildWatch
from agentflow.worker.event_loans import EventLoans
from agentflow.worker.watchdog import ConsumptionWatch

UNUSABLE_POOLS = ("gevent", "eventlet")
DATABASE_CONNECTIONS = 8
"""What a worker's main process may open: enough for fifty threads, which need one for milliseconds at each end of a
step. A pool child builds its own runtime and opens two at most; the main process of prefork opens none."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Which queues a worker serves, and with which pool by default."""

    queues: tuple[str, ...] = QUEUE_NAMES
    pool: str = "prefork"
    concurrency: int | None = None


COMPLETE = Profile()
COMMANDS_ONLY = Profile(queues=(CONTROL, COMMANDS))
MODELS_ONLY = Profile(queues=(MODELS,), pool="threads", concurrency=50)


def make_worker_app(profile: Profile = COMPLETE) -> Celery:
    """Build the app for ``celery -A``; it reads the settings and finds the servers."""
    settings = runtime.with_stack(load_settings())
    servers = runtime.servers_of(settings)
    PrivateHosts.read(settings.http_private_hosts)  # a slip is told at the start, not by the first http step
    app = make_celery(servers.redis_url, prefix=settings.redis_prefix, has_events=settings.worker_events)
    app.conf.worker_pool = profile.pool
    app.conf.worker_concurrency = profile.concurrency
    app.amqp.queues.select(profile.queues)
    tasks.register(app, known_actions(), request_class="agentflow.worker.control:StepRequest")
    runtime.install(runtime.Runtime(settings, celery=app, pool_size=DATABASE_CONNECTIONS))
    control.install()
    drain.install(app, settings.drain_seconds)
    whole_results.install()
    app.steps["worker"].add(DispatcherBeside)
    app.steps["worker"].add(ChildWatch)
    app.steps["worker"].add(EventLoans)
    app.steps["worker"].add(ConsumptionWatch)
    return app


@setup_logging.connect(weak=False)
def _set_up_logging(loglevel: Any = None, **_: Any) -> None:
    settings = runtime.current().settings
    telemetry.configure(log_format=settings.log_format, level=settings.log_level, is_redacting=settings.is_redacting)


@worker_process_shutdown.connect(weak=False)
@worker_shutdown.connect(weak=False)
def _flush(**_: Any) -> None:
    runtime.flush()


@celeryd_init.connect(weak=False)
def _refuse_unusable_pool(options: dict[str, Any], conf: Any, **_: Any) -> None:
    pool = options.get("pool") or conf.worker_pool  # a class from the command line, a name from the settings
    name = f"{pool.__module__}:{pool.__qualname__}" if isinstance(pool, type) else str(pool)
    for unusable in UNUSABLE_POOLS:
        if unusable in name:
            raise SystemExit(
                f"agentflow cannot work with -P {unusable}: its monkey patching breaks the threads that keep leases "
                "and the pipes to the supervisors of commands. Use -P prefork for commands and -P threads for models."
            )


__all__ = ["COMMANDS_ONLY", "COMPLETE", "MODELS_ONLY", "ConfigurationError", "Profile", "make_worker_app"]
