"""Who a peer is and who may vouch for it: accepted and refused by the API server itself."""

from typing import Any

import pytest
from kubernetes.client import CustomObjectsApi

from tests.apiserver.test_bad_input import changed, put, refusal

ISSUER = {"name": "hospital", "caPEM": "x" * 64, "noCRLReason": "the authority makes none"}


def test_issuers_and_keys_are_accepted(crds: CustomObjectsApi, archive: dict, peer: dict) -> None:
    """The twins of what is refused below."""
    peer["metadata"]["namespace"] = "default"
    put(crds, changed(archive, "spec.peers.issuers", []))
    put(crds, changed(archive, "spec.peers.issuers", [ISSUER, ISSUER | {"name": "office"}]))
    put(crds, changed(archive, "spec.peers.issuers", [{**ISSUER, "allowedDomains": ["imaging.example"]}]))
    put(crds, changed(peer, "spec.certificate", {"dnsName": "ct1.imaging.example", "issuer": "hospital"}))
    put(crds, changed(peer, "spec.certificate", {"spkiSHA256": "ab" * 32}))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.peers.issuers", [ISSUER, ISSUER], ["spec.peers.issuers", "Duplicate value"]),
        ("spec.peers.issuers", [ISSUER | {"name": f"i{n}"} for n in range(5)], ["spec.peers.issuers", "at most 4"]),
        ("spec.peers.issuers", [ISSUER | {"name": "@own"}], ["spec.peers.issuers[0].name", "@own"]),
        ("spec.peers.issuers", [ISSUER | {"crlPEM": "x" * 64}], ["hospital", "exactly one of crlPEM and noCRLReason"]),
        ("spec.peers.issuers", [{"name": "hospital", "caPEM": "x" * 64}], ["exactly one of crlPEM and noCRLReason"]),
        ("spec.peers.issuers", [ISSUER | {"caPEM": "x" * 16_385}], ["spec.peers.issuers[0].caPEM", "16384"]),
        (
            "spec.peers.issuers",
            [ISSUER | {"noCRLReason": "none"}],
            ["spec.peers.issuers[0].noCRLReason", "at least 10"],
        ),
        (
            "spec.peers.issuers",
            [ISSUER | {"allowedDomains": ["*.x.org"]}],
            ["'*.x.org' is no domain", "without wildcard"],
        ),
    ],
)
def test_issuers(crds: CustomObjectsApi, archive: dict, path: str, value: Any, words: list[str]) -> None:
    message = refusal(crds, changed(archive, path, value))
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.certificate", {}, ["spec.certificate", "exactly one of dnsName and spkiSHA256"]),
        ("spec.certificate.spkiSHA256", "ab" * 32, ["exactly one of dnsName and spkiSHA256"]),
        ("spec.certificate", {"spkiSHA256": "AB" * 32}, ["spec.certificate.spkiSHA256", "should match"]),
        ("spec.certificate", {"spkiSHA256": "ab" * 32, "issuer": "hospital"}, ["take issuer away"]),
        ("spec.certificate.issuer", "Hospital", ["spec.certificate.issuer", "should match"]),
    ],
)
def test_certificates(crds: CustomObjectsApi, peer: dict, path: str, value: Any, words: list[str]) -> None:
    peer["metadata"]["namespace"] = "default"
    message = refusal(crds, changed(peer, path, value))
    assert [word for word in words if word not in message] == []


GLASS = {
    "holder": "dr-keller",
    "aeTitle": "EMERGENCY 1",
    "sourceCIDRs": ["198.18.30.7/32"],
    "rights": ["Find", "Get"],
    "hours": 24,
}
APPROVAL = {
    "apiVersion": "pacs-operator.io/v1alpha1",
    "kind": "PacsApproval",
    "metadata": {"name": "glass-anna", "namespace": "default"},
    "spec": {
        "archiveRef": {"name": "radiology"},
        "archiveUID": "u",
        "lineageID": "0" * 32,
        "act": "BreakGlass",
        "approver": "anna",
        "expiresAt": "2027-11-25T08:00:00Z",
        "reason": "RIS is down, trauma room",
        "breakGlass": GLASS,
    },
}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.breakGlass.hours", 25, ["spec.breakGlass.hours", "24"]),
        ("spec.breakGlass.hours", 0, ["spec.breakGlass.hours", "1"]),
        ("spec.breakGlass.rights", ["Store"], ["spec.breakGlass.rights", "Store", "supported values"]),
        ("spec.breakGlass.rights", [], ["spec.breakGlass.rights", "at least 1"]),
        ("spec.breakGlass.sourceCIDRs", ["0.0.0.0/0"], ['"0.0.0.0/0" is not a network', "/32"]),
        ("spec.breakGlass.sourceCIDRs", ["198.18.30.7/24"], ["is not a network with its length"]),
        ("spec.breakGlass.aeTitle", "PACSPROBE1", ["begins with PACSPROBE"]),
        ("spec.breakGlass.aeTitle", "A\\B", ["is not an AE title"]),
        ("spec.breakGlass.aeTitle", "CT1 ", ["is not an AE title"]),
        ("spec.breakGlass.holder", "Dr Keller", ["spec.breakGlass.holder", "should match"]),
        ("spec.breakGlass", None, ["spec.breakGlass", "stands with act BreakGlass, and with no other"]),
        ("spec.act", "Delete", ["stands with act BreakGlass, and with no other"]),
    ],
)
def test_break_glass(crds: CustomObjectsApi, path: str, value: Any, words: list[str]) -> None:
    put(crds, APPROVAL)
    message = refusal(crds, changed(APPROVAL, path, value))
    assert [word for word in words if word not in message] == []


def test_break_glass_is_prepared_for_a_day_at_most(crds: CustomObjectsApi, archive: dict) -> None:
    put(crds, changed(archive, "spec.breakGlass", {"maxHours": 24}))
    for wrong in ({"maxHours": 25}, {"maxHours": 0}, {}):
        assert "spec.breakGlass.maxHours" in refusal(crds, changed(archive, "spec.breakGlass", wrong))
