"""Keys come from the environment, a private file or another package's keystore; no problem quotes what was found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentflow.executors.keystore import Auth, KeyProblem, find_key

SECRET = "sk-the-key-itself"


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "key"
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def test_a_key_comes_from_the_environment_without_its_whitespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", f"  {SECRET}\n")

    assert find_key(Auth("env", env_var="SOME_KEY")) == SECRET


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_variable_without_a_value_is_a_named_problem(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)

    assert find_key(Auth("env", env_var="SOME_KEY")) is KeyProblem.VARIABLE_NOT_SET


def test_a_key_is_the_whole_text_of_a_file(key_file: Callable[..., Path]) -> None:
    assert find_key(Auth("file", file_path=key_file(f"\n{SECRET} \n"))) == SECRET


@pytest.mark.parametrize("text", [f'{{"keys": {{"main": "{SECRET}"}}}}', f"keys:\n  main: {SECRET}\n"])
def test_a_dotted_file_key_leads_into_json_and_yaml(key_file: Callable[..., Path], text: str) -> None:
    assert find_key(Auth("file", file_path=key_file(text), file_key="keys.main")) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o644])
def test_a_file_that_others_may_open_is_refused(key_file: Callable[..., Path], mode: int) -> None:
    assert find_key(Auth("file", file_path=key_file(SECRET, mode))) is KeyProblem.FILE_NOT_PRIVATE


def test_a_link_to_a_private_file_is_followed(key_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(key_file(SECRET))

    assert find_key(Auth("file", file_path=tmp_path / "link")) == SECRET


@pytest.mark.parametrize(
    ("text", "file_key", "problem"),
    [
        ("", None, KeyProblem.EMPTY),
        (" \n", None, KeyProblem.EMPTY),
        (f"{SECRET} and more", None, KeyProblem.NOT_A_KEY),
        (f"{SECRET}\nand more", None, KeyProblem.NOT_A_KEY),
        ("schlüssel", None, KeyProblem.NOT_A_KEY),
        (f"{{{SECRET}", "main", KeyProblem.NO_SUCH_ENTRY),
        (f"main: {SECRET}", "other", KeyProblem.NO_SUCH_ENTRY),
        (f"main: {SECRET}", "main.deeper", KeyProblem.NO_SUCH_ENTRY),
        ("main: 17", "main", KeyProblem.NO_SUCH_ENTRY),
        ("x" * 70_000, None, KeyProblem.FILE_TOO_LARGE),
    ],
)
def test_what_is_no_key_is_a_named_problem(
    key_file: Callable[..., Path], text: str, file_key: str | None, problem: KeyProblem
) -> None:
    assert find_key(Auth("file", file_path=key_file(text), file_key=file_key)) is problem


def test_a_file_that_cannot_be_read_is_a_named_problem(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "bytes").chmod(0o600)

    assert find_key(Auth("file")) is KeyProblem.FILE_NOT_NAMED
    assert find_key(Auth("file", file_path=tmp_path / "nothing")) is KeyProblem.FILE_MISSING
    assert find_key(Auth("file", file_path=tmp_path)) is KeyProblem.FILE_UNREADABLE
    assert find_key(Auth("file", file_path=tmp_path / "bytes")) is KeyProblem.FILE_UNREADABLE


@pytest.fixture
def keystore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Install a package that offers the source ``vault``, for one test."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(body: str) -> None:
        (tmp_path / "some_vault.py").write_text(f"class Vault:\n    def get(self, auth):\n        {body}\n")
        info = tmp_path / "some_vault-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-vault\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[agentflow.keystores]\nvault = some_vault:Vault\n")

    yield install
    sys.modules.pop("some_vault", None)


def test_another_package_can_offer_a_source(keystore: Callable[[str], None]) -> None:
    keystore("return auth.options['path'] + '-key\\n'")

    assert find_key(Auth("vault", options={"path": "ops"})) == "ops-key"


@pytest.mark.parametrize("body", [f"raise RuntimeError('{SECRET}')", "return None"])
def test_a_source_that_fails_is_a_named_problem_without_its_words(keystore: Callable[[str], None], body: str) -> None:
    keystore(body)

    assert find_key(Auth("vault")) is KeyProblem.SOURCE_FAILED


def test_a_source_that_nobody_offers_is_a_named_problem() -> None:
    assert find_key(Auth("cellar")) is KeyProblem.UNKNOWN_SOURCE


def test_every_problem_says_what_to_do_and_none_of_them_quotes() -> None:
    assert all(problem.sentence and "{" not in problem.sentence for problem in KeyProblem)
