"""Each attack of the other pages succeeds once its measure is taken out: the refusals are the measures' doing."""

import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .device import PDU_AC, ask, associate_rq, client_context, tls_connection
from .pki import Authority
from .process import Gate, Site, peer, running_gate, wait_for

NAME = "ct1.imaging.example"

# Old versions are spoken on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")


def without(pattern: str) -> Callable[[str], str]:
    """Return an edit that removes what a pattern matches; one that matches nothing is a mistake of the test."""

    def edit(text: str) -> str:
        text, count = re.subn(pattern, "", text, flags=re.MULTILINE)
        assert count, pattern
        return text

    return edit


def without_rules(*reasons: str) -> Callable[[str], str]:
    """Return an edit after which a reason is never given; the rules stay, so that the maps they name exist."""

    def edit(text: str) -> str:
        for reason in reasons:
            text, count = re.subn(rf"(str\({reason}\)) (?:if|unless) ", r"\1 if FALSE ", text)
            assert count, reason
        return text

    return edit


@contextmanager
def sabotaged(site: Site, folder: Path, edit: Callable[[str], str], **layout: object) -> Iterator[Gate]:
    with running_gate(site, folder, edit, **layout) as gate:
        gate.put(
            peer("ct1", NAME, "CT1", sources=("127.0.0.1/32",), limit=1),
            peer("mr1", "mr1.imaging.example", "MR1"),
        )
        wait_for(gate.archive_reachable, "archive up")
        yield gate


def served(gate: Gate, context: ssl.SSLContext, request: bytes, source: str = "127.0.0.1") -> bool:
    return ask(gate.port, context, request, source).pdu == PDU_AC


def test_without_the_titles_rule_any_title_goes(site: Site, folder: Path) -> None:
    with sabotaged(site, folder, without_rules("WrongCallingAETitle")) as gate:
        assert served(gate, client_context(site.peers, site.peers.issue(NAME)), associate_rq(calling=b"MR1"))


def test_without_the_called_title_rule_any_archive_is_meant(site: Site, folder: Path) -> None:
    with sabotaged(site, folder, without_rules("WrongCalledAETitle")) as gate:
        assert served(gate, client_context(site.peers, site.peers.issue(NAME)), associate_rq(called=b"OTHER"))


def test_without_the_source_rule_any_source_goes(site: Site, folder: Path) -> None:
    with sabotaged(site, folder, without_rules("SourceNotAllowed")) as gate:
        assert served(gate, client_context(site.peers, site.peers.issue(NAME)), associate_rq(), "127.0.0.9")


def test_without_the_limit_one_peer_takes_more(site: Site, folder: Path) -> None:
    with sabotaged(site, folder, without_rules("TooManyAssociations")) as gate:
        context = client_context(site.peers, site.peers.issue(NAME))
        with tls_connection(gate.port, context) as first:
            first.sendall(associate_rq())
            assert first.recv(1) == bytes([PDU_AC])
            assert served(gate, context, associate_rq())


def test_without_the_total_the_gate_overfills(site: Site, folder: Path) -> None:
    with (
        sabotaged(site, folder, without_rules("GateFull"), max_associations=1) as gate,
        tls_connection(gate.port, client_context(site.peers, site.peers.issue(NAME))) as first,
    ):
        first.sendall(associate_rq())
        assert first.recv(1) == bytes([PDU_AC])
        other = client_context(site.peers, site.peers.issue("mr1.imaging.example"))
        assert served(gate, other, associate_rq(calling=b"MR1"))


def test_with_the_other_authority_trusted_foreign_certificates_go(site: Site, folder: Path) -> None:
    foreign = Authority("foreign")

    def edit(text: str) -> str:
        roots = folder / "both.pem"
        roots.write_bytes(site.peers.root_pem() + foreign.root_pem())
        lists = folder / "both-crl.pem"
        lists.write_bytes(site.peers.crl_pem() + foreign.crl_pem())
        text = text.replace(f"ca-file {folder}/tls/ca-peers.pem", f"ca-file {roots}")
        return text.replace(f"{folder}/tls/crl-peers.pem", str(lists))

    with sabotaged(site, folder, edit) as gate:
        assert served(gate, client_context(site.peers, foreign.issue(NAME)), associate_rq())


def test_without_the_revocation_list_revoked_certificates_go(site: Site, folder: Path) -> None:
    leaf = site.peers.issue(NAME)
    site.peers.revoke(leaf)
    with sabotaged(site, folder, without(r" crl-file \S+")) as gate:
        assert served(gate, client_context(site.peers, leaf), associate_rq())


def test_with_every_error_ignored_revoked_certificates_go(site: Site, folder: Path) -> None:
    """What ``ca-ignore-err 12 crt-ignore-err 12`` must not grow into."""
    leaf = site.peers.issue(NAME)
    site.peers.revoke(leaf)

    def edit(text: str) -> str:
        return text.replace("ca-ignore-err 12 crt-ignore-err 12", "ca-ignore-err all crt-ignore-err all")

    with sabotaged(site, folder, edit) as gate:
        assert served(gate, client_context(site.peers, leaf), associate_rq())


def test_with_a_lower_floor_old_tls_goes(site: Site, folder: Path) -> None:
    def edit(text: str) -> str:
        text = without_rules("TlsExceptionNeeded")(text).replace(
            "ssl-default-bind-options ssl-min-ver TLSv1.2", "ssl-default-bind-options ssl-min-ver TLSv1.0"
        )
        return re.sub(r"(ssl-default-bind-ciphers) \S+", r"\1 ALL:@SECLEVEL=0", text)

    with sabotaged(site, folder, edit) as gate:
        old = client_context(
            site.peers, site.peers.issue(NAME), version=ssl.TLSVersion.TLSv1_1, ciphers="ALL:@SECLEVEL=0"
        )
        assert served(gate, old, associate_rq())


def test_with_other_suites_listed_they_are_spoken(site: Site, folder: Path) -> None:
    def edit(text: str) -> str:
        suites = "AES128-GCM-SHA256:ECDHE-RSA-AES128-SHA256"
        return re.sub(r"(ssl-default-bind-ciphers) \S+", rf"\1 {suites}", without_rules("TlsExceptionNeeded")(text))

    with sabotaged(site, folder, edit) as gate:
        for suite in ("AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256"):
            weak = client_context(
                site.peers, site.peers.issue(NAME), version=ssl.TLSVersion.TLSv1_2, ciphers=f"{suite}:@SECLEVEL=0"
            )
            wait_for(lambda weak=weak: served(gate, weak, associate_rq()), suite)  # type: ignore[misc]  # limit of one


def test_without_the_wait_half_a_request_reaches_the_archive(site: Site, folder: Path) -> None:
    """Rules that look at bytes which are not there yet decide nothing: with the wait they are there."""
    edit = without_rules("Timeout", "WrongCallingAETitle", "WrongCalledAETitle", "WrongProtocolVersion")
    with sabotaged(site, folder, edit) as gate:
        context = client_context(site.peers, site.peers.issue(NAME))
        with tls_connection(gate.port, context) as connection:
            connection.sendall(associate_rq()[:80])
            slot = gate.agent._slot_of["imaging/ct1"]
            wait_for(lambda: gate.sessions_ever(slot), "the gate opened a session for half a request")
