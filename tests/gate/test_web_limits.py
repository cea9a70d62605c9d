"""DICOMweb at its limits, and how requests end: revocation, containment, an archive that is away."""

import re
import threading
from collections.abc import Callable
from functools import partial

import pytest

from pacs_operator.domain.peer import Right

from .device import client_context
from .process import Site, wait_for
from .web import (
    CHUNKED,
    STUDIES,
    Client,
    Reply,
    Upstream,
    WebStage,
    admitted,
    running_upstream,
    running_web,
    said,
    web_layout,
)


def in_background(act: Callable[[], Reply]) -> tuple[threading.Thread, list[Reply]]:
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(act()))
    thread.start()
    return thread, replies


@pytest.mark.parametrize("how", ["peer removed", "certificate revoked", "contained", "right taken away"])
def test_requests_under_way_end(how: str, stage: WebStage, upstream: Upstream) -> None:
    """A request that Orthanc is still busy with ends; the next one over the same connection is refused."""
    client, leaf, live = admitted(stage, "viewer")
    other, _, _ = admitted(stage, "other")
    idle = client.connect()
    assert client.ask(STUDIES, over=idle).status == 200
    upstream.gate.clear()
    busy, replies = in_background(lambda: client.ask(STUDIES, "POST", b"x" * 1000))
    held, spared = in_background(lambda: other.ask(STUDIES))
    wait_for(lambda: upstream.waiting == 2, "both are with Orthanc")
    if how == "peer removed":
        stage.gate.remove(live.id)
    elif how == "contained":
        stage.gate.put(live.model_copy(update={"contained": True}))
    elif how == "right taken away":
        stage.gate.put(live.model_copy(update={"rights": [Right.GET]}))
    else:
        stage.site.peers.revoke(leaf)
        stage.gate.refresh_crl()
    busy.join(20)
    assert [reply.status for reply in replies] in ([None], [502], [503])
    assert client.ask(STUDIES, over=idle).status == (503 if how == "contained" else 403)
    reason = {
        "peer removed": "UnknownCertificate",
        "contained": "Contained",
        "certificate revoked": "RevokedCertificate",
        "right taken away": "RightNotGranted",
    }
    said(stage, reason[how])
    upstream.gate.set()
    held.join(20)
    assert [reply.status for reply in spared] == [200]
    idle.close()


def test_an_agent_that_starts_again_revokes_as_before(stage: WebStage) -> None:
    client, leaf, live = admitted(stage, "viewer")
    idle = client.connect()
    assert client.ask(STUDIES, over=idle).status == 200
    stage.gate.new_agent()
    stage.gate.put(live)
    stage.site.peers.revoke(leaf)
    stage.gate.refresh_crl()
    assert client.ask(STUDIES, over=idle).status == 403
    renewed = stage.client(stage.site.peers.issue(live.dns_name or ""))
    assert renewed.ask(STUDIES).status == 200


def test_what_is_too_large_is_refused_before_it_is_sent(client: Client, stage: WebStage, upstream: Upstream) -> None:
    limit = stage.web.max_body_bytes
    assert client.ask(STUDIES, "POST", b"x" * limit).status == 200
    connection = client.connect()
    for length in (limit + 1, 2**31, 2**40):
        connection = client.connect()
        connection.putrequest("POST", STUDIES)
        connection.putheader("Content-Length", str(length))
        connection.endheaders()  # and not one byte of the body
        assert connection.getresponse().status == 413
        connection.close()
    said(stage, "TooLarge")
    assert upstream.asked() == [("POST", STUDIES)]


