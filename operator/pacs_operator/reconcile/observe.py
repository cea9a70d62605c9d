"""Live reads: what a pass starts from."""

from typing import Any

from pydantic import ValidationError

from pacs_operator.domain import names, scrub, staffed
from pacs_operator.domain.acceptance import Claim
from pacs_operator.domain.archive import Archive, ArchiveSpec
from pacs_operator.domain.catalog import CatalogSpec, select_release
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.domain.peer import Peer, PeerSpec
from pacs_operator.domain.status import ArchiveStatus
from pacs_operator.domain.validation import parse
from pacs_operator.kube.inventory import APPLY_ORDER, CATALOG, NAMESPACE, PEER, POD, POLICY, STORAGE_CLASS
from pacs_operator.kube.port import Manifest, key_of, labels_of, metadata
from pacs_operator.reconcile.context import Pass
from pacs_operator.vault.authorities import certificates


def typed_archive(live: Manifest) -> Archive:
    """Return the archive as a model.

    Raises
    ------
    InvalidSpecError
        The spec breaks a rule.
    """
    data = metadata(live)
    if len(data["name"]) > names.MAX_ARCHIVE_NAME:
        raise InvalidSpecError(
            f"metadata.name: {data['name']!r} has {len(data['name'])} characters, {names.MAX_ARCHIVE_NAME} are allowed",
            action="choose a shorter name: zone namespaces are named after it",
            reason="NameTooLong",
        )
    spec = parse(ArchiveSpec, live.get("spec") or {}, "spec")
    if spec.dicom.staffed_hours:
        staffed.check(spec.dicom.staffed_hours)
    if spec.storage.scrub:
        scrub.check(spec.storage.scrub)
    return Archive(name=data["name"], uid=data["uid"], generation=int(data.get("generation") or 0), spec=spec)


def typed_status(live: Manifest) -> ArchiveStatus:
    """Return the status that stands there; an unreadable one counts as none, since all of it can be found again."""
    try:
        return ArchiveStatus.model_validate(live.get("status") or {})
    except ValidationError:
        return ArchiveStatus()


def read_release(run: Pass) -> None:
    """Find the release that the archive names.

    Raises
    ------
    InvalidSpecError
        No such catalog or version, a version below the floor, or an image that is not named by digest.
    """
    if run.archive is None:
        return
    wanted = run.archive.spec.release
    catalog = run.ports.kube.get(CATALOG, wanted.catalog)
    if catalog is None:
        raise InvalidSpecError(
            f"spec.release.catalog: there is no PacsCatalog {wanted.catalog!r}",
            action="create the catalog (the chart brings one named stable) or correct the name",
            reason="UnknownCatalog",
        )
    spec = parse(CatalogSpec, catalog.get("spec") or {}, f"PacsCatalog {wanted.catalog}: spec")
    run.release = select_release(spec, wanted.catalog, wanted.version)


def check_vault(run: Pass) -> None:
    """Refuse a Vault that the operator's administrator did not name: the operator's own token would go there.

    Raises
    ------
    InvalidSpecError
        ``spec.vault.address`` is neither the operator's own Vault nor among those allowed, or ``spec.vault.caPem``
        holds no certificate: pods rolled out with it could log in nowhere.
    """
    address, settings = run.vault_settings.address, run.settings
    if address.rstrip("/") not in {settings.vault.address, *settings.other_vaults}:
        raise InvalidSpecError(
            f"spec.vault.address: {address} is none of the Vaults that the operator may log in to",
            action="take spec.vault away, or have the operator's administrator add it to vault.others in the chart",
            reason="VaultNotAllowed",
        )
    own = run.archive.spec.vault if run.archive else None
    try:
        if own is not None:
            certificates(own.ca_pem)
    except ValueError:
        raise InvalidSpecError(
            "spec.vault.caPem: holds no readable certificate in PEM",
            action="put the certificate of the authority that signed Vault's server certificate there, from "
            "-----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
        ) from None


def check_database(run: Pass) -> None:
    """Refuse an external index whose server could never be verified.

    Raises
    ------
    InvalidSpecError
        ``spec.database.external.caPem`` holds no certificate.
    """
    external = run.archive.spec.database.external if run.archive else None
    try:
        if external is not None:
            certificates(external.ca_pem)
    except ValueError:
        raise InvalidSpecError(
            "spec.database.external.caPem: holds no readable certificate in PEM",
            action="put the certificate of the authority that signed the server's certificate there, from "
            "-----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
        ) from None


def check_storage_classes(run: Pass) -> None:
    """Refuse a StorageClass that does not exist: its claim would stay pending for ever.

    Raises
    ------
    InvalidSpecError
        No such class.
    """
    if run.archive is None:
        return
    spec = run.archive.spec
    wanted = {"spec.storage": spec.storage.storage_class_name, "spec.database": spec.database.storage_class_name}
    for field, name in wanted.items():
        if name is None:
            continue
        found = run.ports.kube.get(STORAGE_CLASS, name)
        if found is None:
            raise InvalidSpecError(
                f"{field}.storageClassName: there is no StorageClass {name!r}",
                action="choose one that kubectl get storageclass lists",
                reason="UnknownStorageClass",
            )
        run.storage_classes[name] = found


def read_owned(run: Pass) -> None:
    """Read all live objects of the archive by label, its pods, and foreign policies in its zones.

    Policies are read by namespace: one that is not ours adds to what ours allow.
    """
    kube, ours = run.ports.kube, {names.LABEL_ARCHIVE: run.name}
    zones = {namespace_of(run.name, zone) for zone in Zone}
    run.owned = {key_of(namespace): namespace for namespace in run.namespaces.values()}
    run.foreign_policies = []
    for kind in APPLY_ORDER:
        if kind is NAMESPACE:
            continue
        found = (
            [item for zone in sorted(zones & run.namespaces.keys()) for item in kube.list(kind, zone)]
            if (kind is POLICY)
            else kube.list(kind, labels=ours)
        )
        for item in found:
            if metadata(item).get("namespace") not in zones:
                continue
            if labels_of(item).get(names.LABEL_ARCHIVE) == run.name:
                run.owned[key_of(item)] = item
            elif kind is POLICY:
                run.foreign_policies.append(f"{metadata(item)['namespace']}/{metadata(item)['name']}")
    run.pods = [pod for pod in kube.list(POD, labels=ours) if metadata(pod).get("namespace") in zones]


def read_claims(run_kube: Any, archive_name: str) -> list[tuple[Manifest, Claim]]:
    """Return all ``DicomPeer`` objects that name an archive, without those being deleted."""
    claims = []
    for live in run_kube.list(PEER):
        reference = ((live.get("spec") or {}).get("archiveRef") or {}).get("name")
        if reference == archive_name and not metadata(live).get("deletionTimestamp"):
            claims.append((live, _claim(live)))
    return claims


def _claim(live: Manifest) -> Claim:
    data = metadata(live)
    key, created = f"{data['namespace']}/{data['name']}", str(data.get("creationTimestamp") or "")
    uid, generation = str(data.get("uid")), int(data.get("generation") or 0)
    try:
        spec = parse(PeerSpec, live.get("spec") or {}, "spec")
    except InvalidSpecError as error:
        return Claim(key, created, uid, generation, None, error)
    peer = Peer(
        namespace=data["namespace"], name=data["name"], uid=uid, generation=generation, created=created, spec=spec
    )
    return Claim(key, created, uid, generation, peer)
