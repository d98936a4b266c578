"""Plans that come as documents: read in an empty folder, with none but the files that came along.

Owns that nothing of this machine gets into a plan that somebody else wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from agentflow.domain.error import NotAllowed, UsageError
from agentflow.engine.load_plan import LoadedPlan, load_data
from agentflow.executors.base import known_actions

MOST_FILES = 1000


@contextmanager
def opened_document(document: Any, files: Mapping[str, str], project: str | None) -> Iterator[LoadedPlan]:
    """Open a plan's document with its files for as long as the block goes on. Raises PlanRejected and UsageError.

    NotAllowed for one that says it is another ``project``'s than the only one that its sender may use.
    """
    if len(files) > MOST_FILES:
        raise UsageError(f"A request brings at most {MOST_FILES} files, not {len(files)}.")
    with TemporaryDirectory(prefix="agentflow-plan-") as name:
        folder = Path(name)
        for path, text in files.items():
            _write(folder, path, text)
        loaded = load_data(document, folder, source="plan", available_actions=known_actions())
        if project is not None and loaded.plan.project not in ("default", project):
            raise NotAllowed(f"The plan is of project {loaded.plan.project}; the key opens {project} only.")
        yield loaded


def _write(folder: Path, path: str, text: str) -> None:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts or "\0" in path:
        raise UsageError(f"files: {path[:80]!r} leads out of the plan's folder.")
    try:
        target = folder / parts
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="")
    except (OSError, UnicodeEncodeError) as error:
        raise UsageError(f"files: {path[:80]!r} cannot be a file: {type(error).__name__}.") from None
