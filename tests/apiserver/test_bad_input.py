"""Bad input is refused by the API server with the field, the value, the rule and the way out."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiException, CustomObjectsApi

EXAMPLES = Path(__file__).parents[2] / "examples"
PLURALS = {kind: f"{kind.lower()}s" for kind in ("PacsArchive", "DicomPeer", "PacsCatalog", "PacsApproval")}


def put(api: CustomObjectsApi, body: dict[str, Any]) -> None:
    """Create as a dry run with strict fields, as kubectl does."""
    plural = PLURALS[body["kind"]]
    flags: dict[str, Any] = {"dry_run": "All", "field_validation": "Strict"}
    if body["kind"] in ("DicomPeer", "PacsApproval"):
        api.create_namespaced_custom_object("pacs-operator.io", "v1alpha1", "default", plural, body, **flags)
    else:
        api.create_cluster_custom_object("pacs-operator.io", "v1alpha1", plural, body, **flags)


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy in which the field at a dotted path has another value."""
    body = copy.deepcopy(document)
    *parents, last = path.split(".")
    target = body
    for key in parents:
        target = target.setdefault(key, {})
    target[last] = value
    return body


def refusal(api: CustomObjectsApi, body: dict[str, Any]) -> str:
    with pytest.raises(ApiException) as caught:
        put(api, body)
    assert caught.value.status in (400, 422), caught.value
    return str(json.loads(caught.value.body or "{}")["message"])


def test_the_examples_are_accepted(crds: CustomObjectsApi, archive: dict, peer: dict) -> None:
    put(crds, archive)
    consent = yaml.safe_load((EXAMPLES / "radiology-legacy.yaml").read_text())["spec"]
    for section, fields in consent.items():
        archive["spec"][section] |= fields
    put(crds, archive)
    for name in ("us7", "viewer1", "ws1"):
        device = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
        device["metadata"]["namespace"] = "default"
        put(crds, device)
    peer["metadata"]["namespace"] = "default"
    put(crds, peer)


def test_delete_with_the_name_typed_is_accepted(crds: CustomObjectsApi, archive: dict) -> None:
    delete = changed(archive, "spec.deletionPolicy", "Delete")
    put(crds, changed(delete, "spec.deletion.confirmName", "radiology"))
    message = refusal(crds, changed(delete, "spec.deletion.confirmName", "cardiology"))
    assert "spec.deletion.confirmName" in message


def test_further_fields_of_peers_are_accepted(crds: CustomObjectsApi, archive: dict, peer: dict) -> None:
    """The twins of what is refused below."""
    put(crds, changed(archive, "spec.dicom.aliases", ["OLDPACS", "PACS 2"]))
    put(crds, changed(archive, "spec.peers.tlsExceptions", ["Tls12EcdheCbc"]))
    put(crds, changed(archive, "spec.peers.expiredRevocationList", "Refuse"))
    put(crds, changed(archive, "spec.peers.expiredRevocationList", "ServeAndViolate"))
    peer["metadata"]["namespace"] = "default"
    put(crds, changed(peer, "spec.limits", {"maxAssociations": 4, "associationsPerMinute": 6000}))
    put(crds, changed(peer, "spec.expectTraffic", {"maxSilenceHours": 72}))
    put(crds, changed(peer, "spec.tls", {"exception": EXCEPTION}))


EXCEPTION = {"tier": "Tls12EcdheCbc", "reason": "no newer software exists", "expires": "2027-03-31T00:00:00Z"}
NOT_AE_TITLES = {
    "empty": "",
    "17 bytes": "ABCDEFGHIJKLMNOPQ",
    "backslash": "A\\\\B",
    "control": "A\tB",
    "non-ASCII": "RÖNTGEN",
    "padded left": " CT1",
    "padded right": "CT1 ",
}


@pytest.mark.parametrize("title", NOT_AE_TITLES.values(), ids=NOT_AE_TITLES)
def test_ae_title_of_the_archive(crds: CustomObjectsApi, archive: dict, title: str) -> None:
    message = refusal(crds, changed(archive, "spec.dicom.aeTitle", title))
    assert "spec.dicom.aeTitle" in message
    assert "is not an AE title; use 1 to 16 printable ASCII characters" in message


