"""Which peers are accepted: each rule with its message, and who wins when two want the same."""

from typing import Any

import pytest

from pacs_operator.domain.acceptance import MAX_PEERS, Claim, Decision, decide
from pacs_operator.domain.archive import Archive, ArchiveSpec
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.peer import Peer, PeerSpec
from pacs_operator.domain.validation import parse
from tests.engine.world import archive_manifest, peer_manifest

CONSENTING = {"imaging"}


EXCEPTION = {
    "exception": {
        "tier": "Tls12EcdheCbc",
        "reason": "the maker has no newer software",
        "expires": "2027-03-31T00:00:00Z",
    }
}


def archive(**spec: object) -> Archive:
    return Archive(
        name="radiology", uid="u", generation=1, spec=ArchiveSpec.model_validate(archive_manifest(**spec)["spec"])
    )


def claim(name: str, created: str = "2026-01-01T00:00:00Z", uid: str = "1", **changes: Any) -> Claim:
    manifest = peer_manifest(name, **changes)
    namespace = manifest["metadata"]["namespace"]
    try:
        spec = parse(PeerSpec, manifest["spec"], "spec")
    except InvalidSpecError as error:
        return Claim(f"{namespace}/{name}", created, uid, 1, None, error)
    peer = Peer(namespace=namespace, name=name, uid=uid, generation=1, created=created, spec=spec)
    return Claim(peer.key, created, uid, 1, peer)


def one(*claims: Claim, of: int = -1) -> Decision:
    called = {"aeTitle": "RADIOLOGY", "aliases": ["OLDPACS"]}
    return decide(archive(dicom=called), claims, CONSENTING, "radiology")[of]


def test_a_peer_inside_all_bounds_is_accepted():
    decision = one(claim("ct1"))
    assert decision.accepted
    assert decision.message == "Bound to ct1.imaging.example"


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"namespace": "elsewhere"}, "NamespaceNotAllowed", ["'elsewhere'", "pacs-operator.io/peers-of=radiology"]),
        ({"sourceCIDRs": ["10.0.0.0/24"]}, "SourceNotAllowed", ["10.0.0.0/24", "198.18.0.0/16"]),
        ({"sourceCIDRs": ["198.0.0.0/8"]}, "SourceNotAllowed", ["198.0.0.0/8"]),
        ({"rights": ["Echo", "FindWorklist"]}, "RightNotAllowed", ["FindWorklist", "maxRights"]),
        ({"aeTitles": ["RADIOLOGY"]}, "DuplicateAETitle", ["'RADIOLOGY'", "archive's own"]),
        ({"tls": EXCEPTION}, "TlsExceptionNotAllowed", ["Tls12EcdheCbc", "spec.peers.tlsExceptions"]),
        ({"tls": {"exception": {**EXCEPTION["exception"], "tier": "Tls10"}}}, "InvalidSpec", ["tier"]),
        ({"tls": {"exception": {**EXCEPTION["exception"], "reason": "old"}}}, "InvalidSpec", ["reason"]),
        ({"tls": {"exception": {**EXCEPTION["exception"], "expires": "2027-03-31"}}}, "InvalidSpec", ["expires"]),
        (
            {"tls": {"exception": {**EXCEPTION["exception"], "expires": "2027-03-31T00:00:00"}}},
            "InvalidSpec",
            ["expires"],
        ),
        ({"tls": {}}, "InvalidSpec", ["exception"]),
        ({"tls": {"exception": EXCEPTION["exception"] | {"expires": "9999-12-31T23:59:59Z"}}}, "InvalidSpec", ["9999"]),
        (
            {"tls": {"exception": EXCEPTION["exception"] | {"expires": "0001-01-01T00:00:00+23:00"}}},
            "InvalidSpec",
            ["0001"],
        ),
        ({"aeTitles": ["OLDPACS"]}, "DuplicateAETitle", ["'OLDPACS'", "one of its aliases"]),
        ({"certificate": {"dnsName": "gate.radiology-edge.svc"}}, "ReservedIdentity", ["gate.radiology-edge.svc"]),
        ({"certificate": {"dnsName": "radiology.pacs.internal"}}, "ReservedIdentity", ["radiology.pacs.internal"]),
        ({"certificate": {"dnsName": "a.b.svc.cluster.local"}}, "ReservedIdentity", ["a.b.svc.cluster.local"]),
        ({"aeTitles": ["PACSPROBE"]}, "ReservedAETitle", ["'PACSPROBE'"]),
        ({"aeTitles": [""]}, "InvalidAETitle", ["it is empty"]),
        ({"certificate": {"dnsName": "*.imaging.example"}}, "InvalidIdentity", ["wildcard"]),
        ({"sourceCIDRs": ["0.0.0.0/0"]}, "UnboundedCIDR", ["every address"]),
        ({"rights": ["Delete"]}, "InvalidSpec", ["spec.rights[0]", "'Delete'"]),
        ({"outbound": {"address": "10.0.0.1", "port": 104}}, "OutboundNotAllowed", ["10.0.0.1", "198.18.0.0/16"]),
        ({"outbound": {"address": "ws1.example", "port": 104}}, "InvalidAddress", ["'ws1.example'", "not resolved"]),
        ({"outbound": {"address": "127.0.0.1", "port": 104}}, "InvalidAddress", ["'127.0.0.1'", "no address of one"]),
        ({"outbound": {"address": "198.18.1.1", "port": 0}}, "InvalidSpec", ["spec.outbound.port"]),
        ({"outbound": {"address": "198.18.1.1"}}, "InvalidSpec", ["spec.outbound.port"]),
        ({"moveDestinations": ["ws1"]}, "MoveNotAllowed", ["spec.moveDestinations", "add Move to spec.rights"]),
        ({"colour": "blue"}, "UnknownField", ["spec.colour", "unknown field"]),
    ],
)
def test_a_refusal_names_value_rule_and_way_out(changes: dict, reason: str, words: list[str]):
    decision = one(claim("ct1", **changes))
    assert not decision.accepted
    assert decision.reason == reason
    for word in words:
        assert word in decision.message
    assert decision.message.endswith(")"), "the way out stands in parentheses"


