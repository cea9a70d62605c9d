"""Every field of a PacsArchive's spec changes something, or is listed here with the reason why it need not."""

from typing import Any

import pytest
from pydantic import BaseModel

from pacs_operator import render
from pacs_operator.domain.archive import Archive, ArchiveSpec
from pacs_operator.domain.catalog import Images, Release
from pacs_operator.domain.facts import Desired, VaultSettings
from pacs_operator.reconcile.peers import live_peers
from tests.engine.world import SETTINGS, archive_manifest

#: Field -> a value that differs from the base, as a person would write it.
CHANGES: dict[str, Any] = {
    "dicom.aeTitle": "OTHER",
    "dicom.legacyPorts.first": 11113,
    "dicom.legacyPorts.last": 11115,
    "dicom.aliases": ["OLDPACS"],
    "peers.tlsExceptions": ["Tls12EcdheCbc"],
    "peers.expiredRevocationList": "Refuse",
    "dicom.accept.sopClasses": ["Default", "1.2.3"],
    "dicom.accept.transferSyntaxes": ["1.2.840.10008.1.2"],
    "storage.quarantine.maxObjects": 7,
    "storage.quarantine.maxGi": 7,
    "storage.scrub.schedule": "0 2 * * *",
    "storage.scrub.timeZone": "Europe/Zurich",
    "storage.scrub.maxMiPerSecond": 7,
    "storage.scrub.suspend": True,
    "storage.sizeGi": 21,
    "storage.maxObjectMi": 900,
    "storage.maxObjectSenders": 2,
    "storage.storageClassName": "fast",
    "database.sizeGi": 6,
    "database.storageClassName": "fast",
    "encryption.mode": "Transit",
    "encryption.dataKeyMaxAgeDays": 30,
    "encryption.dataKeyMaxChunks": 2**21,
    "gate.service.type": "LoadBalancer",
    "gate.service.nodePort": 30763,
    "gate.service.loadBalancerClass": "example.org/lb",
    "gate.service.annotations": {"example.org/a": "b"},
    "gate.replicas": 3,
    "gate.maxAssociations": 65,
    "offlineStart.recipient": "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=",
    "scheduling.nodeSelector": {"disk": "fast"},
    "scheduling.tolerations.key": [{"key": "a", "operator": "Exists"}],
    "scheduling.tolerations.operator": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}],
    "scheduling.tolerations.value": [{"key": "a", "value": "b"}],
    "scheduling.tolerations.effect": [{"key": "a", "operator": "Exists", "effect": "NoExecute"}],
    "scheduling.priorityClassName": "high",
    "scheduling.imagePullSecrets": ["pull"],
    **{
        f"scheduling.{component}.{field}": value
        for component in ("gate", "orthanc", "database")
        for field, value in (("cpuMilli", 777), ("memoryMi", 3333))
    },
}

#: What is not rendered, and where it has its effect instead.
ELSEWHERE = {
    "encryption.reencryptMiPerSecond": "is ordered only while there is something to do: test_reencrypt",
    "suspend": "stops the pass: test_workloads",
    "release.catalog": "chooses the release, which is rendered: test_workloads",
    "release.version": "chooses the release, which is rendered: test_workloads",
    "bootstrap.mode": "decides about the lineage, which is rendered: test_zones",
    "bootstrap.lineageID": "decides about the lineage, which is rendered: test_zones",
    "vault.address": "becomes Desired.vault, which is rendered: below",
    "vault.caPem": "becomes Desired.vault, which is rendered: below",
    "vault.authPath": "becomes Desired.vault, which is rendered: below",
    "vault.audience": "becomes Desired.vault, which is rendered: below",
    "vault.cidrs": "becomes Desired.vault, which is rendered: below",
    "peers.namespaceSelector.matchLabels": "decides who is accepted: test_acceptance, test_peers",
    "peers.allowedCIDRs": "decides who is accepted: test_acceptance",
    "peers.maxRights": "decides who is accepted: test_acceptance",
    "conformance.schedule": "decides when a run is due: test_conformance",
    "conformance.timeZone": "decides when a run is due: test_conformance",
    "conformance.suspend": "decides when a run is due: test_conformance",
    "dicom.legacyPorts.firstNodePort": "a peer's port of the nodes: test_legacy of tests/render",
    "dicom.staffedHours.schedule": "when an exception closes: test_legacy",
    "dicom.staffedHours.timeZone": "when an exception closes: test_legacy",
    "peers.legacy": "decides who is accepted: test_legacy",
    "peers.issuers.name": "told live, decides who is accepted: test_issuers",
    "peers.issuers.caPEM": "told live: test_issuers",
    "peers.issuers.crlPEM": "told live: test_issuers",
    "peers.issuers.noCRLReason": "is shown, and lets a list be absent: test_issuers",
    "peers.issuers.allowedDomains": "decides who is accepted: test_issuers",
    "offlineStart.holder": "is shown in status.offlineStart: test_offline",
    "offlineStart.reason": "is shown in status.offlineStart: test_offline",
    "breakGlass.maxHours": "decides who is let in: test_breakglass",
    "dicomweb.nodePort": "rendered while DICOMweb is on: test_dicomweb of tests/render",
    "dicomweb.limits.maxBodyMi": "rendered while DICOMweb is on: test_dicomweb of tests/render",
    "dicomweb.limits.requestsPerMinute": "rendered while DICOMweb is on: test_dicomweb of tests/render",
    "dicomweb.limits.maxConcurrent": "rendered while DICOMweb is on: test_dicomweb of tests/render",
    "containment.mode": "marks live peers, chooses what a run asks: test_containment",
    "containment.reason": "is shown in status.containment and conditions: test_containment",
    "containment.spareEmergencyPeers.namespace": "chooses who is not marked: test_containment",
    "containment.spareEmergencyPeers.name": "chooses who is not marked: test_containment",
    "retention.minimumYears": "keeps the data at deletion, and stands on the zones: test_destruction",
    "retention.legalHold": "keeps the data at deletion, and stands on the zones: test_destruction",
    "deletion.confirmName": "decides about a deletion: test_destruction",
    "deletion.graceHours": "decides about a deletion: test_destruction",
    **dict.fromkeys(
        (
            "dicomweb.nodePort",
            "dicomweb.limits.maxBodyMi",
            "dicomweb.limits.requestsPerMinute",
            "dicomweb.limits.maxConcurrent",
        ),
        "only with spec.dicomweb: tests/render/test_dicomweb and tests/gate",
    ),
    "gate.service.loadBalancerNodePorts": "needs another type, and no nodePort: test_exposure",
    "database.mode": "what it takes away and brings: tests/render/test_database",
    **dict.fromkeys(
        (
            "database.external.host",
            "database.external.port",
            "database.external.name",
            "database.external.user",
            "database.external.caPem",
            "database.external.sslServerName",
            "database.external.cidrs",
            "database.external.authentication.mode",
            "database.external.authentication.passwordSecret",
        ),
        "only with mode External: tests/render/test_database",
    ),
    "encryption.index.mode": "is shown in status.effective.encryption",
    "encryption.index.reason": "is shown in status.effective.encryption",
    "encryption.reason": "is shown in status.effective.encryption",
    "deletionPolicy": "decides about a deletion: test_destruction",
}


