"""One mail over SMTP: whom to reach from the settings' url, the exchange, and what its end means as a call.

Owns that a password never goes over a line that is not encrypted, and when a mail counts as sent. The exchange is
smtplib's, in the thread of the attempt; it is ended by shutting its socket.
"""

from __future__ import annotations

import hashlib
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from agentflow.domain.call import CallProblem
from agentflow.executors.base import CallRecord, Lifeline, Performance
from agentflow.executors.command import Ended

PROVIDER = "smtp"
CONNECT_SECONDS = 10.0
"""How long a connection may take to come about; it cannot be broken off before."""
_PORTS = {"smtp": 25, "smtps": 465}
_PERMANENT = 500


@dataclass(frozen=True, slots=True)
class MailServer:
    """A mail server, and who to be there."""

    host: str
    port: int
    is_tls: bool
    """From the start; else as soon as the server offers it."""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str) -> MailServer | None:
        """Read ``smtp://user:password@host:587``; None for what names no host."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            return None
        if not parts.hostname:
            return None
        user, password = (None if each is None else unquote(each) for each in (parts.username, parts.password))
        return cls(parts.hostname, port, parts.scheme == "smtps", user or None, password or None)

    @property
    def endpoint(self) -> str:
        """Whom it calls, for the circuit breaker."""
        return f"{PROVIDER}:" + hashlib.sha256(f"{self.host}:{self.port}".encode()).hexdigest()[:16]

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, so that nobody listens on the line."""
        return self.host in ("localhost", "127.0.0.1", "::1")


class _NoEncryptionError(Exception):
    """A password would have to go over an open line."""


class _Exchange:
    """What is known of a mail so far; ``cut`` may be called from any thread."""

    def __init__(self, server: MailServer, message: EmailMessage) -> None:
        self.was_sent = False
        self.problem: CallProblem | None = None
        self.status: int | None = None
        self._server = server
        self._message = message
        self._smtp: smtplib.SMTP | None = None
        self._is_cut = False

    def cut(self) -> None:
        """End the exchange where it stands."""
        self._is_cut = True
        opened = self._smtp.sock if self._smtp is not None else None
        if opened is not None:
            with suppress(OSError):
                socket.socket.shutdown(opened, socket.SHUT_RDWR)  # that of TLS would first take its state away

    def run(self, timeout_seconds: float) -> None:
        """Send the mail; what went wrong is noted."""
        try:
            with self._opened(timeout_seconds) as smtp:
                self._send(smtp)
        except smtplib.SMTPAuthenticationError as error:
            self._note(CallProblem.UNAUTHENTICATED, error.smtp_code)
        except smtplib.SMTPRecipientsRefused as error:
            self._note_code(max(code for code, _ in error.recipients.values()))
        except smtplib.SMTPServerDisconnected:
            self._note(CallProblem.CONNECTION_LOST)
        except smtplib.SMTPConnectError as error:
            self._note(CallProblem.NOT_CONNECTED, error.smtp_code)
        except smtplib.SMTPResponseException as error:
            self._note_code(error.smtp_code)
        except (_NoEncryptionError, ssl.SSLCertVerificationError):
            self._note(CallProblem.NO_ENCRYPTION)
        except (smtplib.SMTPException, UnicodeError, ValueError):  # what the server or the protocol does not allow
            self._note(CallProblem.REJECTED)
        except OSError:
            self._note(CallProblem.CONNECTION_LOST if self._smtp is not None else CallProblem.NOT_CONNECTED)

    @contextmanager
    def _opened(self, timeout_seconds: float) -> Iterator[smtplib.SMTP]:
        smtp = self._connected(min(CONNECT_SECONDS, timeout_seconds))
        try:
            self._smtp = smtp
            if smtp.sock is not None:
                smtp.sock.settimeout(timeout_seconds)
            if self._is_cut:
                raise smtplib.SMTPServerDisconnected
            smtp.ehlo_or_helo_if_needed()
            if not self._server.is_tls and smtp.has_extn("starttls"):
                smtp.starttls(context=ssl.create_default_context())
                smtp.ehlo()
            self._log_in(smtp)
            yield smtp
            with suppress(smtplib.SMTPException, OSError):  # the mail is taken; the rest is courtesy
                smtp.quit()
        finally:
            smtp.close()

    def _connected(self, patience: float) -> smtplib.SMTP:
        server, name = self._server, socket.gethostname()  # its full name would be asked of a name server
        if server.is_tls:
            tls = ssl.create_default_context()
            return smtplib.SMTP_SSL(server.host, server.port, local_hostname=name, timeout=patience, context=tls)
        return smtplib.SMTP(server.host, server.port, local_hostname=name, timeout=patience)

    def _log_in(self, smtp: smtplib.SMTP) -> None:
        user, password = self._server.user, self._server.password
        if user is None:
            return
        if not isinstance(smtp.sock, ssl.SSLSocket) and not self._server.is_here:
            raise _NoEncryptionError
        smtp.login(user, password or "")

    def _send(self, smtp: smtplib.SMTP) -> None:
        self.was_sent = True
        refused = smtp.send_message(self._message)
        if refused:  # the others have it: it is not to be sent again
            self._note(CallProblem.REJECTED, max(code for code, _ in refused.values()))

    def _note_code(self, code: int) -> None:
        self._note(CallProblem.REJECTED if code >= _PERMANENT else CallProblem.UNAVAILABLE, code)

    def _note(self, problem: CallProblem, status: int | None = None) -> None:
        self.problem, self.status = problem, status


def deliver(server: MailServer, message: EmailMessage, lifeline: Lifeline, timeout_seconds: float) -> Performance:
    """Send a mail and say what became of it; a refusal of one of several addresses is final."""
    exchange, began, is_late = _Exchange(server, message), time.monotonic(), threading.Event()

    def expire() -> None:
        is_late.set()
        exchange.cut()

    timer = threading.Timer(timeout_seconds, expire)
    timer.daemon = True
    timer.start()
    lifeline.on_stop(lambda _reason: exchange.cut())
    try:
        exchange.run(timeout_seconds)
    finally:
        timer.cancel()
    return _performance(exchange, lifeline, time.monotonic() - began, is_late=is_late.is_set())


def _performance(exchange: _Exchange, lifeline: Lifeline, duration: float, *, is_late: bool) -> Performance:
    is_done = exchange.was_sent and exchange.problem is None
    call = CallRecord(
        PROVIDER,
        "",
        was_sent=exchange.was_sent,
        problem=exchange.problem,
        provider_status=exchange.status,
        duration_seconds=duration,
    )
    if not is_done and lifeline.stop_reason is not None:
        return Performance(Ended.STOPPED, duration_seconds=duration if exchange.was_sent else 0.0, call=call)
    if not is_done and is_late:
        return Performance(Ended.TIMED_OUT, exit_code=124, duration_seconds=duration, call=call)
    return Performance(Ended.EXITED, exit_code=0 if is_done else None, duration_seconds=duration, call=call)
