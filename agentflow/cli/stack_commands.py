"""The verbs of servers and workers: demo, init, up, down, doctor, migrate, worker.

Parses, calls stack/ and prints. What the demo shows is demo.py's, what doctor says stands in doctor_page.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli import printing
from agentflow.cli.api_commands import check_api_installed
from agentflow.cli.options import STACK, AsJson

if TYPE_CHECKING:
    from agentflow.embedded import StackState
    from agentflow.settings import Settings
    from agentflow.stack.supervision import StackOptions

_PASSING_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
_LEAST_CONCURRENCY = 4

Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", "-c", min=1, help="Steps at once; else the processors, at least 4."),
]
WithFlower = Annotated[bool, typer.Option("--flower", help="Run Flower too, and have the worker send it events.")]
WithApi = Annotated[bool, typer.Option("--api", help="Serve the HTTP API too, at 127.0.0.1 (AGENTFLOW_API_PORT).")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    panel: dict[str, Any] = {"rich_help_panel": STACK}
    for verb in (demo, init, up, down, doctor, migrate):
        app.command(**panel)(verb)
    app.command("worker", context_settings=_PASSING_ON, **panel)(worker)


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    flower: WithFlower = False,
    api: WithApi = False,
    concurrency: Concurrency = None,
    as_json: AsJson = False,
) -> None:
    """Run PostgreSQL, Valkey, a worker and beat here, from pip, until Ctrl-C or `agentflow down`.

    The data stay in AGENTFLOW_HOME, and so does an admin's key of the API. A second `up` leaves the first as it is, and
    fails where that lacks what was asked for.
    """
    from agentflow.embedded import AlreadyRunning, read_state  # with the stack: they take a second to import
    from agentflow.stack.supervision import StackOptions

    settings = embedded_settings()
    options = StackOptions(concurrency or default_concurrency(), has_flower=flower, has_beat=True, has_api=api)
    if api:
        check_api_installed()
    if (state := read_state(settings.home)) is not None:
        return _join(settings, state, options, concurrency, as_json=as_json)
    try:
        if detach:
            _run_behind(settings, options, as_json=as_json)
        else:
            _run_here(settings, options, as_json=as_json)
    except AlreadyRunning as other:
        from agentflow.stack.background import await_ready_elsewhere

        return _join(settings, await_ready_elsewhere(settings.home, other), options, concurrency, as_json=as_json)
    return None


def _join(
    settings: Settings, state: StackState, options: StackOptions, concurrency: int | None, *, as_json: bool
) -> None:
    """Use the stack that is up. PreconditionFailed: it lacks what was asked for."""
    from agentflow.cli.up_page import tell_joined
    from agentflow.stack.joining import check_joined

    check_joined(settings.home.absolute(), state, options, concurrency=concurrency)
    tell_joined(settings, state, as_json=as_json)


def _run_here(settings: Settings, options: StackOptions, *, as_json: bool) -> None:
    from agentflow.cli.up_page import tell_ready
    from agentflow.stack.supervision import Stack
    from agentflow.stack.wishes import Wishes

    def tell(kind: str, text: str) -> None:
        if as_json:
            printing.print_json({"kind": kind, "text": text}, is_line=True)
        else:
            print(_sentence(text), flush=True)
            if kind == "ready":
                tell_ready(settings, has_api=options.has_api)

    with Wishes() as wishes:
        Stack(settings, options, tell).run(wishes)
    if not as_json:
        print("Everything has ended.")


def _run_behind(settings: Settings, options: StackOptions, *, as_json: bool) -> None:
    from agentflow.cli.up_page import tell_started
    from agentflow.stack.background import BackgroundStack

    stack = BackgroundStack(settings.home, options)
    try:
        for _, text in stack.news():
            if not as_json:
                print(_sentence(text), flush=True)
    except BaseException:  # a Ctrl-C too must leave nothing behind
        stack.end()
        raise
    stack.keep()
    tell_started(settings, stack.pid, as_json=as_json)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up and say what to look at.")] = False,
    crash: Annotated[
        bool, typer.Option("--crash", help="Kill the worker in the middle and show the recovery.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a real plan on a stack of its own, show what it left, and take everything down again.

    It reads an application's log and writes a report about its worst hour. A stack that is up is used and left up.
    """
    from agentflow.cli.demo import Demo
    from agentflow.stack.supervision import StackOptions

    options = StackOptions(default_concurrency(), has_beat=keep)
    raise typer.Exit(Demo(embedded_settings(), options, keep, crash, as_json).run())


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")],
    as_json: AsJson = False,
) -> None:
    """Write a plan with its files, ready to run and to change."""
    from agentflow.stack.starter import write_starter

    files = [str(folder / each) for each in write_starter(folder)]
    if as_json:
        printing.print_json({"plan": str(folder / "plan.yaml"), "files": files})
        return
    for each in files:
        print(f"  {each}")
    print(f"\nRun it: agentflow run {folder / 'plan.yaml'}   (agentflow up --detach starts servers and a worker)")


