"""Every Redis key of agentflow: its name, type and life. Celery's own keys are kombu's.

| key | type | life |
|---|---|---|
| ``<prefix>agentflow:wakeup`` | list, at most one element | until the dispatcher pops it |
| ``<prefix>agentflow:reports`` | list, at most 10,000 | until the dispatcher takes them: revokes, lost pool children |
| ``<prefix>agentflow:reports_taken`` | list, at most 100 | until the dispatcher, or the next, has acted on them |
| ``<prefix>agentflow:stops`` | pub/sub channel | attempts to stop; the rows are the backstop |
| ``<prefix>agentflow:breaker:<endpoint>`` | hash | a day after its last use: the endpoint's circuit breaker |
| ``<prefix>agentflow:breakers`` | sorted set: endpoints by last use | a day after the last use of any |
| ``<prefix>agentflow:budget:<scope>`` | hash | a day after its last use: the ledger of a scope |
| ``<prefix>agentflow:budgets`` | set: scopes in which something is reserved | kept; nearly empty at rest |

Nothing here is needed to be right, only to be quick: all of it can be flushed at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one installation."""

    prefix: str = ""

    @property
    def wakeup(self) -> str:
        """The list whose element wakes the dispatcher."""
        return f"{self.prefix}agentflow:wakeup"

    @property
    def reports(self) -> str:
        """The list of what worker main processes saw and the dispatcher must act on."""
        return f"{self.prefix}agentflow:reports"

    @property
    def taken_reports(self) -> str:
        """The list of the reports that a dispatcher took and has not acted on."""
        return f"{self.prefix}agentflow:reports_taken"

    @property
    def stops(self) -> str:
        """The channel on which attempts are told to stop."""
        return f"{self.prefix}agentflow:stops"

    def breaker(self, endpoint: str) -> str:
        """The circuit breaker of an endpoint."""
        return f"{self.prefix}agentflow:breaker:{endpoint}"

    @property
    def breakers(self) -> str:
        """The endpoints that have a circuit breaker."""
        return f"{self.prefix}agentflow:breakers"

    def budget(self, scope: str) -> str:
        """The ledger of a scope."""
        return f"{self.prefix}agentflow:budget:{scope}"

    @property
    def budgets(self) -> str:
        """The scopes in which something is reserved."""
        return f"{self.prefix}agentflow:budgets"