@pytest.mark.parametrize("title", NOT_AE_TITLES.values(), ids=NOT_AE_TITLES)
def test_ae_title_of_a_peer(crds: CustomObjectsApi, peer: dict, title: str) -> None:
    peer["metadata"]["namespace"] = "default"
    message = refusal(crds, changed(peer, "spec.aeTitles", ["CT1", title]))
    assert "spec.aeTitles" in message
    assert "use 1 to 16 printable ASCII characters" in message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.dicom.accept", {"sopClasses": ["CT"]}, ["spec.dicom.accept.sopClasses", "'CT' is not a UID", "Default"]),
        ("spec.dicom.accept", {"sopClasses": ["1.2.03"]}, ["'1.2.03' is not a UID", "without leading zeros"]),
        ("spec.dicom.accept", {"sopClasses": ["1.2.840.*"]}, ["'1.2.840.*' is not a UID"]),
        ("spec.dicom.accept", {"sopClasses": []}, ["spec.dicom.accept.sopClasses", "at least 1 items"]),
        ("spec.dicom.accept", {"sopClasses": ["1.2", "1.2"]}, ["spec.dicom.accept.sopClasses", "Duplicate value"]),
        (
            "spec.dicom.accept",
            {"transferSyntaxes": ["1.2.840.10008.1.2.1"]},
            ["spec.dicom.accept.transferSyntaxes", "Implicit VR Little Endian is missing", "add 1.2.840.10008.1.2"],
        ),
        ("spec.storage.quarantine", {"maxObjects": 0}, ["spec.storage.quarantine.maxObjects", "greater than or equal"]),
        ("spec.storage.quarantine", {"maxGi": 10_001}, ["spec.storage.quarantine.maxGi", "less than or equal"]),
        ("spec.database.quarantine", {"maxGi": 1}, ["unknown field", "spec.database.quarantine"]),
        ("metadata.name", "r" * 41, ["metadata.name", "more than 40 characters", "choose a shorter name"]),
        ("metadata.name", "radio.logy", ["metadata.name", "only lower-case letters, digits and hyphens"]),
        (
            "spec.peers.expiredRevocationList",
            "Serve",
            ["spec.peers.expiredRevocationList", '"Serve"', '"ServeAndViolate"', '"Refuse"'],
        ),
        ("spec.peers.allowedCIDRs", ["198.18.0.1/16"], ["allowedCIDRs", "198.18.0.1/16", "network address"]),
        ("spec.peers.allowedCIDRs", ["198.18.0.0/33"], ["allowedCIDRs", "198.18.0.0/33", "write for example"]),
        ("spec.peers.allowedCIDRs", ["0.0.0.0/0"], ["allowedCIDRs", "/0 allows every address", "name the networks"]),
        ("spec.peers.allowedCIDRs", ["::/0"], ["allowedCIDRs", "/0 allows every address", "name the networks"]),
        (
            "spec.peers.allowedCIDRs",
            ["198.18.0.0/16", "198.18.10.0/24"],
            ["allowedCIDRs", "overlap", "keep only the wider or only the narrower"],
        ),
        ("spec.peers.namespaceSelector.matchLabels", {}, ["matchLabels", "should have at least 1 properties"]),
        ("spec.peers.maxRights", ["Echo", "Delete"], ["maxRights", "Delete", "supported values"]),
        ("spec.peers.tlsExceptions", ["Ssl3"], ["spec.peers.tlsExceptions", "Ssl3", "supported values"]),
        ("spec.dicom.aliases", ["OLD\\PACS"], ["spec.dicom.aliases", "is not an AE title", "use 1 to 16"]),
        ("spec.dicom.aliases", ["PACSPROBE2"], ["spec.dicom.aliases", "reserved", "choose another title"]),
        ("spec.dicom.aliases", ["RADIOLOGY"], ["spec.dicom.aliases", "is spec.dicom.aeTitle already"]),
        ("spec.dicom.aliases", ["OLD", "OLD"], ["spec.dicom.aliases", "Duplicate value"]),
        ("spec.dicom.aliases", [f"OLD{n}" for n in range(11)], ["spec.dicom.aliases", "at most 10 items"]),
        ("spec.deletionPolicy", "Delete", ["spec.deletion.confirmName", "'radiology'", "or use deletionPolicy Retain"]),
        ("spec.deletionPolicy", "Destroy", ["spec.deletionPolicy", "Destroy", "supported values"]),
        ("spec.deletion", {"graceHours": 23}, ["spec.deletion.graceHours", "greater than or equal to 24"]),
        ("spec.deletion", {"graceHours": 145}, ["spec.deletion.graceHours", "less than or equal to 144"]),
        ("spec.deletion", {"confirmName": "r" * 41}, ["spec.deletion.confirmName", "40"]),
        ("spec.deletion", {"confirm": "radiology"}, ["unknown field", "spec.deletion.confirm"]),
        ("spec.retention", {"minimumYears": -1}, ["spec.retention.minimumYears", "greater than or equal to 0"]),
        ("spec.retention", {"minimumYears": 101}, ["spec.retention.minimumYears", "less than or equal to 100"]),
        ("spec.retention", {"legalHold": "yes"}, ["spec.retention.legalHold", "boolean"]),
        ("spec.bootstrap", {"mode": "Adopt"}, ["spec.bootstrap.lineageID", "copy it from the label"]),
        ("spec.bootstrap", {"lineageID": "0" * 32}, ["spec.bootstrap.lineageID", "only with mode Adopt"]),
        ("spec.gate.service.nodePort", 70000, ["spec.gate.service.nodePort", "70000", "65535"]),
        ("spec.storage.sizeGi", 0, ["spec.storage.sizeGi", "should be greater than or equal to 1"]),
        ("spec.vault", {"address": "http://vault"}, ["spec.vault.address", "should match"]),
        ("spec.gait", {"replicas": 2}, ["unknown field", "spec.gait"]),
    ],
)
def test_archive_refused(crds: CustomObjectsApi, archive: dict, path: str, value: Any, words: list[str]) -> None:
    message = refusal(crds, changed(archive, path, value))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.aeTitles", ["PACSPROBE-X"], ["spec.aeTitles", "reserved", "choose another title"]),
        ("spec.aeTitles", [], ["spec.aeTitles", "at least 1 items"]),
        ("spec.certificate.dnsName", "", ["spec.certificate.dnsName", "name one host in lower case"]),
        ("spec.certificate.dnsName", "*.imaging.example", ["*.imaging.example", "cannot identify one device"]),
        ("spec.certificate.dnsName", "ct1", ["'ct1' cannot identify one device"]),
        ("spec.sourceCIDRs", ["0.0.0.0/0"], ["sourceCIDRs", "/0 allows every address on earth"]),
        ("spec.sourceCIDRs", ["::/0"], ["sourceCIDRs", "/0 allows every address on earth", "name the networks"]),
        ("spec.sourceCIDRs", ["198.18.10.300/32"], ["sourceCIDRs", "198.18.10.300/32", "network address"]),
        ("spec.sourceCIDRs", ["198.18.10.0/24", "198.18.10.11/32"], ["sourceCIDRs", "overlap"]),
        ("spec.rights", ["Everything"], ["spec.rights", "Everything"]),
        ("spec.limits", {"maxAssociations": 0}, ["spec.limits.maxAssociations"]),
        (
            "spec.limits",
            {"associationsPerMinute": 0},
            ["spec.limits.associationsPerMinute", "greater than or equal to 1"],
        ),
        ("spec.limits", {"associationsPerMinute": 6001}, ["spec.limits.associationsPerMinute", "6000"]),
        ("spec.limits", {"associations": 4}, ["unknown field", "spec.limits.associations"]),
        ("spec.tls", {}, ["spec.tls.exception", "Required"]),
        ("spec.tls.exception", {"tier": "Tls12EcdheCbc"}, ["spec.tls.exception.expires", "spec.tls.exception.reason"]),
        (
            "spec.tls.exception",
            {**EXCEPTION, "tier": "Tls10"},
            ["spec.tls.exception.tier", "Tls10", "supported values"],
        ),
        ("spec.tls.exception", {**EXCEPTION, "reason": "old"}, ["spec.tls.exception.reason", "at least 10 chars"]),
        ("spec.tls.exception", {**EXCEPTION, "reason": "x" * 257}, ["spec.tls.exception.reason", "256"]),
        ("spec.tls.exception", {**EXCEPTION, "expires": "2027-03-31"}, ["spec.tls.exception.expires", "date-time"]),
        ("spec.tls.exception", {**EXCEPTION, "expires": "9999-12-31T23:59:59Z"}, ["expires", "name the day"]),
        ("spec.tls.exception", {**EXCEPTION, "expires": "never"}, ["spec.tls.exception.expires", "date-time"]),
        ("spec.expectTraffic", {}, ["spec.expectTraffic.maxSilenceHours", "Required"]),
        ("spec.expectTraffic", {"maxSilenceHours": 0}, ["spec.expectTraffic.maxSilenceHours", "1"]),
        ("spec.expectTraffic", {"maxSilenceHours": 8761}, ["spec.expectTraffic.maxSilenceHours", "8760"]),
        ("spec.expectTraffic", {"maxSilenceHours": "24"}, ["spec.expectTraffic.maxSilenceHours", "integer"]),
        ("spec.outbound", {"address": "ws1.imaging.example", "port": 104}, ["spec.outbound.address", "IP address"]),
        ("spec.outbound", {"address": "127.0.0.1", "port": 104}, ["'127.0.0.1' is not the address of one device"]),
        ("spec.outbound", {"address": "0.0.0.0", "port": 104}, ["'0.0.0.0' is not the address of one device"]),
        ("spec.outbound", {"address": "2001:DB8::1", "port": 104}, ["'2001:DB8::1' is not", "shortest form"]),
        ("spec.outbound", {"address": "198.18.10.21", "port": 65536}, ["spec.outbound.port", "65535"]),
        ("spec.outbound", {"address": "198.18.10.21"}, ["spec.outbound.port", "Required"]),
        ("spec.moveDestinations", ["ws1"], ["spec.moveDestinations", "add Move to spec.rights"]),
        ("spec.moveDestinations", ["WS 1"], ["'WS 1' is not the name of a DicomPeer", "namespace/name"]),
        ("spec.moveDestinations", ["ws1", "ws1"], ["spec.moveDestinations", "Duplicate value"]),
        ("spec.moveDestinations", [f"ws{n}" for n in range(33)], ["spec.moveDestinations", "at most 32 items"]),
        ("spec.aeTitle", "CT1", ["unknown field", "spec.aeTitle"]),
    ],
)
def test_peer_refused(crds: CustomObjectsApi, peer: dict, path: str, value: Any, words: list[str]) -> None:
    peer["metadata"]["namespace"] = "default"
    message = refusal(crds, changed(peer, path, value))
    for word in words:
        assert word in message


