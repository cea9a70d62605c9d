"""A shadow: a disposable archive with another's release and configuration, and nothing of the hospital's in it.

What makes the archive's behaviour stays as it is: release, titles, what may be stored, TLS, limits, encryption,
memory. What leads to other machines or keeps data goes: peers' networks and namespaces, others' certificate
authorities, addresses of load balancers, fixed ports, an index elsewhere, retention.
"""

from typing import Any

from pydantic import ValidationError

from pacs_operator.domain.archive import ArchiveSpec
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.names import API_VERSION, GROUP, MAX_ARCHIVE_NAME
from pacs_operator.domain.peer import Right

LABEL_SHADOW_OF = f"{GROUP}/shadow-of"  # on everything of a shadow; value: the archive's name
LABEL_PEERS_OF = f"{GROUP}/peers-of"
SUFFIX = "-shadow"
SIZE_GI = 5
"""Of each volume: what the attacks store is a few MiB, and an archive refuses to store when little is left."""

VISITOR = "visitor"
VISITOR_TITLE = "PACSVISITOR"
VISITOR_RIGHTS = (Right.ECHO, Right.STORE, Right.FIND, Right.GET)

Manifest = dict[str, Any]


class NoShadowError(InvalidSpecError):
    """No shadow can be made of this archive."""

    reason = "NoShadow"


def shadow_name(archive: Manifest) -> str:
    """Return what the shadow of an archive is called.

    Raises
    ------
    NoShadowError
        The archive is itself a shadow, or the name would be too long.
    """
    name = str(archive["metadata"]["name"])
    if LABEL_SHADOW_OF in (archive["metadata"].get("labels") or {}):
        raise NoShadowError(f"PacsArchive {name} is a shadow itself", action="name the archive that it is a shadow of")
    if len(name) + len(SUFFIX) > MAX_ARCHIVE_NAME:
        raise NoShadowError(
            f"{name}{SUFFIX} has {len(name) + len(SUFFIX)} characters, and {MAX_ARCHIVE_NAME} are allowed",
            action="apply a second archive with the same spec under a shorter name, and make a shadow of that",
        )
    return name + SUFFIX


def visitors_namespace(shadow: str) -> str:
    """Return the namespace of a shadow's one peer; no zone is called like that."""
    return f"{shadow}-visitors"


def dns_name(shadow: str) -> str:
    """Return what the visitor's certificate must bear."""
    return f"{VISITOR}.{shadow}.internal"


def shadow_of(archive: Manifest, visitor_cidr: str) -> Manifest:
    """Return the manifest of an archive's shadow.

    Parameters
    ----------
    archive
        A live ``PacsArchive``.
    visitor_cidr
        Whence it is attacked, as the gate sees it; the one network that is let in.

    Raises
    ------
    NoShadowError
        No shadow can be made: a name, or a spec that no archive could have.
    """
    name = shadow_name(archive)
    try:
        spec = ArchiveSpec.model_validate(_spec_of(archive["spec"], name, visitor_cidr)).model_dump(
            mode="json", by_alias=True, exclude_unset=True
        )
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, each["loc"])) or "spec" for each in error.errors())
        raise NoShadowError(
            f"the shadow's spec would not be valid: {fields}", action="correct the archive, or the visitor's network"
        ) from None
    return {"apiVersion": API_VERSION, "kind": "PacsArchive", "metadata": _named(name, archive), "spec": spec}


def visitor_of(archive: Manifest, visitor_cidr: str) -> list[Manifest]:
    """Return the namespace of the shadow's one peer, and that peer: what a person attacks it as."""
    name = shadow_name(archive)
    namespace = _named(visitors_namespace(name), archive)
    namespace["labels"][LABEL_PEERS_OF] = name
    spec = {
        "archiveRef": {"name": name},
        "aeTitles": [VISITOR_TITLE],
        "certificate": {"dnsName": dns_name(name)},
        "sourceCIDRs": [visitor_cidr],
        "rights": [right.value for right in VISITOR_RIGHTS],
    }
    peer = _named(VISITOR, archive) | {"namespace": namespace["name"]}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": namespace},
        {"apiVersion": API_VERSION, "kind": "DicomPeer", "metadata": peer, "spec": spec},
    ]


def _named(name: str, archive: Manifest) -> dict[str, Any]:
    return {"name": name, "labels": {LABEL_SHADOW_OF: archive["metadata"]["name"]}}


#: Keeps data, keeps people waiting, or says where data come from.
_LEFT_OUT = ("bootstrap", "suspend", "retention", "deletion", "deletionPolicy", "containment", "breakGlass")


def _spec_of(real: Manifest, name: str, visitor_cidr: str) -> Manifest:
    spec = {key: value for key, value in real.items() if key not in _LEFT_OUT}
    spec["dicom"] = dict(real["dicom"])
    if "legacyPorts" in spec["dicom"]:
        spec["dicom"]["legacyPorts"] = _without(real["dicom"]["legacyPorts"], "firstNodePort")
    if "dicomweb" in real:
        spec["dicomweb"] = _without(real["dicomweb"], "nodePort")
    rights = [
        *real["peers"]["maxRights"],
        *(right for right in VISITOR_RIGHTS if right not in real["peers"]["maxRights"]),
    ]
    spec["peers"] = _without(real["peers"], "issuers") | {
        "namespaceSelector": {"matchLabels": {LABEL_PEERS_OF: name}},
        "allowedCIDRs": [visitor_cidr],
        "maxRights": rights,
    }
    storage = real["storage"]
    spec["storage"] = storage | {"sizeGi": min(SIZE_GI, storage["sizeGi"])}
    database = real["database"]
    spec["database"] = {
        "mode": "Managed",
        "sizeGi": min(SIZE_GI, database.get("sizeGi", SIZE_GI)),
        "storageClassName": database.get("storageClassName", storage["storageClassName"]),
    }
    # A port of the nodes that the cluster draws: no load balancer gives it an address. One replica: the node's port
    # leads to any of them, and each attack's twin must ask the one that was attacked.
    spec["gate"] = real["gate"] | {"service": {"type": "NodePort"}, "replicas": 1}
    return spec


def _without(section: Manifest, key: str) -> Manifest:
    return {name: value for name, value in section.items() if name != key}
