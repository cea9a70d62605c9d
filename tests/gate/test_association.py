"""What a certificate may ask for: AE titles, source, protocol, whole PDUs and limits."""

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from .device import PDU_AC, PDU_RJ, Answer, Device, ask, associate_rq, client_context, echo, read_answer, tls_connection
from .device import rejection as rejection_of
from .pki import Leaf
from .process import Gate, Site, peer, running_gate, wait_for

NAME = "ct1.imaging.example"
RJ_CALLING = Answer(PDU_RJ, (1, 1, 3), clean_end=True)
RJ_CALLED = Answer(PDU_RJ, (1, 1, 7), clean_end=True)
RJ_VERSION = Answer(PDU_RJ, (1, 2, 2), clean_end=True)
RJ_CONGESTION = Answer(PDU_RJ, (2, 3, 1), clean_end=True)
CLOSED = Answer(None, None, clean_end=True)
ACCEPTED = Answer(PDU_AC, None)


@pytest.fixture
def leaf(gate: Gate, site: Site) -> Leaf:
    gate.put(peer("ct1", NAME, "CT1"), peer("reader", "reader.imaging.example", "READER", "READER 2"))
    return site.peers.issue(NAME)


@pytest.fixture
def context(site: Site, leaf: Leaf) -> ssl.SSLContext:
    return client_context(site.peers, leaf)


def last_reason(gate: Gate, leaf: Leaf) -> str:
    """Return the reason of the newest record of a certificate."""
    serial = leaf.serial
    return wait_for(lambda: [r for r in gate.records() if r.get("serial") == serial], "a record")[-1]["reason"]


TITLES = [
    ("another peer's title", b"READER", RJ_CALLING),
    ("unknown title", b"CT2", RJ_CALLING),
    ("lower case", b"ct1", RJ_CALLING),
    ("longer title with the right start", b"CT1A", RJ_CALLING),
    ("NUL instead of padding", b"CT1\0\0\0\0\0\0\0\0\0\0\0\0\0", RJ_CALLING),
    ("NUL, then another title", b"CT1\0READER", RJ_CALLING),
    ("backslash", b"CT1\\READER", RJ_CALLING),
    ("control character", b"CT1\n", RJ_CALLING),
    ("not ASCII", b"CT1\xff", RJ_CALLING),
    ("no title", b"", RJ_CALLING),
    ("what the runtime socket would take for a separator", b"CT1;show env", RJ_CALLING),
    ("padded behind", b"CT1", ACCEPTED),
    ("padded in front (PS3.8: not significant)", b"  CT1", ACCEPTED),
]


@pytest.mark.parametrize(("title", "expected"), [case[1:] for case in TITLES], ids=[case[0] for case in TITLES])
def test_calling_title_must_be_of_the_certificate(
    gate: Gate, context: ssl.SSLContext, leaf: Leaf, title: bytes, expected: Answer
) -> None:
    assert ask(gate.port, context, associate_rq(calling=title)) == expected
    assert last_reason(gate, leaf) == ("Accepted" if expected is ACCEPTED else "WrongCallingAETitle")
    assert ask(gate.port, context, associate_rq()) == ACCEPTED


def test_a_title_with_a_space_inside(gate: Gate, site: Site, leaf: Leaf) -> None:
    context = client_context(site.peers, site.peers.issue("reader.imaging.example"))
    assert ask(gate.port, context, associate_rq(calling=b"READER 2")) == ACCEPTED
    assert ask(gate.port, context, associate_rq(calling=b"READER  2")) == RJ_CALLING


@pytest.mark.parametrize("called", [b"OTHER", b"radiology", b"", b"RADIOLOGY\0", b"RADIOLOGY2"])
def test_called_title_must_be_the_archives(gate: Gate, context: ssl.SSLContext, leaf: Leaf, called: bytes) -> None:
    assert ask(gate.port, context, associate_rq(called=called)) == RJ_CALLED
    assert last_reason(gate, leaf) == "WrongCalledAETitle"
    assert ask(gate.port, context, associate_rq(called=b" RADIOLOGY")) == ACCEPTED


