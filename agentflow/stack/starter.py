"""The plan that the package ships, for `agentflow demo` and `agentflow init`: where it lies, and a copy of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from agentflow.domain.error import UsageError

FOLDER = Path(__file__).parent.parent / "starter"
PLAN = FOLDER / "plan.yaml"
_NOT_COPIED = shutil.ignore_patterns("__pycache__")


def write_starter(folder: Path) -> list[Path]:
    """Write the plan with its files into ``folder``, made if need be; returns the files, relative to it, sorted.

    UsageError: the folder has something in it already, or cannot be written. Nothing is overwritten.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{str(folder)!r} is not empty: name a new folder.", path=str(folder))
        shutil.copytree(FOLDER, folder, ignore=_NOT_COPIED, dirs_exist_ok=True, copy_function=_copy)
    except OSError as error:
        raise UsageError(f"{str(folder)!r} cannot be written: {_why(error)}.", path=str(folder)) from error
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _why(error: OSError) -> str:
    """What the system said; copytree tells all that it could not copy at once, and of each only in words."""
    if isinstance(error, shutil.Error):
        _, file, said = error.args[0][0]
        return f"{Path(file).name}: {said}"
    return str(error.strerror)


def _copy(source: str, target: str) -> None:
    # Without the modes: what a package manager installed read-only is the user's to change here.
    shutil.copyfile(source, target)
