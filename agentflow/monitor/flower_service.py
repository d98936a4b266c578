"""Running Flower in this process: package defaults first, then what the operator says, and no open door.

The broker's address goes from the settings straight into the app, so that no password stands in argv or in another
process's environment. Owns the order of the configuration; Flower owns what each option does.
"""

from __future__ import annotations

import ipaddress
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import resources
from pathlib import Path
from typing import Any

from celery import Celery

from agentflow import runtime, telemetry
from agentflow.broker.app import make_celery
from agentflow.broker.monitor_events import RENEW_SECONDS, Watching
from agentflow.domain.error import ConfigurationError, UsageError
from agentflow.embedded.ports import cannot_listen
from agentflow.settings import Settings
from agentflow.telemetry import get_logger

log = get_logger(__name__)

CONFIG_FILE = Path("config", "flowerconfig.py")


def run_flower(arguments: Sequence[str], settings: Settings) -> int:
    """Run Flower with its own ``arguments`` until it is stopped; returns the exit code.

    ConfigurationError: it would be open to other machines without a password, its configuration file is missing, or it
    cannot listen where it should.
    UsageError: an argument is none of its options. ServersUnreachable: there is no broker to look at.
    """
    telemetry.configure(log_format=settings.log_format, level=settings.log_level, is_redacting=settings.is_redacting)
    servers = runtime.servers_of(runtime.with_stack(settings))
    arguments = [*_config_argument(arguments, settings), *arguments]
    options = _configure(arguments, settings)
    refuse_open_door(options)
    if not options.enable_events:
        log.info("flower_waits_for_events", shows="workers with AGENTFLOW_WORKER_EVENTS=true or -E only")
    _serve(make_celery(servers.redis_url, prefix=settings.redis_prefix), options)
    return 0


def refuse_open_door(options: Any) -> None:
    """Raise ConfigurationError when anybody on the network could end steps: another address, and no authentication."""
    if options.unix_socket or options.basic_auth or options.auth or _is_loopback(options.address):
        return
    raise ConfigurationError(
        f"Flower would listen on {options.address or 'every address'} without a password, and whoever reaches it can "
        "end steps and stop workers. Set AGENTFLOW_FLOWER_BASIC_AUTH=user:password (or _FILE, or Flower's --auth), "
        "or leave the address at 127.0.0.1."
    )


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # every address, or a name that may mean any
        return False


def _config_argument(arguments: Sequence[str], settings: Settings) -> list[str]:
    """The --conf that the operator did not write: the file of the settings, or the one below the working directory."""
    if any(_option_name(argument) == "conf" for argument in arguments):
        return []
    if settings.flower_config is not None:
        if not settings.flower_config.is_file():
            raise ConfigurationError(f"AGENTFLOW_FLOWER_CONFIG names {settings.flower_config}, which is no file")
        return [f"--conf={settings.flower_config}"]
    return [f"--conf={CONFIG_FILE}"] if CONFIG_FILE.is_file() else []


def _configure(arguments: Sequence[str], settings: Settings) -> Any:
    """Fill Flower's options: our defaults, then as it does itself from the environment, the file, the arguments."""
    from flower import command  # Flower takes half a second to load: only where it runs
    from flower.options import options

    _refuse_unknown(arguments, options)
    with resources.as_file(resources.files("agentflow.monitor") / "flowerconfig.py") as defaults:
        options.parse_config_file(str(defaults), final=False)
    if settings.flower_basic_auth is not None:
        options.basic_auth = settings.flower_basic_auth.get_secret_value().split(",")
    command.apply_env_options()
    try:
        command.apply_options(sys.argv[0], list(arguments))
    except FileNotFoundError as error:
        raise ConfigurationError(f"Flower's configuration file {error.filename} is not there") from error
    return options


def _serve(app: Celery, options: Any) -> None:
    """Do what the command of Flower does, until SIGTERM or Ctrl-C.

    Its own handler raises wherever the main thread is. Raised while a thread of the executor is being started, that
    thread is never told to end, and Flower hangs for ever.
    """
    from flower import command
    from flower.app import Flower

    command.extract_settings()
    command.setup_logging()
    borrows, options.enable_events = options.enable_events, False  # what Flower turns on, it leaves on for ever
    monitor = Flower(capp=app, options=options, **command.settings)
    port = _listen(monitor)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: monitor.io_loop.add_callback_from_signal(monitor.io_loop.stop))
    command.print_banner(app, "ssl_options" in command.settings, port)
    try:
        with _borrowed_events(monitor) if borrows else nullcontext():
            monitor.start()
    finally:
        monitor.stop()


def _listen(monitor: Any) -> int | None:
    """Open its door; returns the port, None at a socket of this machine. ConfigurationError: it cannot."""
    options = monitor.options
    try:
        port: int | None = monitor.start_http_server()
    except OSError as error:
        if options.unix_socket:
            raise ConfigurationError(f"Flower cannot listen at {options.unix_socket}: {error.strerror}.") from None
        host = options.address or "every address"
        raise cannot_listen("Flower", host, options.port, error, "--port or FLOWER_PORT") from None
    return port


@contextmanager
def _borrowed_events(monitor: Any) -> Iterator[None]:
    """Have the workers send events for as long as the block runs; see worker/event_loans.py."""
    from tornado.ioloop import PeriodicCallback

    watching = Watching(monitor.capp)

    async def renew() -> None:
        await monitor.io_loop.run_in_executor(None, watching.renew)

    timer = PeriodicCallback(renew, RENEW_SECONDS * 1000)
    monitor.io_loop.add_callback(renew)
    timer.start()
    try:
        yield
    finally:
        timer.stop()
        watching.end()


def _refuse_unknown(arguments: Sequence[str], options: Any) -> None:
    """Flower itself passes over what it does not know, and a misspelt --address with it."""
    unknown = [
        argument for argument in arguments if not argument.startswith("--") or _option_name(argument) not in options
    ]
    if unknown:
        raise UsageError(f"Flower has no option {', '.join(unknown)}; they are written --name=value")


def _option_name(argument: str) -> str:
    return argument.lstrip("-").partition("=")[0].replace("-", "_")
