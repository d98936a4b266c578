"""How the API of a stack is reached: its address, and the key that the stack makes for whoever may read the home.

Owns ``HOME/api.key``. The key is made once and never shown; who lost or revoked it removes the file and has another.
"""

from __future__ import annotations

from pathlib import Path

import httpx2

from agentflow.domain.api_key import ApiKey, KeyState, Role, is_same, read_key
from agentflow.embedded.paths import write_private
from agentflow.engine.context import EngineContext
from agentflow.engine.create_key import create_key
from agentflow.engine.revoke_key import revoke_key
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from agentflow.storage import api_keys

KEY_NAME = "up"
ANSWER_SECONDS = 3.0
NEW_KEY = (
    "For a new one remove the file, then `agentflow down` and `agentflow up --api`; or use `agentflow key create`."
)


def api_url(settings: Settings) -> str:
    """Return where the API of a stack answers."""
    return f"http://127.0.0.1:{settings.api_port}/api/v1"


def api_key_file(settings: Settings) -> Path:
    """Return the file that holds the key."""
    return settings.home.absolute() / "api.key"


def api_answers(url: str) -> bool:
    """Whether something that lives answers at the address of an API."""
    try:
        return httpx2.get(url.removesuffix("/api/v1") + "/livez", timeout=ANSWER_SECONDS, trust_env=False).is_success
    except httpx2.HTTPError:
        return False


def keep_api_key(settings: Settings) -> None:
    """Make an admin's key and write it into its file, unless the file holds one of this installation.

    The stack's state must have been written: its servers are asked.
    """
    house = Runtime(settings)
    try:
        if _kept(house.context, api_key_file(settings)) is None:
            _make(house.context, api_key_file(settings), settings.actor)
    finally:
        house.close()


def kept_key_state(settings: Settings) -> KeyState | None:
    """Whether the key in the file opens anything now; None where there is none of this installation in it.

    The stack must be up. One that was revoked or expired stays as it is: who made it so may have meant it.
    """
    house = Runtime(settings)
    try:
        kept = _kept(house.context, api_key_file(settings))
    finally:
        house.close()
    return None if kept is None else kept.state


def _kept(context: EngineContext, path: Path) -> ApiKey | None:
    """Return the key whose whole text the file holds, whatever its state."""
    read = read_key(path.read_text(encoding="utf-8").strip()) if path.exists() else None
    if read is None:
        return None
    with context.database.transaction() as tx:
        known = api_keys.find(tx, read[0])
    return known.key if known is not None and is_same(known.secret_sha256, read[1]) else None


def _make(context: EngineContext, path: Path, actor: str) -> None:
    with context.database.transaction() as tx:
        is_lost = any(key.name == KEY_NAME and key.revoked_at is None for key in api_keys.view(tx))
    if is_lost:  # its file was removed, so nobody has it
        revoke_key(context, KEY_NAME, actor)
    write_private(path, f"{create_key(context, KEY_NAME, Role.ADMIN, actor).text}\n")
