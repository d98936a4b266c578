"""The way to Postgres: engine, transactions, and the reader of the statements in sql/.

Owns pools, session settings and the loading of one-statement files. Decides nothing: an engine verb opens the
transaction, a storage module names the statement.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from sqlalchemy import Connection, Engine, ExceptionContext, TextClause, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from agentflow.domain.error import ConfigurationError, ServersUnreachable

CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 60
#: A client that freezes inside a transaction keeps its row locks no longer than this.
IDLE_IN_TRANSACTION_SECONDS = 5
#: A pooled connection that rested longer is asked whether it still lives before it is used.
PING_AFTER_REST_SECONDS = 1.0


#: Serialization failure, deadlock, lock not available, statement cancelled: the same may well succeed the next time.
_CONFLICTS = frozenset({"40001", "40P01", "55P03", "57014"})
#: What a server says that another took over from, or that stands by: one that can be written to has to be found.
_READ_ONLY = "25006"


class ConflictingWrite(Exception):
    """Postgres ended the transaction for the sake of another; it may be tried again."""


class UnwritableValue(Exception):
    """Postgres or its driver refuses a value; it will the next time too."""


class Database:
    """A pool of connections to one Postgres; one per process, made after a fork."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self._engine = _make_engine(url, pool_size)
        self._longest = threading.local()

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, for migrations and plain reads."""
        return self._engine

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction: committed at the end of the block, rolled back when it raises.

        Raises ServersUnreachable when Postgres does not answer, takes no writes, or the connection breaks; whether a
        commit that was under way took place is then unknown.
        """
        afterwards: list[Callable[[], None]] = []
        with self._timing(), _naming_outages(), self._engine.begin() as connection:
            _afterwards[connection] = afterwards
            yield connection
        for call in afterwards:
            call()

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """Open a connection on which each statement stands for itself. Raises as transaction does."""
        with self._timing(), _naming_outages(), self._engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @staticmethod
    @contextmanager
    def savepoint(tx: Connection) -> Iterator[None]:
        """Open a part of a transaction that may fail without the rest. Raises as transaction does."""
        with _naming_outages(), tx.begin_nested():
            yield

    def take_longest_seconds(self) -> float:
        """Return how long the longest transaction of this thread took since it asked last."""
        longest: float = getattr(self._longest, "seconds", 0.0)
        self._longest.seconds = 0.0
        return longest

    @contextmanager
    def _timing(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            longest = getattr(self._longest, "seconds", 0.0)
            self._longest.seconds = max(longest, time.monotonic() - began)

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


_afterwards: WeakKeyDictionary[Connection, list[Callable[[], None]]] = WeakKeyDictionary()


def after_commit(tx: Connection, call: Callable[[], None]) -> None:
    """Have ``call`` made once a ``transaction`` is committed; never where it is rolled back, or its end is unknown."""
    _afterwards[tx].append(call)


@contextmanager
def _naming_outages() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if is_disconnect(error):
            how = "takes no writes" if _is_read_only(error.orig) else "does not answer"
            raise ServersUnreachable(f"Postgres {how}: {_first_line(error)}") from error
        if getattr(error.orig, "sqlstate", None) in _CONFLICTS:
            raise ConflictingWrite(_first_line(error)) from error
        if isinstance(error, (DataError, IntegrityError)):
            raise UnwritableValue(_first_line(error)) from error
        raise
    except PoolTimeout as error:
        raise ServersUnreachable(f"No connection to Postgres came free: {error}") from error


def is_disconnect(error: DBAPIError) -> bool:
    """Whether the error means that the server is away, or can only be read, and not that it refused the statement."""
    sqlstate = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated:
        return True
    if _is_read_only(error.orig):
        return True
    if sqlstate is None:  # raised by the driver, not by the server
        return isinstance(error, (OperationalError, InterfaceError))
    return sqlstate[:2] in ("08", "53") or sqlstate[:3] == "57P"


def _is_read_only(error: BaseException | None) -> bool:
    return getattr(error, "sqlstate", None) == _READ_ONLY


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__


def _parsed(url: str) -> URL:
    """Read a database's url. ConfigurationError, which never quotes it, for one that is none of PostgreSQL's."""
    form = "AGENTFLOW_DATABASE_URL takes postgresql://user:password@host:port/name"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"The url of the database cannot be read: {form}") from None
    if parsed.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ConfigurationError(f"The url of the database is none of PostgreSQL's: {form}")
    return parsed.set(drivername="postgresql+psycopg")


def _make_engine(url: str, pool_size: int) -> Engine:
    parsed = _parsed(url)
    options = (
        f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s "
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_SECONDS}s -c timezone=UTC"
    )
    engine = create_engine(
        parsed,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        json_serializer=to_json,
        hide_parameters=True,  # an error's text goes to logs, and a parameter may be what a step returned
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "agentflow",
            "options": options,
            # A partition must not hang a heartbeat for the kernel's default of two hours.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    )
    _ping_after_rest(engine)
    _leave_read_only(engine)
    return engine


def _leave_read_only(engine: Engine) -> None:
    """Take no connection again whose server turned out to be read-only, nor any that was opened before."""

    @event.listens_for(engine, "handle_error")
    def _leave(error: ExceptionContext) -> None:
        if _is_read_only(error.original_exception):
            error.is_disconnect = True


def _ping_after_rest(engine: Engine) -> None:
    """Ask a connection for a sign of life before it is used again after a rest.

    Not each time, as the pool's own pre-ping does: that is one round trip more for every transaction of a busy worker.
    """

    @event.listens_for(engine, "checkin")
    def _note_rest(_connection: Any, record: Any) -> None:
        record.info["rests_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ping(connection: Any, record: Any, _proxy: Any) -> None:
        rested = time.monotonic() - record.info.get("rests_since", time.monotonic())
        if rested > PING_AFTER_REST_SECONDS and not _answers(engine, connection):
            raise DisconnectionError("the connection broke while it rested")


def _answers(engine: Engine, connection: Any) -> bool:
    try:
        return engine.dialect.do_ping(connection)
    except psycopg.OperationalError:
        return False


def to_json(value: Any) -> str:
    """Write a value as the JSON text that a statement casts to jsonb."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@cache
def statement(name: str) -> TextClause:
    """Return the statement in ``sql/<name>.sql``."""
    source = resources.files("agentflow.storage").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return text(source)
