"""The rules of the house that no linter knows: sizes, markers, headers, and where things may stand."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("agentflow", "workers", "beat") for path in (REPOSITORY / folder).rglob("*.py"))
STATEMENTS = sorted((REPOSITORY / "agentflow/storage/sql").glob("*.sql"))
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 400, 40
UNFINISHED = re.compile("|".join(("PLACE" + "HOLDER", "FIX" + "ME", "TO" + "DO", "XX" + "X")))


def _name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_a_module_is_short_and_says_what_it_owns(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    is_empty_package = path.name == "__init__.py" and not source.strip()

    assert len(source.splitlines()) <= MAX_MODULE_LINES
    assert is_empty_package or ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_no_function_is_long(path: Path) -> None:
    too_long = [
        f"{function.name}: {function.end_lineno - function.lineno + 1}"
        for function in _functions(path)
        if function.end_lineno and function.end_lineno - function.lineno + 1 > MAX_FUNCTION_LINES
    ]

    assert not [each for each in too_long if "migrations" not in _name(path)]


def test_nothing_is_marked_as_unfinished() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - the git of whoever runs this
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    texts = [REPOSITORY / name for name in tracked] or SOURCES

    marked = [
        f"{_name(path)}:{number}"
        for path in texts
        if path.is_file() and path.suffix in (".py", ".sql", ".lua", ".toml", ".yaml", ".md", "")
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert not marked


@pytest.mark.parametrize("path", STATEMENTS, ids=_name)
def test_a_statement_stands_alone_under_its_purpose_and_names_its_parameters(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    header = "\n".join(line for line in source.splitlines() if line.startswith("--"))
    body = "\n".join(line for line in source.splitlines() if not line.startswith("--"))
    used = set(re.findall(r"(?<!:):([a-z_]+)\b", body))

    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", path.stem), "verb_noun"
    assert header
    assert ";" not in body.rstrip().rstrip(";"), "one statement"
    assert used <= set(re.findall(r"[a-z_]+", header)), "every parameter is named in the header"


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_only_settings_reads_the_environment(path: Path) -> None:
    """Values that go to a child process are handed on by name in environment.py and its callers."""
    allowed = {
        "agentflow/settings/fields.py",
        "agentflow/settings/sources.py",
        "agentflow/engine/prepare.py",
        "agentflow/executors/environment.py",
    }
    reads = re.compile(r"os\.(getenv|environ\.get|environ\[)")
    is_command = _name(path).startswith("agentflow/starter/")  # a plan's, which get their world by the environment

    assert is_command or _name(path) in allowed or not reads.search(path.read_text(encoding="utf-8"))


def test_only_executors_and_entry_points_start_processes() -> None:
    """The rule: work is started by executors only. The others start agentflow's own programs and servers."""
    allowed = re.compile(r"agentflow/(executors|embedded|worker|stack|cli|monitor)[./]|beat/")
    starts = re.compile(r"subprocess\.(Popen|run|check_output|call)|os\.(fork|exec|spawn|posix_spawn)")

    assert not [
        _name(path)
        for path in SOURCES
        if starts.search(path.read_text(encoding="utf-8")) and not allowed.match(_name(path))
    ]
