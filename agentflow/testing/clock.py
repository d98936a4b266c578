"""The clock of a rehearsal: the real one and what was leapt over, the same for Postgres and for Redis.

agentflow reads one clock, Postgres' ``now()``. In a rehearsal's database that name is found in a schema of its own
first: a function that adds what was leapt over. So every statement, and every default of a column, is the real one.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import psycopg
from psycopg import sql

MARGIN_SECONDS = 0.001
"""What a leap goes beyond its aim, so that what is due then is due for certain."""
_SCHEMA = """
CREATE SCHEMA rehearsal;
CREATE TABLE rehearsal.clock (seconds double precision NOT NULL);
INSERT INTO rehearsal.clock VALUES (0);
CREATE FUNCTION rehearsal.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT pg_catalog.now() + make_interval(secs => (SELECT seconds FROM rehearsal.clock))';
"""
#: Tables are made in the first of these; a name is looked for in their order.
_PATH = "SET search_path = public, rehearsal, pg_catalog"


def make_clock(url: str) -> None:
    """Give a database, before its tables are made, a clock that can leap. All databases of its role look for one."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_SCHEMA)
        role = sql.Identifier(urlsplit(url).username or "")
        connection.execute(sql.SQL("ALTER ROLE {} " + _PATH).format(role))


class Clock:
    """The clock of one rehearsal."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self.seconds_ahead = 0.0

    def leap(self, seconds: float) -> None:
        """Let time pass at once."""
        self.seconds_ahead += seconds + MARGIN_SECONDS
        self._connection.execute("UPDATE rehearsal.clock SET seconds = %s", [self.seconds_ahead])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
