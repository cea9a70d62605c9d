"""What tests that run processes take from the machine, also several pytest processes side by side."""

import itertools
import os
import random
import socket
import tempfile
from pathlib import Path

# Below the ports that Linux gives to outgoing connections and to port 0, so that nobody takes one between a look
# and the server's start, nor while a test has its server stopped.
_FIRST, _EACH = 20_000, 1_000
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = itertools.cycle(range(_FIRST + _worker % 10 * _EACH, _FIRST + (_worker % 10 + 1) * _EACH))
for _ in range(random.randrange(_EACH)):  # another run on the same machine begins elsewhere
    next(_ports)


def free_port() -> int:
    """Return a port of loopback that nobody listens on, and that this process was not given for long."""
    for port in itertools.islice(_ports, _EACH):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"{_EACH} ports from {next(_ports)} on are all taken")


def enterable(folder: Path) -> Path:
    """Let every user, so those of images, enter a folder of pytest's, which keeps it to its own user."""
    for each in (folder, *folder.parents):
        if Path(tempfile.gettempdir()) in each.parents:
            each.chmod(0o755)
    return folder
