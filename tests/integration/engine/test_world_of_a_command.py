"""What a command finds around it, and what is kept of it: files, inputs, templates, secrets, output, artifacts.

The worker has another cwd and HOME than the producer and sees nothing of its machine but the content store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.content.store import Address
from agentflow.domain.ids import RunId
from agentflow.domain.state import RunState
from agentflow.embedded import ServerUrls
from agentflow.engine.load_plan import load_data
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, command_step, document, shell_step, step_rows, wait_for_end
from tests.integration.engine.conftest import Station, _opened
from tests.workers import WorkerProcess

OUTPUT_LIMIT = 1 << 20
KNOWN = {"AGENTFLOW_SECRET_TOKEN": "hunter2-hunter2", "AGENTFLOW_OUTPUT_LIMIT_BYTES": str(OUTPUT_LIMIT)}


@pytest.fixture(scope="module")
def station(servers: ServerUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """An installation of the module's own with a worker that has a secret and a bound of output."""
    with _opened(servers, template, tmp_path_factory.mktemp("station"), "-c", "2", **KNOWN) as station:
        yield station


@pytest.fixture
def house(station: Station) -> Runtime:
    """The module's installation."""
    return station.house


@pytest.fixture
def worker(station: Station) -> WorkerProcess:
    """The worker that serves it."""
    return station.worker


def _submit(house: Runtime, folder: Path, steps: list[dict[str, Any]], **fields: Any) -> RunId:
    values = fields.pop("values", {})
    loaded = load_data(document(steps, **fields), folder)
    request = SubmitRequest(
        plan=loaded.plan,
        vars=values,
        project="default",
        actor="tester@test",
        content=loaded.content,
        files=loaded.files,
    )
    return submit(house.context, request).run_id


def _stdout(house: Runtime, run_id: RunId, step: str, attempt: int = 1) -> str:
    with house.context.store.open(Address(str(run_id), "stdout", step, attempt)) as file:
        return file.read().decode()


def _failure(house: Runtime, run_id: RunId, step: str) -> dict[str, Any]:
    reason: dict[str, Any] = step_rows(house.context, run_id)[step].reason
    return reason


def test_a_plan_with_files_inputs_templates_and_results(house: Runtime, worker: WorkerProcess, tmp_path: Path) -> None:
    folder = tmp_path / "plan"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "app.log").write_text("ERROR a\nINFO b\nERROR c\n")
    (folder / "count.sh").write_text('#!/bin/sh\ngrep -c "$1" data/app.log > "$AGENTFLOW_ARTIFACTS/count.txt"\n')
    (folder / "count.sh").chmod(0o755)
    run_id = _submit(
        house,
        folder,
        [
            command_step("count", "./count.sh", "{{ vars.level }}"),
            command_step(
                "total",
                "/bin/sh",
                "-c",
                'printf \'{"lines": %s, "mode": "%s"}\' "$(cat counted)" "$MODE"',
                needs=["count"],
                inputs=[{"step": "count", "artifact": "count.txt", "as": "counted"}],
                env={"MODE": "{{ run.id }}"},
                outputs="stdout_json",
            ),
            command_step(
                "say", "echo", "{{ steps.total.result.lines }} of {{ steps.count.exit_code }}", needs=["total"]
            ),
            command_step("echo", "cat", needs=["say"], stdin="said: {{ steps.say.stdout }}"),
        ],
        files=["count.sh", "data/*.log"],
        vars={"level": "ERROR"},
        values={"level": "ERROR"},
    )

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert step_rows(house.context, run_id)["total"].result == {"lines": 2, "mode": str(run_id)}
    assert _stdout(house, run_id, "say") == "2 of 0\n"
    assert _stdout(house, run_id, "echo") == "said: 2 of 0"


def test_secrets_reach_the_command_and_nothing_else(house: Runtime, worker: WorkerProcess, tmp_path: Path) -> None:
    run_id = _submit(
        house,
        tmp_path,
        [
            shell_step(
                "use",
                'echo "got $T"; echo "err $T" >&2; printf \'"%s"\' "$T" > "$AGENTFLOW_OUTPUT"; [ ${#T} = 15 ]',
                env={"T": "{{ secrets.TOKEN }}"},
            )
        ],
        secrets=["TOKEN"],
    )

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert _stdout(house, run_id, "use") == "got ***\n"
    assert step_rows(house.context, run_id)["use"].result == "***"
    assert "hunter2" not in _everything(house)


