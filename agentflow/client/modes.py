"""What a submission may say beside its plan: the mode that it runs in, and which plan it must be.

Owns the checks of both. A dry run is ``AgentFlow.check``; what a mode does to a plan is domain/mode.py's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agentflow.domain.error import ConfigurationError, PlanDrift, ServersUnreachable, UsageError
from agentflow.domain.mode import Mode
from agentflow.domain.plan import Plan
from agentflow.domain.plan_diff import PlanDiff, diff_plans
from agentflow.domain.wording import listing
from agentflow.storage import plans

if TYPE_CHECKING:
    from agentflow.client.connection import Connected

_HASH = re.compile(r"[0-9a-f]{8,64}", re.ASCII)


def checked_mode(mode: object) -> Mode:
    """Check the name of a mode that runs are submitted in."""
    try:
        found = Mode(str(mode))
    except ValueError:
        raise UsageError(f"{str(mode)[:40]!r} is no mode: there are {', '.join(Mode)}.") from None
    if found is Mode.DRY_RUN:
        raise UsageError("A dry run submits nothing: use check, which tells what a run would do.")
    return found


def check_hash(flow: Connected, plan: Plan, wanted: object, project: str) -> None:
    """Raise PlanDrift unless ``plan`` has the fingerprint ``wanted``, or one that begins so; UsageError for no such.

    The error tells what differs, where the plan that was wanted was run or pushed here in that project.
    """
    digits = str(wanted).lower()
    if not _HASH.fullmatch(digits):
        raise UsageError(f"A plan's hash is 8 to 64 hex digits of its fingerprint, not {str(wanted)[:80]!r}.")
    if plan.fingerprint.startswith(digits):
        return
    meant, diff = _meant(flow, plan, digits, project)
    told = _words(diff) if diff else "what the other one was is not known here"
    raise PlanDrift(
        f"The plan {plan.name} is not the one that was meant: its fingerprint is {plan.fingerprint}, not {meant}. "
        f"Between them: {told}.",
        wanted=meant,
        found=plan.fingerprint,
        diff=diff and diff.as_json(),
    )


def _meant(flow: Connected, plan: Plan, digits: str, project: str) -> tuple[str, PlanDiff | None]:
    """The plan that was meant, as far as its hash says, and what differs; None where it was never stored here."""
    try:
        with flow._reading() as tx:  # noqa: SLF001 - this module is a part of the client
            found = plans.find(tx, digits, project, 2)
            if len(found) != 1:
                return digits, None
            return found[0], diff_plans(plans.read(tx, found[0]), plan)
    except (ServersUnreachable, ConfigurationError):  # the drift is certain without it
        return digits, None


def _words(diff: PlanDiff) -> str:
    parts = [f"changed {listing(diff.fields)}"] if diff.fields else []
    parts += [f"step {key} changed ({listing(names)})" for key, names in list(diff.changed.items())[:_NAMED]]
    if len(diff.changed) > _NAMED:
        parts.append(f"{len(diff.changed) - _NAMED} more steps changed")
    parts += [f"added {listing(diff.added)}"] if diff.added else []
    parts += [f"removed {listing(diff.removed)}"] if diff.removed else []
    return "; ".join(parts) or "only the order of the steps"


_NAMED = 8
"""How many changed steps an error names."""
