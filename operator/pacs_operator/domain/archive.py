"""``PacsArchive``: what the platform team writes."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pacs_operator.domain import storable
from pacs_operator.domain.breakglass import BreakGlassBounds
from pacs_operator.domain.containment import Containment
from pacs_operator.domain.cron import check_time_zone
from pacs_operator.domain.database import ExternalDatabase
from pacs_operator.domain.dicomweb import DicomWeb
from pacs_operator.domain.encryption import Encryption
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.identifiers import check_ae_title, check_disjoint
from pacs_operator.domain.issuers import MAX_ISSUERS, Issuer
from pacs_operator.domain.largest import LargestObject, check_memory
from pacs_operator.domain.legacy import LegacyPorts, StaffedHours
from pacs_operator.domain.model import Model
from pacs_operator.domain.names import PROBE_AE_TITLE, Component, Port
from pacs_operator.domain.offline import OfflineStart, check_recipient
from pacs_operator.domain.peer import Right, TlsTier
from pacs_operator.domain.scrub import Scrub
from pacs_operator.domain.storable import check_transfer_syntaxes

Quantity = Annotated[int, Field(ge=1, le=1_000_000)]


class ReleaseRef(Model):
    """Which tested set of image digests the archive runs."""

    catalog: Annotated[str, Field(min_length=1, max_length=63)]
    version: Annotated[str, Field(min_length=1, max_length=63)]


class Bootstrap(Model):
    """Where the archive's data come from."""

    mode: Literal["New", "Adopt"] = "New"
    lineage_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(None, alias="lineageID")


Storable = Annotated[str, Field(pattern=r"^(Default|(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+)$", max_length=64)]


class Accept(Model):
    """What may be stored: UIDs, ``Default`` among them stands for the archive's own list, which holds when absent."""

    sop_classes: Annotated[list[Storable], Field(min_length=1, max_length=256)] = [storable.DEFAULT]
    transfer_syntaxes: Annotated[list[Storable], Field(min_length=1, max_length=64)] = [storable.DEFAULT]


class Dicom(Model):
    """How the archive is called in DICOM, and what it stores."""

    ae_title: str
    aliases: Annotated[list[str], Field(max_length=10)] = []
    legacy_ports: LegacyPorts | None = None
    staffed_hours: StaffedHours | None = None

    @property
    def called_titles(self) -> list[str]:
        """Return all titles by which devices may call it, its own first."""
        return [self.ae_title, *self.aliases]

    accept: Accept = Accept()


class PeerBounds(Model):
    """Which namespaces may bind peers, and the most they may ask for."""

    namespace_selector: "LabelSelector"
    allowed_cidrs: Annotated[list[str], Field(min_length=1, max_length=32, alias="allowedCIDRs")]
    max_rights: Annotated[list[Right], Field(min_length=1, max_length=7)]
    tls_exceptions: Annotated[list[TlsTier], Field(max_length=4)] = []
    legacy: Literal["Allowed", "Forbidden"] = "Forbidden"
    expired_revocation_list: Literal["ServeAndViolate", "Refuse"] = "ServeAndViolate"
    issuers: Annotated[list[Issuer], Field(max_length=MAX_ISSUERS)] | None = None

    @property
    def refuse_expired_lists(self) -> bool:
        """Tell whether nobody is let in by an authority whose revocation list has ended."""
        return self.expired_revocation_list == "Refuse"


class LabelSelector(Model):
    """Equality-based namespace selector; never empty, since an empty one selects everything."""

    match_labels: Annotated[dict[str, str], Field(min_length=1, max_length=8)]


class Storage(Model):
    """The volume that holds the images."""

    size_gi: Quantity
    storage_class_name: Annotated[str, Field(min_length=1, max_length=253)]


class Quarantine(Model):
    """Room for objects that came under a known SOP Instance UID with other content."""

    max_objects: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    max_gi: Annotated[int, Field(ge=1, le=10_000)] = 10


class ImageStorage(Storage, LargestObject):
    """The volume that holds the images, and beside them what may not be served."""

    quarantine: Quarantine = Quarantine()
    scrub: Scrub | None = None


