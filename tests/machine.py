"""What tests that run processes take from the machine, also several pytest processes side by side."""

import fcntl
import itertools
import os
import random
import socket
import tempfile
from pathlib import Path

# Below the ports that Linux gives to outgoing connections and to port 0: nobody takes one between a look and the
# server's start, nor while a test has its server stopped.
_PORTS = range(20_000, 30_000)
_order = itertools.cycle(random.sample(_PORTS, len(_PORTS)))
_claims = (Path(tempfile.gettempdir()) / f"pacs-test-ports-{os.getuid()}").open("w")


def free_port() -> int:
    """Return a port of loopback that nobody listens on, and that is this process's until it ends."""
    for port in itertools.islice(_order, len(_PORTS)):
        with socket.socket() as probe:
            try:
                fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"all ports from {_PORTS[0]} to {_PORTS[-1]} are taken")


def enterable(folder: Path) -> Path:
    """Let every user, so those of images, enter a folder of pytest's, which keeps it to its own user."""
    for each in (folder, *folder.parents):
        if Path(tempfile.gettempdir()) in each.parents:
            each.chmod(0o755)
    return folder
