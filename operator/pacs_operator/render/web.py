"""DICOMweb: what the gate's frontend and the HAProxy beside Orthanc are rendered from."""

from dataclasses import dataclass

from pacs_operator.domain import dicomweb
from pacs_operator.domain.agentconfig import CONFIG_DIR
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.gatepeers import largest_share
from pacs_operator.domain.names import Component, Port, service_dns

HEALTH_PATH = "/healthz"
#: Of one request's headers, what is handed on; the two of a body's length are HAProxy's own business.
_HEADERS = ("accept", "accept-charset", "content-type", "content-length", "transfer-encoding", "expect", "host")
# Beside requests: health checks of each gate, and connections that the gates keep open for the next request.
_SPARE_CONNECTIONS = 64
#: Idle connections that are kept to Orthanc for the next request that reads; each has one of its threads.
KEPT_CONNECTIONS = 8


@dataclass(frozen=True)
class WebLayout:
    """What DICOMweb adds to a configuration.

    Attributes
    ----------
    bind, archive_bind
        Listening addresses of the gate and of the archive's pod.
    lua_file
        Where ``web.lua`` is in both pods.
    orthanc_port
        Where the archive's pod takes DICOMweb.
    orthanc_http
        Orthanc's HTTP on loopback.
    gate_name
        Name that the gate's certificate carries towards the archive's pod.
    max_body_bytes, requests_per_minute, max_concurrent
        Limits, as ``spec.dicomweb.limits`` has them; the second one of each peer, the third of all together.
    """

    bind: str
    archive_bind: str
    gate_name: str
    max_body_bytes: int
    requests_per_minute: int
    max_concurrent: int
    lua_file: str = f"{CONFIG_DIR}/web.lua"
    orthanc_port: int = Port.ORTHANC_WEB
    orthanc_http: str = f"127.0.0.1:{Port.ORTHANC_HTTP}"

    paths = dicomweb.PATHS
    queries = dicomweb.QUERIES
    rights = dicomweb.RIGHT_OF
    health_path = HEALTH_PATH
    kept_connections = KEPT_CONNECTIONS
    dropped_headers = rf"^(?i:(?!(?:{'|'.join(_HEADERS)})$))"

    @property
    def max_share(self) -> int:
        """Return the most requests at one time that one peer can have, whatever its own limit: never all of them."""
        return largest_share(self.max_concurrent)

    @property
    def max_connections(self) -> int:
        """Return the bound of sockets at the gate, and of those beside Orthanc, where one request has two."""
        return 8 * self.max_concurrent + _SPARE_CONNECTIONS

    @property
    def max_connections_per_source(self) -> int:
        """Return how many sockets one address may hold at the gate; several at their bound leave room for others."""
        return 2 * self.max_concurrent + _SPARE_CONNECTIONS // 4


def layout(desired: Desired, bind: str, archive_bind: str) -> WebLayout | None:
    """Return what an archive's spec asks for, or None where DICOMweb is off.

    Parameters
    ----------
    desired
        The archive.
    bind, archive_bind
        Listening addresses.
    """
    asked = desired.archive.spec.dicomweb
    if asked is None:
        return None
    return WebLayout(
        bind=bind,
        archive_bind=archive_bind,
        gate_name=service_dns(Component.GATE, desired.archive.name),
        max_body_bytes=asked.limits.max_body_mi * 2**20,
        requests_per_minute=asked.limits.requests_per_minute,
        max_concurrent=asked.limits.max_concurrent,
    )
