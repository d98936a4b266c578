"""What waits for a person although each part works: schedules, webhooks, a maintenance.

Owns these questions of the examination and their advice; each is asked of the tables of this version.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from agentflow.domain.schedule import due_times
from agentflow.domain.webhook import Disabled, Webhook
from agentflow.domain.wording import listing, shorten
from agentflow.engine.scheduler import SERVICE
from agentflow.stack.findings import Concern, Problem
from agentflow.storage import installations, runs, schedules, webhooks
from agentflow.storage.schedules import Schedule


def examine_schedules(tx: Connection) -> str:
    """Ask whether a beat keeps the schedules, where there are any that are not stopped, and whether a run rests."""
    enabled = [each.schedule for each in schedules.view(tx) if each.schedule.is_enabled]
    in_force = sum(next(due_times(each.timing, each.at), None) is not None for each in enabled)
    keeper = schedules.read_keeper(tx, SERVICE)
    if keeper is None and in_force:
        raise Problem(
            f"{in_force} in force, and no beat keeps them: nothing fires",
            "start `celery -A beat beat`, or `agentflow beat`",
        )
    if keeper is None:
        return "none in force, and no beat"
    told = f"{in_force} in force, kept by {keeper}"
    held = [each for each in enabled if each.held_since is not None]
    if held:
        resting = [_resting(tx, each) for each in held]
        raise Concern(
            f"{told}; held up by runs that rest: {listing([text for text, _ in resting])}",
            f"`agentflow why {resting[0][1]}` says what that run waits for; to give it up: `agentflow cancel`",
        )
    return told


def _resting(tx: Connection, schedule: Schedule) -> tuple[str, str]:
    """Return a schedule that is held up, in words, and the id of the run that it waits for."""
    found = [
        each for each in schedules.read_active_runs(tx, schedule.id) if each.is_resting and each.run_id is not None
    ]
    since = "" if schedule.held_since is None else f" since {_moment(schedule.held_since)}"
    if not found:  # it goes on by now
        return f"{schedule.name}{since}", "RUN"
    run = str(found[0].run_id)[:8]
    return f"{schedule.name}{since} (run {run} is {found[0].state})", run


def examine_webhooks(tx: Connection) -> str:
    """Ask whether everybody is told who is to be. Who was disabled on purpose is no concern."""
    every = webhooks.view(tx)
    gone = [each for each in every if each.disabled_code in (Disabled.GONE, Disabled.FAILING)]
    failing = [each for each in every if each.is_enabled and each.failing_since is not None]
    if gone or failing:
        concerns = [*map(_gone, gone), *map(_failing, failing)]
        advice = "`agentflow webhook deliveries NAME` tells what came of each try"
        if gone:
            advice += "; once its address answers: `agentflow webhook enable NAME`"
        raise Concern(listing(concerns), advice)
    return f"{sum(each.is_enabled for each in every)} enabled" if every else "none"


def _gone(webhook: Webhook) -> str:
    why = "its address answered 410" if webhook.disabled_code is Disabled.GONE else "nobody answered well for days"
    return f"{_name(webhook)} is disabled: {why}"


def _failing(webhook: Webhook) -> str:
    assert webhook.failing_since is not None  # noqa: S101 - only such are asked for
    return f"{_name(webhook)} fails since {_moment(webhook.failing_since)}"


def _name(webhook: Webhook) -> str:
    return webhook.name + (f" (project {webhook.project})" if webhook.project else "")


def examine_maintenance(tx: Connection) -> str:
    """Ask whether one stands, and whether the verb that began or ended it reached all runs."""
    stands = installations.read_maintenance(tx)
    if stands is None:
        if runs.find_maintained(tx, None, 1):
            raise Problem("none, but the end of one did not reach all runs", "finish it: `agentflow resume --all`")
        return "none"
    why = f" ({shorten(stands.why)})" if stands.why else ""
    found = f"everything is paused by {stands.actor} since {_moment(stands.at)}{why}"
    if runs.find_unpaused(tx, None, 1, is_hard=stands.is_hard):
        raise Problem(f"{found}, but some runs still go on", "finish it: `agentflow pause --all`")
    raise Problem(f"{found}: no step starts", "end it once it is done: `agentflow resume --all`")


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
