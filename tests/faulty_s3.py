"""A proxy in front of a real S3 server, which answers some requests itself: denied, expired, busy, or not at all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from s3 import HOST, S3Server

Rule = Callable[[str, str, str], tuple[int, str] | None]
"""From method, path and user agent: the status and the code of an error, None to pass a request on.

A status of 0 closes the connection without an answer.
"""

HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass
class FaultyS3:
    """A running proxy: the server as it is reached through it, its present rule, and what it has answered itself."""

    server: S3Server
    rule: Rule | None = None
    refused: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)


def handler_of(proxy: FaultyS3, url: str) -> type[BaseHTTPRequestHandler]:
    """What answers requests; signatures stay valid, since the Host header is passed on as it came."""
    target = urlsplit(url).netloc

    class Handler(BaseHTTPRequestHandler):
        """Passes requests on, unless the rule answers."""

        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            """Answer a request."""
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            agent = self.headers.get("User-Agent", "")
            verdict = proxy.rule(self.command, self.path, agent) if proxy.rule else None
            if verdict is None:
                proxy.passed[self.command] += 1
                self.pass_on(body)
            else:
                proxy.refused[self.command] += 1
                self.refuse(*verdict)

        def refuse(self, status: int, code: str) -> None:
            """Answer as S3 does in error."""
            if not status:
                self.close_connection = True
                return
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}, by the test</Message></Error>"
            self.reply(status, [("Content-Type", "application/xml")], text.encode())

        def pass_on(self, body: bytes) -> None:
            """Answer as the server does."""
            with suppress(ConnectionError), closing(HTTPConnection(target, timeout=60)) as connection:
                connection.request(self.command, self.path, body, dict(self.headers))
                found = connection.getresponse()
                headers = [(name, value) for name, value in found.getheaders() if name.lower() not in HOP]
                self.reply(found.status, headers, found.read())

        def reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            """Write an answer."""
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() != "content-length" or self.command == "HEAD":
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    return Handler


@contextmanager
def faulty(server: S3Server) -> Iterator[FaultyS3]:
    """A proxy of a server on this machine alone, until the end of the context."""
    proxy = FaultyS3(server)
    listener = ThreadingHTTPServer((HOST, 0), handler_of(proxy, server.url))
    listener.daemon_threads = True
    proxy.server = replace(server, url=f"http://{HOST}:{listener.server_port}")
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