def test_an_archive_has_further_titles(site: Site, folder: Path) -> None:
    """Each is served, and nothing that only resembles one."""
    with running_gate(site, folder, aliases=("OLDPACS", "PACS 2")) as gate:
        wait_for(gate.archive_reachable, "archive up")
        gate.put(peer("ct1", NAME, "CT1"))
        context = client_context(site.peers, site.peers.issue(NAME))
        for title in (b"RADIOLOGY", b"OLDPACS", b"PACS 2"):
            assert ask(gate.port, context, associate_rq(called=title)) == ACCEPTED
        for title in (b"OLDPACS2", b"PACS", b"2", b"oldpacs", b"OLDPACS PACS 2"):
            assert ask(gate.port, context, associate_rq(called=title)) == RJ_CALLED


def test_a_rejection_reaches_a_real_client(make_device: Callable[..., Device]) -> None:
    device = make_device("CT1")
    device.calling = "READER"
    assert rejection_of(device) == (1, 1, 3)
    device.calling = "CT1"
    assert device.echo()


def test_protocol_version_one_is_needed(gate: Gate, context: ssl.SSLContext, leaf: Leaf) -> None:
    """PS3.8 9.3.2: only the bit of version 1 is tested."""
    assert ask(gate.port, context, associate_rq(version=2)) == RJ_VERSION
    assert last_reason(gate, leaf) == "WrongProtocolVersion"
    ask(gate.port, context, associate_rq(version=3))  # the test's archive knows version 1 alone, and says so
    assert last_reason(gate, leaf) == "Accepted"


IDENTITIES: dict[str, tuple[tuple[str, ...], bool]] = {
    "one name": ((NAME,), True),
    "in upper case": ((NAME.upper(),), True),
    "two names": ((NAME, "ct1-spare.imaging.example"), False),
    "the same name twice": ((NAME, NAME), False),
    "no name": ((), False),
    "unknown name": (("ct9.imaging.example",), False),
    "wildcard": (("*.imaging.example",), False),
    "a NUL behind the name": ((f"{NAME}\0.evil.example",), False),
    "a name below": ((f"x.{NAME}",), False),
}


@pytest.mark.parametrize("case", sorted(IDENTITIES))
def test_a_certificate_has_exactly_one_name(gate: Gate, site: Site, leaf: Leaf, case: str) -> None:
    names, served = IDENTITIES[case]
    other = (x509.UniformResourceIdentifier(f"dicom://{NAME}"),)
    shown = site.peers.issue(*names, other_names=other, critical_names=case == "in upper case")
    expected = ACCEPTED if served else RJ_CALLING
    assert ask(gate.port, client_context(site.peers, shown), associate_rq()) == expected
    assert last_reason(gate, shown) == ("Accepted" if served else "UnknownCertificate")


def test_common_name_is_no_identity(gate: Gate, site: Site, leaf: Leaf) -> None:
    """The twin of "no name" above: the same subject, without the alternative name, is not enough."""
    shown = site.peers.issue(other_names=(x509.UniformResourceIdentifier(f"dicom://{NAME}"),))
    assert ask(gate.port, client_context(site.peers, shown), associate_rq()) == RJ_CALLING


def test_segments_of_one_byte(gate: Gate, context: ssl.SSLContext, leaf: Leaf) -> None:
    with tls_connection(gate.port, context) as connection:
        for byte in associate_rq():
            connection.sendall(bytes([byte]))
        assert read_answer(connection) == ACCEPTED


def test_long_requests_fit(gate: Gate, context: ssl.SSLContext, leaf: Leaf) -> None:
    assert ask(gate.port, context, associate_rq(padding=20_000)) == ACCEPTED
    ask(gate.port, context, with_unknown_items(100_000))  # the test's archive does not ignore what it should
    assert last_reason(gate, leaf) == "Accepted"
    assert (
        wait_for(lambda: [r for r in gate.records() if r.get("serial") == leaf.serial][1:], "two")[-1]["state"] == "--"
    )


def with_unknown_items(size: int) -> bytes:
    """Return a request with items that PS3.8 9.3.1 makes acceptors ignore."""
    body = associate_rq()[6:]
    while len(body) < size:
        body += b"\xf0\x00" + (30_000).to_bytes(2, "big") + bytes(30_000)
    return b"\x01\x00" + len(body).to_bytes(4, "big") + body


