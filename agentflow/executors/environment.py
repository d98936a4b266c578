"""Which of a worker's environment variables a command may see. Owns the allow-list; the caller brings the environment.

A command gets what lets programs find their way on the machine: paths, account, language, time zone, proxies and
certificate bundles. It does not get the worker's secrets (AGENTFLOW_*, database URLs, API keys) nor what would bend
its own programs (PYTHONPATH, LD_PRELOAD, VIRTUAL_ENV). HOME and TMPDIR are the worker's own: tools keep their
configuration in the one, and the other may lie on a disk made for it. A plan's ``env`` and ``secrets`` add the rest.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

_ALLOWED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LANGUAGE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"),
    }
)
_ALLOWED_PREFIX = "LC_"


def allowed_environment(environ: Mapping[str, str], also: Collection[str] = ()) -> dict[str, str]:
    """Return the part of ``environ`` that commands may see; ``also`` names further variables. PATH is always there."""
    allowed = {
        name: value
        for name, value in environ.items()
        if name in _ALLOWED or name in also or name.startswith(_ALLOWED_PREFIX)
    }
    allowed.setdefault("PATH", os.defpath)
    return allowed
