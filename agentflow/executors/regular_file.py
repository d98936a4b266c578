"""Opens a file that a command could have replaced, without ever waiting for it or following it elsewhere.

Owns that one check. What the file means, and what follows when it is no regular file, is the caller's.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

# Non-blocking: opening a FIFO would wait for a writer for ever.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class NotRegularError(OSError):
    """There is something, but no regular file: a link, a FIFO, a folder, a device."""


def open_regular(path: Path) -> BufferedReader:
    """Open the regular file at ``path`` for reading; raises NotRegularError, or another OSError."""
    try:
        handle = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise NotRegularError(error.errno, "is not a regular file") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotRegularError(errno.EINVAL, "is not a regular file")
    return os.fdopen(handle, "rb")
