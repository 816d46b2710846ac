"""HTTP servers on loopback: one that serves files, and such as answer badly or not at all."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class QuietHandler(http.server.BaseHTTPRequestHandler):
    """Logs nothing."""

    def log_message(self, *args: object) -> None:
        pass


class LoopbackServer:
    """An HTTP server on loopback that answers until the test is over."""

    def __init__(self, handler: type[QuietHandler]) -> None:
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class FileServer(LoopbackServer):
    """Serves bytes over HTTP on loopback, whole or cut short, and counts the requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.truncate_after: int | None = None
        self.requests = 0
        owner = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                owner.requests += 1
                content = owner.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: owner.truncate_after])

        super().__init__(Handler)


class _Echo(QuietHandler):
    """Answers with what it was asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.command} {self.path}".encode())

    do_POST = do_GET  # noqa: N815 - the name that http.server calls


class _Failing(QuietHandler):
    def do_GET(self) -> None:
        self.send_error(500)

    do_POST = do_GET  # noqa: N815 - the name that http.server calls


@contextmanager
def echoing_server() -> Iterator[str]:
    """The URL of a server that answers with what it was asked."""
    with _served(_Echo) as url:
        yield url


@contextmanager
def failing_server() -> Iterator[str]:
    """The URL of a server that answers 500, whatever it is asked."""
    with _served(_Failing) as url:
        yield url


@contextmanager
def _served(handler: type[QuietHandler]) -> Iterator[str]:
    found = LoopbackServer(handler)
    try:
        yield found.url
    finally:
        found.server.shutdown()
        found.server.server_close()


@contextmanager
def hanging_server() -> Iterator[str]:
    """The URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
