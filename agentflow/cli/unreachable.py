"""What is said and done about servers that are away: before anything heavy is loaded, and behind a driver's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentflow.domain.error import ServersUnreachable
    from agentflow.settings import Settings


def check_named(settings: Settings) -> None:
    """Raise ServersUnreachable, without loading what talks to servers, where none are named and none run."""
    from agentflow.embedded.state import no_servers, read_state

    if settings.database_url is None and settings.redis_url is None and read_state(settings.home) is None:
        raise no_servers(settings.home)


def with_advice(error: ServersUnreachable) -> ServersUnreachable:
    """Add what to do, and how the last stack ended where the servers that are away are its."""
    from agentflow.domain.error import ServersUnreachable
    from agentflow.settings import load_settings
    from agentflow.stack.last_end import last_end_of

    settings = load_settings()
    more = last_end_of(settings) or (_advice(settings) if error.__cause__ is not None else "")
    return ServersUnreachable(f"{error}\n{more}", **error.details) if more else error


def _advice(settings: Settings) -> str:
    """What to do about a server that was named and does not answer."""
    from agentflow.embedded.state import read_state

    if settings.has_own_servers:
        return "Look at AGENTFLOW_DATABASE_URL and AGENTFLOW_REDIS_URL: `agentflow doctor` says which server is away."
    if read_state(settings.home) is not None:
        return (
            "The stack that is up starts a server again that ended, but not one that hangs: try again soon, else "
            "`agentflow down` and `agentflow up`. `agentflow doctor` tells more."
        )
    return "Start a stack with `agentflow up`; `agentflow doctor` tells more."