class Database(Model):
    """The index: a PostgreSQL that the operator runs (``Managed``), or one that somebody else does (``External``)."""

    mode: Literal["Managed", "External"]
    size_gi: Quantity | None = None
    storage_class_name: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    external: ExternalDatabase | None = None

    @property
    def volume(self) -> Storage | None:
        """Return the volume of a managed database; None where there is none."""
        if self.size_gi is None or self.storage_class_name is None:
            return None
        return Storage(size_gi=self.size_gi, storage_class_name=self.storage_class_name)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        own = [name for name in ("size_gi", "storage_class_name") if getattr(self, name) is not None]
        if self.mode == "Managed" and (len(own) < 2 or self.external is not None):
            raise InvalidSpecError(
                "spec.database: mode Managed needs sizeGi and storageClassName, and has no external",
                action="give the volume's size and class, or use mode External with external",
            )
        if self.mode == "External" and (own or self.external is None):
            raise InvalidSpecError(
                "spec.database: mode External needs external, and has neither sizeGi nor storageClassName",
                action="say in external where the database is, or use mode Managed with a volume",
            )
        return self


class GateService(Model):
    """How modalities reach the gate."""

    type: Literal["NodePort", "LoadBalancer"]
    node_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    load_balancer_class: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    load_balancer_node_ports: Literal["Allocated", "None"] | None = None
    annotations: Annotated[dict[str, str], Field(max_length=32)] = {}

    @model_validator(mode="after")
    def _of_a_load_balancer(self) -> Self:
        if self.load_balancer_node_ports is not None and self.type != "LoadBalancer":
            raise InvalidSpecError(
                f"spec.gate.service.loadBalancerNodePorts: given while type is {self.type}",
                action="leave it out, or use type LoadBalancer",
            )
        return self


class Gate(Model):
    """The DICOM gate."""

    service: GateService
    replicas: Annotated[int, Field(ge=1, le=10)] = 2
    max_associations: Annotated[int, Field(ge=1, le=512)] = 64


class VaultRef(Model):
    """Vault for this archive, where it differs from the operator's own settings."""

    address: Annotated[str, Field(pattern=r"^https://[^\s/]+(:[0-9]+)?$", max_length=253)]
    ca_pem: Annotated[str, Field(max_length=32768)]
    auth_path: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_/-]+$", max_length=128)]
    audience: Annotated[str, Field(min_length=1, max_length=253)]
    cidrs: Annotated[list[str], Field(min_length=1, max_length=16, alias="cidrs")]


class Resources(Model):
    """Processor and memory of one component; requests equal limits for memory."""

    cpu_milli: Annotated[int, Field(ge=10, le=64_000)] | None = None
    memory_mi: Annotated[int, Field(ge=64, le=1_048_576)] | None = None


