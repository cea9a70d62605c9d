"""Every certificate of an archive: who carries it, which authority signs it, which names it may bear.

One table for the two sides that must agree: the Vault role that signs a leaf, and the agent's configuration that
asks for it.
"""

from dataclasses import dataclass
from typing import Literal

from pacs_operator.domain.names import CaName, Component, service_dns
from pacs_operator.domain.probepeers import probe_dns_name

HOUR = 3600
DAY = 24 * HOUR

PUBLIC_SUFFIX = "pacs.internal"  # "<archive>.pacs.internal": the gate's name for those outside the cluster

KeyType = Literal["EC", "RSA"]


@dataclass(frozen=True)
class LeafSpec:
    """One certificate of one component.

    Parameters
    ----------
    component
        Whose pod keeps the key.
    name
        Name inside the pod (``/tls/<name>.crt``) and last part of the PKI role.
    ca
        The authority that signs.
    key_type
        EC P-256, or RSA 3072 for modalities that know nothing else.
    dns_names
        All names it bears; the first is the common name.
    ttl_seconds
        Life of the certificate.
    server, client
        Extended key usages serverAuth and clientAuth (RFC 5280, 4.2.1.12).
    """

    component: Component
    name: str
    ca: CaName
    key_type: KeyType
    dns_names: tuple[str, ...]
    ttl_seconds: int
    server: bool = False
    client: bool = False


def leaves_of(component: Component, archive: str) -> tuple[LeafSpec, ...]:
    """Return the certificates that one component of an archive keeps.

    Parameters
    ----------
    component
        The component.
    archive
        The archive's name.

    Returns
    -------
    tuple of LeafSpec
        In the order in which the agent asks for them.
    """
    return tuple(leaf for leaf in archive_leaves(archive) if leaf.component is component)


def archive_leaves(archive: str) -> tuple[LeafSpec, ...]:
    """Return every certificate of an archive's components (blueprint, decision 6: gate 7 days, Orthanc 90)."""
    gate, orthanc, postgres, conformance = Component.GATE, Component.ORTHANC, Component.POSTGRES, Component.CONFORMANCE
    gate_dns, orthanc_dns = service_dns(gate, archive), service_dns(orthanc, archive)
    served = (gate_dns, f"{archive}.{PUBLIC_SUFFIX}")
    probe = probe_dns_name(archive, store_only=False)
    week = 7 * DAY
    return (
        LeafSpec(gate, "server-ec", CaName.PEERS, "EC", served, week, server=True),
        LeafSpec(gate, "server-rsa", CaName.PEERS, "RSA", served, week, server=True),
        LeafSpec(gate, "orthanc-client", CaName.INTERNAL, "EC", (gate_dns,), week, client=True),
        LeafSpec(gate, "outbound-server", CaName.INTERNAL, "EC", (gate_dns,), week, server=True),
        LeafSpec(gate, "outbound-client", CaName.PEERS, "EC", served, week, client=True),
        LeafSpec(orthanc, "dicom-server", CaName.INTERNAL, "EC", (orthanc_dns,), 90 * DAY, server=True, client=True),
        LeafSpec(orthanc, "postgres-client", CaName.INTERNAL, "EC", (orthanc_dns,), week, client=True),
        LeafSpec(
            postgres, "postgres-server", CaName.INTERNAL, "EC", (service_dns(postgres, archive),), week, server=True
        ),
        *(
            LeafSpec(component, "control", CaName.CONTROL, "EC", (service_dns(component, archive),), week, server=True)
            for component in (gate, orthanc, postgres)
        ),
        # First, so that it is the oldest: its life is over before it is used, or soon after. Longer than clocks differ.
        LeafSpec(conformance, "expired", CaName.PEERS, "EC", (probe,), 20, client=True),
        LeafSpec(conformance, "server-only", CaName.PEERS, "EC", (probe,), 2 * HOUR, server=True),
        # A conformance run lasts minutes: what it leaves behind must not stay useful.
        *(
            LeafSpec(conformance, name, ca, "EC", (dns_name,), 2 * HOUR, client=True)
            for name, ca, dns_name in (
                ("peer", CaName.PEERS, probe),
                ("store-only", CaName.PEERS, probe_dns_name(archive, store_only=True)),
                ("cleanup", CaName.CONTROL, service_dns(conformance, archive)),
            )
        ),
        # A slice of an import lasts a quarter of an hour; both the gate and the source know it by this one.
        LeafSpec(
            Component.IMPORTER,
            "peer",
            CaName.PEERS,
            "EC",
            (service_dns(Component.IMPORTER, archive),),
            2 * HOUR,
            client=True,
        ),
    )


def is_reserved_dns_name(name: str) -> bool:
    """Tell whether a name belongs to the archives themselves, so that no DicomPeer may be bound to it.

    A peer with the gate's name could pose as the gate, one with a probe's name would inherit the probe's rights.
    """
    return name.rstrip(".").lower().endswith((".svc", ".svc.cluster.local", f".{PUBLIC_SUFFIX}"))
