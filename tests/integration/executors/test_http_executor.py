"""Calls to real servers on localhost: what is sent, what is kept, and what each mishap is called."""

from __future__ import annotations

import gzip
import hashlib
import logging
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from agentflow.domain.action import HttpAction
from agentflow.domain.call import CallProblem
from agentflow.domain.error import ConfigurationError
from agentflow.executors.base import Assignment, CallingExecutor, CallRecord, Lifeline, Performance, StopReason
from agentflow.executors.command import Ended, StartProblem
from agentflow.executors.guarded_network import Guard, PrivateHosts
from agentflow.executors.http import HttpExecutor, HttpWorld
from agentflow.executors.providers import Credential, Credentials, ProviderKind
from tests.http_service import HttpService, answer, reset

SENTINEL = "sesame-4711"
_CERTIFICATE = Path(__file__).with_name("service_test.pem")
Perform = Callable[..., Performance]


async def _local(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


def _client_tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(_CERTIFICATE))


@pytest.fixture
def service() -> Iterator[HttpService]:
    """A service that answers 200 with an empty JSON object, unless the test says otherwise."""
    with HttpService() as service:
        yield service


@pytest.fixture
def perform(tmp_path: Path) -> Perform:
    """Performs one http action; every name leads to this machine, and this machine may be called."""
    scratches = iter(range(1000))

    def run(url: str, lifeline: Lifeline | None = None, **wishes: Any) -> Performance:
        scratch = tmp_path / str(next(scratches))
        scratch.mkdir()
        world = HttpWorld(
            Guard(PrivateHosts.read(wishes.pop("allowed", ["127.0.0.1"])), _local),
            _client_tls(),
            wishes.pop("answer_limit_bytes", 1024 * 1024),
            Credentials({each.id: each for each in wishes.pop("credentials", ())}, ()),
        )
        given: dict[str, Any] = {name: wishes.pop(name) for name in ("masks", "texts") if name in wishes}
        timeout = wishes.pop("timeout_seconds", 20.0)
        assignment = Assignment("r", "s", 1, HttpAction(url=url, **wishes), scratch, timeout, **given)
        return HttpExecutor(world).perform(assignment, lifeline or Lifeline(20))

    return run


def _call(performance: Performance) -> CallRecord:
    assert performance.call is not None
    return performance.call


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_the_executor_of_http_is_one_that_calls() -> None:
    assert isinstance(HttpExecutor(), CallingExecutor)


def test_a_call_is_sent_as_written_and_its_answer_is_kept(service: HttpService, perform: Perform) -> None:
    service.answer = answer(200, b'{"ok": true}', Content_Type="application/json; charset=utf-8")

    performance = perform(
        f"{service.url}tickets?state=open now",
        method="POST",
        headers={"Authorization": f"Bearer {SENTINEL}"},
        texts={"json": '{"title": "für"}'},
    )

    call = _call(performance)
    [request] = service.requests
    assert request.line == "POST /tickets?state=open%20now HTTP/1.1"
    assert request.body == '{"title": "für"}'.encode()
    assert request.headers["authorization"] == f"Bearer {SENTINEL}"
    assert request.headers["content-type"] == "application/json"
    assert (performance.ended, performance.exit_code) == (Ended.EXITED, 0)
    assert (call.provider, call.model, call.provider_status, call.was_sent) == ("http", "", 200, True)
    assert call.answer is not None
    assert call.answer.read_bytes() == b'{"ok": true}'
    assert call.answer.stat().st_mode & 0o777 == 0o600
    assert call.answer_sha256 == hashlib.sha256(b'{"ok": true}').hexdigest()
    assert (call.answer_bytes, call.answer_media_type) == (12, "application/json")
    assert call.duration_seconds > 0
    assert call.usage is None


def _credential(base_url: str) -> Credential:
    return Credential("tickets", ProviderKind.HTTP, base_url.rstrip("/"), SecretStr(SENTINEL))


def test_a_credential_goes_to_its_own_address_and_is_masked_in_the_answer(
    service: HttpService, perform: Perform
) -> None:
    service.answer = answer(200, f"you sent {SENTINEL}".encode())

    call = _call(
        perform(f"{service.url}v1/tickets", credential="tickets", credentials=[_credential(f"{service.url}v1")])
    )

    assert service.requests[0].headers["authorization"] == f"Bearer {SENTINEL}"
    assert call.answer is not None
    assert SENTINEL.encode() not in call.answer.read_bytes()