def test_a_body_in_pieces_ends_where_it_becomes_too_large(client: Client, stage: WebStage, upstream: Upstream) -> None:
    limit = stage.web.max_body_bytes
    whole, longer = [bytes(limit // 4)] * 4, [bytes(limit // 4)] * 5
    assert client.ask(STUDIES, "POST", iter(whole), headers=CHUNKED).status == 200
    assert upstream.seen[-1].received == limit
    assert client.ask(STUDIES, "POST", iter(longer), headers=CHUNKED).status == 413
    said(stage, "TooLarge")
    assert upstream.asked() == [("POST", STUDIES)]


def test_of_its_own_limit_and_of_three_quarters_a_peer_gets_no_more(stage: WebStage, upstream: Upstream) -> None:
    greedy, _, live = admitted(stage, "greedy", limit=2)
    other, _, _ = admitted(stage, "other")
    upstream.gate.clear()
    under_way = [in_background(lambda: greedy.ask(STUDIES)) for _ in range(2)]
    wait_for(lambda: upstream.waiting == 2, "two are with Orthanc")
    refused = greedy.ask(STUDIES)
    assert (refused.status, refused.headers["retry-after"]) == (503, "2")
    said(stage, "TooManyRequests")
    served, replies = in_background(lambda: other.ask(STUDIES))
    wait_for(lambda: upstream.waiting == 3, "another peer is served")
    upstream.gate.set()
    for thread, _ in under_way:
        thread.join(20)
    served.join(20)
    assert [reply.status for reply in replies] == [200]
    assert greedy.ask(STUDIES).status == 200
    counted = stage.gate.activity(live.id)
    assert (counted.limited, counted.last_rejection_reason) == (1, "TooManyRequests")
    assert counted.requests == 3


def test_rate_and_total_of_the_gate(site: Site, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> None:
    web = web_layout(upstream.port, requests_per_minute=3, max_concurrent=2)
    with running_web(site, tmp_path_factory.mktemp("web"), web) as stage:
        hasty, _, _ = admitted(stage, "hasty")
        other, _, _ = admitted(stage, "other")
        third, _, _ = admitted(stage, "third")
        assert [hasty.ask(STUDIES).status for _ in range(5)] == [200, 200, 200, 429, 429]
        said(stage, "TooManyPerMinute")
        upstream.gate.clear()
        held = [in_background(partial(one.ask, STUDIES)) for one in (other, third)]
        wait_for(lambda: upstream.waiting == 2, "the gate is full")
        fourth, _, _ = admitted(stage, "fourth")
        assert fourth.ask(STUDIES).status == 503
        said(stage, "GateFull")
        upstream.gate.set()
        for thread, _ in held:
            thread.join(20)
        assert fourth.ask(STUDIES).status == 200


def test_an_archive_that_is_away_is_said_so(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        running_upstream() as server,
        running_web(site, tmp_path_factory.mktemp("web"), web_layout(server.port)) as stage,
    ):
        client, _, _ = admitted(stage, "viewer")
        assert client.ask(STUDIES).status == 200
        server.shutdown()
        server.server_close()
        wait_for(lambda: not stage.up(), "the gate sees it", seconds=20)
        assert client.ask(STUDIES).status == 503
        said(stage, "ArchiveUnavailable")


@pytest.mark.parametrize("case", ["the gate's", "another of the pod's authority", "a device's", "none"])
def test_beside_orthanc_the_gate_alone_is_served(case: str, stage: WebStage, site: Site) -> None:
    leaves = {
        "the gate's": site.internal.issue("gate.radiology-edge.svc"),
        "another of the pod's authority": site.internal.issue("postgres.radiology-data.svc"),
        "a device's": site.peers.issue("gate.radiology-edge.svc"),
        "none": None,
    }
    client = Client(stage.web.orthanc_port, client_context(site.internal, leaves[case]))
    allowed = case == "the gate's"
    assert (client.ask(STUDIES).status == 200) is allowed
    assert client.ask("/system").status in ((403,) if allowed else (403, None))
    assert client.ask(STUDIES, "DELETE").status in ((403,) if allowed else (403, None))


def test_no_name_reaches_a_record(client: Client, stage: WebStage) -> None:
    assert client.ask(f"{STUDIES}?PatientName=CANARY*").status == 200
    assert client.ask("/CANARY").status == 403
    assert client.ask(STUDIES, "CANARY").status in (400, 405)
    wait_for(lambda: len(stage.reasons()) >= 3, "records")
    for log in (stage.gate.folder / "out.log", stage.folder / "out.log"):
        assert "CANARY" not in log.read_text()


def test_without_a_measure_each_attack_succeeds(
    site: Site, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What the gate refuses is refused by it: without its rules the same requests get through to the next."""

    def open_up(text: str) -> str:
        return re.sub(r"(str\((?:RouteNotAllowed|RightNotGranted)\)) (?:if|unless)", r"\1 if FALSE", text)

    with running_web(site, tmp_path_factory.mktemp("web"), web_layout(upstream.port), open_up) as stage:
        client, _, _ = admitted(stage, "viewer", rights=(Right.ECHO,))
        assert client.ask(STUDIES).status == 200
        assert client.ask("/system").status == 403  # by the HAProxy beside Orthanc
        assert ("GET", "/system") not in upstream.asked()