class Toleration(Model):
    """As in a pod."""

    key: Annotated[str, Field(max_length=317)] | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: Annotated[str, Field(max_length=63)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Scheduling(Model):
    """Where and with how much the archive's pods run."""

    node_selector: Annotated[dict[str, str], Field(max_length=16)] = {}
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = []
    priority_class_name: Annotated[str, Field(max_length=253)] | None = None
    image_pull_secrets: Annotated[list[str], Field(max_length=8)] = []
    gate: Resources = Resources()
    orthanc: Resources = Resources()
    database: Resources = Resources()


class Conformance(Model):
    """When the conformance pod runs, beside creation and every change."""

    schedule: Annotated[str, Field(max_length=64)] = "17 */6 * * *"
    time_zone: Annotated[str, Field(max_length=64)] = "Etc/UTC"
    suspend: bool = False


class Retention(Model):
    """How long the data must stay: years count from the newest image, a legal hold until it is lifted."""

    minimum_years: Annotated[int, Field(ge=0, le=100)] = 0
    legal_hold: bool = False


class Deletion(Model):
    """What ``deletionPolicy: Delete`` needs: the name typed again, and time to think (hours)."""

    confirm_name: Annotated[str, Field(max_length=40)] | None = None
    grace_hours: Annotated[int, Field(ge=24, le=144)] = 24


class ArchiveSpec(Model):
    """``PacsArchive.spec``."""

    suspend: bool = False
    release: ReleaseRef
    bootstrap: Bootstrap = Bootstrap()
    vault: VaultRef | None = None
    dicom: Dicom
    dicomweb: DicomWeb | None = None
    peers: PeerBounds
    storage: ImageStorage
    database: Database
    encryption: Encryption
    offline_start: OfflineStart | None = None
    gate: Gate
    scheduling: Scheduling = Scheduling()
    conformance: Conformance = Conformance()
    break_glass: BreakGlassBounds | None = None
    containment: Containment = Containment(mode="None")
    retention: Retention = Retention()
    deletion: Deletion = Deletion()
    deletion_policy: Literal["Retain", "Delete"] = "Retain"

    @property
    def components(self) -> tuple[Component, ...]:
        """Return what runs for the archive; PostgreSQL only where the index is not somebody else's."""
        external = self.database.external is not None
        return tuple(one for one in Component if not (external and one is Component.POSTGRES))

    @model_validator(mode="after")
    def _rules_across_fields(self) -> Self:
        check_ae_title(self.dicom.ae_title, "spec.dicom.aeTitle")
        _check_aliases(self.dicom)
        if self.dicom.legacy_ports and self.dicom.staffed_hours is None:
            raise InvalidSpecError(
                "spec.dicom.staffedHours: missing while legacyPorts stand",
                action="say when somebody is there to see a device without TLS closed out, for example "
                "schedule 0 8-16 * * 1-5 and timeZone Europe/Zurich",
            )
        _check_web_ports(self)
        _check_node_ports(self)
        check_transfer_syntaxes(self.dicom.accept.transfer_syntaxes, "spec.dicom.accept.transferSyntaxes")
        check_disjoint(self.peers.allowed_cidrs, "spec.peers.allowedCIDRs")
        if self.vault:
            check_disjoint(self.vault.cidrs, "spec.vault.cidrs")
        if self.bootstrap.mode == "Adopt" and self.bootstrap.lineage_id is None:
            raise InvalidSpecError(
                "spec.bootstrap.lineageID: missing while mode is Adopt",
                action="copy it from the label pacs-operator.io/lineage of the retained namespaces",
            )
        index = self.encryption.index
        if index is not None and index.mode == "StorageClass" and self.database.volume is None:
            raise InvalidSpecError(
                "spec.encryption.index.mode: StorageClass while spec.database.mode is External, without a volume here",
                action="leave spec.encryption.index out, or say None and the reason",
            )
        if self.offline_start:
            check_recipient(self.offline_start.recipient, "spec.offlineStart.recipient")
        check_memory(self.storage, self.scheduling.orthanc.memory_mi)
        check_time_zone("spec.conformance.timeZone", self.conformance.time_zone)
        return self


def _check_aliases(dicom: Dicom) -> None:
    for title in dicom.aliases:
        check_ae_title(title, "spec.dicom.aliases")
        if title.startswith(PROBE_AE_TITLE):
            raise InvalidSpecError(
                f"spec.dicom.aliases: {title!r} is reserved for the archive's own probes",
                action=f"choose a title that does not begin with {PROBE_AE_TITLE}",
                reason="ReservedAETitle",
            )
        if dicom.called_titles.count(title) > 1:
            raise InvalidSpecError(
                f"spec.dicom.aliases: {title!r} stands there twice, or is spec.dicom.aeTitle as well",
                action="list each further title once",
                reason="DuplicateAETitle",
            )


def _check_node_ports(spec: ArchiveSpec) -> None:
    """Refuse a fixed port of the nodes for a Service that has none."""
    if spec.gate.service.load_balancer_node_ports != "None":
        return
    legacy, web = spec.dicom.legacy_ports, spec.dicomweb
    fixed = {
        "spec.gate.service.nodePort": spec.gate.service.node_port,
        "spec.dicomweb.nodePort": web.node_port if web else None,
        "spec.dicom.legacyPorts.firstNodePort": legacy.first_node_port if legacy else None,
    }
    for field in (field for field, number in fixed.items() if number is not None):
        raise InvalidSpecError(
            f"{field}: given while spec.gate.service.loadBalancerNodePorts is None", action="leave one of the two out"
        )


def _check_web_ports(spec: ArchiveSpec) -> None:
    if spec.dicomweb is None:
        return
    wanted, legacy = spec.dicomweb.node_port, spec.dicom.legacy_ports
    if legacy and Port.GATE_WEB in legacy:
        raise InvalidSpecError(
            f"spec.dicom.legacyPorts: {legacy.first} to {legacy.last} holds {Port.GATE_WEB}, the port of DICOMweb",
            action="choose a range without it, for example 11112 to 11119; or leave spec.dicomweb out",
        )
    taken = {spec.gate.service.node_port}
    if legacy:
        taken |= {legacy.node_port(port) for port in range(legacy.first, legacy.last + 1)}
    if wanted is not None and wanted in taken:
        raise InvalidSpecError(
            f"spec.dicomweb.nodePort: {wanted} is a port of DICOM at the same Service",
            action="choose another port, or leave it out and have the cluster draw one",
        )


class Archive(Model):
    """A ``PacsArchive`` as read from the API: identity and spec."""

    name: str
    uid: str
    generation: int
    spec: ArchiveSpec