def down(as_json: AsJson = False) -> None:
    """End the stack that `up` started, and wait until nothing of it is left.

    Running steps may finish within AGENTFLOW_DRAIN_SECONDS. When nothing runs, that is said and is no error.
    """
    from agentflow.settings import load_settings
    from agentflow.stack.ending import end_stack

    settings = load_settings()
    ended = end_stack(settings)
    if as_json:
        count = len(ended.processes) if ended else 0
        printing.print_json({"pid": ended.pid if ended else None, "processes": count})
    elif ended is None:
        print(f"Nothing runs under {settings.home.absolute()}.")
    else:
        how = "It did not end in time and was killed. " if ended.is_forced else ""
        print(f"{how}Ended the stack (process {ended.pid}): {len(ended.processes)} processes, none is left.")


def doctor(
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Send a tiny run through the workers instead, and look at what comes back.")
    ] = False,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="How long --smoke waits for its run.")
    ] = "30s",
    as_json: AsJson = False,
) -> None:
    """Examine settings, servers, content store, workers and dispatcher, and say what to do about each problem.

    The exit code is 0 without problems, 6 when servers cannot be reached, else 1.
    """
    if smoke:
        raise typer.Exit(_smoke(timeout, as_json=as_json))
    from agentflow import telemetry
    from agentflow.cli import doctor_page
    from agentflow.stack.doctor import Doctor

    telemetry.configure(level="error")  # what is found is told below; a log line would say it twice
    raise typer.Exit(doctor_page.show(Doctor().checks(), as_json=as_json))


def _smoke(timeout: str, *, as_json: bool) -> int:
    from agentflow.cli import smoke_page
    from agentflow.cli.opening import opened, read_seconds
    from agentflow.stack.smoke import Smoke

    seconds = read_seconds(timeout) or 0.0
    with opened(is_read=True) as flow:
        return smoke_page.show(Smoke(flow, seconds), as_json=as_json)


def migrate(as_json: AsJson = False) -> None:
    """Bring the database to this version's shape, and register the content store and the audit key with it."""
    from agentflow.runtime import Runtime
    from agentflow.settings import load_settings
    from agentflow.stack.migration import migrate as bring_up

    house = Runtime(load_settings())
    try:
        moved = bring_up(house.context)
    finally:
        house.close()
    if as_json:
        printing.print_json({"from": moved.old, "to": moved.new})
    elif moved.old == moved.new:
        print(f"The database stands at revision {moved.new} already.")
    else:
        print(f"Migrated the database from revision {moved.old or 'none'} to {moved.new}.")


def worker(
    profile: Annotated[str, typer.Option("--profile", help="all, commands or models: which queues it serves.")] = "all",
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[OPTIONS]", help="Passed on to `celery worker`.")
    ] = None,
) -> None:
    """Run a worker on the configured servers, or on those of the running stack.

    It takes every option of `celery worker`, such as -c 8.
    """
    from agentflow.stack.worker_program import run_worker

    run_worker(profile, arguments or [])


def embedded_settings() -> Settings:
    """The settings of a stack of our own. UsageError: the environment names other servers. ConfigurationError."""
    from agentflow.domain.error import UsageError
    from agentflow.settings import load_settings

    settings = load_settings()
    if settings.has_own_servers:
        raise UsageError(
            "AGENTFLOW_DATABASE_URL and AGENTFLOW_REDIS_URL are set, so every command uses those servers. "
            "Start `agentflow worker` for them, or unset both to run a stack here."
        )
    if settings.http_private_hosts:  # of the workers: told before any server is started
        from agentflow.executors.guarded_network import PrivateHosts

        PrivateHosts.read(settings.http_private_hosts)
    return settings


def default_concurrency() -> int:
    """How many steps a stack performs at once unless told: commands mostly wait, so at least four."""
    import os

    return max(_LEAST_CONCURRENCY, os.cpu_count() or 1)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