def test_a_missing_secret_fails_the_step_by_name_without_retries(
    house: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    steps = [command_step("use", "true", env={"T": "{{ secrets.ABSENT }}"})]
    run_id = _submit(house, tmp_path, steps, secrets=["ABSENT"])

    assert wait_for_end(house.context, run_id) is RunState.FAILED
    assert _failure(house, run_id, "use") == {"code": "secret_missing", "detail": {"name": "ABSENT"}}
    assert len(attempt_rows(house.context, run_id)) == 1


def test_a_missing_secret_harms_no_step_that_does_not_use_it(
    house: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    run_id = _submit(house, tmp_path, [command_step("other", "true")], secrets=["ABSENT"])

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED


def test_stdin_stands_in_no_row_and_no_message(house: Runtime, worker: WorkerProcess, tmp_path: Path) -> None:
    sentinel = "SENTINEL-4711"
    run_id = _submit(house, tmp_path, [command_step("cat", "cat", stdin=f"tell {sentinel}")])

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert _stdout(house, run_id, "cat") == f"tell {sentinel}"
    assert sentinel not in _everything(house)
    assert sentinel not in worker.output()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo no json", "output_invalid"),
        ("head -c 70000 /dev/zero | tr '\\0' 1", "output_too_large"),
        ("exit 3", "exit_code"),
        ("kill -9 $$", "signalled"),
    ],
)
def test_a_failure_is_named_and_tells_no_output(
    house: Runtime, worker: WorkerProcess, tmp_path: Path, script: str, code: str
) -> None:
    run_id = _submit(house, tmp_path, [shell_step("bad", script, outputs="stdout_json", retry=1)])

    assert wait_for_end(house.context, run_id) is RunState.FAILED
    assert _failure(house, run_id, "bad")["code"] == code
    assert "no json" not in json.dumps(_failure(house, run_id, "bad"))


def test_a_command_that_cannot_be_started_says_why(house: Runtime, worker: WorkerProcess, tmp_path: Path) -> None:
    run_id = _submit(house, tmp_path, [command_step("bad", "no-such-program-here", retry=1)])

    assert wait_for_end(house.context, run_id) is RunState.FAILED
    assert _failure(house, run_id, "bad")["code"] == "not_started"
    assert "no-such-program-here" in _failure(house, run_id, "bad")["detail"]["problem"]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"command": ["{{ steps.say.stdout }}"]}, "'{{ steps.say.stdout }}' was not found"),
        ({"command": ["./{{ secrets.TOKEN }}"]}, "'./{{ secrets.TOKEN }}' was not found"),
        ({"command": ["true"], "cwd": "{{ secrets.TOKEN }}"}, "cwd_missing"),
        ({"command": ["true"], "cwd": "/{{ steps.say.stdout }}"}, "cwd_outside"),
    ],
)
def test_why_a_command_cannot_be_started_holds_no_output_and_no_secret(
    house: Runtime, worker: WorkerProcess, tmp_path: Path, bad: dict[str, Any], problem: str
) -> None:
    say = shell_step("say", "printf SENTINEL; printf -- -4711")
    step = {**command_step("bad", needs=["say"], retry=1), "subprocess": bad}
    run_id = _submit(house, tmp_path, [say, step], secrets=["TOKEN"])

    assert wait_for_end(house.context, run_id) is RunState.FAILED
    assert problem in _failure(house, run_id, "bad")["detail"]["problem"]
    for text_kept in (_everything(house), worker.output()):
        assert not [word for word in ("SENTINEL-4711", "hunter2", "/usr/bin:") if word in text_kept]


