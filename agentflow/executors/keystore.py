"""Where the keys of providers come from: the environment, a file that only its owner may read, or another package.

Owns the Keystore protocol and the sources ``env`` and ``file``. What goes wrong is a named problem, in words that never
quote what was found: whoever wrote a key into the wrong field must not read it again in a log.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from agentflow.settings import variable_from_environment

ENTRY_POINT_GROUP = "agentflow.keystores"
_FILE_BYTES = 64 * 1024
_FOREIGN_BITS = 0o077


class KeyProblem(StrEnum):
    """Why there is no key, in a word that may be stored; ``sentence`` says it to a person."""

    VARIABLE_NOT_NAMED = "variable_not_named"
    VARIABLE_NOT_SET = "variable_not_set"
    FILE_NOT_NAMED = "file_not_named"
    FILE_MISSING = "file_missing"
    FILE_NOT_PRIVATE = "file_not_private"
    FILE_UNREADABLE = "file_unreadable"
    FILE_TOO_LARGE = "file_too_large"
    NO_SUCH_ENTRY = "no_such_entry"
    EMPTY = "empty"
    NOT_A_KEY = "not_a_key"
    UNKNOWN_SOURCE = "unknown_source"
    SOURCE_FAILED = "source_failed"

    @property
    def sentence(self) -> str:
        """What is wrong and what to do."""
        return _SENTENCES[self]


_SENTENCES: Mapping[KeyProblem, str] = {
    KeyProblem.VARIABLE_NOT_NAMED: "auth.env_var must name the variable that holds the key",
    KeyProblem.VARIABLE_NOT_SET: "the variable that auth.env_var names is not set, or empty",
    KeyProblem.FILE_NOT_NAMED: "auth.file_path must name the file that holds the key",
    KeyProblem.FILE_MISSING: "the file that auth.file_path names is not there",
    KeyProblem.FILE_NOT_PRIVATE: "the file that auth.file_path names is open to its group or to others: chmod 600 it",
    KeyProblem.FILE_UNREADABLE: "the file that auth.file_path names cannot be read as text",
    KeyProblem.FILE_TOO_LARGE: f"the file that auth.file_path names is larger than {_FILE_BYTES} bytes",
    KeyProblem.NO_SUCH_ENTRY: "auth.file_key leads to no text in the file, which must be JSON or YAML",
    KeyProblem.EMPTY: "the key is empty",
    KeyProblem.NOT_A_KEY: "what was found is no key: it holds spaces or characters that no header can carry",
    KeyProblem.UNKNOWN_SOURCE: "auth.source is none of env, file or an installed keystore",
    KeyProblem.SOURCE_FAILED: "the keystore that auth.source names failed",
}


@dataclass(frozen=True, slots=True)
class Auth:
    """Where one key is: a source and what that source needs to know. ``options`` are the fields of other sources."""

    source: str
    env_var: str | None = None
    file_path: Path | None = None
    file_key: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Keystore(Protocol):
    """A source of keys; other packages offer theirs, a class without arguments, under ``agentflow.keystores``."""

    def get(self, auth: Auth) -> str | KeyProblem:
        """Return the key, or why there is none. Must not log it."""


class EnvironmentKeys:
    """Keys in variables of the worker's environment."""

    def get(self, auth: Auth) -> str | KeyProblem:
        """Return the value of the variable."""
        if not auth.env_var:
            return KeyProblem.VARIABLE_NOT_NAMED
        return variable_from_environment(auth.env_var) or KeyProblem.VARIABLE_NOT_SET


class FileKeys:
    """Keys in files that are closed to everybody else: the whole text, or one entry of a JSON or YAML file."""

    def get(self, auth: Auth) -> str | KeyProblem:
        """Return the file's text, or the entry that the dotted ``file_key`` leads to."""
        if auth.file_path is None:
            return KeyProblem.FILE_NOT_NAMED
        text = _read_private(auth.file_path.expanduser())
        if isinstance(text, KeyProblem) or auth.file_key is None:
            return text
        return _entry(text, auth.file_key)


def find_key(auth: Auth) -> str | KeyProblem:
    """Return the key that ``auth`` leads to, without the whitespace around it, or why there is none."""
    store = _keystore(auth.source)
    if isinstance(store, KeyProblem):
        return store
    try:
        found = store.get(auth)
    except Exception:  # noqa: BLE001 - another package's code may raise anything, and its words may quote the key
        return KeyProblem.SOURCE_FAILED
    if isinstance(found, KeyProblem):
        return found
    if not isinstance(found, str):
        return KeyProblem.SOURCE_FAILED
    key = found.strip()
    if not key:
        return KeyProblem.EMPTY
    return key if key.isascii() and key.isprintable() and " " not in key else KeyProblem.NOT_A_KEY


def _keystore(source: str) -> Keystore | KeyProblem:
    if source == "env":
        return EnvironmentKeys()
    if source == "file":
        return FileKeys()
    points = tuple(entry_points(group=ENTRY_POINT_GROUP, name=source))
    if not points:
        return KeyProblem.UNKNOWN_SOURCE
    try:
        store: Keystore = points[0].load()()
    except Exception:  # noqa: BLE001 - as in find_key
        return KeyProblem.SOURCE_FAILED
    return store


def _read_private(path: Path) -> str | KeyProblem:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a FIFO would wait for a writer
    except FileNotFoundError:
        return KeyProblem.FILE_MISSING
    except (OSError, ValueError):
        return KeyProblem.FILE_UNREADABLE
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode) or mode & _FOREIGN_BITS:
        os.close(handle)
        return KeyProblem.FILE_NOT_PRIVATE if stat.S_ISREG(mode) else KeyProblem.FILE_UNREADABLE
    with os.fdopen(handle, "rb") as file:
        raw = file.read(_FILE_BYTES + 1)
    if len(raw) > _FILE_BYTES:
        return KeyProblem.FILE_TOO_LARGE
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return KeyProblem.FILE_UNREADABLE


def _entry(text: str, file_key: str) -> str | KeyProblem:
    import yaml

    try:
        found: Any = yaml.safe_load(text)  # JSON is YAML
    except (yaml.YAMLError, RecursionError, ValueError):
        return KeyProblem.NO_SUCH_ENTRY
    for part in file_key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, str) else KeyProblem.NO_SUCH_ENTRY