def fields(model: type[BaseModel], path: str = "") -> set[str]:
    model.model_rebuild(force=True)  # names of models defined further down are resolved
    found = set()
    for name, field in model.model_fields.items():
        key = f"{path}{field.alias or name}"
        below = [part for part in _parts(field.annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
        found |= fields(below[0], f"{key}.") if below else {key}
    return found


def _parts(annotation: Any) -> list[Any]:
    inside = getattr(annotation, "__args__", ())
    return [annotation, *(part for arg in inside for part in _parts(arg))]


def desired(spec: dict[str, Any], vault: VaultSettings = SETTINGS.vault) -> Desired:
    images = Images(**dict.fromkeys(("archive", "gate", "database", "tools"), "r.example/x@sha256:" + "1" * 64))
    archive = Archive(name="radiology", uid="u", generation=1, spec=ArchiveSpec.model_validate(spec))
    release = Release(version="1", images=images)
    return Desired(archive, "0" * 32, release, vault, SETTINGS.cluster, live_peers("radiology", []))


def changed(path: str, value: Any) -> dict[str, Any]:
    spec = with_legacy() if path.startswith("dicom.legacyPorts") else archive_manifest()["spec"]
    node, parts = spec, path.split(".")
    if parts[:2] == ["scheduling", "tolerations"]:
        parts = parts[:2]
    for part in parts[:-1]:
        node = node.setdefault(part, {})
    node[parts[-1]] = value
    if path == "gate.service.loadBalancerClass":
        node["type"] = "LoadBalancer"
    if path == "encryption.mode":
        del node["reason"]
    if path == "offlineStart.recipient":
        node |= {"holder": "IT", "reason": "a power cut"}
    if path == "storage.maxObjectSenders":
        spec["storage"]["maxObjectMi"] = 900
    if path in ("encryption.dataKeyMaxAgeDays", "encryption.dataKeyMaxChunks"):
        spec["encryption"] = {"mode": "Transit", parts[-1]: value}
    return spec


def with_legacy() -> dict[str, Any]:
    """Return a spec that opens plaintext ports."""
    spec: dict[str, Any] = archive_manifest()["spec"]
    hours = {"schedule": "0 8-16 * * 1-5", "timeZone": "Etc/UTC"}
    spec["dicom"] |= {"legacyPorts": {"first": 11112, "last": 11114}, "staffedHours": hours}
    return spec


def test_every_field_is_listed_once():
    assert fields(ArchiveSpec) == CHANGES.keys() | ELSEWHERE.keys()
    assert not CHANGES.keys() & ELSEWHERE.keys()


@pytest.mark.parametrize("path", CHANGES)
def test_the_field_changes_what_is_rendered(path: str):
    base = with_legacy() if path.startswith("dicom.legacyPorts") else archive_manifest()["spec"]
    if path == "gate.service.loadBalancerClass":
        base["gate"]["service"]["type"] = "LoadBalancer"
    if path == "storage.maxObjectSenders":
        base["storage"]["maxObjectMi"] = 900
    if path in ("encryption.dataKeyMaxAgeDays", "encryption.dataKeyMaxChunks"):
        base["encryption"] = {"mode": "Transit"}
    assert render.render_archive(desired(changed(path, CHANGES[path]))) != render.render_archive(desired(base))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", "https://other:8200"),
        ("ca_pem", "OTHER"),
        ("auth_path", "other"),
        ("audience", "other"),
        ("cidrs", ("198.18.0.99/32",)),
        ("port", 8201),
    ],
)
def test_vaults_settings_change_what_is_rendered(field: str, value: Any):
    spec = archive_manifest()["spec"]
    other = VaultSettings(**{**SETTINGS.vault.__dict__, field: value})
    assert render.render_archive(desired(spec, other)) != render.render_archive(desired(spec))