@pytest.mark.parametrize("path", ["v2/tickets", "v1tickets", "v1/../v2", "v1/%2e%2e/v2", ""])
def test_a_credential_goes_nowhere_else(service: HttpService, perform: Perform, path: str) -> None:
    call = _call(perform(service.url + path, credential="tickets", credentials=[_credential(f"{service.url}v1")]))

    assert (call.problem, call.was_sent, service.requests) == (CallProblem.FOREIGN_CREDENTIAL, False, [])


@pytest.mark.parametrize("name", ["Host", "hOST"])
def test_a_credential_goes_out_under_no_host_but_its_own(service: HttpService, perform: Perform, name: str) -> None:
    """A shared front end passes a request on by its Host, to another tenant perhaps."""
    credentials = [_credential(service.url)]

    call = _call(perform(service.url, headers={name: "other.example"}, credential="tickets", credentials=credentials))

    assert (call.problem, call.was_sent, service.requests) == (CallProblem.FOREIGN_CREDENTIAL, False, [])


def test_a_credential_that_is_not_there_is_named_before_anything_is_sent(
    service: HttpService, perform: Perform
) -> None:
    call = _call(perform(service.url, credential="tickets"))

    assert (call.problem, call.was_sent, service.requests) == (CallProblem.UNKNOWN_PROVIDER, False, [])


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_every_method_can_be_called_without_a_body(service: HttpService, perform: Perform, method: str) -> None:
    service.answer = answer(204)

    call = _call(perform(service.url, method=method))

    assert service.requests[0].line.startswith(method)
    assert (call.problem, call.answer_bytes) == (None, 0)


def test_an_answer_in_chunks_and_one_that_ends_with_the_connection_are_kept(
    service: HttpService, perform: Perform
) -> None:
    service.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    chunked = _call(perform(service.url))
    service.answer = b"HTTP/1.0 200 OK\r\n\r\nabcde"
    until_close = _call(perform(service.url))

    assert [call.answer.read_bytes() for call in (chunked, until_close) if call.answer] == [b"abcde", b"abcde"]


def test_a_packed_answer_is_unpacked_before_secrets_are_masked(service: HttpService, perform: Perform) -> None:
    service.answer = answer(200, gzip.compress(f"key={SENTINEL};".encode()), Content_Encoding="gzip")

    call = _call(perform(service.url, masks=(SENTINEL,)))

    assert call.answer is not None
    assert call.answer.read_bytes() == b"key=***;"
    assert call.answer_bytes == 8


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (302, CallProblem.BAD_STATUS),
        (400, CallProblem.REJECTED),
        (401, CallProblem.UNAUTHENTICATED),
        (403, CallProblem.FORBIDDEN),
        (404, CallProblem.NOT_FOUND),
        (408, CallProblem.SERVER_ERROR),
        (409, CallProblem.BAD_STATUS),
        (410, CallProblem.NOT_FOUND),
        (422, CallProblem.REJECTED),
        (429, CallProblem.RATE_LIMITED),
        (500, CallProblem.SERVER_ERROR),
        (501, CallProblem.BAD_STATUS),
        (502, CallProblem.SERVER_ERROR),
        (503, CallProblem.UNAVAILABLE),
        (504, CallProblem.SERVER_ERROR),
        (529, CallProblem.OVERLOADED),
    ],
)
def test_a_status_that_is_not_accepted_is_named_and_nothing_of_its_body_is_kept(
    service: HttpService, perform: Perform, tmp_path: Path, status: int, problem: CallProblem
) -> None:
    service.answer = answer(status, SENTINEL.encode())

    performance = perform(service.url)

    call = _call(performance)
    assert (call.problem, call.provider_status, call.was_sent) == (problem, status, True)
    assert (performance.ended, performance.exit_code) == (Ended.EXITED, None)
    assert (call.answer, call.answer_bytes, call.answer_sha256) == (None, 0, None)
    assert not list(tmp_path.rglob("body"))
    assert SENTINEL not in repr(performance)


def test_the_plan_says_which_statuses_are_accepted(service: HttpService, perform: Perform) -> None:
    service.answer = answer(404, b"none")
    accepted = _call(perform(service.url, ok_status=(200, 404)))
    service.answer = answer(201, b"made")
    refused = _call(perform(service.url, ok_status=(200, 404)))

    assert (accepted.problem, accepted.answer_bytes) == (None, 4)
    assert (refused.problem, refused.answer) == (CallProblem.BAD_STATUS, None)


