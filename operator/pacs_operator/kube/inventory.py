"""Every kind the operator touches and with which verbs: one list for the API client, pruning and the RBAC test.

Renderers may emit only kinds that stand here as ``OWNED``; what is not listed cannot be applied, and so nothing can
be applied that pruning would not see.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pacs_operator.domain import names


@dataclass(frozen=True)
class Kind:
    """One kind of object and what the operator may do with it.

    Parameters
    ----------
    api_version
        Group and version, as in a manifest.
    kind
        As in a manifest.
    plural
        As in the URL and in RBAC rules.
    namespaced
        Whether objects live in a namespace.
    verbs
        RBAC verbs on the objects themselves.
    status_verbs
        RBAC verbs on the ``status`` subresource.
    owned
        True when renderers may emit it.
    prunable
        True when an object of ours that is no longer rendered is deleted.
    operator_namespace_only
        True when a Role in the operator's own namespace is enough.
    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: tuple[str, ...]
    status_verbs: tuple[str, ...] = ()
    owned: bool = False
    prunable: bool = False
    operator_namespace_only: bool = False

    @property
    def group(self) -> str:
        """Return the API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of the collection or of one object."""
        parts = ["apis" if self.group else "api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/" + "/".join(parts)


_READ = ("get", "list", "watch")
# Server-side apply is a PATCH that creates, so it needs both verbs. "update" is only for what other managers added
# and apply cannot remove.
_WRITE = ("create", "patch")

ARCHIVE = Kind(names.API_VERSION, "PacsArchive", "pacsarchives", False, (*_READ, "patch"), ("patch",))
PEER = Kind(names.API_VERSION, "DicomPeer", "dicompeers", True, _READ, ("patch",))
CATALOG = Kind(names.API_VERSION, "PacsCatalog", "pacscatalogs", False, _READ)
APPROVAL = Kind(names.API_VERSION, "PacsApproval", "pacsapprovals", True, _READ)
IMPORT = Kind(names.API_VERSION, "PacsImport", "pacsimports", True, _READ, ("patch",))
CRD = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False, ("get",))
STORAGE_CLASS = Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", False, ("get",))
VOLUME = Kind("v1", "PersistentVolume", "persistentvolumes", False, ("get",))  # is it gone with its claim?
POD = Kind("v1", "Pod", "pods", True, (*_READ, "patch"))
EVENT = Kind("v1", "Event", "events", True, ("create",))
LEASE = Kind(
    "coordination.k8s.io/v1", "Lease", "leases", True, ("get", "create", "update"), operator_namespace_only=True
)

# Not prunable: only a deletion that two people approved removes them (`reconcile.destruction`).
NAMESPACE = Kind("v1", "Namespace", "namespaces", False, (*_READ, *_WRITE, "delete"), owned=True)
PVC = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", True, (*_READ, *_WRITE, "delete"), owned=True)
QUOTA = Kind("v1", "ResourceQuota", "resourcequotas", True, (*_READ, *_WRITE, "delete"), owned=True, prunable=True)
LIMITS = Kind("v1", "LimitRange", "limitranges", True, (*_READ, *_WRITE, "delete"), owned=True, prunable=True)
POLICY = Kind(
    "networking.k8s.io/v1",
    "NetworkPolicy",
    "networkpolicies",
    True,
    (*_READ, *_WRITE, "update", "delete"),
    owned=True,
    prunable=True,
)
SERVICE_ACCOUNT = Kind(
    "v1", "ServiceAccount", "serviceaccounts", True, (*_READ, *_WRITE, "delete"), owned=True, prunable=True
)
CONFIG_MAP = Kind(
    "v1", "ConfigMap", "configmaps", True, (*_READ, *_WRITE, "update", "delete"), owned=True, prunable=True
)
SERVICE = Kind("v1", "Service", "services", True, (*_READ, *_WRITE, "delete"), owned=True, prunable=True)
DEPLOYMENT = Kind(
    "apps/v1", "Deployment", "deployments", True, (*_READ, *_WRITE, "update", "delete"), owned=True, prunable=True
)
STATEFUL_SET = Kind(
    "apps/v1", "StatefulSet", "statefulsets", True, (*_READ, *_WRITE, "update", "delete"), owned=True, prunable=True
)
JOB = Kind("batch/v1", "Job", "jobs", True, (*_READ, "create", "delete"), owned=True)

#: In the order in which they are applied: fences before what they fence in, accounts and files before pods.
APPLY_ORDER: tuple[Kind, ...] = (
    NAMESPACE,
    QUOTA,
    LIMITS,
    POLICY,
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    PVC,
    SERVICE,
    STATEFUL_SET,
    DEPLOYMENT,
    JOB,
)

INVENTORY: tuple[Kind, ...] = (
    ARCHIVE,
    PEER,
    CATALOG,
    APPROVAL,
    IMPORT,
    CRD,
    STORAGE_CLASS,
    VOLUME,
    POD,
    EVENT,
    LEASE,
    *APPLY_ORDER,
)

_BY_NAME = {(kind.api_version, kind.kind): kind for kind in INVENTORY}


def kind_of(manifest: dict[str, object]) -> Kind:
    """Return the inventory's entry for a manifest.

    Raises
    ------
    KeyError
        The kind is not in the inventory, so neither RBAC nor pruning knows it.
    """
    return _BY_NAME[str(manifest.get("apiVersion")), str(manifest.get("kind"))]


def rbac_rules(operator_namespace: bool) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield ``(group, resource, verbs)`` of the ClusterRole, or of the Role in the operator's own namespace."""
    for kind in INVENTORY:
        if kind.operator_namespace_only != operator_namespace:
            continue
        yield kind.group, kind.plural, kind.verbs
        if kind.status_verbs:
            yield kind.group, f"{kind.plural}/status", kind.status_verbs