FIRST_BYTES = {
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "another PDU": b"\x04\x00\x00\x00\x00\x04\x00\x00\x00\x00",
    "length over every bound": b"\x01\x00\xff\xff\xff\xff" + bytes(80),
    "length just over ours": b"\x01\x00" + (200_000).to_bytes(4, "big") + bytes(80),
    "length too short for titles": b"\x01\x00\x00\x00\x00\x43" + bytes(0x43),
}


@pytest.mark.parametrize("case", sorted(FIRST_BYTES))
def test_what_is_not_dicom_is_closed_at_once(gate: Gate, context: ssl.SSLContext, leaf: Leaf, case: str) -> None:
    started = time.monotonic()
    assert ask(gate.port, context, FIRST_BYTES[case]) == CLOSED
    assert time.monotonic() - started < 3
    assert last_reason(gate, leaf) == "NotDicom"


@pytest.mark.parametrize("part", [0, 3, 74, -1])
def test_half_a_request_never_reaches_the_archive(
    gate: Gate, site: Site, context: ssl.SSLContext, leaf: Leaf, part: int
) -> None:
    """Orthanc accepts in one thread: half a request there would stop all others for half a minute."""
    slot = gate.agent._slot_of["imaging/ct1"]
    before, accepted = gate.sessions_ever(slot), site.archive.associations["CT1"]
    started = time.monotonic()
    assert ask(gate.port, context, associate_rq()[:part]) == CLOSED
    assert 3 < time.monotonic() - started < 8
    assert last_reason(gate, leaf) == "Timeout"
    assert gate.sessions_ever(slot) == before
    assert ask(gate.port, context, associate_rq()) == ACCEPTED
    wait_for(lambda: site.archive.associations["CT1"] == accepted + 1, "the whole one arrived")


SOURCES = {
    "one address": (("127.0.7.1/32",), "127.0.7.1", True),
    "the next address": (("127.0.7.1/32",), "127.0.7.2", False),
    "first of a network": (("127.0.8.0/22",), "127.0.8.0", True),
    "last of a network": (("127.0.8.0/22",), "127.0.11.255", True),
    "behind a network": (("127.0.8.0/22",), "127.0.12.0", False),
    "before a network": (("127.0.8.0/22",), "127.0.7.255", False),
    "odd prefix, inside": (("127.128.0.0/9",), "127.200.1.1", True),
    "odd prefix, outside": (("127.128.0.0/9",), "127.127.1.1", False),
    "second of a list": (("10.0.0.0/8", "127.0.7.0/25"), "127.0.7.127", True),
    "beside the list": (("10.0.0.0/8", "127.0.7.0/25"), "127.0.7.128", False),
    "IPv6 only": (("2001:db8::/32",), "127.0.7.1", False),
    "any, for probes": ((), "127.99.1.1", True),
}


@pytest.mark.parametrize("case", sorted(SOURCES))
def test_sources(gate: Gate, site: Site, case: str) -> None:
    cidrs, source, served = SOURCES[case]
    gate.put(
        peer("ct1", NAME, "CT1", sources=cidrs), peer("all", "all.imaging.example", "ALL", sources=("127.0.0.0/8",))
    )
    shown = site.peers.issue(NAME)
    answer = ask(gate.port, client_context(site.peers, shown), associate_rq(), source)
    assert answer == (ACCEPTED if served else CLOSED)
    assert last_reason(gate, shown) == ("Accepted" if served else "SourceNotAllowed")


def test_dual_stack_sources(site: Site, folder: Path) -> None:
    """On a socket for both families IPv4 sources look like ::ffff:a.b.c.d, and IPv6 networks count."""

    with running_gate(
        site,
        folder,
        edit=lambda text: text.replace("bind 127.0.0.1:", "bind :::").replace(
            " ssl default-crt", " v4v6 ssl default-crt", 1
        ),
    ) as gate:
        wait_for(gate.archive_reachable, "archive up")
        gate.put(
            peer("four", "four.imaging.example", "FOUR", sources=("127.0.7.0/24",)),
            peer("six", "six.imaging.example", "SIX", sources=("::1/128",)),
        )
        four = client_context(site.peers, site.peers.issue("four.imaging.example"))
        six = client_context(site.peers, site.peers.issue("six.imaging.example"))
        assert ask(gate.port, four, associate_rq(calling=b"FOUR"), "127.0.7.9") == ACCEPTED
        assert ask(gate.port, four, associate_rq(calling=b"FOUR"), "127.0.8.9") == CLOSED
        assert ask(gate.port, six, associate_rq(calling=b"SIX"), "127.0.7.9") == CLOSED
        with socket.create_connection(("::1", gate.port)) as raw, six.wrap_socket(raw) as connection:
            connection.sendall(associate_rq(calling=b"SIX"))
            assert read_answer(connection) == ACCEPTED


