"""Authorities of the hospital: what is trusted of a spec, who may bind by it, and what the gate is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from pacs_operator.domain.acceptance import Decision, decide
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.issuers import MAX_LISTS_BYTES, OWN, Issuer, clashing, read_trust, usable
from pacs_operator.domain.names import CaName
from pacs_operator.domain.times import rfc3339
from pacs_operator.domain.validation import parse
from pacs_operator.reconcile.issuers import _verdict
from tests.engine.test_acceptance import CONSENTING, archive, claim
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest, peer_manifest
from tests.gate.pki import Authority, make_key

ROOT = Authority("Hospital root")
IMAGING = Authority("Hospital imaging CA", parent=ROOT)
OFFICE = Authority("Hospital office CA", parent=ROOT)
BOUNDS = archive_manifest()["spec"]["peers"]
PIN = {"spkiSHA256": "ab" * 32}
THEIRS = {"issuer": "hospital", "dnsName": "ct1.imaging.example"}


def entry(name: str = "hospital", authority: Authority = IMAGING, **changes: Any) -> dict[str, Any]:
    made = {"name": name, "caPEM": authority.chain_pem(), "crlPEM": authority.crl_pem().decode()}
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def decided(certificate: dict[str, str], issuers: list[dict[str, Any]] | None, **changes: Any) -> Decision:
    peers = BOUNDS if issuers is None else {**BOUNDS, "issuers": issuers}
    (decision,) = decide(archive(peers=peers), [claim("ct1", certificate=certificate, **changes)], CONSENTING, "x")
    return decision


@pytest.mark.parametrize(
    ("certificate", "issuers"),
    [
        (THEIRS, [entry()]),
        (THEIRS, [entry(allowedDomains=["imaging.example"])]),
        (THEIRS, [entry(crlPEM=None, noCRLReason="the authority makes none")]),
        (THEIRS, [entry(), entry("office", OFFICE)]),
        (THEIRS, [entry("broken", caPEM="x" * 64), entry()]),
        (PIN, []),
    ],
)
def test_bound(certificate: dict, issuers: list) -> None:
    decision = decided(certificate, issuers)
    assert (decision.accepted, decision.reason) == (True, "Accepted"), decision.message


@pytest.mark.parametrize(
    ("certificate", "issuers", "reason", "words"),
    [
        (THEIRS, None, "IssuerNotTrusted", ["'hospital'", "spec.peers.issuers"]),
        (THEIRS, [entry("other")], "IssuerNotTrusted", ["'hospital'"]),
        (THEIRS, [entry(caPEM="x" * 64)], "IssuerNotTrusted", ["PeerIssuers"]),
        (THEIRS, [entry(allowedDomains=["wards.example"])], "IdentityNotAllowed", ["ct1.imaging.example", "wards"]),
        (
            {**THEIRS, "dnsName": "ct1.notimaging.example"},
            [entry(allowedDomains=["imaging.example"])],
            "IdentityNotAllowed",
            ["ct1.notimaging.example"],
        ),
        ({**THEIRS, "dnsName": "gate.radiology-edge.svc"}, [entry()], "ReservedIdentity", ["gate.radiology-edge.svc"]),
        (PIN, None, "KeyPinNotAllowed", ["[] at least"]),
        ({"spkiSHA256": "AB" * 32}, [], "InvalidSpec", ["spec.certificate.spkiSHA256"]),
        ({**PIN, "issuer": "hospital"}, [entry()], "InvalidSpec", ["take issuer away"]),
        ({**PIN, "dnsName": "ct1.imaging.example"}, [], "InvalidSpec", ["exactly one of dnsName and spkiSHA256"]),
        ({}, [], "InvalidSpec", ["exactly one of dnsName and spkiSHA256"]),
    ],
)
def test_refused(certificate: dict, issuers: list | None, reason: str, words: list[str]) -> None:
    decision = decided(certificate, issuers)
    assert (decision.accepted, decision.reason) == (False, reason)
    assert [word for word in words if word not in decision.message] == []


def test_who_is_sent_to_needs_a_certificate_of_the_archives_own() -> None:
    outbound = {"address": "198.18.10.11", "port": 2762}
    assert decided({"dnsName": "ct1.imaging.example"}, [entry()], outbound=outbound).accepted
    for certificate in (THEIRS, PIN):
        assert "spec.outbound" in decided(certificate, [entry()], outbound=outbound).message


def test_the_same_name_of_two_issuers_is_two_identities() -> None:
    claims = [
        claim("ct1"),
        claim("ct2", uid="2", certificate=THEIRS),
        claim("ct3", uid="3", certificate=THEIRS),
        claim("ct4", uid="4", certificate=PIN),
        claim("ct5", uid="5", certificate=PIN),
    ]
    reasons = [one.reason for one in decide(archive(peers={**BOUNDS, "issuers": [entry()]}), claims, CONSENTING, "x")]
    assert reasons == ["Accepted", "Accepted", "DuplicateIdentity", "Accepted", "DuplicateIdentity"]


WEAK = Authority("Weak", make_key("RSA"))
BAD = {
    "not PEM": ({"caPEM": "x" * 64}, "not 1 to 4 certificates"),
    "a key among it": ({"caPEM": f"{IMAGING.chain_pem()}-----BEGIN PRIVATE{' '}KEY-----"}, "private key"),
    "a device's": ({"caPEM": (IMAGING.issue("x.example").pem().partition(b"-----BEGIN CERT")[2]).decode()}, "caPEM"),
    "no root": ({"caPEM": IMAGING.root_pem().decode()}, "no chain up to"),
    "wrong order": ({"caPEM": ROOT.chain_pem() + IMAGING.chain_pem()}, "no chain up to"),
    "list of a sibling": ({"crlPEM": OFFICE.crl_pem().decode()}, "that no certificate of caPEM signed"),
    "list of the root alone": ({"crlPEM": ROOT.crl_pem().decode()}, "lacks the list of the issuing"),
    "list not PEM": ({"crlPEM": "x" * 64}, "cannot be read"),
    "list of a namesake": ({"crlPEM": Authority("Hospital imaging CA").crl_pem().decode()}, "signed"),
}


@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD)
def test_what_is_no_authority_is_not_trusted(changes: dict, words: str) -> None:
    trusts, why = usable([parse(Issuer, entry(**changes), "spec")])
    assert trusts == []
    assert words in why["hospital"]
    assert "PRIVATE KEY" not in why["hospital"]


@pytest.mark.parametrize("changes", [{"crlPEM": None}, {"noCRLReason": "the authority makes none"}])
def test_a_list_or_a_reason(changes: dict) -> None:
    with pytest.raises(InvalidSpecError, match="exactly one of crlPEM and noCRLReason"):
        parse(Issuer, entry(**changes), "spec")


def test_who_cannot_be_told_apart_clashes() -> None:
    """Two under one root can; a namesake, by case and spaces too, and the same key twice cannot."""
    assert usable([parse(Issuer, entry(n, a), "x") for n, a in (("hospital", IMAGING), ("office", OFFICE))])[1] == {}
    spaces = [Authority(odd) for odd in ("Hospital imaging CA ", " Hospital imaging CA", "Hospital\timaging CA\t")]
    for other in (Authority("hospital  IMAGING ca"), Authority("Hospital root"), IMAGING, *spaces):
        trusts, why = usable([parse(Issuer, entry(), "x"), parse(Issuer, entry("other", other), "x")])
        assert [trust.name for trust in trusts] == ["hospital"]
        assert "clashes with hospital" in why["other"]
    apart = Authority("Hospital imagingCA")
    assert usable([parse(Issuer, entry(n, a), "x") for n, a in (("hospital", IMAGING), ("other", apart))])[1] == {}
    trust = read_trust("hospital", IMAGING.chain_pem(), None)
    assert clashing([trust], Authority("Hospital imaging CA").certificate) == {"hospital": OWN}
    assert clashing([trust], Authority("peers").certificate) == {}


def test_lists_that_haproxy_could_not_take_together_are_left_out() -> None:
    """Of 32 KiB each three find room; the fourth finds none, unless its list is short."""
    authorities = [Authority(f"CA {number}") for number in range(4)]
    for one in authorities:
        one.revoked = [x509.random_serial_number() for _ in range(600)]
    entries = [entry(f"ca-{number}", one) for number, one in enumerate(authorities)]
    trusts, why = usable([parse(Issuer, one, "x") for one in entries])
    assert [trust.name for trust in trusts] == ["ca-0", "ca-1", "ca-2"]
    assert list(why) == ["ca-3"]
    assert f"{MAX_LISTS_BYTES} are the most" in why["ca-3"]
    authorities[3].revoked.clear()
    entries[3] = entry("ca-3", authorities[3])
    assert usable([parse(Issuer, one, "x") for one in entries])[1] == {}


@pytest.mark.parametrize(
    ("later", "changes", "verdict"),
    [
        (timedelta(), {}, ("True", "IssuersTrusted")),
        (timedelta(days=4), {}, ("False", "IssuerListOld")),
        (timedelta(days=8), {}, ("False", "IssuerListExpired")),
        (timedelta(), {"crlPEM": None, "noCRLReason": "the authority makes none"}, ("True", "RevocationUnchecked")),
        (timedelta(days=3600), {"crlPEM": None, "noCRLReason": "the authority makes none"}, ("True", "IssuerEnding")),
        (timedelta(days=3651), {}, ("False", "IssuerExpired")),
    ],
)
def test_ages(later: timedelta, changes: dict, verdict: tuple[str, str]) -> None:
    said = [parse(Issuer, entry(**changes), "spec")]
    status, reason, text = _verdict(said, usable(said)[0], datetime.now(UTC) + later)
    assert (status, reason) == verdict
    assert ("the authority makes none" in text) is ("noCRLReason" in changes)


def test_a_list_that_ended_says_who_is_refused_and_the_way_out() -> None:
    said = [parse(Issuer, entry(), "spec")]
    texts = [
        _verdict(said, usable(said)[0], datetime.now(UTC) + timedelta(days=8), refuse=one)[2] for one in (False, True)
    ]
    assert "only what they list stays refused: hospital" in texts[0]
    assert "all devices of these authorities are refused: hospital; write the newer lists" in texts[1]


def test_the_archive_says_whether_a_list_that_ended_refuses(world: World) -> None:
    name(world, entry())
    world.settle(world.process)
    world.now = datetime.now(UTC) + timedelta(days=8)
    world.process.reconcile(ARCHIVE)
    assert "only what they list" in world.condition("PeerIssuers")["message"]
    refuse(world)
    world.settle(world.process)
    assert "are refused: hospital" in world.condition("PeerIssuers")["message"]


def refuse(world: World) -> None:
    def edit(live: Any) -> None:
        live["spec"]["peers"].update(expiredRevocationList="Refuse")

    world.api.edit(ARCHIVE_KEY, "kubectl", edit)


@pytest.mark.parametrize("ca", [CaName.PEERS, CaName.INTERNAL])
def test_the_archives_own_list_that_ended_says_who_is_refused(world: World, ca: CaName) -> None:
    """Only the list by which devices are judged keeps them out."""
    world.agents.crl_next_update = {ca: rfc3339(world.now - timedelta(hours=1))}
    world.now += timedelta(minutes=30)
    world.settle(world.process)
    served = world.condition("CertificatesCurrent")
    assert (served["status"], served["reason"]) == ("False", "RevocationListExpired")
    assert "refused" not in served["message"]
    refuse(world)
    world.settle(world.process)
    message = world.condition("CertificatesCurrent")["message"]
    assert ("are refused until a newer one is there" in message) is (ca is CaName.PEERS)
    assert ("set spec.peers.expiredRevocationList" in message) is (ca is CaName.PEERS)


def name(world: World, *issuers: dict[str, Any]) -> None:
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"]["peers"].update(issuers=list(issuers)))


def live_issuers(world: World) -> list[str] | None:
    issuers = world.live_peers().issuers
    assert world.live_peers("archive").issuers == issuers
    return None if issuers is None else [issuer.name for issuer in issuers]


@pytest.fixture
def theirs(world: World) -> World:
    """Return a world whose archive names an issuer, of which one peer has its certificate."""
    name(world, entry())
    certificate = {**THEIRS, "dnsName": "mr1.example.org"}
    world.api.put(peer_manifest("mr1", sourceCIDRs=["198.18.10.12/32"], certificate=certificate))
    world.settle(world.process)
    return world


def test_one_pass_carries_an_issuer_to_the_gate_and_takes_it_away(theirs: World) -> None:
    assert live_issuers(theirs) == ["hospital"]
    (mr1,) = [peer for peer in theirs.live_peers().peers if peer.id == "imaging/mr1"]
    assert (mr1.issuer, mr1.dns_name, mr1.identity) == ("hospital", "mr1.example.org", "hospital/mr1.example.org")
    status = theirs.api.objects["DicomPeer", "imaging", "mr1"]["status"]
    assert status["boundIdentity"] == "hospital/mr1.example.org"
    assert "vaultRole" not in status, "another authority signs for it"
    assert {role for _, role in theirs.vault.peer_roles} == {"peer.imaging.ct1"}
    assert "hospital" in theirs.condition("PeerIssuers")["message"]
    name(theirs)
    theirs.process.reconcile(ARCHIVE)
    assert live_issuers(theirs) == []
    assert "imaging/mr1" not in {peer.id for peer in theirs.live_peers().peers}
    assert theirs.peer_condition("mr1")["reason"] == "IssuerNotTrusted"
    theirs.settle(theirs.process)
    assert theirs.condition("PeerIssuers")["reason"] == "OwnAuthorityOnly"


@pytest.mark.parametrize(
    ("own", "accepted"),
    [
        (Authority("Hospital imaging CA"), False),
        (Authority("hospital  IMAGING ca"), False),
        (Authority("Another name", key=IMAGING.key), False),
        (Authority("pacs-operator peers"), True),
    ],
)
def test_what_could_be_taken_for_the_archives_own_authority_is_not_trusted(
    theirs: World, own: Authority, accepted: bool
) -> None:
    theirs.vault.root = own
    theirs.process = theirs.operator()
    theirs.process.reconcile(ARCHIVE)
    assert live_issuers(theirs) == (["hospital"] if accepted else [])
    assert theirs.peer_condition("mr1")["reason"] == ("Accepted" if accepted else "IssuerNotTrusted")
    said = theirs.condition("PeerIssuers")
    assert said["reason"] == ("IssuersTrusted" if accepted else "IssuerInvalid")
    assert ("hospital clashes with the own authority of the archive" in said["message"]) is not accepted


@pytest.mark.parametrize("readable", [True, False])
def test_an_own_authority_that_cannot_be_read_is_vaults_trouble_and_stops_no_pass(
    theirs: World, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    if not readable:
        monkeypatch.setattr(theirs.vault, "ca_pem", lambda *_: rubbish)
    name(theirs)
    theirs.process = theirs.operator()
    theirs.process.reconcile(ARCHIVE)
    assert live_issuers(theirs) == [], "what the pass brings arrives"
    assert theirs.condition("VaultReady")["reason"] == ("Provisioned" if readable else "VaultMisconfigured")


def test_an_archive_that_names_none_tells_of_none(world: World) -> None:
    assert live_issuers(world) is None
    assert "issuers" not in world.live_peers().document()
    assert [one for one in world.archive["status"]["conditions"] if one["type"] == "PeerIssuers"] == []


def stall(world: World, **peers: Any) -> None:
    def edit(live: Any) -> None:
        live["spec"]["peers"].update(**peers)
        live["spec"]["release"]["version"] = "1999.1.0"

    world.api.edit(ARCHIVE_KEY, "kubectl", edit)
    world.process.reconcile(ARCHIVE)


def test_a_stalled_archive_loses_an_issuer_and_gains_none(theirs: World) -> None:
    stall(theirs, issuers=[entry("office", OFFICE)])
    assert theirs.condition("Stalled")["status"] == "True"
    assert live_issuers(theirs) == []
    assert "imaging/mr1" not in {peer.id for peer in theirs.live_peers().peers}


def test_a_stalled_archive_keeps_what_it_may_and_takes_newer_lists(theirs: World) -> None:
    stall(theirs, issuers=[entry(crlPEM=(crl := IMAGING.crl_pem(days=9).decode()))])
    assert live_issuers(theirs) == ["hospital"]
    assert [issuer.crl_pem for issuer in theirs.live_peers().issuers or ()] == [crl]
    assert "imaging/mr1" in {peer.id for peer in theirs.live_peers().peers}


@pytest.mark.parametrize("said", ["nonsense", [{"name": "hospital", "caPEM": 7}]])
def test_issuers_that_cannot_be_read_take_nobodys_access(theirs: World, said: Any) -> None:
    stall(theirs, issuers=said)
    assert theirs.condition("Stalled")["status"] == "True"
    assert live_issuers(theirs) == ["hospital"]
    assert "imaging/mr1" in {peer.id for peer in theirs.live_peers().peers}


def test_no_worklist_is_said_and_not_given(world: World) -> None:
    def widen(live: Any) -> None:
        live["spec"]["peers"]["maxRights"].append("FindWorklist")

    world.api.edit(ARCHIVE_KEY, "kubectl", widen)
    world.api.put(peer_manifest("mr1", rights=["Echo", "FindWorklist"], sourceCIDRs=["198.18.10.12/32"]))
    world.api.put(peer_manifest("mr2", rights=["FindWorklist"], sourceCIDRs=["198.18.10.13/32"]))
    world.settle(world.process)
    rights = {peer.id: [right.value for right in peer.rights] for peer in world.live_peers("archive").peers}
    assert rights["imaging/mr1"] == ["Echo"]
    assert "imaging/mr2" not in rights
    said = {one["type"]: one for one in world.api.objects["DicomPeer", "imaging", "mr1"]["status"]["conditions"]}
    assert (said["WorklistOffered"]["status"], said["WorklistOffered"]["reason"]) == ("False", "NotOffered")
    assert said["Accepted"]["status"] == "True"
    assert world.peer_condition("mr2")["reason"] == "WorklistNotOffered"
    ct1 = world.api.objects["DicomPeer", "imaging", "ct1"]["status"]["conditions"]
    assert "WorklistOffered" not in {one["type"] for one in ct1}
