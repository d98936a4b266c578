"""What a caller may hand to the client: keys, actors and times, checked before any server is asked.

Each check returns the value, or raises UsageError with the words for the caller.
"""

from __future__ import annotations

import re

from agentflow.domain.error import UsageError
from agentflow.domain.plan import NAME_PATTERN, NAME_WORDS
from agentflow.domain.state import ShownRunState
from agentflow.domain.wording import shorten

MAX_KEY_LENGTH = 200
MAX_WHY_LENGTH = 500


def checked_key(key: object) -> str:
    """Check an idempotency key: 1 to 200 printable characters."""
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_LENGTH or not key.isprintable():
        raise UsageError(f"An idempotency key has 1 to {MAX_KEY_LENGTH} printable characters.")
    return key


def checked_actor(actor: object) -> str:
    """Check who is said to act: the name stands in the audit for ever and is printed to terminals."""
    if not isinstance(actor, str) or not actor.strip() or not actor.isprintable():
        raise UsageError(f"An actor (AGENTFLOW_ACTOR) has printable characters only, not {str(actor)[:80]!r}.")
    return actor


def checked_why(why: object) -> str | None:
    """Check what a person says to a verb: it stands in the audit for ever and is printed to terminals."""
    if why is None:
        return None
    if not isinstance(why, str) or not 0 < len(why) <= MAX_WHY_LENGTH or not why.isprintable() or not why.strip():
        raise UsageError(f"A reason (why) has 1 to {MAX_WHY_LENGTH} printable characters, in one line.")
    return why


def checked_timeout(timeout: object) -> float | None:
    """Check a time to wait: seconds, 0 or more; None is for ever."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:  # NaN too
        raise UsageError(f"timeout takes seconds as a number, 0 or more, such as 5 or 0.5; not {str(timeout)[:80]!r}.")
    return float(timeout)


def checked_name(what: str, name: object) -> str:
    """Check the name of a project, directive or plan."""
    if not isinstance(name, str) or not re.match(NAME_PATTERN, name):
        raise UsageError(f"{shorten(str(name))!r} is no name of a {what}: {NAME_WORDS}.")
    return name


def checked_state(name: str | None) -> ShownRunState | None:
    """Check the name of a state that runs are shown in."""
    if name is None:
        return None
    try:
        return ShownRunState(name)
    except ValueError:
        raise UsageError(f"{name!r} is no state of a run; there are {', '.join(ShownRunState)}.") from None


def read_stored_name(written: object) -> tuple[str, int | None]:
    """Read ``NAME`` or ``NAME@VERSION`` of a stored plan; no version means the newest."""
    name, at, version = str(written).partition("@")
    if not re.match(NAME_PATTERN, name) or (at and not re.fullmatch(r"[1-9][0-9]{0,8}", version)):
        raise UsageError(
            f"{shorten(str(written))!r} names no stored plan: write NAME or NAME@VERSION, such as triage@2. "
            f"Names {NAME_WORDS}."
        )
    return name, int(version) if at else None
