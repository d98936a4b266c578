"""A mail server on localhost that answers each command as a test wrote, and tells what mails it took."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from types import TracebackType
from typing import BinaryIO, Self, cast

_GOOD: Mapping[str, str] = {
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go on",
    ".": "250 taken",
    "AUTH": "235 welcome",
    "STARTTLS": "220 go on",
    "RSET": "250 ok",
    "QUIT": "221 bye",
}


@dataclass(frozen=True)
class Mail:
    """A mail as it was taken: its envelope, itself, and whether the line was encrypted."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage
    is_encrypted: bool


@dataclass
class _Envelope:
    sender: str = ""
    recipients: list[str] = field(default_factory=list)


class SmtpService:
    """Serves on a free port. ``answers`` go over the good ones, by command; ``.`` is the end of a mail.

    An answer that is empty hangs up; ``silent_at`` is the command that is never answered.
    """

    def __init__(
        self,
        answers: Mapping[str, str] | None = None,
        *,
        extensions: tuple[str, ...] = (),
        tls: ssl.SSLContext | None = None,
        silent_at: str | None = None,
    ) -> None:
        self.mails: list[Mail] = []
        self.commands: list[str] = []
        self.reached_silence = threading.Event()
        self._answers = {**_GOOD, **(answers or {})}
        self._extensions, self._tls, self._silent_at = extensions, tls, silent_at
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._released = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        with suppress(OSError):  # wakes the accept
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]  # both are ours
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._released.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        with suppress(OSError), connection:  # the caller may hang up at any point
            connection.sendall(b"220 here\r\n")
            self._talk(connection, connection.makefile("rb"), _Envelope())

    def _talk(self, connection: socket.socket, lines: BinaryIO, envelope: _Envelope) -> None:
        while line := lines.readline():
            written = line.decode("ascii").strip()
            verb = written.split(" ")[0].upper()
            self.commands.append(verb)
            if verb == self._silent_at:
                self.reached_silence.set()
                self._released.wait(20)
                return
            if verb in ("EHLO", "HELO"):
                self._say(connection, "\r\n".join([*(f"250-{each}" for each in ("here", *self._extensions)), "250 OK"]))
                continue
            if not self._answers[verb]:
                return
            self._say(connection, self._answers[verb])
            if verb == "STARTTLS" and self._tls is not None:
                inner = self._tls.wrap_socket(connection, server_side=True)
                self._talk(inner, cast("BinaryIO", inner.makefile("rb")), _Envelope())
                return
            if verb == "QUIT":
                return
            if self._answers[verb][0] in "23":
                self._note(verb, written, envelope, connection, lines)

    def _note(self, verb: str, written: str, envelope: _Envelope, connection: socket.socket, lines: BinaryIO) -> None:
        address = written[written.find("<") + 1 : written.find(">")]
        if verb == "MAIL":
            envelope.sender = address
        elif verb == "RCPT":
            envelope.recipients.append(address)
        elif verb == "DATA":
            body = b""
            while (line := lines.readline()) not in (b".\r\n", b""):
                body += line
            message = cast("EmailMessage", message_from_bytes(body, policy=default))
            if self._answers["."].startswith("2"):
                is_encrypted = isinstance(connection, ssl.SSLSocket)
                self.mails.append(Mail(envelope.sender, tuple(envelope.recipients), message, is_encrypted))
            self._say(connection, self._answers["."])

    @staticmethod
    def _say(connection: socket.socket, text: str) -> None:
        connection.sendall(text.encode("ascii") + b"\r\n")
