"""The real thing: HTTPS to a pod's address, verified against the name it must bear."""

import contextlib
import http.client
import os
import socket
import ssl
import threading
from collections.abc import Iterator

from pydantic import ValidationError

from pacs_operator.control.port import AgentUnreachableError
from pacs_operator.domain.agentconfig import AgentStatus
from pacs_operator.domain.names import Port
from pacs_operator.vault.port import ClientCredentials

TIMEOUT_SECONDS = 3.0
ANSWER_SECONDS = 8.0  # for all of it: a socket's time-out begins anew with every byte that trickles in
MAX_ANSWER_BYTES = 1_048_576


class AgentClient:
    """``AgentPort`` over the network.

    Parameters
    ----------
    port
        Control port of the agents.
    timeout
        Seconds for connecting and for each read.
    within
        Seconds for everything: an agent is a pod that may have been taken over, and a pass waits for it.
    """

    def __init__(
        self, port: int = Port.AGENT_CONTROL, timeout: float = TIMEOUT_SECONDS, within: float = ANSWER_SECONDS
    ) -> None:
        self._port, self._timeout, self._within = port, timeout, within

    def status(self, address: str, server_name: str, credentials: ClientCredentials) -> AgentStatus:
        """Return what the agent tells."""
        try:
            return AgentStatus.model_validate_json(self._get(address, server_name, _context(credentials)))
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(server_name, type(error).__name__) from None
        except ValidationError:
            raise self._unreachable(server_name, "its answer is not a status of ours") from None

    def _get(self, address: str, server_name: str, context: ssl.SSLContext) -> bytes:
        connection = _Connection(address, self._port, server_name, context, self._timeout)
        with contextlib.closing(connection), _cut_after(connection, self._within):
            connection.request("GET", "/status", headers={"Host": server_name, "Connection": "close"})
            response = connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES + 1)
        if response.status != http.HTTPStatus.OK:
            raise self._unreachable(server_name, f"it answered {response.status}")
        if len(body) > MAX_ANSWER_BYTES:
            raise self._unreachable(server_name, "its answer is too long")
        return body

    @staticmethod
    def _unreachable(server_name: str, why: str) -> AgentUnreachableError:
        return AgentUnreachableError(
            f"agent {server_name}: {why}",
            action="look at the agent container's log, and that policies let the operator reach port 8443",
        )


class _Connection(http.client.HTTPSConnection):
    """Connects to an address while the certificate is checked for a name."""

    def __init__(self, address: str, port: int, name: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(address, port, context=context, timeout=timeout)
        self._tls, self._name = context, name
        self._open: socket.socket | None = None

    def connect(self) -> None:
        raw = socket.create_connection((self.host, self.port), self.timeout)
        try:
            self.sock = self._open = self._tls.wrap_socket(raw, server_hostname=self._name)
        except BaseException:
            raw.close()
            raise

    def cut(self) -> None:
        """End what is under way from another thread: whoever reads gets an end, as if the agent had gone."""
        if self._open is not None:
            with contextlib.suppress(OSError):  # closed meanwhile
                socket.socket.shutdown(self._open, socket.SHUT_RDWR)  # the ssl module's own would unwrap it for readers


@contextlib.contextmanager
def _cut_after(connection: _Connection, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, connection.cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _context(credentials: ClientCredentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=credentials.ca_pem)
    with _memory_file(credentials.key_pem + "\n" + credentials.chain_pem) as path:
        context.load_cert_chain(path)
    return context


@contextlib.contextmanager
def _memory_file(text: str) -> Iterator[str]:
    """Lend a path to anonymous memory: the ssl module reads keys from files only, and a key must not reach a disk."""
    descriptor = os.memfd_create("credentials", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
