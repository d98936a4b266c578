"""What `up` prints of a stack: that it is up or was up before, and how its API is reached."""

from __future__ import annotations

from agentflow.cli import printing
from agentflow.domain.api_key import KeyState
from agentflow.embedded import StackState, read_state
from agentflow.settings import Settings
from agentflow.stack.api_access import NEW_KEY, api_key_file, kept_key_state


def tell_joined(settings: Settings, state: StackState, *, as_json: bool) -> None:
    """Tell of a stack that was up before."""
    home = settings.home.absolute()
    if as_json:
        printing.print_json({"pid": state.pid, "existing": True, "home": str(home), **_api_facts(settings, state)})
        return
    print(f"A stack of {home} runs already, as process {state.pid}: every command uses it.")
    served = f"It serves the API at {state.api_url}." if state.api_url else "It serves no API."
    print(f"{served} Its options stay as they are. `agentflow down` ends it.")
    if state.api_url and kept_key_state(settings) is not KeyState.VALID:
        print(_key_words(settings))


def tell_started(settings: Settings, pid: int, *, as_json: bool) -> None:
    """Tell of a stack that runs behind this command from now on."""
    home, state = settings.home.absolute(), read_state(settings.home)
    if as_json:
        printing.print_json({"pid": pid, "existing": False, "home": str(home), **_api_facts(settings, state)})
        return
    print(f"It runs in the background as process {pid}; its data and logs are in {home}.")
    if state is not None and state.api_url is not None:
        print(_key_words(settings))
    print(next_words("Stop it with `agentflow down`."))


def tell_ready(settings: Settings, *, has_api: bool) -> None:
    """Tell what can be done with a stack that this process keeps."""
    if has_api:
        print(_key_words(settings), flush=True)
    print(next_words("Stop it with Ctrl-C here, or with `agentflow down`."), flush=True)


def next_words(stop: str) -> str:
    """Say what to do first, and how it is stopped."""
    return f"Try `agentflow init first` and `agentflow run first/plan.yaml`. {stop}"


def _key_words(settings: Settings) -> str:
    file, state = api_key_file(settings), kept_key_state(settings)
    if state is KeyState.VALID:
        return f"The API takes the key in {file}; only you may read it. Give it to nobody."
    what = f"The key in {file} is {state.value}" if state else f"{file} holds no key of this installation"
    return f"{what}: the API takes none from there. {NEW_KEY}"


def _api_facts(settings: Settings, state: StackState | None) -> dict[str, str | None]:
    """Tell where the API of the stack that is up answers, which file holds a key, and whether that opens anything."""
    if state is None or state.api_url is None:
        return {"api": None, "key_file": None, "key_state": None}
    kept = kept_key_state(settings)
    return {"api": state.api_url, "key_file": str(api_key_file(settings)), "key_state": kept.value if kept else None}
