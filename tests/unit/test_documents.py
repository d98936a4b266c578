"""What the documents show is true: examples are valid, links lead somewhere, generated pages are current."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agentflow.cli import exit_codes
from agentflow.domain.plan_document import read_plan
from agentflow.domain.transition import MAX_LOST

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])


def _blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_the_plan_in_the_readme_has_no_fault() -> None:
    [plan] = _blocks(REPOSITORY / "README.md", "yaml")

    assert read_plan(yaml.safe_load(plan)).faults == ()


def test_the_python_in_the_readme_builds_its_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    [example] = _blocks(REPOSITORY / "README.md", "python")
    build = example.split("with AgentFlow()", 1)[0]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "app.log").touch()
    (tmp_path / "page.sh").touch()
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}

    exec(compile(build, "README.md", "exec"), names)  # noqa: S102 - our own document

    assert "plan" in names


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))

    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_the_reference_is_what_the_code_says() -> None:
    checked = subprocess.run(
        [sys.executable, "docs/generate_reference.py", "--check"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr


def test_the_number_of_losses_in_the_documents_is_the_code_s() -> None:
    assert MAX_LOST == 3, "docs/states.md says three losses"


def test_every_exit_code_stands_in_the_reference() -> None:
    page = (REPOSITORY / "docs/reference/cli.md").read_text(encoding="utf-8")
    codes = {*exit_codes.BY_STATE.values(), *exit_codes.BY_ERROR.values(), exit_codes.INTERRUPTED, exit_codes.FAILED}

    assert [code for code in sorted(codes) if f"\n| {code} | " not in page] == []
    assert all(f"`{name}`" in page for name in [*exit_codes.BY_STATE, *exit_codes.BY_ERROR])
