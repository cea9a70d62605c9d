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
