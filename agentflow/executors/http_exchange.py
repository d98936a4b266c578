"""One exchange over the wire: the request goes out, the answer comes in, and what happened is noted as it happens.

Owns when a request counts as sent, and the tables from a status or an error to a problem. A connection serves one call:
nothing (a cookie, a broken keep-alive) leads from one step to the next. No retries and no redirects.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import MappingProxyType

import httpcore2

from agentflow.domain.call import CallProblem
from agentflow.executors.guarded_network import Guard, GuardedNetwork, PrivateAddressError
from agentflow.executors.http_answer import (
    AnswerFile,
    AnswerTooLargeError,
    NotKeptError,
    Unpacker,
    UnreadableAnswerError,
    header_of,
    media_type_of,
)
from agentflow.executors.http_request import HttpRequest

_STATUSES: Mapping[int, CallProblem] = MappingProxyType(
    {
        400: CallProblem.REJECTED,
        401: CallProblem.UNAUTHENTICATED,
        403: CallProblem.FORBIDDEN,
        404: CallProblem.NOT_FOUND,
        408: CallProblem.SERVER_ERROR,
        410: CallProblem.NOT_FOUND,
        422: CallProblem.REJECTED,
        429: CallProblem.RATE_LIMITED,
        500: CallProblem.SERVER_ERROR,
        502: CallProblem.SERVER_ERROR,
        503: CallProblem.UNAVAILABLE,
        504: CallProblem.SERVER_ERROR,
        529: CallProblem.OVERLOADED,
    }
)
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")


@dataclass(slots=True)
class Wire:
    """What is known of a call so far; true at any moment, also when the call is cancelled."""

    is_begun: bool = False
    was_sent: bool = False
    is_hung_up: bool = False
    """The other side ended the connection."""
    status: int | None = None
    retry_after_seconds: float | None = None
    media_type: str = "application/octet-stream"
    problem: CallProblem | None = None
    errno: int | None = None
    """Of the error that kept the answer from being written down."""


class _WatchedStream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: httpcore2.AsyncNetworkStream, wire: Wire) -> None:
        self._stream = stream
        self._wire = wire

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        self._wire.is_hung_up = not data
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._wire.was_sent = self._wire.was_sent or bool(buffer)
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        return _WatchedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._wire)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


class _WatchedNetwork(GuardedNetwork):
    def __init__(self, guard: Guard, wire: Wire) -> None:
        super().__init__(guard)
        self._wire = wire

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        return _WatchedStream(stream, self._wire)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and where its answer goes; ``ok_status`` of None accepts 200 to 299.

    Without ``answer`` the status says all, and the rest of what the other side says is not read.
    """

    request: HttpRequest
    ok_status: tuple[int, ...] | None
    answer: AnswerFile | None
    wire: Wire

    async def run(self, guard: Guard, tls: ssl.SSLContext) -> None:
        """Make the call and note in ``wire`` what came of it; an answer is kept if its status is accepted."""
        wire = self.wire
        wire.is_begun = True
        try:
            await self._run(guard, tls)
        except PrivateAddressError:
            wire.problem = CallProblem.PRIVATE_ADDRESS
        except AnswerTooLargeError:
            wire.problem = CallProblem.ANSWER_TOO_LARGE
        except NotKeptError as error:
            wire.problem = CallProblem.ANSWER_TOO_LARGE  # for the disk of this worker
            wire.errno = getattr(error.__cause__, "errno", None)
        except UnreadableAnswerError:
            wire.problem = CallProblem.MALFORMED
        except httpcore2.LocalProtocolError:  # its own check of the request failed, before a byte was written
            wire.problem = CallProblem.REJECTED
        except httpcore2.RemoteProtocolError:
            wire.problem = CallProblem.CONNECTION_LOST if wire.is_hung_up else CallProblem.MALFORMED
        except (httpcore2.NetworkError, httpcore2.TimeoutException, OSError):
            wire.problem = CallProblem.CONNECTION_LOST if wire.was_sent else CallProblem.NOT_CONNECTED

    async def _run(self, guard: Guard, tls: ssl.SSLContext) -> None:
        request = self.request
        origin = httpcore2.Origin(request.scheme.encode(), request.host.encode(), request.port)
        url = httpcore2.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=request.target)
        network = _WatchedNetwork(guard, self.wire)
        async with httpcore2.AsyncHTTPConnection(origin, ssl_context=tls, network_backend=network) as connection:
            response = await connection.handle_async_request(
                httpcore2.Request(request.method, url, headers=list(request.headers), content=request.body)
            )
            self._note_head(response)
            if self.wire.problem is None:
                await self._keep(response)

    def _note_head(self, response: httpcore2.Response) -> None:
        wire = self.wire
        wire.status = response.status
        wire.media_type = media_type_of(header_of(response.headers, b"content-type"))
        is_ok = 200 <= response.status <= 299 if self.ok_status is None else response.status in self.ok_status
        if not is_ok:
            wire.problem = _STATUSES.get(response.status, CallProblem.BAD_STATUS)
            written, now = header_of(response.headers, b"retry-after"), header_of(response.headers, b"date")
            wire.retry_after_seconds = retry_after_seconds(written, now)

    async def _keep(self, response: httpcore2.Response) -> None:
        answer = self.answer
        if answer is None:
            return
        unpacker = Unpacker(header_of(response.headers, b"content-encoding"))
        async with aclosing(response.aiter_stream()) as chunks:
            async for chunk in chunks:
                for piece in unpacker.feed(chunk):
                    answer.take(piece)
        answer.take(unpacker.flush())
        answer.finish()


def retry_after_seconds(written: str, date: str) -> float | None:
    """Read Retry-After: seconds, or a date, which is measured from the ``Date`` of the answer (else from now)."""
    if _SECONDS.fullmatch(written):
        return float(written)
    until = _timestamp(written)
    if until is None:
        return None
    now = _timestamp(date)
    return max(0.0, until - (time.time() if now is None else now))


def _timestamp(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
