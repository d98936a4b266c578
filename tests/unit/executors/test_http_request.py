"""A request of an http step is checked before anybody is called, and tells nothing of what it holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agentflow.domain.action import HttpAction, NoopAction
from agentflow.domain.call import CallProblem
from agentflow.executors.base import Assignment, Estimate
from agentflow.executors.http import HttpExecutor
from agentflow.executors.http_request import HttpRequest, UnusableRequestError, request_of

SENTINEL = "sesame-4711"


def _assignment(action: HttpAction, body: str | None = None) -> Assignment:
    return Assignment("r", "s", 1, action, Path(), 5, texts={} if body is None else {"json": body})


def _request(url: str = "http://example.org/", body: str | None = None, **fields: object) -> HttpRequest:
    return request_of(_assignment(HttpAction.model_validate({"url": url, **fields}), body))


def _estimate(url: str, **fields: object) -> Estimate:
    return HttpExecutor().estimate(_assignment(HttpAction.model_validate({"url": url, **fields})))


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.org", "/path", "ftp://example.org/", "file:///etc/passwd", "httpx://example.org"),
        *("http://", "http:///path", "http://user:word@example.org/", "http://user@example.org/"),
        *("http://example.org:0/", "http://example.org:99999/", "http://example.org:http/", "http://exa mple.org/"),
        *(
            "http://a..b/",
            "http://%31%32%37.0.0.1/",
            "http://\uff11\uff12\uff17.0.0.1/",
            "http://[::1/",
            "http://[fe80::1%25lo]/",
        ),
        *("http://good.example.org\\@evil.example.org/", "http://example.org/\n", f"http://{'a' * 64}.org/"),
        "http://" + "a." * 127 + "org/",
    ],
)
def test_a_url_that_cannot_be_used_is_no_call(url: str) -> None:
    with pytest.raises(UnusableRequestError) as caught:
        _request(url)

    assert caught.value.problem is CallProblem.BAD_URL
    assert _estimate(url) == Estimate(problem=CallProblem.BAD_URL)
    assert str(caught.value) == "bad_url"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("http://Example.ORG", "example.org", 80, b"/"),
        ("https://example.org/a b?q=é#part", "example.org", 443, b"/a%20b?q=%C3%A9"),
        ("HTTP://example.org.:8080/x", "example.org.", 8080, b"/x"),
        ("http://bücher.example/", "xn--bcher-kva.example", 80, b"/"),
        ("http://[2606:4700::1]:81/", "2606:4700::1", 81, b"/"),
        ("http://under_score.example/", "under_score.example", 80, b"/"),
    ],
)
def test_a_url_is_taken_apart(url: str, host: str, port: int, target: bytes) -> None:
    request = _request(url)

    assert (request.host, request.port, request.target) == (host, port, target)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://0177.1/", "http://127.0.0.1./"),
        *("http://[::1]/", "http://[::ffff:169.254.169.254]/", "http://169.254.169.254/latest/meta-data"),
        *("http://10.0.0.1:8080/", "http://0/", "http://[64:ff9b::7f00:1]/"),
    ],
)
def test_a_private_address_is_refused_before_anything_is_sent(url: str) -> None:
    assert _estimate(url).problem is CallProblem.PRIVATE_ADDRESS


def test_an_allowed_private_address_is_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_HTTP_PRIVATE_HOSTS", "127.0.0.1:8080")

    assert _estimate("http://127.0.0.1:8080/").problem is None
    assert _estimate("http://127.0.0.1:8081/").problem is CallProblem.PRIVATE_ADDRESS


def test_an_endpoint_is_a_host_and_port_without_their_names() -> None:
    estimate = _estimate(f"https://{SENTINEL}.example.org/one?q=1")

    assert estimate == _estimate(f"https://{SENTINEL}.example.org:443/two", method="POST")
    assert estimate != _estimate(f"https://{SENTINEL}.example.org:444/one")
    digest = hashlib.sha256(f"{SENTINEL}.example.org:443".encode()).hexdigest()
    assert estimate == Estimate(f"http:{digest[:16]}", tokens=0, usd_nano=0)


def test_a_request_has_the_headers_that_the_plan_does_not_write() -> None:
    assert dict(_request("http://example.org:8080/", body='{"a":1}', method="POST").headers) == {
        b"Host": b"example.org:8080",
        b"User-Agent": b"agentflow",
        b"Accept": b"*/*",
        b"Accept-Encoding": b"identity",
        b"Content-Type": b"application/json",
        b"Connection": b"close",
        b"Content-Length": b"7",
    }


def test_a_header_of_the_plan_takes_the_place_of_ours_whatever_its_capitals() -> None:
    headers = _request(body="{}", method="POST", headers={"content-type": "application/ld+json", "HOST": "x"}).headers

    assert [value for name, value in headers if name.lower() == b"content-type"] == [b"application/ld+json"]
    assert [value for name, value in headers if name.lower() == b"host"] == [b"x"]


def test_white_space_around_a_credential_goes() -> None:
    headers = dict(_request(headers={"Authorization": f"{SENTINEL}\n"}).headers)

    assert headers[b"Authorization"] == SENTINEL.encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Id", f"{SENTINEL}\r\nHost: evil"),
        ("X-Id", f"{SENTINEL}\x00"),
        ("X-Id", f"{SENTINEL}\udc80"),
        ("X Id", SENTINEL),
        ("X-Id:", SENTINEL),
        ("", SENTINEL),
        ("Content-Length", "3"),
        ("transfer-encoding", "chunked"),
        ("CONNECTION", "keep-alive"),
    ],
)
def test_a_header_that_cannot_be_sent_is_no_call(name: str, value: str) -> None:
    with pytest.raises(UnusableRequestError) as caught:
        _request(headers={name: value})

    assert caught.value.problem is CallProblem.REJECTED
    assert SENTINEL not in str(caught.value)
    assert _estimate("http://example.org/", headers={name: value}).problem is CallProblem.REJECTED


def test_a_body_that_is_no_text_is_no_call() -> None:
    with pytest.raises(UnusableRequestError):
        _request(body='"\ud800"', method="POST")


def test_a_post_without_a_body_says_that_it_has_none() -> None:
    assert (b"Content-Length", b"0") in _request(method="POST").headers
    assert b"Content-Length" not in dict(_request(method="GET").headers)


def test_the_hash_of_a_request_is_over_method_url_and_body_and_not_over_headers() -> None:
    request = _request("http://example.org/a", body="{}", method="POST", headers={"X-Key": "one"})

    assert request.sha256 == hashlib.sha256(b"POST\nhttp://example.org/a\n{}").hexdigest()
    assert request.sha256 == _request("http://example.org/a", "{}", method="POST", headers={"X-Key": "two"}).sha256


def test_the_repr_of_a_request_tells_nothing() -> None:
    url = f"http://{SENTINEL}.example.org/{SENTINEL}?{SENTINEL}"

    assert SENTINEL not in repr(_request(url, body=f'"{SENTINEL}"', method="POST", headers={"X-Key": SENTINEL}))


def test_another_action_is_an_error_of_the_caller() -> None:
    with pytest.raises(TypeError, match="noop"):
        request_of(Assignment("r", "s", 1, NoopAction(), Path(), 5))
