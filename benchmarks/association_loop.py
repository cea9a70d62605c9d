"""One device that asks for associations in a loop and says what came of each, with the time; for `peer_effect`."""

import argparse
import json
import sys
import time
from pathlib import Path

from pacs_operator.probes.tls import Credentials, Trust, client_context
from pacs_operator.probes.wire import Caller, Endpoint, Waits, attempt


def main() -> int:
    """Run until the reader goes away."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("host", "server-name", "called"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("cert", "key", "ca"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--calling", nargs="+", required=True, help="AE titles, in turn")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between attempts (%(default)s)")
    arguments = parser.parse_args()
    trust = Trust(arguments.ca.read_text(encoding="ascii"), arguments.server_name)
    context = client_context(trust, Credentials(arguments.cert, arguments.key))
    endpoint, waits = Endpoint(arguments.host, arguments.port), Waits(connect=3.0, answer=5.0)
    while True:
        for title in arguments.calling:
            answer = attempt(endpoint, Caller(title, arguments.called, context, arguments.server_name), waits)
            # CLOCK_MONOTONIC is one for all processes of a machine, network namespaces included.
            seen = {"at": time.monotonic(), "title": title, "accepted": answer.accepted, "served": answer.served}
            try:
                print(json.dumps({**seen, "layer": answer.layer.value, "code": answer.code}), flush=True)
            except BrokenPipeError:
                return 0
            time.sleep(arguments.pause)


if __name__ == "__main__":
    sys.exit(main())
