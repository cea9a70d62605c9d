"""``conformance.json``: the contract between the renderer and the conformance pod.

The renderer fills what only it knows (run, archive's AE title, hosts, number of replicas); the rest has the
values every archive uses. Every path is inside the pod.
"""

from typing import Annotated

from pydantic import Field

from pacs_operator.domain.agentconfig import CONFIG_DIR, TLS_DIR
from pacs_operator.domain.model import Model
from pacs_operator.domain.names import (
    PROBE_AE_TITLE,
    PROBE_PATIENT_PREFIX,
    PROBE_STORE_ONLY_AE_TITLE,
    PROBE_UID_ROOT,
    Port,
)

CONFORMANCE_FILE = f"{CONFIG_DIR}/conformance.json"
TERMINATION_LOG = "/dev/termination-log"

TcpPort = Annotated[int, Field(ge=1, le=65535)]
LeafName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]


class ProbeIdentity(Model):
    """Who the probe is towards the gate: a leaf in the TLS folder and the AE title bound to it."""

    leaf: LeafName
    ae_title: Annotated[str, Field(min_length=1, max_length=16)]


class LegacyDevice(Model):
    """A device without TLS: its plaintext port at the gate, and what it calls itself."""

    port: TcpPort
    ae_title: Annotated[str, Field(min_length=1, max_length=16)]


class ShadowDevice(Model):
    """Where a person's device listens while it visits a shadow, and to whom it may have nothing sent."""

    listen_address: Annotated[str, Field(min_length=1, max_length=45)]
    listen_port: TcpPort
    unlisted_ae_title: Annotated[str, Field(min_length=1, max_length=16)] | None = None


class Bounds(Model):
    """How long the probes wait, and when they stop for the patients' sake."""

    connect_millis: Annotated[int, Field(ge=100)] = 3000
    """How long a TCP handshake may take; on the attacked paths this is the time after which a packet counts as
    dropped (it spans the first SYN retransmission, 1 s after the first)."""

    answer_millis: Annotated[int, Field(ge=100)] = 8000
    """How long one answer may take; longer than the gate's first-PDU wait of 5 s, so that a gate that gives up is
    told from one that hangs."""

    dimse_millis: Annotated[int, Field(ge=100)] = 20000
    """How long one DIMSE response may take."""

    idle_sockets: Annotated[int, Field(ge=1, le=16)] = 5
    """Idle TCP connections, and as many idle TLS sessions, held while a good peer asks for an echo."""

    echo_beside_idle_millis: Annotated[int, Field(ge=100)] = 2000
    """How long that echo may take, association included."""

    abort_echo_millis: Annotated[int, Field(ge=100)] = 5000
    """An archive that needs longer than this for a plain echo is under load: the run stops, the rest is NotRun."""

    settle_seconds: Annotated[int, Field(ge=0, le=120)] = 60
    """How long a gate that answers "try again later" (A-ASSOCIATE-RJ 2/3/1: its archive has only just come up) is asked
    again before that is a failure, as a modality would."""

    run_seconds: Annotated[int, Field(ge=10)] = 240
    """The whole run; what has not begun by then is NotRun. Stay below the Job's activeDeadlineSeconds."""


class ConformanceConfig(Model):
    """All the conformance pod knows; it has no access to the Kubernetes API."""

    run: Annotated[str, Field(pattern=r"^[a-z0-9]{1,20}$")]
    """Name of this run; the PatientID of its objects is ``<patientPrefix><run>``."""

    archive_ae_title: Annotated[str, Field(min_length=1, max_length=16)]
    """Called AE title: ``spec.dicom.aeTitle``."""

    gate_host: str
    """DNS name of the gate's Service, ``gate.<archive>-edge.svc``; also the name its certificate must carry."""

    gate_replicas_host: str
    """DNS name of the headless Service whose A and AAAA records are the gate's replicas, each attacked by address."""

    gate_replicas: Annotated[int, Field(ge=1, le=16)]
    """Replicas that the archive wants; fewer addresses than this fail the run's ``GateReplicas`` check."""

    contained: bool | None = None
    """True: the gate must serve nobody, its probes included; what a contained archive can still be asked is asked.
    Absent otherwise, so that probes of earlier releases can read the file."""

    shadow: bool | None = None
    """True: a disposable copy without patients, where dangerous attacks may be made. The operator never writes it."""

    device: ShadowDevice | None = None
    """The device that visits a shadow, where it listens. The operator never writes it."""

    gate_port: TcpPort = Port.DICOM_TLS

    gate_web_port: TcpPort | None = None
    """Where each replica speaks DICOMweb; None: it is off, and not tested."""

    gate_outbound_port: TcpPort = Port.GATE_OUTBOUND
    """Must be closed to this pod: the way out is Orthanc's alone."""

    legacy_devices: Annotated[list[LegacyDevice], Field(max_length=256)] = []
    """Devices without TLS; their plaintext ports must let nobody in who is not that device."""

    silent_associations: Annotated[int, Field(ge=1, le=16)] = 16
    """Associations of the good peer that are held open and say nothing, while the other one stores."""

    association_limit: Annotated[int, Field(ge=1, le=16)] = 4
    """Associations that the store-only peer may have at once, in one gate."""

    orthanc_host: str
    """DNS name of Orthanc's Service, ``orthanc.<archive>-archive.svc``; also the name on its control certificate."""

    orthanc_dicom_port: TcpPort = Port.ORTHANC_DICOM
    """Must be closed to this pod."""

    orthanc_control_port: TcpPort = Port.AGENT_CONTROL
    """Must be open to this pod: removal of probe objects, and the twin of the attack on the DICOM port."""

    postgres_host: str | None = None
    """DNS name of PostgreSQL's Service, ``postgres.<archive>-data.svc``; None: no managed database to attack."""

    postgres_port: TcpPort = Port.POSTGRES
    """Must be closed to this pod."""

    postgres_control_port: TcpPort = Port.AGENT_CONTROL
    """Must be open to this pod: the twin of the attack on the database port (same pod, same address, other port)."""

    peer: ProbeIdentity = ProbeIdentity(leaf="peer", ae_title=PROBE_AE_TITLE)
    """The good peer; rights Echo, Store, Find, Get."""

    store_only: ProbeIdentity = ProbeIdentity(leaf="store-only", ae_title=PROBE_STORE_ONLY_AE_TITLE)
    """The peer that may store and nothing else."""

    cleanup_leaf: LeafName = "cleanup"
    """Client certificate of the ``control`` authority for the removal of this run's objects."""

    server_only_leaf: LeafName = "server-only"
    """Certificate of the ``peers`` authority with the good peer's name, for servers only: no client may use it."""

    expired_leaf: LeafName = "expired"
    """Certificate of the ``peers`` authority with the good peer's name and a life of seconds, over when it is used."""

    tls_dir: str = TLS_DIR
    """Folder with ``<leaf>.crt``, ``<leaf>.key``."""

    peers_ca_file: str = f"{TLS_DIR}/ca-peers.pem"
    """Root that signed the gate's certificate."""

    control_ca_file: str = f"{TLS_DIR}/ca-control.pem"
    """Root that signed the agents' control certificates."""

    patient_prefix: str = PROBE_PATIENT_PREFIX
    uid_root: str = PROBE_UID_ROOT
    bounds: Bounds = Bounds()
