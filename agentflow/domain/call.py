"""Calls: what can go wrong when a model or an HTTP service is called, and what each of it means.

Owns the one table from problem to remedy. Finding out which problem it was is the executors'; a provider's own message
is never part of any of this, only codes, counts and hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class CallProblem(StrEnum):
    """What went wrong with a call, in a word that may be stored."""

    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONTEXT_TOO_LONG = "context_too_long"
    REJECTED = "rejected"
    """The request is refused for what it says (400, 422)."""
    NOT_CONNECTED = "not_connected"
    """No connection came about: nothing was sent."""
    CONNECTION_LOST = "connection_lost"
    MALFORMED = "malformed"
    """The answer is none that the protocol knows."""
    CUT_AT_LENGTH = "cut_at_length"
    """The answer reached max_tokens."""
    CONTENT_FILTERED = "content_filtered"
    SCHEMA_VIOLATED = "schema_violated"
    BAD_STATUS = "bad_status"
    """An HTTP status outside of ok_status that no other word fits."""
    ANSWER_TOO_LARGE = "answer_too_large"
    NO_CREDENTIAL = "no_credential"
    UNKNOWN_PROVIDER = "unknown_provider"
    FOREIGN_CREDENTIAL = "foreign_credential"
    """The credential belongs to another address than the one to be called."""
    NOT_INSTALLED = "not_installed"
    """The package that this provider needs is not there."""
    UNKNOWN_PRICE = "unknown_price"
    UNBOUNDED = "unbounded"
    """A budget caps tokens or usd and the step has no max_tokens."""
    PRIVATE_ADDRESS = "private_address"
    BAD_URL = "bad_url"
    NO_MAIL_SERVER = "no_mail_server"
    NO_ENCRYPTION = "no_encryption"
    """A password would go over an open line to the mail server, or its certificate does not hold."""


class Remedy(StrEnum):
    """What is to be done about a problem."""

    RETRY = "retry"
    """It may go well the next time: the step's retry policy decides."""
    WAIT = "wait"
    """The other side said when: the step is snoozed until then, and no attempt is spent. Without a time: RETRY."""
    GIVE_UP = "give_up"
    """It will go wrong the same way every time."""
    SHORTEN = "shorten"
    """The request is too long for the model; retrying cannot help, shortening can."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a problem means. ``is_outage``: it counts against the endpoint in its circuit breaker.

    ``is_refusal``: the other side said that it did nothing, so nothing was used. ``sentence`` follows "the call";
    ``message`` is what the retry policy's on_messages are matched against.
    """

    remedy: Remedy
    sentence: str
    is_outage: bool = False
    message: str = ""
    is_refusal: bool = False


_NETWORK, _LIMIT = "transient network", "rate limit"
MEANINGS: Mapping[CallProblem, Meaning] = {
    CallProblem.RATE_LIMITED: Meaning(
        Remedy.WAIT, "was refused: too many calls (429)", message=_LIMIT, is_refusal=True
    ),
    CallProblem.QUOTA_EXCEEDED: Meaning(Remedy.GIVE_UP, "was refused: the account has no quota left", is_refusal=True),
    CallProblem.SERVER_ERROR: Meaning(Remedy.RETRY, "met an error of the server", is_outage=True, message=_NETWORK),
    CallProblem.UNAVAILABLE: Meaning(
        Remedy.WAIT, "met a server that is unavailable", is_outage=True, message=_NETWORK, is_refusal=True
    ),
    CallProblem.OVERLOADED: Meaning(
        Remedy.WAIT, "met a server that is overloaded", is_outage=True, message=_NETWORK, is_refusal=True
    ),
    CallProblem.UNAUTHENTICATED: Meaning(
        Remedy.GIVE_UP, "was refused: the credential is not accepted (401)", is_refusal=True
    ),
    CallProblem.FORBIDDEN: Meaning(Remedy.GIVE_UP, "was refused: not allowed (403)", is_refusal=True),
    CallProblem.NOT_FOUND: Meaning(
        Remedy.GIVE_UP, "was refused: there is no such model or address (404)", is_refusal=True
    ),
    CallProblem.CONTEXT_TOO_LONG: Meaning(
        Remedy.SHORTEN, "was refused: its text is longer than the model can take", is_refusal=True
    ),
    CallProblem.REJECTED: Meaning(Remedy.GIVE_UP, "was refused: the request is not accepted", is_refusal=True),
    CallProblem.NOT_CONNECTED: Meaning(Remedy.RETRY, "could not connect", is_outage=True, message=_NETWORK),
    CallProblem.CONNECTION_LOST: Meaning(Remedy.RETRY, "lost its connection", is_outage=True, message=_NETWORK),
    CallProblem.MALFORMED: Meaning(Remedy.RETRY, "got an answer that cannot be read", is_outage=True, message=_NETWORK),
    CallProblem.CUT_AT_LENGTH: Meaning(Remedy.GIVE_UP, "got an answer that was cut at max_tokens"),
    CallProblem.CONTENT_FILTERED: Meaning(Remedy.GIVE_UP, "got no answer: the provider's content filter stopped it"),
    CallProblem.SCHEMA_VIOLATED: Meaning(Remedy.RETRY, "got an answer that breaks output_schema", message=_NETWORK),
    CallProblem.BAD_STATUS: Meaning(Remedy.GIVE_UP, "got a status that is not in ok_status"),
    CallProblem.ANSWER_TOO_LARGE: Meaning(Remedy.GIVE_UP, "got an answer above the limit of bytes"),
    CallProblem.NO_CREDENTIAL: Meaning(Remedy.GIVE_UP, "was not made: its credential is not loaded on this worker"),
    CallProblem.UNKNOWN_PROVIDER: Meaning(Remedy.GIVE_UP, "was not made: no provider of that name is configured"),
    CallProblem.FOREIGN_CREDENTIAL: Meaning(Remedy.GIVE_UP, "was not made: its credential is for another address"),
    CallProblem.NOT_INSTALLED: Meaning(Remedy.GIVE_UP, "was not made: what this provider needs is not installed"),
    CallProblem.UNKNOWN_PRICE: Meaning(Remedy.GIVE_UP, "was not made: its price is unknown and a budget caps usd"),
    CallProblem.UNBOUNDED: Meaning(Remedy.GIVE_UP, "was not made: a budget caps it and it has no max_tokens"),
    CallProblem.PRIVATE_ADDRESS: Meaning(
        Remedy.GIVE_UP,
        "was not made: the address is private, and the setting http_private_hosts of its worker does not allow it",
    ),
    CallProblem.BAD_URL: Meaning(Remedy.GIVE_UP, "was not made: the url cannot be used"),
    CallProblem.NO_MAIL_SERVER: Meaning(
        Remedy.GIVE_UP, "was not made: the setting smtp_url (AGENTFLOW_SMTP_URL) of its worker names no mail server"
    ),
    CallProblem.NO_ENCRYPTION: Meaning(Remedy.GIVE_UP, "was not made: the mail server has no TLS that can be trusted"),
}


@dataclass(frozen=True, slots=True)
class CallUsage:
    """What a call used. ``usd_nano`` is None where the price is unknown; cached is part of input, reasoning of output.

    ``is_estimated``: the provider said nothing, and the counts are the upper bound that had been reserved.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    usd_nano: int | None = None
    is_estimated: bool = False

    @property
    def tokens(self) -> int:
        """What counts against a budget of tokens."""
        return self.input_tokens + self.output_tokens