def test_what_the_service_asks_to_wait_is_told(service: HttpService, perform: Perform) -> None:
    service.answer = answer(429, Retry_After="7")
    seconds = _call(perform(service.url))
    service.answer = answer(503, Retry_After="Sat, 21 Nov 2026 12:01:00 GMT", Date="Sat, 21 Nov 2026 12:00:00 GMT")
    date = _call(perform(service.url))
    service.answer = answer(429, Retry_After=SENTINEL)
    nothing = _call(perform(service.url))

    assert [call.retry_after_seconds for call in (seconds, date, nothing)] == [7, 60, None]


def test_a_redirect_is_not_followed(service: HttpService, perform: Perform) -> None:
    with HttpService() as private:
        service.answer = answer(307, Location=f"{private.url}latest/meta-data")

        call = _call(perform(service.url, allowed=[f"127.0.0.1:{service.port}"]))

        assert (call.problem, call.provider_status) == (CallProblem.BAD_STATUS, 307)
        assert private.requests == []


def test_a_private_address_is_not_called(service: HttpService, perform: Perform) -> None:
    for url in (service.url, f"http://service.test:{service.port}/", f"http://2130706433:{service.port}/"):
        call = _call(perform(url, allowed=["127.0.0.2", "other.test"]))
        assert (call.problem, call.was_sent, call.provider_status) == (CallProblem.PRIVATE_ADDRESS, False, None)

    assert service.requests == []


def test_this_machine_is_not_called_by_its_name_as_the_system_resolves_it(service: HttpService, tmp_path: Path) -> None:
    assignment = Assignment("r", "s", 1, HttpAction(url=f"http://localhost:{service.port}/"), tmp_path, 20)

    call = _call(HttpExecutor().perform(assignment, Lifeline(20)))

    assert call.problem is CallProblem.PRIVATE_ADDRESS
    assert service.requests == []