def catalog_of(images: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "pacs-operator.io/v1alpha1",
        "kind": "PacsCatalog",
        "metadata": {"name": "stable"},
        "spec": {"floor": "1", "releases": [{"version": "1", "images": images}]},
    }


def images_of_a_release() -> dict[str, str]:
    return dict.fromkeys(("archive", "gate", "database", "tools"), "registry.example/pacs/x@sha256:" + "0" * 64)


@pytest.mark.parametrize("component", ["archive", "gate", "database", "tools"])
def test_component_missing_in_a_release(crds: CustomObjectsApi, component: str) -> None:
    images = images_of_a_release()
    del images[component]
    message = refusal(crds, catalog_of(images))
    assert f"spec.releases[0].images.{component}" in message
    assert "Required value" in message


def test_component_unknown_in_a_release(crds: CustomObjectsApi) -> None:
    images = images_of_a_release()
    message = refusal(crds, catalog_of({**images, "viewer": images["gate"]}))
    assert 'unknown field "spec.releases[0].images.viewer"' in message


def test_a_peer_stays_with_its_archive(crds: CustomObjectsApi, peer: dict) -> None:
    peer["metadata"]["namespace"] = "default"
    where = ("pacs-operator.io", "v1alpha1", "default", "dicompeers")
    created: Any = crds.create_namespaced_custom_object(*where, peer)
    try:
        with pytest.raises(ApiException) as caught:
            other = changed(created, "spec.archiveRef.name", "cardiology")
            crds.replace_namespaced_custom_object(*where, "ct1", other, dry_run="All")
        assert "spec.archiveRef cannot change" in str(caught.value.body)
        assert "delete this DicomPeer and create one for the other archive" in str(caught.value.body)
        narrowed = changed(created, "spec.rights", ["Echo"])
        crds.replace_namespaced_custom_object(*where, "ct1", narrowed, dry_run="All")
    finally:
        crds.delete_namespaced_custom_object(*where, "ct1")


