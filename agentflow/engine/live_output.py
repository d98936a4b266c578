"""Live output: what a command writes is copied into the content store while it runs, for those who follow it.

Owns the copying: every second or so, in a thread of its own, so that a slow store delays nobody but the followers. The
supervisor has masked and bounded the file by then, and its beginning never changes: a place in the copy is one in the
file that is kept at the end. A copy that fails is given up; the end is kept all the same.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from agentflow.content.store import Address, ContentStore
from agentflow.domain.error import ContentError
from agentflow.executors.regular_file import open_regular
from agentflow.telemetry import get_logger

log = get_logger(__name__)

LOOK_SECONDS = 1.0
"""An attempt that is over sooner is not copied at all."""
_PART_BYTES = 1 << 20
_STREAMS = ("stdout", "stderr")


@contextmanager
def shown_live(store: ContentStore, attempt: Address, scratch: Path) -> Iterator[None]:
    """Copy what an attempt's command writes while the block runs, to where ``attempt`` says but for the name."""
    if not scratch.is_dir():
        yield
        return
    over = threading.Event()
    copier = threading.Thread(target=_copy, args=(store, attempt, scratch, over), name="live-output", daemon=True)
    copier.start()
    try:
        yield
    finally:
        over.set()  # and not waited for: the store may hang


def _copy(store: ContentStore, attempt: Address, scratch: Path, over: threading.Event) -> None:
    copied = dict.fromkeys(_STREAMS, 0)
    try:
        while not over.wait(LOOK_SECONDS):
            for name in _STREAMS:
                for part in _parts(scratch / name, copied[name], over):
                    store.grow(replace(attempt, name=name), copied[name], part)
                    copied[name] += len(part)
    except (ContentError, OSError) as error:
        log.warning("live_output_given_up", error=type(error).__name__)
    over.wait()
    for name in _STREAMS:
        if copied[name]:
            with suppress(ContentError):  # it goes with its run at the latest
                store.forget_growing(replace(attempt, name=name))


def _parts(path: Path, at: int, over: threading.Event) -> Iterator[bytes]:
    """Yield what was written behind ``at``; nothing of a file that is not there yet or any more."""
    with suppress(FileNotFoundError), open_regular(path) as file:
        file.seek(at)
        while not over.is_set() and (part := file.read(_PART_BYTES)):
            yield part