def test_an_allowed_host_and_port_is_called_by_name(
    service: HttpService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTFLOW_HTTP_PRIVATE_HOSTS", f"localhost:{service.port}")
    executor = HttpExecutor()
    assignment = Assignment("r", "s", 1, HttpAction(url=f"http://localhost:{service.port}/"), tmp_path, 20)

    assert executor.estimate(assignment).problem is None
    assert _call(executor.perform(assignment, Lifeline(20))).problem is None
    assert service.requests[0].headers["host"] == f"localhost:{service.port}"


def test_private_hosts_that_cannot_be_read_are_an_error_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTFLOW_HTTP_PRIVATE_HOSTS", "http://localhost")
    assignment = Assignment("r", "s", 1, HttpAction(url="http://example.org/"), tmp_path, 20)

    with pytest.raises(ConfigurationError, match="HTTP_PRIVATE_HOSTS"):
        HttpExecutor().perform(assignment, Lifeline(20))


def test_the_proxies_of_the_environment_are_not_used(
    service: HttpService, perform: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpService() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)

        assert _call(perform(f"http://service.test:{service.port}/")).problem is None

        assert proxy.requests == []
    assert service.requests[0].line == "GET / HTTP/1.1"


def test_a_cookie_of_one_call_is_not_sent_with_the_next(service: HttpService, perform: Perform) -> None:
    service.answer = answer(200, Set_Cookie="id=1; Path=/")

    for _ in range(2):
        perform(service.url)

    assert ["cookie" in request.headers for request in service.requests] == [False, False]


def test_a_call_that_does_not_connect_was_not_sent(perform: Perform) -> None:
    call = _call(perform(f"http://127.0.0.1:{_free_port()}/"))

    assert (call.problem, call.was_sent, call.provider_status) == (CallProblem.NOT_CONNECTED, False, None)


def _cut_in_the_answer(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")


def _close(connection: socket.socket) -> None:
    connection.close()


@pytest.mark.parametrize("mishap", [_close, reset, _cut_in_the_answer], ids=["closed", "reset", "cut"])
def test_a_connection_that_ends_early_is_lost_and_the_call_was_sent(
    service: HttpService, perform: Perform, tmp_path: Path, mishap: Callable[[socket.socket], None]
) -> None:
    service.answer = mishap

    call = _call(perform(service.url, method="POST", texts={"json": "{}"}))

    assert (call.problem, call.was_sent, call.answer) == (CallProblem.CONNECTION_LOST, True, None)
    assert len(service.requests) == 1, "it is not repeated here"
    assert not list(tmp_path.rglob("body"))


@pytest.mark.parametrize(
    "raw",
    [
        f"{SENTINEL}\r\n\r\n".encode(),
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        answer(200, b"packed otherwise", Content_Encoding="br"),
        answer(200, b"not packed", Content_Encoding="gzip"),
    ],
    ids=["garbage", "status", "length", "chunks", "head", "encoding", "packing"],
)
def test_an_answer_that_http_does_not_know_is_malformed(service: HttpService, perform: Perform, raw: bytes) -> None:
    service.answer = raw

    performance = perform(service.url)

    assert (_call(performance).problem, _call(performance).was_sent) == (CallProblem.MALFORMED, True)
    assert SENTINEL not in repr(performance)


def test_an_answer_above_the_limit_is_not_kept(service: HttpService, perform: Perform, tmp_path: Path) -> None:
    service.answer = answer(200, b"x" * 1025)
    plain = _call(perform(service.url, answer_limit_bytes=1024))
    service.answer = answer(200, gzip.compress(bytes(10_000_000)), Content_Encoding="gzip")
    packed = _call(perform(service.url, answer_limit_bytes=1024))
    service.answer = answer(200, b"x" * 1024)
    fitting = _call(perform(service.url, answer_limit_bytes=1024))

    assert [call.problem for call in (plain, packed)] == [CallProblem.ANSWER_TOO_LARGE] * 2
    assert [call.answer for call in (plain, packed)] == [None] * 2
    assert (fitting.problem, fitting.answer_bytes) == (None, 1024)
    assert list(tmp_path.rglob("body")) == [fitting.answer]


def test_an_answer_without_end_is_left_at_the_limit(service: HttpService, perform: Perform) -> None:
    def pour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                connection.sendall(bytes(65536))
        except OSError:
            service.hung_up.set()

    service.answer = pour

    assert _call(perform(service.url)).problem is CallProblem.ANSWER_TOO_LARGE
    assert service.hung_up.wait(10)


def _silent(connection: socket.socket, service: HttpService) -> None:
    service.wait_for_hang_up(connection)


def _dripping(connection: socket.socket, service: HttpService) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
    service.wait_for_hang_up(connection)


@pytest.mark.parametrize("hang", [_silent, _dripping], ids=["before_the_first_byte", "in_the_answer"])
def test_the_timeout_covers_the_whole_answer(
    service: HttpService, perform: Perform, tmp_path: Path, hang: Callable[[socket.socket, HttpService], None]
) -> None:
    service.answer = lambda connection: hang(connection, service)

    performance = perform(service.url, timeout_seconds=0.3)

    call = _call(performance)
    assert (performance.ended, performance.exit_code) == (Ended.TIMED_OUT, 124)
    assert (call.problem, call.was_sent, call.answer) == (None, True, None)
    assert service.hung_up.wait(10), "the connection is closed"
    assert not list(tmp_path.rglob("body"))


def test_the_timeout_covers_the_connecting(perform: Perform) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)  # nobody speaks TLS here

        performance = perform(f"https://service.test:{silent.getsockname()[1]}/", timeout_seconds=0.3)

    assert performance.ended is Ended.TIMED_OUT
    assert not _call(performance).was_sent


def test_a_stop_ends_a_call_in_flight(service: HttpService, perform: Perform, tmp_path: Path) -> None:
    service.answer = service.wait_for_hang_up
    lifeline = Lifeline(20)
    stopping = threading.Thread(target=lambda: (service.wait_for_call(), lifeline.stop(StopReason.CANCELLED)))
    stopping.start()

    performance = perform(service.url, lifeline)
    stopping.join()

    call = _call(performance)
    assert (performance.ended, performance.exit_code, call.was_sent) == (Ended.STOPPED, None, True)
    assert performance.duration_seconds > 0
    assert service.hung_up.wait(10), "the connection is closed"
    assert not list(tmp_path.rglob("body"))


def test_what_is_stopped_before_it_begins_is_not_called(service: HttpService, perform: Perform) -> None:
    lifeline = Lifeline(20)
    lifeline.stop(StopReason.DRAINED)

    performance = perform(service.url, lifeline)

    assert (performance.ended, _call(performance).was_sent, performance.duration_seconds) == (Ended.STOPPED, False, 0)
    assert service.requests == []


def test_fifty_calls_are_in_flight_at_once(service: HttpService, perform: Perform) -> None:
    everybody = threading.Barrier(50)

    def answer_together(connection: socket.socket) -> None:
        everybody.wait(15)
        connection.sendall(answer(200, b"{}"))

    service.answer = answer_together

    with ThreadPoolExecutor(50) as pool:
        performances = list(pool.map(lambda _: perform(service.url), range(50)))

    assert [_call(performance).problem for performance in performances] == [None] * 50


def test_an_answer_that_finds_no_place_is_not_asked_for(service: HttpService, tmp_path: Path) -> None:
    world = HttpWorld(Guard(PrivateHosts.read(["127.0.0.1"])), _client_tls(), 1024)
    (tmp_path / "body").symlink_to(tmp_path / "elsewhere")
    assignment = Assignment("r", "s", 1, HttpAction(url=service.url), tmp_path, 20)

    performance = HttpExecutor(world).perform(assignment, Lifeline(20))

    assert (performance.ended, performance.problem) == (Ended.NOT_STARTED, StartProblem.DIRECTORY_ERROR)
    assert (performance.problem_errno, _call(performance).was_sent) == ("EEXIST", False)
    assert service.requests == []
    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture
def small_disk() -> Iterator[None]:
    """A system that lets this process write no file beyond 1,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_an_answer_that_the_disk_does_not_take_is_no_fault_of_the_service(
    service: HttpService, perform: Perform
) -> None:
    service.answer = answer(200, b"x" * 2000)

    performance = perform(service.url)

    call = _call(performance)
    assert (call.problem, call.was_sent, call.answer) == (CallProblem.ANSWER_TOO_LARGE, True, None)
    assert (performance.ended, performance.problem) == (Ended.EXITED, StartProblem.STREAM_UNWRITABLE)
    assert performance.problem_errno == "EFBIG"


def test_an_unusable_request_is_a_call_that_was_not_made(perform: Perform) -> None:
    bad_url = _call(perform(f"http://user:{SENTINEL}@127.0.0.1/"))
    bad_header = _call(perform("http://127.0.0.1/", headers={"X-Key": f"{SENTINEL}\r\nX: y"}))

    assert (bad_url.problem, bad_url.was_sent) == (CallProblem.BAD_URL, False)
    assert (bad_header.problem, bad_header.was_sent) == (CallProblem.REJECTED, False)


@pytest.fixture
def tls_service() -> Iterator[HttpService]:
    """A service with a certificate for service.test that only this test's client trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_CERTIFICATE)
    with HttpService(tls=context) as service:
        yield service


def test_a_certificate_is_verified_against_the_name_though_an_address_is_called(
    tls_service: HttpService, perform: Perform
) -> None:
    named = _call(perform(f"https://service.test:{tls_service.port}/"))
    other = _call(perform(f"https://other.test:{tls_service.port}/"))
    address = _call(perform(f"https://127.0.0.1:{tls_service.port}/"))

    assert (named.problem, named.provider_status, named.was_sent) == (None, 200, True)
    assert [(call.problem, call.was_sent) for call in (other, address)] == [(CallProblem.NOT_CONNECTED, False)] * 2
    assert len(tls_service.requests) == 1


def test_a_certificate_that_nobody_vouches_for_is_no_connection(tls_service: HttpService, tmp_path: Path) -> None:
    world = HttpWorld(Guard(PrivateHosts.read(["127.0.0.1"]), _local), ssl.create_default_context(), 1024)
    action = HttpAction(url=f"https://service.test:{tls_service.port}/")

    call = _call(HttpExecutor(world).perform(Assignment("r", "s", 1, action, tmp_path, 20), Lifeline(20)))

    assert (call.problem, call.was_sent) == (CallProblem.NOT_CONNECTED, False)


def test_nothing_of_a_call_is_logged_or_told(
    service: HttpService, perform: Perform, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [
        answer(200, SENTINEL.encode(), X=SENTINEL, Content_Type=f"text/{SENTINEL}; name={SENTINEL}"),
        answer(500, SENTINEL.encode(), X=SENTINEL, Retry_After=SENTINEL),
        f"HTTP/1.1 {SENTINEL}\r\n\r\n".encode(),
        f"HTTP/1.1 200 {SENTINEL}\r\nContent-Length: 100\r\n\r\n{SENTINEL}".encode(),
        answer(200, SENTINEL.encode(), Content_Encoding=SENTINEL),
    ]
    told = []
    for each in answers:
        service.answer = each
        told += [
            perform(
                f"http://{SENTINEL}.test:{service.port}/{SENTINEL}?q={SENTINEL}",
                method="POST",
                headers={"X-Key": SENTINEL},
                texts={"json": f'"{SENTINEL}"'},
            )
        ]

    assert len(service.requests) == len(answers)
    assert SENTINEL not in repr(told)
    assert SENTINEL not in caplog.text
