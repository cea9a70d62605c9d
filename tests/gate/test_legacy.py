"""Devices without TLS at a real gate: what lets one in, and each single property that keeps everybody else out."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from pacs_operator.domain.gatepeers import LegacyDoor, LivePeer, LivePeers
from tests.machine import free_port

from .device import Answer, Device, associate_rq, client_context, echo, ends, read_answer
from .process import Gate, Site, peer, running_gate, wait_for
from .test_flow import image

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SOURCE, STRANGER = "127.0.0.11", "127.0.0.12"


@contextmanager
def adjacent_ports() -> Iterator[int]:
    """Yield the first of two neighbouring ports that are free."""
    while True:
        first = free_port()
        with ExitStack() as stack:
            try:
                for port in (first, first + 1):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        yield first
        return


@pytest.fixture(scope="module")
def gate(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with adjacent_ports() as first:
        bind = f"127.0.0.1:{first}-{first + 1}"
        folder = tmp_path_factory.mktemp("legacy") / "run"
        with running_gate(site, folder, legacy_bind=bind, aliases=("OLDNAME",)) as running:
            running.legacy_port = first
            wait_for(running.archive_reachable, "HAProxy's check of the archive is good")
            yield running


def old_device(name: str, port: int, closes: datetime | None = None) -> LivePeer:
    door = LegacyDoor(port=port, closes=(closes or NOW + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ"))
    known = peer(name, "unused.example", name.upper(), sources=(f"{SOURCE}/32",))
    return LivePeer.model_validate({**known.model_dump(), "dns_name": None, "legacy": door.model_dump()})


def ask(port: int, source: str = SOURCE, *, called: bytes = b"RADIOLOGY", calling: bytes = b"US7") -> Answer:
    return say(port, associate_rq(called, calling), source)


def say(port: int, request: bytes, source: str = SOURCE) -> Answer:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=15, source_address=(source, 0)) as connection:
            connection.sendall(request)
            return read_answer(connection)
    except ConnectionError:
        return Answer(None, None)


ACCEPTED = 2


def reason_of(gate: Gate, name: str = "imaging/us7") -> str | None:
    return wait_for(lambda: gate.activity(name).last_rejection_reason, "the refusal was recorded")


def test_the_device_stores_without_tls_and_is_encrypted_behind_the_gate(gate: Gate, site: Site) -> None:
    gate.put(old_device("us7", gate.legacy_port))
    ae = AE(ae_title="US7")
    for context in (Verification, CTImageStorage):
        ae.add_requested_context(context)
    association = ae.associate("127.0.0.1", gate.legacy_port, ae_title="RADIOLOGY", bind_address=(SOURCE, 0))
    dataset = image(300_000, 7)
    assert association.send_c_store(dataset).Status == 0x0000
    assert dataset.SOPInstanceUID in site.archive.stored, "an archive that speaks mutual TLS only"
    association.release()
    record = next(line for line in reversed(gate.records()) if line.get("peer") == "imaging/us7")
    assert record["identity"] == f"port:{gate.legacy_port}"
    assert record["reason"] == "Accepted"
    assert record["tls"] == "-"


REFUSED = {
    "another source": ({"source": STRANGER}, None, "SourceNotAllowed"),
    "another calling title": ({"calling": b"US8"}, (1, 1, 3), "WrongCallingAETitle"),
    "another called title": ({"called": b"CARDIOLOGY"}, (1, 1, 7), "WrongCalledAETitle"),
    "an alias of the archive": ({"called": b"OLDNAME"}, (1, 1, 7), "WrongCalledAETitle"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_property_that_differs_keeps_it_out(gate: Gate, case: str) -> None:
    change, rejection, reason = REFUSED[case]
    gate.put(old_device("us7", gate.legacy_port))
    assert ask(gate.legacy_port).pdu == ACCEPTED
    answer = ask(gate.legacy_port, **change)  # type: ignore[arg-type]
    assert answer.pdu != ACCEPTED
    assert answer.rejection == rejection
    assert reason_of(gate) == reason


def test_a_tls_hello_is_no_dicom_there(gate: Gate, site: Site) -> None:
    gate.put(old_device("us7", gate.legacy_port))
    device = Device(gate.legacy_port, client_context(site.peers, None), calling="US7", source=SOURCE)
    assert not device.echo()
    assert reason_of(gate) == "NotDicom"
    assert ask(gate.legacy_port).pdu == ACCEPTED


def test_a_second_modalitys_port_is_that_modalitys(gate: Gate) -> None:
    gate.put(old_device("us7", gate.legacy_port), old_device("us9", gate.legacy_port + 1))
    assert ask(gate.legacy_port).pdu == ACCEPTED
    assert ask(gate.legacy_port + 1, calling=b"US9").pdu == ACCEPTED
    assert ask(gate.legacy_port + 1).rejection == (1, 1, 3)
    assert reason_of(gate, "imaging/us9") == "WrongCallingAETitle"


def test_a_port_that_nobody_has_is_closed_before_a_byte(gate: Gate) -> None:
    gate.put(old_device("us7", gate.legacy_port))
    address = ("127.0.0.1", gate.legacy_port + 1)
    recorded = len(gate.records())
    with (
        suppress(ConnectionResetError),  # depending on who is faster
        socket.create_connection(address, timeout=15, source_address=(SOURCE, 0)) as connection,
    ):
        assert connection.recv(1) == b""
    assert ask(gate.legacy_port).pdu == ACCEPTED
    wait_for(lambda: len(gate.records()) > recorded, "the twin's record")
    doors = [record["identity"] for record in gate.records()[recorded:]]
    assert doors == [f"port:{gate.legacy_port}"], "no session was made of the other, so nothing looked at what it says"


def test_the_tls_port_takes_no_plaintext_and_the_name_of_a_port_is_no_identity_there(gate: Gate, site: Site) -> None:
    gate.put(old_device("us7", gate.legacy_port))
    assert say(gate.port, associate_rq(b"RADIOLOGY", b"US7")).pdu is None
    certified = Device(
        gate.port,
        client_context(site.peers, site.peers.issue(f"port:{gate.legacy_port}")),
        calling="US7",
        source=SOURCE,
    )
    assert not certified.echo()
    assert ask(gate.legacy_port).pdu == ACCEPTED


def test_when_its_time_is_over_its_associations_end_and_the_port_is_closed(gate: Gate) -> None:
    """The agent's own clock, moved: no operator says a word."""
    listed = LivePeers(revision="r", peers=[old_device("us7", gate.legacy_port), peer("ct1", "ct1.example", "CT1")])
    for now, left in ((NOW, {"imaging/us7", "imaging/ct1"}), (NOW + timedelta(days=1), {"imaging/ct1"})):
        assert {one.id for one in listed.at(now).peers} == left
    gate.apply({one.id: one for one in listed.at(NOW).peers})
    ae = AE(ae_title="US7")
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", gate.legacy_port, ae_title="RADIOLOGY", bind_address=(SOURCE, 0))
    assert echo(association)
    gate.apply({one.id: one for one in listed.at(NOW + timedelta(days=1)).peers})
    ends(association)
    assert ask(gate.legacy_port).pdu is None
    gate.apply({one.id: one for one in listed.at(NOW).peers})
    assert ask(gate.legacy_port).pdu == ACCEPTED


def test_silent_strangers_are_not_waited_for(gate: Gate) -> None:
    """Its source is judged before a byte is read, so that nobody holds sockets of a port that is not his."""
    gate.put(old_device("us7", gate.legacy_port))
    with socket.create_connection(
        ("127.0.0.1", gate.legacy_port), timeout=2, source_address=(STRANGER, 0)
    ) as connection:
        assert connection.recv(1) == b""
    assert reason_of(gate) == "SourceNotAllowed"


def test_contained_it_is_told_to_come_again(gate: Gate) -> None:
    known = old_device("us7", gate.legacy_port)
    gate.put(known)
    assert ask(gate.legacy_port).pdu == ACCEPTED
    gate.put(known.model_copy(update={"contained": True}))
    assert ask(gate.legacy_port).rejection == (2, 3, 1)


def test_without_a_range_there_is_no_listener(site: Site, tmp_path: Path) -> None:
    with running_gate(site, tmp_path / "run") as plain:
        assert replace(plain.layout).legacy_bind is None
        assert "plaintext" not in (plain.folder / "haproxy.cfg").read_text()
