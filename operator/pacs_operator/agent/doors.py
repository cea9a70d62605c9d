"""The agent's two ports: health for the kubelet, control for the operator and the conformance pod."""

import asyncio
import re
import ssl
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from pacs_operator.agent.keeping import KeptTrust
from pacs_operator.agent.log import Event, emit, emit_error
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.webserver import Answer, Caller
from pacs_operator.domain.agentconfig import AgentConfig, AgentStatus
from pacs_operator.domain.errors import PacsError
from pacs_operator.domain.names import CaName

T = TypeVar("T")
RUN_NAME = re.compile(r"[a-z0-9]{1,20}")
STATUS_SECONDS = 15.0
CLEANUP_SECONDS = 50.0

NOT_FOUND = Answer(HTTPStatus.NOT_FOUND)


class Health(Protocol):
    """What the kubelet may know."""

    def started(self) -> bool:
        """Tell whether the neighbour may start."""

    def live(self) -> bool:
        """Tell whether the agent's loop turns."""

    def ready(self) -> bool:
        """Tell whether agent and neighbour serve."""

    def neighbour_live(self) -> bool:
        """Tell whether the neighbour answers, or nothing is known of it."""

    def neighbour_started(self) -> bool:
        """Tell whether the neighbour was seen to answer."""


class Insides(Protocol):
    """What the control port may ask of the agent, in its event loop."""

    async def status(self) -> AgentStatus:
        """Return the agent's report."""

    async def remove_probe_objects(self, run: str) -> int:
        """Remove what one conformance run stored; return how many objects."""


def health_router(health: Health) -> Callable[[str, str, Caller], Answer]:
    """Return the router of the plain port: yes or no, nothing else."""
    routes = {
        "/startupz": health.started,
        "/livez": health.live,
        "/readyz": health.ready,
        "/neighbour-livez": health.neighbour_live,
        "/neighbour-startupz": health.neighbour_started,
    }

    def route(method: str, path: str, _: Caller) -> Answer:
        question = routes.get(path)
        if method != "GET" or question is None:
            return NOT_FOUND
        return Answer(HTTPStatus.OK if question() else HTTPStatus.SERVICE_UNAVAILABLE)

    return route


def control_context(surroundings: Surroundings, leaf: str) -> ssl.SSLContext:
    """Return the TLS of the control port, with the leaf that lies on the volume now.

    TLS 1.2 and 1.3 with forward secrecy and AEAD only (RFC 9325); no resumption, so that every connection is
    checked anew.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.load_cert_chain(surroundings.bundle(leaf))
    context.load_verify_locations(surroundings.root(CaName.CONTROL))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class ControlDoor:
    """Routes of the control port, each open to exactly one name.

    Parameters
    ----------
    config
        Names the callers: the certificate's only DNS name has to be the one that belongs to the route.
    insides
        The agent.
    trust
        Root and revocation list of the control authority.
    loop
        Where the agent runs.
    """

    def __init__(
        self, config: AgentConfig, insides: Insides, trust: KeptTrust, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._clients = config.control_clients
        self._insides = insides
        self._trust = trust
        self._loop = loop

    def route(self, method: str, path: str, caller: Caller) -> Answer:
        """Answer one request; errors are told by reason, never by trace."""
        head, _, run = path.removeprefix("/").partition("/")
        if (method, path) == ("GET", "/status"):
            return self._guarded("status", caller, self._status)
        if (method, head) == ("DELETE", "probe-objects") and "cleanup" in self._clients:
            return self._guarded("cleanup", caller, lambda: self._remove(run))
        return NOT_FOUND

    def _guarded(self, route: str, caller: Caller, act: Callable[[], Answer]) -> Answer:
        refusal = None
        if caller.dns_names != (self._clients.get(route),):  # type: ignore[call-overload]
            refusal = "CallerNotAllowed"
        elif self._revoked(caller):
            refusal = "CertificateRevoked"
        if refusal:
            emit(Event.REQUEST_REFUSED, layer="control", route=route, reason=refusal)
            return Answer(HTTPStatus.FORBIDDEN, {"reason": refusal})
        try:
            return act()
        except PacsError as error:
            emit_error(Event.PROBLEM, error, subject=f"control/{route}")
            return Answer(HTTPStatus.BAD_GATEWAY, {"reason": error.reason, "message": error.message})
        except TimeoutError:
            return Answer(HTTPStatus.GATEWAY_TIMEOUT, {"reason": "Timeout"})

    def _revoked(self, caller: Caller) -> bool:
        """Tell whether the list in use names the caller; a list past its end still counts."""
        if self._trust.crl is None or caller.serial is None:
            return True
        return self._trust.crl.get_revoked_certificate_by_serial_number(caller.serial) is not None

    def _status(self) -> Answer:
        return Answer(HTTPStatus.OK, self._ask(self._insides.status(), STATUS_SECONDS).document())

    def _remove(self, run: str) -> Answer:
        if not RUN_NAME.fullmatch(run):
            return Answer(HTTPStatus.BAD_REQUEST, {"reason": "InvalidRunName"})
        removed = self._ask(self._insides.remove_probe_objects(run), CLEANUP_SECONDS)
        emit(Event.PROBE_OBJECTS_REMOVED, run=run, removed=removed)
        return Answer(HTTPStatus.OK, {"removed": removed})

    def _ask(self, question: Coroutine[Any, Any, T], seconds: float) -> T:
        future = asyncio.run_coroutine_threadsafe(question, self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise
