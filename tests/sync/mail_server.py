"""A mail server for tests: real sockets, STARTTLS and AUTH, and a mood that a test sets."""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
from dataclasses import dataclass, field


@dataclass
class MailServer:
    """Start it with `with`. `mood` is what it answers to RCPT: 250, or e.g. 550; `silent` hangs instead."""

    tls: ssl.SSLContext | None = None
    user: str = ""
    password: str = ""
    mood: int = 250
    silent: bool = False
    taken: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    """Command lines that came in the clear."""

    def __enter__(self) -> MailServer:
        mail = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                mail.serve(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._ended = threading.Event()
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def serve(self, handler: socketserver.StreamRequestHandler) -> None:
        if self.silent:
            self._ended.wait()
            return
        secret, known = False, not self.user
        reader, sock = handler.rfile, handler.connection

        def say(text: str) -> None:
            sock.sendall(text.encode() + b"\r\n")

        say("220 test")
        while line := reader.readline():
            text = line.decode().strip()
            verb = text.upper().split(" ")[0]
            if not secret:
                self.heard.append(text)
            if verb == "EHLO":
                offers = ["STARTTLS"] if self.tls and not secret else []
                offers += ["AUTH PLAIN"] if self.user and secret else []
                say("\r\n".join(["250-test", *(f"250-{offer}" for offer in offers), "250 ok"]))
            elif verb == "STARTTLS" and self.tls:
                say("220 go on")
                try:
                    sock = self.tls.wrap_socket(sock, server_side=True)
                except OSError:
                    return
                reader, secret = sock.makefile("rb"), True
            elif verb == "AUTH":
                sent = base64.b64decode(text.split(" ")[2]).split(b"\x00")[1:]
                known = sent == [self.user.encode(), self.password.encode()]
                say("235 ok" if known else "535 no")
            elif verb == "RCPT":
                say(f"{self.mood} so" if known else "530 who are you")
            elif verb == "DATA":
                say("354 go on")
                lines = iter(reader.readline, b".\r\n")
                self.taken.append(b"".join(lines).decode())
                say("250 taken")
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")
