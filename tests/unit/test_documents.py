"""What the documents show is true: examples are valid, links lead somewhere, generated pages are current."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from agentflow.cli import exit_codes
from agentflow.domain.plan_document import read_plan
from agentflow.domain.transition import MAX_LOST
from agentflow.engine.parse_yaml import parse_yaml
from agentflow.executors.base import known_actions
from agentflow.executors.keystore import KeyProblem
from agentflow.executors.providers import load_credentials
from agentflow.settings import Settings, load_settings

REPOSITORY = Path(__file__).parents[2]
HOWTOS = sorted(
    path for path in (REPOSITORY / "docs" / "howto").glob("*.md") if "```yaml" in path.read_text(encoding="utf-8")
)
EXAMPLE_CONFIGURATION = REPOSITORY / "config" / "agentflow.toml"
EXAMPLE_CREDENTIALS = REPOSITORY / "config" / "provider_credentials.yaml.example"
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


@pytest.mark.parametrize("path", HOWTOS, ids=lambda path: path.name)
def test_every_plan_in_a_howto_has_no_fault(path: Path) -> None:
    blocks = [parse_yaml(block, path.name).data for block in _blocks(path, "yaml")]
    plans = [block for block in blocks if isinstance(block, dict)]

    assert plans
    assert [read_plan(plan, available_actions=known_actions()).faults for plan in plans] == [()] * len(plans)


def _toml_examples() -> list[str]:
    uncommented = re.sub(r"(?m)^# (?=[a-z_]+ = |\[)", "", EXAMPLE_CONFIGURATION.read_text(encoding="utf-8"))
    return [uncommented, *(block for path in HOWTOS for block in _blocks(path, "toml"))]


@pytest.mark.parametrize("written", _toml_examples())
def test_every_configuration_that_is_shown_can_be_used(
    written: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AGENTFLOW_")]:
        monkeypatch.delenv(name)
    (tmp_path / "agentflow.toml").write_text(written)
    monkeypatch.setenv("AGENTFLOW_HOME", str(tmp_path))

    settings = load_settings()

    assert ("[budgets" in written) == ("ops" in settings.budgets.project)
    assert ("[approver_groups" in written) == ("ops" in settings.approver_groups)
    if "[budgets" in written:
        assert settings.budgets.project["ops"].usd == 200
        assert settings.budgets.directive["ops/nightly"].tokens_per_day == 200_000


def test_the_example_of_a_configuration_sets_nothing_before_it_is_changed() -> None:
    assert tomllib.loads(EXAMPLE_CONFIGURATION.read_text(encoding="utf-8")) == {}


def _credential_examples() -> list[str]:
    blocks = [block for path in HOWTOS for block in _blocks(path, "yaml") if block.startswith("- id:")]
    return [EXAMPLE_CREDENTIALS.read_text(encoding="utf-8"), *blocks]


@pytest.mark.parametrize("written", _credential_examples())
def test_every_credential_that_is_shown_lacks_only_its_key(written: str, tmp_path: Path) -> None:
    (tmp_path / "credentials.yaml").write_text(written)
    ids = [entry["id"] for entry in yaml.safe_load(written)]

    found = load_credentials(Settings(home=tmp_path, provider_credentials=tmp_path / "credentials.yaml"))

    statuses = {status.credential_id: status for status in found.statuses}
    lacking = {KeyProblem.VARIABLE_NOT_SET.sentence, KeyProblem.FILE_MISSING.sentence, None}
    assert found.file_problem is None
    assert {statuses[each].error for each in ids} <= lacking
    assert statuses["lab"].loaded


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
