"""One device that asks for associations in loops and says what came of each, with the times; for `peer_effect`."""

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

from pacs_operator.probes.tls import Credentials, Trust, client_context
from pacs_operator.probes.wire import Caller, Endpoint, Waits, attempt

WAITS = Waits(connect=1.0, answer=5.0)


def loop(endpoint: Endpoint, callers: list[Caller], pause: float) -> None:
    """Ask with each caller in turn until the reader goes away."""
    while True:
        for caller in callers:
            # CLOCK_MONOTONIC is one for all processes of a machine, network namespaces included.
            began = time.monotonic()
            answer = attempt(endpoint, caller, WAITS)
            seen = {"began": began, "ended": time.monotonic(), "title": caller.calling, "served": answer.served}
            line = json.dumps({**seen, "layer": answer.layer.value, "code": answer.code}) + "\n"
            try:
                os.write(sys.stdout.fileno(), line.encode())  # one write: loops must not mix their lines
            except BrokenPipeError:
                os._exit(0)
            time.sleep(pause)


def main() -> int:
    """Run until the reader goes away."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("host", "server-name", "called"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("cert", "key", "ca"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--calling", nargs="+", required=True, help="AE titles, in turn")
    parser.add_argument("--loops", type=int, default=5, help="side by side (%(default)s)")
    parser.add_argument("--pause", type=float, default=0.25, help="seconds between a loop's attempts (%(default)s)")
    arguments = parser.parse_args()
    trust = Trust(arguments.ca.read_text(encoding="ascii"), arguments.server_name)
    context = client_context(trust, Credentials(arguments.cert, arguments.key))
    endpoint = Endpoint(arguments.host, arguments.port)
    callers = [Caller(title, arguments.called, context, arguments.server_name) for title in arguments.calling]
    threads = [
        threading.Thread(target=loop, args=(endpoint, callers, arguments.pause), daemon=True)
        for _ in range(arguments.loops)
    ]
    for thread in threads:
        thread.start()
        time.sleep(arguments.pause / arguments.loops)  # spread, so that together they look more often
    threads[0].join()
    return 1


if __name__ == "__main__":
    sys.exit(main())