def test_a_peer_without_archive_is_told_so():
    (decision,) = decide(None, [claim("ct1")], CONSENTING, "gone")
    assert (decision.accepted, decision.reason) == (False, "ArchiveNotFound")
    assert "'gone'" in decision.message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aeTitles": ["CT1"]}, "DuplicateAETitle"),
        ({"certificate": {"dnsName": "ct1.imaging.example"}}, "DuplicateIdentity"),
    ],
)
def test_the_later_of_two_loses_and_the_earlier_is_named(changes: dict, reason: str):
    early = claim("ct1", created="2026-01-01T00:00:00Z", uid="z")
    late = claim("aa", created="2026-01-02T00:00:00Z", uid="a", **changes)
    first, second = decide(archive(), [late, early], CONSENTING, "radiology")
    assert (first.claim.key, first.accepted) == ("imaging/ct1", True)
    assert (second.accepted, second.reason) == (False, reason)
    assert "imaging/ct1" in second.message


def test_created_in_the_same_second_the_uid_decides():
    first, second = decide(
        archive(), [claim("b", uid="2", aeTitles=["X"]), claim("c", uid="1", aeTitles=["X"])], CONSENTING, "radiology"
    )
    assert [first.claim.key, second.claim.key] == ["imaging/c", "imaging/b"]
    assert [first.accepted, second.accepted] == [True, False]


def test_a_refused_peer_holds_no_title():
    refused = claim("early", created="2025-01-01T00:00:00Z", aeTitles=["CT1"], namespace="elsewhere")
    decisions = decide(archive(), [refused, claim("ct1")], CONSENTING, "radiology")
    assert [decision.accepted for decision in decisions] == [False, True]


def test_more_peers_than_the_gate_has_slots():
    claims = [claim(f"p{number:03d}", uid=f"{number:03d}") for number in range(MAX_PEERS + 1)]
    decisions = decide(archive(), claims, CONSENTING, "radiology")
    assert [decision.accepted for decision in decisions].count(True) == MAX_PEERS
    assert decisions[-1].reason == "TooManyPeers"


def test_the_order_of_reading_does_not_matter():
    claims = [claim(name, uid=name, aeTitles=["SAME" if name < "d" else name]) for name in "abcdef"]
    forward = decide(archive(), claims, CONSENTING, "radiology")
    assert forward == decide(archive(), reversed(claims), CONSENTING, "radiology")


@pytest.mark.parametrize(
    ("aliases", "reason", "word"),
    [
        (["PACSPROBE-X"], "ReservedAETitle", "does not begin with PACSPROBE"),
        (["RADIOLOGY"], "DuplicateAETitle", "'RADIOLOGY'"),
        (["OLD", "OLD"], "DuplicateAETitle", "'OLD'"),
        ([" OLD"], "InvalidAETitle", "begins or ends with a space"),
        (["A" * 17], "InvalidAETitle", "17 bytes"),
        ([f"OLD{number}" for number in range(11)], "InvalidSpec", "aliases"),
    ],
)
def test_aliases_that_are_none(aliases: list[str], reason: str, word: str):
    spec = archive_manifest(dicom={"aeTitle": "RADIOLOGY", "aliases": aliases})["spec"]
    with pytest.raises(InvalidSpecError) as caught:
        parse(ArchiveSpec, spec, "spec")
    assert caught.value.reason == reason
    assert "spec.dicom.aliases" in str(caught.value)
    assert word in str(caught.value)
    assert parse(ArchiveSpec, {**spec, "dicom": {"aeTitle": "RADIOLOGY", "aliases": ["OLD", "OLDER"]}}, "spec")


def test_an_exception_inside_the_archives_bounds_is_accepted():
    bounds = {**archive_manifest()["spec"]["peers"], "tlsExceptions": ["Tls12EcdheCbc"]}
    decision = decide(archive(peers=bounds), [claim("ct1", tls=EXCEPTION)], CONSENTING, "radiology")[0]
    assert decision.accepted