def test_image_by_tag(crds: CustomObjectsApi) -> None:
    images = images_of_a_release()
    catalog = catalog_of(images)
    put(crds, catalog)
    images["gate"] = "registry.example/pacs/gate:latest"
    message = refusal(crds, catalog)
    assert '"registry.example/pacs/gate:latest" does not name an image by digest' in message
    assert "a tag can change under a running archive" in message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.storage.sizeGi", 10, ["spec.storage", "sizeGi", "volumes only grow"]),
        (
            "spec.storage.storageClassName",
            "fast",
            ["spec.storage", "storageClassName cannot change", "write the former name again"],
        ),
        ("spec.database.sizeGi", 1, ["spec.database", "sizeGi", "volumes only grow"]),
        ("spec.bootstrap", {"mode": "Adopt", "lineageID": "0" * 32}, ["spec.bootstrap cannot change"]),
        ("spec.retention.minimumYears", 9, ["spec.retention.minimumYears", "may only be raised", "OverrideRetention"]),
        ("spec.retention", {}, ["spec.retention.minimumYears", "may only be raised"]),
    ],
)
def test_immutable_fields(crds: CustomObjectsApi, archive: dict, path: str, value: Any, words: list[str]) -> None:
    where = ("pacs-operator.io", "v1alpha1", "pacsarchives")
    archive = changed(archive, "spec.retention.minimumYears", 10)
    created: Any = crds.create_cluster_custom_object(*where, archive)
    try:
        with pytest.raises(ApiException) as caught:
            crds.replace_cluster_custom_object(*where, "radiology", changed(created, path, value), dry_run="All")
        for word in words:
            assert word in str(caught.value.body)
        grown = changed(changed(created, "spec.storage.sizeGi", 40), "spec.retention.minimumYears", 11)
        crds.replace_cluster_custom_object(*where, "radiology", grown, dry_run="All")
    finally:
        crds.delete_cluster_custom_object(*where, "radiology")


