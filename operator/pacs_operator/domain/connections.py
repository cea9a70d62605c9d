"""The one connection table: every allowed flow of an archive, and why it is allowed.

All ingress and egress policies and the expected reachability matrix are rendered from these rows; what has
no row is denied both ways.
"""

from dataclasses import dataclass
from typing import Literal

from pacs_operator.domain.names import Component, Port


@dataclass(frozen=True)
class Outside:
    """An end of a flow that is no component of the archive.

    ``peers`` are the accepted peers' CIDRs; ``legacy`` the devices without TLS, each with a port of its own;
    ``database`` the index of an archive that does not run its own;
    ``destinations`` the addresses and ports at which accepted peers receive;
    ``source`` the node that an import brings objects from; ``operator`` the operator's pods;
    ``dns`` the cluster's resolver; ``vault`` the addresses of Vault.
    """

    name: Literal["peers", "legacy", "destinations", "database", "source", "operator", "dns", "vault"]


PEERS = Outside("peers")
LEGACY = Outside("legacy")
DESTINATIONS = Outside("destinations")
DATABASE = Outside("database")
SOURCE = Outside("source")
OPERATOR = Outside("operator")
DNS = Outside("dns")
VAULT = Outside("vault")

End = Component | Outside


@dataclass(frozen=True)
class Connection:
    """One allowed flow; ``port`` None means the port that the far end declares (Vault's, a destination's)."""

    source: End
    target: End
    port: int | None
    reason: str
    protocols: tuple[Literal["TCP", "UDP"], ...] = ("TCP",)
    only_with: Literal["dicomweb"] | None = None  # section of the spec without which it is not there


CONNECTIONS: tuple[Connection, ...] = (
    Connection(PEERS, Component.GATE, Port.DICOM_TLS, "Peers speak DICOM over mutual TLS to the gate"),
    Connection(
        LEGACY,
        Component.GATE,
        None,
        "Each device without TLS speaks plaintext DICOM to the one port that is its own",
    ),
    Connection(
        Component.CONFORMANCE,
        Component.GATE,
        Port.DICOM_TLS,
        "The conformance pod tests the gate as a modality would",
    ),
    Connection(
        PEERS,
        Component.GATE,
        Port.GATE_WEB,
        "Peers speak DICOMweb over mutual TLS to the gate, whose Service has this port at 443",
        only_with="dicomweb",
    ),
    Connection(
        Component.CONFORMANCE,
        Component.GATE,
        Port.GATE_WEB,
        "The conformance pod tests DICOMweb as a client would",
        only_with="dicomweb",
    ),
    Connection(
        Component.GATE,
        Component.ORTHANC,
        Port.ORTHANC_WEB,
        "The gate re-encrypts DICOMweb requests to the HAProxy beside Orthanc",
        only_with="dicomweb",
    ),
    Connection(
        Component.GATE,
        Component.ORTHANC,
        Port.ORTHANC_DICOM,
        "The gate re-encrypts accepted associations to Orthanc",
    ),
    Connection(
        Component.ORTHANC,
        Component.GATE,
        Port.GATE_OUTBOUND,
        "Orthanc sends C-MOVE sub-operations and storage commitment reports through the gate, to nobody directly",
    ),
    Connection(
        Component.GATE,
        DESTINATIONS,
        None,
        "The gate opens mutual TLS to peers that receive, each at its own address and port",
    ),
    Connection(
        Component.IMPORTER,
        SOURCE,
        None,
        "An import queries and retrieves at the one address and port that its PacsImport names",
    ),
    Connection(
        Component.IMPORTER,
        Component.GATE,
        Port.DICOM_TLS,
        "An import stores and reads back through the gate, as any peer does",
    ),
    Connection(Component.ORTHANC, Component.POSTGRES, Port.POSTGRES, "Orthanc keeps its index in PostgreSQL"),
    Connection(
        Component.ORTHANC,
        DATABASE,
        None,
        "With spec.database.mode External, Orthanc keeps its index in a PostgreSQL outside, over verified TLS",
    ),
    Connection(
        Component.CONFORMANCE,
        Component.ORTHANC,
        Port.AGENT_CONTROL,
        "The conformance pod removes its own objects by the restricted route",
    ),
    Connection(
        Component.CONFORMANCE,
        Component.POSTGRES,
        Port.AGENT_CONTROL,
        "The allowed twin of the conformance pod's attack on 5432: a dropped packet proves nothing unless another "
        "port of the same pod answers; the agent serves this caller no route",
    ),
    Connection(
        OPERATOR,
        Component.GATE,
        Port.AGENT_CONTROL,
        "The operator asks for certificate times and per-peer counts",
    ),
    Connection(
        OPERATOR,
        Component.ORTHANC,
        Port.AGENT_CONTROL,
        "The operator asks for certificate times and per-peer counts",
    ),
    Connection(OPERATOR, Component.POSTGRES, Port.AGENT_CONTROL, "The operator asks for certificate times"),
    *(
        Connection(component, DNS, Port.DNS, "Names of services are resolved by the cluster's DNS", ("UDP", "TCP"))
        for component in Component
    ),
    *(
        Connection(component, VAULT, None, "The agent logs in and has its own keys' certificates signed")
        for component in Component
    ),
)


def applies(row: Connection, *, external_database: bool, dicomweb: bool) -> bool:
    """Tell whether an archive has a row: its own PostgreSQL's, or the one to somebody else's; DICOMweb's, if it is on.

    Parameters
    ----------
    row
        A row of the table.
    external_database
        Whether the index is somebody else's.
    dicomweb
        Whether DICOMweb is on.
    """
    if row.only_with == "dicomweb" and not dicomweb:
        return False
    absent: End = Component.POSTGRES if external_database else DATABASE
    return absent not in (row.source, row.target)
