"""An owner of embedded servers in a process of its own, for tests that kill it or run it as another account.

Arguments: HOME [--as ACCOUNT] [--site DIRECTORY] [--binaries DIRECTORY]. It prints one JSON line once the servers are
ready, and stops them when its stdin ends.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
from pathlib import Path

from agentflow.embedded import EmbeddedServers


def become(account: str) -> None:
    entry = pwd.getpwnam(account)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--as", dest="account")
    parser.add_argument("--site")
    parser.add_argument("--binaries", type=Path)
    options = parser.parse_args()
    if options.site:
        sys.path.insert(0, options.site)
    if options.account:
        become(options.account)
    with EmbeddedServers(options.home, postgres_binaries=options.binaries) as servers:
        ready = {
            "database_url": servers.urls.database_url,
            "redis_url": servers.urls.redis_url,
            "pids": [servers.postgres.pid, servers.valkey.pid],
        }
        print(json.dumps(ready), flush=True)  # noqa: T201 - the line that the test waits for
        sys.stdin.read()


if __name__ == "__main__":
    main()