def test_a_device_without_tls_has_an_exception_with_an_end(crds: CustomObjectsApi, peer: dict) -> None:
    peer["metadata"]["namespace"] = "default"
    spec = {name: value for name, value in peer["spec"].items() if name != "certificate"}
    exception = {"port": 11112, "reason": "maker offers no TLS", "expires": "2027-03-31T18:00:00Z"}
    good = spec | {"legacy": exception, "aeTitles": ["US7"], "sourceCIDRs": ["198.18.10.77/32"]}
    put(crds, peer | {"spec": good})
    put(crds, peer | {"spec": good | {"sourceCIDRs": ["2001:db8::7/128"]}})
    wrong = {
        "exactly one of certificate and legacy": [spec, good | {"certificate": peer["spec"]["certificate"]}],
        "pins exactly one title": [good | {"aeTitles": ["US7", "US8"]}],
        "single addresses": [
            good | {"sourceCIDRs": ["198.18.10.0/24"]},
            good | {"sourceCIDRs": ["2001:db8::/64"]},
            good | {"sourceCIDRs": [f"198.18.10.{number}/32" for number in range(5)]},
        ],
        "UTC to the second": [
            good | {"legacy": exception | {"expires": value}}
            for value in ("2027-03-31T18:00:00.5Z", "2027-03-31T18:00:00+01:00")
        ],
        "spec.legacy.port": [good | {"legacy": exception | {"port": port}} for port in (104, 65536)],
        "spec.legacy.reason": [good | {"legacy": exception | {"reason": "old"}}],
        "a device without TLS is sent nothing": [good | {"outbound": {"address": "198.18.10.21", "port": 104}}],
    }
    for words, cases in wrong.items():
        for case in cases:
            assert words in refusal(crds, peer | {"spec": case}), case


