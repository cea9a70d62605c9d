"""Liveness that means something: a heartbeat through the same queue and threads that do the work."""

import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HEARTBEAT_SECONDS = 10.0
#: Longer than the slowest honest pass, since all workers may be in one.
DEAD_AFTER_SECONDS = 150.0


class Heartbeat:
    """When work last went through; a candidate that does not lead lives as long as it tries to.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last = clock, clock()

    def beat(self) -> None:
        """Note that work went through."""
        self._last = self._clock()

    @property
    def age(self) -> float:
        """Return seconds since work last went through."""
        return self._clock() - self._last

    @property
    def alive(self) -> bool:
        """Tell whether work goes through."""
        return self.age < DEAD_AFTER_SECONDS


def serve(heartbeat: Heartbeat, port: int) -> ThreadingHTTPServer:
    """Answer ``/healthz`` in a thread of its own, so that a blocked event loop cannot answer for itself.

    kopf's own liveness port is up only while kopf runs, which on a candidate it does not.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:  # the base class's name
            known = self.path == "/healthz"
            status = HTTPStatus.OK if heartbeat.alive else HTTPStatus.SERVICE_UNAVAILABLE
            body = f"last work went through {heartbeat.age:.0f} s ago\n".encode()
            self.send_response(status if known else HTTPStatus.NOT_FOUND)
            self.send_header("Content-Length", str(len(body) if known else 0))
            self.end_headers()
            self.wfile.write(body if known else b"")

        def log_message(self, *_args: object) -> None:
            return

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
