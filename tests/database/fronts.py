"""Listeners on a port of this machine that stand before a real server, or in the place of one."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

SSL_REQUEST, GSS_REQUEST = struct.pack("!I", 80877103), struct.pack("!I", 80877104)
CLOSE = b""
"""What to answer to say nothing and hang up."""


def refusal(code: str, message: str, *, encoding: str = "utf-8") -> bytes:
    """Return PostgreSQL's ErrorResponse that ends a connection before it begins."""
    fields = (("S", "FATAL"), ("V", "FATAL"), ("C", code), ("M", message))
    body = b"".join(name.encode() + text.encode(encoding) + b"\0" for name, text in fields) + b"\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body


class Front:
    """A listener; `asked` counts the connections that got as far as to ask for a session."""

    def __init__(
        self, behind: Path | None, tls: ssl.SSLContext | None, answers: Sequence[bytes]
    ) -> None:
        self.asked = 0
        self._behind, self._tls, self._answers = behind, tls, answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=[client]))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: client.close())
            stack.enter_context(contextlib.suppress(OSError))  # the client went away
            head = client.recv(8)
            while head[4:] in (SSL_REQUEST, GSS_REQUEST):
                wrap = head[4:] == SSL_REQUEST and self._tls is not None
                client.sendall(b"S" if wrap else b"N")
                if wrap:
                    client = self._tls.wrap_socket(client, server_side=True)
                head = client.recv(8)
            if not head:
                return
            self.asked += 1
            if self.asked <= len(self._answers):
                client.recv(65_536)
                client.sendall(self._answers[self.asked - 1])
            elif self._behind is not None:
                server = stack.enter_context(socket.socket(socket.AF_UNIX))
                server.connect(str(self._behind))
                server.sendall(head)
                _pass_on(client, server)


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    """Pass bytes on both ways until one side has ended."""
    while True:
        pending = isinstance(client, ssl.SSLSocket) and client.pending()
        ready = [client] if pending else select.select([client, server], [], [])[0]
        for source in ready:
            data = source.recv(65_536)
            if not data:
                return
            (server if source is client else client).sendall(data)


@contextlib.contextmanager
def front(
    behind: Path | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    answers: Sequence[bytes] = (),
) -> Iterator[Front]:
    """Listen: first give `answers`, one each, then lead to the server on the socket `behind`.

    With `tls` it speaks TLS to those who ask; without, it declines.
    """
    made = Front(behind, tls, answers)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def listener(answer: bytes, *, at_once: bool = False) -> Iterator[int]:
    """Listen as a program that is no PostgreSQL: answer the first bytes so, whatever they are."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        if not at_once:
                            client.recv(1024)
                        client.sendall(answer)
                        client.shutdown(socket.SHUT_WR)
                        while client.recv(1024):
                            pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
