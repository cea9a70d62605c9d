"""Revocation lists that end: with Refuse nobody of that authority stays or comes in, with ServeAndViolate all do."""

import contextlib
import datetime
import threading
from pathlib import Path

import pytest

from pacs_operator.domain.gatepeers import LiveIssuer

from .device import Device, client_context, echo
from .hospital import ACCEPTED, NAME, NO_HANDSHAKE, Hospital, answer, context, make_hospital
from .pki import now
from .process import Site, peer, running_gate, wait_for
from .test_bad_times import refusal
from .test_issuers import spki
from .test_outbound import WS1, Receivers, orthanc, receiving
from .web import STUDIES, Reply, Upstream, WebStage, admitted, running_web, web_layout

SECONDS = 3
DAYS = SECONDS / 86_400
POLICIES = pytest.mark.parametrize("refuse", [True, False], ids=["Refuse", "ServeAndViolate"])


def passed(end: datetime.datetime) -> None:
    wait_for(lambda: now() > end, "the list has ended")


def soon() -> datetime.datetime:
    """Return when a list that is made now has surely ended: its times are whole seconds."""
    return now() + datetime.timedelta(seconds=SECONDS + 1)


@POLICIES
def test_of_the_archives_own_authority(site: Site, folder: Path, refuse: bool) -> None:
    with running_gate(site, folder, refuse_expired_lists=refuse) as gate:
        wait_for(gate.archive_reachable, "archive up")
        gate.put(peer("ct1", NAME, "CT1"))
        leaf = site.peers.issue(NAME)
        device = Device(gate.port, client_context(site.peers, leaf), calling="CT1")
        ended = soon()
        gate.refresh_crl(DAYS)
        open_one = device.associate()
        assert echo(open_one)
        gate.apply(gate.live)
        assert echo(open_one), "the list has not ended"
        passed(ended)
        assert (refusal(gate, site, leaf) is not None) is refuse
        said = ("tls", "verify") if refuse else ("association", "crl")
        wait_for(lambda: any((one["event"], one.get(said[1])) == (said[0], "12") for one in gate.records()), "record")
        gate.apply(gate.live)  # as the agent does every few seconds
        assert gate.activity("imaging/ct1").open_associations == (0 if refuse else 1)
        assert refuse or echo(open_one)
        gate.refresh_crl()
        assert refusal(gate, site, leaf) is None
        again = device.associate()
        gate.apply(gate.live)
        assert echo(again)
        device.close()
        assert gate.process.poll() is None, "nothing restarted"


def short_lived(hospital: Hospital, which: str) -> LiveIssuer:
    """Return the hospital's authority with one list that ends soon."""
    lists = {name: getattr(hospital, name).crl_pem(DAYS if name == which else 7) for name in ("imaging", "root")}
    return LiveIssuer(
        name="hospital", ca_pem=hospital.imaging.chain_pem(), crl_pem=b"".join(lists.values()).decode("ascii")
    )


@pytest.mark.parametrize("which", ["imaging", "root"])
@POLICIES
def test_of_the_hospitals_authority(site: Site, folder: Path, refuse: bool, which: str) -> None:
    """The archive's own peers and self-signed pinned ones are judged by other lists, or none: they are served."""
    hospital = make_hospital()
    theirs, ours, pinned = hospital.imaging.issue(NAME), site.peers.issue("ct2.example"), site.peers.self_signed("ct3")
    with running_gate(site, folder, issuers=True, refuse_expired_lists=refuse) as gate:
        wait_for(gate.archive_reachable, "archive up")
        ended = soon()
        gate.trust(short_lived(hospital, which))
        gate.put(
            peer("ct1", NAME, "CT1", issuer="hospital"),
            peer("ct2", "ct2.example", "CT2"),
            peer("ct3", "", "CT3", spki=spki(pinned)),
        )
        leaves = {"CT1": theirs, "CT2": ours, "CT3": pinned}
        devices = {title: Device(gate.port, context(site, leaf), calling=title) for title, leaf in leaves.items()}
        open_ones = {title: device.associate() for title, device in devices.items()}
        assert all(map(echo, open_ones.values()))
        passed(ended)
        assert answer(gate, theirs) == (NO_HANDSHAKE if refuse else ACCEPTED)
        gate.apply(gate.live)
        # Whose certificate came with a key nobody remembers; it comes again.
        ended_ones = {"CT1", "CT3"} if refuse else set()
        assert {
            title for title in leaves if not gate.activity(f"imaging/{title.lower()}").open_associations
        } == ended_ones
        assert all(echo(one) for title, one in open_ones.items() if title not in ended_ones)
        assert answer(gate, pinned, title=b"CT3") == ACCEPTED
        assert answer(gate, ours, title=b"CT2") == ACCEPTED
        gate.trust(hospital.issuer())
        assert answer(gate, theirs) == ACCEPTED
        for device in devices.values():
            device.close()


@POLICIES
def test_of_clients_of_dicomweb(site: Site, upstream: Upstream, tmp_path: Path, refuse: bool) -> None:
    """Also over connections that were opened before, and requests that are under way."""
    with running_web(site, tmp_path, web_layout(upstream.port), refuse_expired_lists=refuse) as stage:
        client, _, _ = admitted(stage, "viewer")
        ended = soon()
        stage.gate.refresh_crl(DAYS)
        kept = client.connect()
        assert client.ask(STUDIES, over=kept).status == 200
        passed(ended)
        assert client.ask(STUDIES, over=kept).status == (403 if refuse else 200)
        wait_for(lambda: len(stage.reasons()) == 2, "both are in the log")
        assert stage.reasons()[-1] == ("RevocationListExpired" if refuse else "Accepted")
        assert client.ask(STUDIES).status == (None if refuse else 200)
        stage.gate.refresh_crl()
        assert client.ask(STUDIES).status == 200
        kept.close()
        assert _under_way(stage, upstream) == (None if refuse else 200)


def _under_way(stage: WebStage, upstream: Upstream) -> int | None:
    """Return how a request ends whose list ended while it was under way."""
    client, _, _ = admitted(stage, "slow")
    ended = soon()
    stage.gate.refresh_crl(DAYS)
    upstream.gate.clear()
    got: list[Reply] = []
    asking = threading.Thread(target=lambda: got.append(client.ask(STUDIES)))
    asking.start()
    try:
        wait_for(lambda: upstream.waiting == 1, "the request is under way")
        passed(ended)
        stage.gate.apply(stage.gate.live)
    finally:
        upstream.gate.set()
        asking.join(timeout=10)
    return got[0].status


@POLICIES
def test_nothing_is_sent_under_a_list_that_ended(site: Site, tmp_path: Path, refuse: bool) -> None:
    """Whatever the policy: towards devices HAProxy knows no leniency."""
    with (
        running_gate(site, tmp_path / "run", refuse_expired_lists=refuse) as gate,
        contextlib.ExitStack() as stack,
    ):
        receiver = Receivers(site, tmp_path, stack).good()
        gate.put(receiving("ws1", WS1, "WS1", port=receiver.port))
        assert orthanc(gate).echo()
        gate.refresh_crl(days=-1)
        assert not orthanc(gate).associate().is_established
        gate.refresh_crl()
        assert orthanc(gate).echo()
        assert receiver.associations == {"RADIOLOGY": 2}