def test_plaintext_ports_are_few_not_ours_and_closed_by_somebody(crds: CustomObjectsApi, archive: dict) -> None:
    hours = {"schedule": "0 8-16 * * 1-5", "timeZone": "Europe/Zurich"}
    dicom = archive["spec"]["dicom"] | {"legacyPorts": {"first": 11112, "last": 11127}, "staffedHours": hours}
    put(crds, changed(archive, "spec.dicom", dicom))
    for first, last in (
        (11112, 11111),
        (11112, 11128),
        (2760, 2770),
        (4243, 4243),
        (8080, 8081),
        (8443, 8443),
        (104, 104),
    ):
        message = refusal(crds, changed(archive, "spec.dicom", dicom | {"legacyPorts": {"first": first, "last": last}}))
        assert "spec.dicom.legacyPorts" in message
    without = {name: value for name, value in dicom.items() if name != "staffedHours"}
    assert "spec.dicom.staffedHours: missing" in refusal(crds, changed(archive, "spec.dicom", without))
    assert "spec.peers.legacy" in refusal(crds, changed(archive, "spec.peers.legacy", "Sometimes"))


def test_an_extension_says_why_anew(crds: CustomObjectsApi, peer: dict) -> None:
    peer["metadata"] |= {"namespace": "default", "name": "extended"}
    spec = {name: value for name, value in peer["spec"].items() if name != "certificate"}
    exception = {"port": 11112, "reason": "maker offers no TLS", "expires": "2027-03-31T18:00:00Z"}
    spec |= {"legacy": exception, "aeTitles": ["US7"], "sourceCIDRs": ["198.18.10.77/32"]}
    where = ("pacs-operator.io", "v1alpha1", "default", "dicompeers")
    crds.create_namespaced_custom_object(*where, peer | {"spec": spec})
    try:
        later = {"expires": "2027-06-30T18:00:00Z"}
        with pytest.raises(ApiException) as caught:
            crds.patch_namespaced_custom_object(*where, "extended", {"spec": {"legacy": later}})
        assert "expires was changed and the reason was not" in (caught.value.body or "")
        reasoned = later | {"reason": "replacement arrives in June"}
        crds.patch_namespaced_custom_object(*where, "extended", {"spec": {"legacy": reasoned}})
    finally:
        crds.delete_namespaced_custom_object(*where, "extended")


def test_containment_says_why_and_names_whom_it_spares(crds: CustomObjectsApi, archive: dict) -> None:
    spared = [{"namespace": "imaging", "name": "er"}]
    good = {"mode": "Isolated", "reason": "ransomware", "spareEmergencyPeers": spared}
    put(crds, changed(archive, "spec.containment", good))
    put(crds, changed(archive, "spec.containment", {"mode": "None"}))
    message = refusal(crds, changed(archive, "spec.containment", {"mode": "Isolated"}))
    assert "spec.containment.reason" in message
    assert "say in a few words" in message
    for wrong in ({"mode": "Closed"}, good | {"reason": "x" * 257}, good | {"spareEmergencyPeers": [{"name": "er"}]}):
        assert "spec.containment" in refusal(crds, changed(archive, "spec.containment", wrong))
    twice = good | {"spareEmergencyPeers": spared * 2}
    assert "Duplicate value" in refusal(crds, changed(archive, "spec.containment", twice))