def test_a_peers_limit_holds_for_it_alone(make_device: Callable[..., Device], gate: Gate) -> None:
    greedy, other = make_device("GREEDY", limit=2), make_device("OTHER")
    open_ones = [greedy.associate(), greedy.associate()]
    assert all(association.is_established for association in open_ones)
    assert rejection_of(greedy) == (2, 3, 1)
    assert other.echo()
    assert all(map(echo, open_ones))
    assert wait_for(lambda: gate.activity("imaging/greedy").rejections, "counted") == 1
    assert gate.activity("imaging/greedy").last_rejection_reason == "TooManyAssociations"
    assert gate.activity("imaging/greedy").open_associations == 2
    open_ones[0].release()
    wait_for(greedy.echo, "room again")


def test_refused_attempts_take_no_share_of_the_limit(make_device: Callable[..., Device], gate: Gate) -> None:
    device = make_device("CT1", limit=1)
    with tls_connection(gate.port, device.context) as wrong:
        wrong.sendall(associate_rq(calling=b"READER"))
        assert wrong.recv(1) == bytes([PDU_RJ])
        assert device.echo()


def test_the_gates_total(site: Site, folder: Path) -> None:
    with running_gate(site, folder, max_associations=2) as gate:
        wait_for(gate.archive_reachable, "archive up")
        gate.put(*(peer(name, f"{name}.imaging.example", name.upper()) for name in "abc"))
        a, b, c = (
            Device(gate.port, client_context(site.peers, site.peers.issue(f"{name}.imaging.example")), name.upper())
            for name in "abc"
        )
        first, second = a.associate(), c.associate()
        assert echo(first)
        assert echo(second)
        assert rejection_of(b) == (2, 3, 1)
        assert wait_for(lambda: gate.activity("imaging/b").last_rejection_reason, "counted") == "GateFull"
        first.release()
        wait_for(b.echo, "room again")
        second.release()


def test_without_the_archive_devices_are_told_to_come_again(site: Site, folder: Path) -> None:
    """Also: the gate starts although the archive's name does not resolve, and finds it when it does."""
    with running_gate(site, folder, orthanc_address="later.cluster.local") as gate:
        gate.put(peer("ct1", NAME, "CT1"))
        context = client_context(site.peers, site.peers.issue(NAME))
        assert ask(gate.port, context, associate_rq()) == RJ_CONGESTION
        assert wait_for(lambda: gate.activity("imaging/ct1").last_rejection_reason, "counted") == "ArchiveUnavailable"
        assert gate.loop.run(gate.agent.alive())
        assert gate.loop.run(gate.agent.ready())
        site.resolver.names["later.cluster.local"] = "127.0.0.1"
        wait_for(lambda: ask(gate.port, context, associate_rq()) == ACCEPTED, "served once the name resolves", 30)


@pytest.mark.parametrize("wrong", ["name", "authority"])
def test_the_gate_verifies_the_archive(site: Site, folder: Path, wrong: str) -> None:
    def edit(text: str) -> str:
        if wrong == "name":
            return text.replace("verifyhost orthanc.radiology-archive.svc", "verifyhost other.radiology-archive.svc")
        return text.replace("/ca-internal.pem", "/ca-peers.pem")

    with running_gate(site, folder, edit=edit) as gate:
        gate.put(peer("ct1", NAME, "CT1"))
        context = client_context(site.peers, site.peers.issue(NAME))
        wait_for(lambda: "L6RSP" in gate.ask("show stat orthanc 4 -1"), "the check failed in TLS")
        assert ask(gate.port, context, associate_rq()) == RJ_CONGESTION
