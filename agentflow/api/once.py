"""Idempotency-Key: what a caller asks for under a key of its own is done once.

Owns how a request is told from another, and the header of an answer that was given before. For a route that makes
something: take ``once: Once`` and return ``once(lambda: ...)``. What a submit and a fork make is found by its row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from agentflow.api.caller import Caller, Identified
from agentflow.client.checks import checked_key
from agentflow.engine.reply_once import reply_once
from agentflow.storage.replies import Asked, Reply

REPLAYED = {"Idempotency-Replayed": "true"}


@dataclass(frozen=True, slots=True)
class OnceOnly:
    """The way to do what a request asks for; without an idempotency key each request does it."""

    caller: Caller
    asked: Asked | None

    def __call__(self, do: Callable[[], Response], *, is_secret: bool = False) -> Response:
        """Return the answer of ``do``, now or as it was before; one with a secret is not kept."""
        if self.asked is None:
            return do()
        made: list[Response] = []

        def reply() -> Reply:
            made.append(do())
            [answer] = made
            body = None if is_secret else bytes(answer.body).decode()
            return Reply(answer.status_code, answer.headers.get("Location"), body)

        before = reply_once(self.caller.flow.context, self.asked, reply)
        return made[0] if before is None else _again(before)


def _again(before: Reply) -> Response:
    where = {} if before.location is None else {"Location": before.location}
    return Response(before.body, before.status, REPLAYED | where, "application/json")


async def _once_only(
    caller: Identified,
    request: Request,
    idempotency_key: Annotated[
        str | None, Header(description="The same key with the same request is done once; the answer is given again.")
    ] = None,
) -> OnceOnly:
    if idempotency_key is None:
        return OnceOnly(caller, None)
    told = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    digest = sha256(told + await request.body()).digest()
    return OnceOnly(caller, Asked(caller.key.public_id, checked_key(idempotency_key), digest))


Once = Annotated[OnceOnly, Depends(_once_only)]
