"""Servers of our own, on loopback, that do to a client what far away ones do: break off, lie, send on, dawdle."""

import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType


@dataclass(frozen=True)
class Asked:
    """A request, as it came."""

    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """`cut`: how much of the body is sent before the connection goes. `dawdles`: nothing more is sent, and it stays."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    length: int | None = None
    dawdles: bool = False


Answer = Callable[[Asked], Reply]


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is what many tests are about."""


class Site:
    """A server; with a certificate an https one."""

    def __init__(self, answer: Answer, certificate: Path | None) -> None:
        self.asked: list[Asked] = []
        self.over = threading.Event()
        self.answer = answer
        self.scheme = "https" if certificate else "http"
        self._server = _Quiet(("127.0.0.1", 0), _handler(self))
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    @property
    def other_url(self) -> str:
        """The same server under another name."""
        return self.url.replace("127.0.0.1", "localhost")

    def fields(self, name: str) -> list[str | None]:
        """One header field of every request so far."""
        return [asked.headers.get(name) for asked in self.asked]

    def __enter__(self) -> "Site":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20

        def do_GET(self) -> None:
            asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()})
            site.asked.append(asked)
            self._send(site.answer(asked))

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(reply.body) if reply.length is None else reply.length))
            self.end_headers()
            self.wfile.write(reply.body[: reply.cut])
            self.wfile.flush()
            if reply.dawdles:
                site.over.wait(20)
            if reply.cut is not None or reply.dawdles or reply.length is not None:
                self.close_connection = True
                self.connection.close()

        def log_message(self, format: str, *args: object) -> None:
            """Not in the tests' output."""

    return Handler


class Shelf:
    """Files under paths, with ETags and ranges, as a good server has them; `breaks` are the cuts of its first answers."""

    def __init__(self, files: Mapping[str, bytes], breaks: Iterable[int] = (), etag: str = '"one"') -> None:
        self.files = dict(files)
        self.etag = etag
        self._breaks = iter(breaks)

    def __call__(self, asked: Asked) -> Reply:
        content = self.files.get(asked.path)
        if content is None:
            return Reply(404)
        headers = {"etag": self.etag} if self.etag else {}
        wanted = asked.headers.get("range", "")
        cut = next(self._breaks, None)
        if not wanted or asked.headers.get("if-range", self.etag) != self.etag:
            return Reply(200, content, headers, cut)
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        headers["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Reply(206, content[start:], headers, cut)


@contextmanager
def site(answer: Answer, certificate: Path | None) -> Iterator[Site]:
    """A server while the block runs."""
    with Site(answer, certificate) as running:
        yield running
