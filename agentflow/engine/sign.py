"""Sign: the Ed25519 key that signs checkpoints, and the check of what it signed.

Owns where the key comes from (AGENTFLOW_CHECKPOINT_KEY, else checkpoint.key in the home, made there by whoever leads
first) and the written form of keys: 64 hexadecimal digits, private and public. The library loads at first use.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentflow.domain.checkpoint import Verifier
from agentflow.domain.error import ConfigurationError, UsageError
from agentflow.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; ``public`` is the other half, as it is handed to whoever verifies."""

    _private: Ed25519PrivateKey
    public: str

    @property
    def id(self) -> str:
        """How lines name the key."""
        return key_id(self.public)

    def sign(self, signed: bytes) -> str:
        """Return the signature, in hexadecimal."""
        return self._private.sign(signed).hex()


def key_id(public: str) -> str:
    """Name a public key: 16 hexadecimal digits."""
    return hashlib.sha256(bytes.fromhex(public)).hexdigest()[:16]


def key_path(settings: Settings) -> Path:
    """Where the key lies that is not given by the settings."""
    return settings.home / "checkpoint.key"


def find_key(settings: Settings) -> SigningKey | None:
    """Return the key if there is one here; makes none. ConfigurationError for one that cannot be used."""
    if settings.checkpoint_key is not None:
        return _read_key(settings.checkpoint_key.get_secret_value().strip(), "AGENTFLOW_CHECKPOINT_KEY")
    path = key_path(settings)
    try:
        return _read_key(path.read_text(encoding="ascii").strip(), str(path))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The key of the checkpoints {path} cannot be read: {error}") from error


def find_or_make_key(settings: Settings) -> SigningKey:
    """Return the key, making it at first use; two first users agree on one. ConfigurationError when it cannot be made.

    It is written beside its place and linked there whole, so that nobody reads half of it.
    """
    found = find_key(settings)
    if found is not None:
        return found
    path = key_path(settings)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        _link(beside, path)
    except OSError as error:
        raise ConfigurationError(
            f"The key of the checkpoints {path} cannot be made: {error.strerror}; set AGENTFLOW_CHECKPOINT_KEY"
        ) from error
    made = find_key(settings)
    if made is None:
        raise ConfigurationError(f"The key of the checkpoints {path} was just made and is not there")
    return made


def _link(beside: Path, path: Path) -> None:
    try:
        os.link(beside, path)
    except FileExistsError:  # another first user was quicker
        pass
    finally:
        beside.unlink()


def _read_key(text: str, source: str) -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text))
    except ValueError:
        raise ConfigurationError(
            f"{source} holds no key of checkpoints: it takes 64 hexadecimal digits, such as `openssl rand -hex 32`"
        ) from None
    return SigningKey(private, private.public_key().public_bytes_raw().hex())


def verifier(publics: Sequence[str]) -> Verifier:
    """Return the check of signatures against these public keys. UsageError for one that is none."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        known = {key_id(each): Ed25519PublicKey.from_public_bytes(bytes.fromhex(each)) for each in publics}
    except ValueError:
        raise UsageError("A public key is 64 hexadecimal digits, as `agentflow audit key` prints it.") from None

    def verify(named: str, signed: bytes, signature: str) -> str | None:
        key = known.get(named)
        if key is None:
            return f"is signed by key {named}, and the keys given are {', '.join(sorted(known))}"
        try:
            key.verify(bytes.fromhex(signature), signed)
        except (InvalidSignature, ValueError):
            return "does not fit its signature"
        return None

    return verify