def test_artifacts_and_streams_are_recorded_with_size_and_hash(
    house: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    script = 'mkdir out; printf abc > out/a.txt; echo "ARTIFACT: out/a.txt"; printf xy > "$AGENTFLOW_ARTIFACTS/b.md"'
    run_id = _submit(house, tmp_path, [shell_step("make", script)])

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    with house.context.database.transaction() as tx:
        kept = text("SELECT name, kind, bytes, sha256 FROM artifact WHERE run_id = :run ORDER BY kind, name")
        rows = tx.execute(kept, {"run": run_id}).all()
    assert [(row.name, row.kind, row.bytes) for row in rows] == [
        ("b.md", "file", 2),
        ("out/a.txt", "file", 3),
        ("stderr", "stderr", 0),
        ("stdout", "stdout", 20),
    ]
    assert rows[1].sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_inputs_by_glob_are_laid_into_their_folder(house: Runtime, worker: WorkerProcess, tmp_path: Path) -> None:
    run_id = _submit(
        house,
        tmp_path,
        [
            shell_step(
                "make", 'cd "$AGENTFLOW_ARTIFACTS" && mkdir d && echo 1 > d/a.csv && echo 2 > b.csv && echo 3 > c.md'
            ),
            shell_step(
                "use",
                "find in -type f | sort",
                needs=["make"],
                inputs=[{"step": "make", "artifact": "*.csv", "as": "in"}],
            ),
            shell_step("want", "true", needs=["make"], inputs=["make/absent.txt"], on_failure="continue"),
        ],
    )

    assert wait_for_end(house.context, run_id) is RunState.PARTIAL
    assert _stdout(house, run_id, "use") == "in/b.csv\nin/d/a.csv\n"
    assert _failure(house, run_id, "want")["code"] == "content"


def test_a_name_that_cannot_be_kept_costs_only_its_file(house: Runtime, worker: WorkerProcess, tmp_path: Path) -> None:
    script = r"""cd "$AGENTFLOW_ARTIFACTS"; echo 1 > stdout; echo 2 > 'a\b'; printf 3 > "$(printf 'c\377')";
        echo 4 > good; ln -s good also-good; echo 5 > 'with space'; echo out"""
    run_id = _submit(house, tmp_path, [shell_step("make", script)])

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    with house.context.database.transaction() as tx:
        kept = text("SELECT name FROM artifact WHERE kind = 'file' AND run_id = :run ORDER BY name")
        names = tx.execute(kept, {"run": run_id}).scalars().all()
    assert names == ["also-good", "good", "with space"]
    assert _stdout(house, run_id, "make") == "out\n"
    (line,) = [line for line in worker.output().splitlines() if "artifacts_refused" in line and str(run_id) in line]
    assert "stream_name,unusable_name" in line
    assert "3" in line.partition("artifacts_refused")[2]


def test_a_command_that_replaces_its_stdout_fails_and_frees_its_slot(
    house: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    fifo = shell_step("fifo", "rm ../stdout; mkfifo ../stdout; exit 3", retry=1, on_failure="continue")
    link = shell_step("link", "rm ../stdout; ln -s /etc/hostname ../stdout", needs=["fifo"], when="always", retry=1)
    run_id = _submit(house, tmp_path, [fifo, link])

    assert wait_for_end(house.context, run_id) is RunState.FAILED
    problem = "'stdout' is not a regular file and cannot be kept in the content store"
    for step in ("fifo", "link"):
        assert _failure(house, run_id, step) == {"code": "content", "detail": {"problem": problem}}


def test_a_file_with_the_name_of_an_artifact_folder_costs_only_itself(
    house: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    script = 'mkdir "$AGENTFLOW_ARTIFACTS/d"; echo 1 > "$AGENTFLOW_ARTIFACTS/d/a"; echo 2 > d; echo "ARTIFACT: d"'
    run_id = _submit(house, tmp_path, [shell_step("make", script)])

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    with house.context.database.transaction() as tx:
        kept = text("SELECT name FROM artifact WHERE kind = 'file' AND run_id = :run")
        names = tx.execute(kept, {"run": run_id}).scalars().all()
    assert names == ["d/a"]


def test_100_mb_of_output_is_cut_at_the_bound_and_says_so(
    house: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    warm = _submit(house, tmp_path, [shell_step("warm", "true"), shell_step("too", "true", needs=["warm"])])
    wait_for_end(house.context, warm)
    before = _peak_memory_kib(worker)
    run_id = _submit(house, tmp_path, [shell_step("flood", "head -c 104857600 /dev/zero")])

    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    with house.context.database.transaction() as tx:
        row = tx.execute(
            text("SELECT bytes, bytes_seen, is_cut FROM artifact WHERE name = 'stdout' AND run_id = :run"),
            {"run": run_id},
        ).one()
    assert (row.bytes, row.bytes_seen, row.is_cut) == (OUTPUT_LIMIT, 104857600, True)
    assert _peak_memory_kib(worker) - before < 8 * 1024


def test_a_condition_decides_on_results(house: Runtime, worker: WorkerProcess, tmp_path: Path) -> None:
    run_id = _submit(
        house,
        tmp_path,
        [
            shell_step("measure", "echo 7", outputs="stdout_json"),
            shell_step("high", "true", needs=["measure"], when="steps.measure.result > 5"),
            shell_step("low", "true", needs=["measure"], when="steps.measure.result <= 5"),
            shell_step("broken", "true", needs=["measure"], when="steps.measure.result.depth > 5"),
        ],
    )

    assert wait_for_end(house.context, run_id) is RunState.PARTIAL
    rows = step_rows(house.context, run_id)
    assert {key: row.state for key, row in rows.items()} == {
        "measure": "succeeded",
        "high": "succeeded",
        "low": "skipped",
        "broken": "skipped",
    }
    assert rows["low"].reason["code"] == "when_false"
    assert rows["broken"].reason["code"] == "when_error"


def _everything(house: Runtime) -> str:
    """All rows of all tables and all keys of this test's Redis, as text."""
    with house.context.database.transaction() as tx:
        tables = tx.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        rows = [str(tx.execute(text(f"SELECT * FROM {table}")).all()) for table in tables]
    client = house.context.side_channel._client
    keys = [str(key) + str(client.dump(key)) for key in client.scan_iter(f"{house.settings.redis_prefix}*")]
    return "\n".join([*rows, *keys])


def _peak_memory_kib(worker: WorkerProcess) -> int:
    """The largest peak of resident memory among the worker's processes, supervisors included."""
    peaks = []
    for pid in worker.processes():
        status = Path(f"/proc/{pid}/status")
        if status.exists():
            lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            peaks += [int(line.split()[1]) for line in lines]
    return max(peaks)
